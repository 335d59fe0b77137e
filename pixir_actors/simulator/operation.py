"""What the server does on a connection for one request, as values: a reply is a list, a fault rewrites the list.

Pure. `emission.py` makes the list, `faults.py` rewrites it, `peer.py` performs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode

from pixir_actors.simulator.eventstream import chunk, server_sent

Encoding = Literal["frame", "event", "document"]
"""A WebSocket text frame; over HTTP a server-sent event, or a JSON document, in one chunk of the body."""
TERMINAL_TYPES: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})
_LIFECYCLE_TYPES: Final = TERMINAL_TYPES | {"response.queued", "response.created", "response.in_progress"}


@dataclass(frozen=True, slots=True)
class Emit:
    """Send one event as one text message. Bytes are sent as they are, whether or not they are JSON."""

    event: Mapping[str, Any] | bytes
    encoding: Encoding = "frame"

    @property
    def type(self) -> str:
        """The event's type; "" for bytes that are no JSON object."""
        event = self.event
        if isinstance(event, bytes):
            try:
                event = orjson.loads(event)
            except orjson.JSONDecodeError:
                return ""
        return str(event.get("type", "")) if isinstance(event, Mapping) else ""

    @property
    def terminal(self) -> bool:
        """Whether the event ends its response."""
        return self.type in TERMINAL_TYPES

    @property
    def output(self) -> bool:
        """Whether the event carries output: neither lifecycle nor terminal."""
        return self.type not in _LIFECYCLE_TYPES

    @property
    def text(self) -> bool:
        """Whether the event is a text delta."""
        return self.type == "response.output_text.delta"

    def message(self) -> bytes:
        """Return the event as the text of one message."""
        return self.event if isinstance(self.event, bytes) else orjson.dumps(self.event)

    def encoded(self) -> bytes:
        """Return the event as the bytes that are written: as one unfragmented text frame, or one chunk."""
        message = self.message()
        if self.encoding == "frame":
            return frame(message)
        return chunk(message if self.encoding == "document" else server_sent(self.type, message))


@dataclass(frozen=True, slots=True)
class Raw:
    """Write bytes to the socket.

    Attributes:
        data: Bytes, usually whole frames, or chunks.
        partial: The bytes end within a frame, so no control frame may follow before the next `Raw`.
        bytewise: Hand each byte to the kernel by itself.
    """

    data: bytes
    partial: bool = False
    bytewise: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait, in seconds; pings are answered meanwhile."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the test sets the event; pings are answered meanwhile."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class Settle:
    """The turn is decided: update the cache and the records. Stands just before the terminal event."""


@dataclass(frozen=True, slots=True)
class Cut:
    """End the TCP connection (FIN) after what was written, without a close frame."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Reset the TCP connection (RST); what was not delivered is lost."""


@dataclass(frozen=True, slots=True)
class SendClose:
    """Send a close frame, wait for the client's and close."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stall:
    """Send no event any more until the client leaves; pings are answered."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Neither read nor write any more until the client leaves."""


@dataclass(frozen=True, slots=True)
class DemandPong:
    """Send a ping and cut the connection unless its pong comes within so many seconds."""

    payload: bytes
    within: float


Operation = Emit | Raw | Sleep | Hold | Settle | Cut | Abort | SendClose | Stall | Freeze | DemandPong


def frame(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """Return one server frame, unmasked."""
    return Frame(opcode, payload, fin).serialize(mask=False)


def index_of(operations: Iterable[Operation], **properties: bool) -> int | None:
    """Return the index of the first `Emit` whose named properties hold, or None."""
    for index, operation in enumerate(operations):
        if isinstance(operation, Emit) and all(getattr(operation, name) is value for name, value in properties.items()):
            return index
    return None


def settled(operations: list[Operation]) -> list[Operation]:
    """Return the operations with `Settle` just before the last terminal event, or at the end if there is none."""
    for index in range(len(operations) - 1, -1, -1):
        operation = operations[index]
        if isinstance(operation, Emit) and operation.terminal:
            return [*operations[:index], Settle(), *operations[index:]]
    return [*operations, Settle()]


def check_close_code(code: int) -> None:
    """Raise ValueError for a close code that cannot be sent; 1005 stands for a close frame without a code."""
    try:
        if code != 1005:
            Close(code, "").check()
    except ProtocolError as error:
        allowed = "1000-1003, 1005, 1007-1014, 3000-4999"
        raise ValueError(f"close code {code} cannot be sent: allowed are {allowed}") from error
