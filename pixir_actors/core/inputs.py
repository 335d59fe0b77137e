"""What can happen to a connection: the inputs of `lifecycle.transition`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import TurnRequest
from pixir_actors.errors import Details, ErrorCode


@dataclass(frozen=True, slots=True)
class Begun:
    """The process is up; from now on the idle limit runs."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request has come."""

    request: TurnRequest


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A caller gave up its request, lost interest, or is no more."""

    request_id: Any
    code: ErrorCode = ErrorCode.CANCELLED  # or slow_consumer, or internal_error
    reason: ResetReason = ResetReason.CANCELLED  # or caller_gone, or stream_callback_failed


@dataclass(frozen=True, slots=True)
class Connected:
    """The opening attempt with this token has a socket."""

    token: int


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """The opening attempt with this token failed."""

    token: int
    code: ErrorCode
    details: Details = field(default_factory=dict)
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The socket has taken all of the request."""


@dataclass(frozen=True, slots=True)
class Received:
    """Frames have come in, some of them events; `last` says that they were the socket's last, and `SocketFailed` follows."""

    events: tuple[ServerEvent, ...] = ()
    last: bool = False


@dataclass(frozen=True, slots=True)
class SocketFailed:
    """The socket is no more; `unsent` says that it took no byte of the running request."""

    code: ErrorCode
    details: Details = field(default_factory=dict)
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class AlarmRang:
    """A wakeup has come."""

    token: int


@dataclass(frozen=True, slots=True)
class Silent:
    """The pong that is waited for is overdue, says who sees to the heartbeat of a connection that rests."""


@dataclass(frozen=True, slots=True)
class RetireAnswered:
    """The supervisor has forgotten the key (granted), or needs the connection after all."""

    granted: bool


@dataclass(frozen=True, slots=True)
class EvictAsked:
    """The supervisor wants the place for another key, if this connection is idle."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The connection is to end now, whatever runs; with `linger`, its process stays a moment to send back who comes."""

    code: ErrorCode = ErrorCode.CANCELLED
    linger: bool = False


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """The connection is to end as soon as nothing runs: a running turn may go on for `within` seconds, none begins."""

    within: float


Input = (
    Begun
    | Submitted
    | Cancelled
    | Connected
    | ConnectFailed
    | Sent
    | Received
    | SocketFailed
    | AlarmRang
    | Silent
    | RetireAnswered
    | EvictAsked
    | StopAsked
    | DrainAsked
)

NotOfCallers = Received | SocketFailed | Connected | ConnectFailed | AlarmRang
"""What may begin a waiting request, and does not come from those who wait."""
