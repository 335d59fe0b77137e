"""What a connection wants done: the actions that `lifecycle.transition` returns, to be performed in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pixir_actors.core.server_event import Tag
from pixir_actors.core.state import Via
from pixir_actors.core.text import Text
from pixir_actors.errors import Failure


@dataclass(frozen=True, slots=True)
class Open:
    """Start opening a socket for this request; answer with `Connected` or `ConnectFailed` of the same token."""

    token: int
    request_id: Any
    via: Via = Via.WEBSOCKET


@dataclass(frozen=True, slots=True)
class AbandonOpening:
    """Give up the opening attempt under way."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write one text message; answer with `Sent` or `SocketFailed`."""

    data: Text = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ping:
    """Write a ping."""


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """Close at once, saying `code` to the peer where that takes no waiting. `reason` is for the log."""

    code: int | None = None
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Queued:
    """Tell the caller that its request is held, behind so many others."""

    request_id: Any
    ahead: int


@dataclass(frozen=True, slots=True)
class Sending:
    """Tell the caller's process, before anything is written, that from now on the request may run."""

    request_id: Any
    attempt: int


@dataclass(frozen=True, slots=True)
class Show:
    """Deliver evidence."""

    request_id: Any
    values: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """Deliver the synthetic status."""

    request_id: Any
    code: int = 200


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver events."""

    request_id: Any
    events: tuple[tuple[Tag, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finish:
    """End the stream: a terminal event was delivered. `failure` is the provider's in-band error, if it was one."""

    request_id: Any
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """End the stream without a terminal event."""

    request_id: Any
    failure: Failure


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the request back unserved: the supervisor knows a fresh connection for the key."""

    request_id: Any


@dataclass(frozen=True, slots=True)
class SetAlarm:
    """Wake up after `delay` seconds with `AlarmRang(token)`."""

    token: int
    delay: float


@dataclass(frozen=True, slots=True)
class AskRetire:
    """Ask the supervisor to forget the key; answer with `RetireAnswered`."""


@dataclass(frozen=True, slots=True)
class AnswerEvict:
    """Tell the supervisor whether this connection makes room."""

    accepted: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """End the process; with `linger`, stay a moment to send back those who still have its address.

    Callers get `patience` seconds to take what they have not read yet.
    """

    linger: bool
    patience: float = 0.0


Action = (
    Open
    | AbandonOpening
    | Send
    | Ping
    | CloseSocket
    | Queued
    | Sending
    | Show
    | ShowStatus
    | Deliver
    | Finish
    | Fail
    | Redirect
    | SetAlarm
    | AskRetire
    | AnswerEvict
    | Stop
)
