"""What there is to know of a connection: its state, its turn, its socket, its queue. Values only; `lifecycle` moves them.

Those that `lifecycle` changes have no slots: a value with a `__dict__` is copied in one step (`evolve`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from pixir_actors.core.backoff import CLOSED, Backoff
from pixir_actors.core.continuation import FRESH, Cold, Continuation, Plan, ResetReason
from pixir_actors.core.payload import Grown, Payload, Whole
from pixir_actors.core.server_event import Rejection, Tag
from pixir_actors.settings import Settings

V = TypeVar("V", bound="Turn | Socket | Statistics | Connection")


class State(StrEnum):
    """Where a connection stands."""

    DISCONNECTED = "disconnected"  # no socket; the next request opens one
    CONNECTING = "connecting"  # a socket is being opened for the turn
    IDLE = "idle"  # open and warm
    STREAMING = "streaming"  # a turn has the socket
    DEGRADED = "degraded"  # failed a moment ago; left alone until the window ends
    RETIRING = "retiring"  # asked the supervisor to forget the key
    STOPPED = "stopped"  # sends whoever still comes back to the supervisor


class Via(StrEnum):
    """The way a turn takes to the provider."""

    WEBSOCKET = "websocket"
    HTTP = "http_sse"


class Purpose(StrEnum):
    """What a request is for."""

    RUN = "run"
    OPEN = "open"  # have a socket open, send nothing
    PREFILL = "prefill"  # send the request with `generate: false`, for the first turn to continue from


class Phase(StrEnum):
    """Where in its attempt a turn stands."""

    OPENING = "opening"
    SENDING = "sending"
    WAITING = "waiting"  # written, no event yet
    FLOWING = "flowing"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A request as the machine sees it.

    Attributes:
        request_id: Names the request to whoever performs the actions; opaque.
        payload: The full payload, decoded.
        body: The same, encoded: the bytes of a full replay.
        endpoint: WebSocket URL.
        fingerprint: Identity of its headers.
        key: The key as its caller wrote it, for the evidence; shown to nobody else.
        limits: Timeouts and sizes of this request.
        received_at: Monotonic seconds.
        jitter: Uniform sample in [0, 1), drawn for this request.
        bearer: Digest of its Authorization header's value, to see whether a socket was opened with an older one.
        purpose: What it is for.
        grown: How its body goes on from the one before it, where that is known.
    """

    request_id: Any
    payload: Payload = field(repr=False)
    body: Whole = field(repr=False)
    endpoint: str = field(repr=False)
    fingerprint: str = field(repr=False)
    key: str = field(repr=False)
    limits: Settings
    received_at: float
    jitter: float
    bearer: str = field(default="", repr=False)
    purpose: Purpose = Purpose.RUN
    grown: Grown | None = None


@dataclass(frozen=True)
class Turn:
    """The running request and how far its current attempt has come."""

    request: TurnRequest
    started_at: float
    phase: Phase = Phase.OPENING
    phase_since: float = 0.0
    attempts: int = 0
    replays: frozenset[Rejection] = frozenset()
    reused: bool = False  # the attempt runs on a socket of an earlier turn
    replaced: bool = False  # a dead socket was replaced already
    refused: bool = False  # the provider said no to an earlier attempt
    retried: bool = False  # sent again although it may have run, because the caller wanted that
    via: Via = Via.WEBSOCKET
    fallback_reason: str | None = None  # why it goes over HTTP although a WebSocket was wanted
    plan: Plan | None = None
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)
    status: int = 200
    shown: bool = False  # evidence and held events have been delivered
    held: tuple[tuple[Tag, bytes], ...] = field(default=(), repr=False)
    opened: bool = False  # the response was announced (created, queued or in_progress)
    accepted: bool = False  # an event came back that is no rejection
    output: bool = False  # the model has begun
    response_id: str | None = None
    items: tuple[tuple[int, Any], ...] = field(default=(), repr=False)
    text: str = field(default="", repr=False)


@dataclass(frozen=True)
class Socket:
    """The open socket."""

    endpoint: str = field(repr=False)
    fingerprint: str = field(repr=False)
    opened_at: float
    retire_at: float | None
    last_seen: float
    pong_due: float | None = None
    bearer: str = field(default="", repr=False)
    via: Via = Via.WEBSOCKET
    announces: bool = False  # its server has announced a response before putting anything out
    ended: bool = False  # its last frame has been read: nothing is to be written any more


@dataclass(frozen=True, slots=True)
class Alarm:
    """The one wakeup that counts."""

    token: int
    at: float


@dataclass(frozen=True)
class Statistics:
    """What a connection has done since its process started."""

    turns: int = 0
    delta_turns: int = 0
    sockets: int = 0
    replays: int = 0
    failures: int = 0
    wire_bytes: int = 0
    full_bytes: int = 0
    last_reset_reason: str | None = None
    last_error: str | None = None


@dataclass(frozen=True)
class Connection:
    """All there is to know of a connection."""

    state: State
    limits: Settings  # of the latest request: they govern the pauses between turns
    idle_since: float
    continuation: Continuation = FRESH
    socket: Socket | None = None
    turn: Turn | None = None
    queue: tuple[TurnRequest, ...] = ()
    backoff: Backoff = CLOSED
    alarm: Alarm | None = None
    token: int = 0  # of the newest opening attempt or alarm
    opening: int = 0  # token of the attempt under way
    retiring_since: float = 0.0
    forgotten: bool = False  # the supervisor granted a retirement that was no longer waited for
    attended: bool = False  # who waits for it sees to pings and pongs between turns (`core.heartbeat`)
    drained_by: float | None = None  # it serves nobody else, and what runs has until then
    statistics: Statistics = Statistics()

    @classmethod
    def new(
        cls,
        *,
        now: float,
        limits: Settings,
        reason: ResetReason = ResetReason.NO_PREVIOUS_RESPONSE,
        attended: bool = False,
    ) -> Connection:
        """Return a connection that has done nothing; `reason` says why if an earlier process of its key had more."""
        return cls(State.DISCONNECTED, limits, now, Cold(reason), attended=attended)


def evolve(value: V, **changes: Any) -> V:
    """Return a copy of `value` with other values in some of its fields: `dataclasses.replace` at a sixth of its price.

    Raises:
        TypeError: It has no such field.
    """
    old = value.__dict__
    fields = {**old, **changes}
    if len(fields) != len(old):
        raise TypeError(f"{type(value).__name__} has no field {', '.join(sorted(changes.keys() - old.keys()))}")
    copy = object.__new__(type(value))
    object.__setattr__(copy, "__dict__", fields)
    return copy
