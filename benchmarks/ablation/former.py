"""Code that stood where a change is now, as far as it takes more than a line to put back."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any, Final, cast

from websocket import ABNF, WebSocketProtocolException, frame_buffer

from pixir_actors.core.text import Text
from pixir_actors.dispatch.dispatcher import Dispatcher
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused, protocol_error
from pixir_actors.transport.frames import BINARY, CLOSE, FRAGMENT, MAX_CONTROL_PAYLOAD, TEXT, ClientFrame, head_of
from pixir_actors.transport.masking import masked

FIRST_PART: Final = 64 * 1024
REMEMBERED: Final = 256


class LibraryReader(frame_buffer):
    """A `MessageReader` by websocket-client's `frame_buffer`, one frame at a time.

    The library finds where frames begin and end; what it lacks (limits by the head, checks of RFC 6455 that it leaves out,
    fragments put together) is added.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(lambda size: b"", skip_utf8_validation=True)
        self._limit = limit
        self._data = bytearray()
        self._at = 0
        self._message: bytearray | None = None  # a message of which the last fragment is not there yet

    def limit(self, size: int) -> None:
        """Bound each message by so many bytes from now on."""
        self._limit = size

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the socket."""
        self._data += data

    def unread(self) -> int:
        """Return how many bytes were fed and not yet parsed."""
        return len(self._data) - self._at

    def texts(self, messages: list[bytes], most: int) -> int:
        """Leave all messages to `next`."""
        return 0

    def next(self) -> tuple[int, bytes] | None:
        """Return the next opcode and payload, or None until more is fed.

        A `TEXT` is a whole message; a fragment that does not complete one is `(FRAGMENT, b"")`.

        Raises:
            Refused: The server broke the protocol or a limit; nothing after that can be read.
        """
        try:
            item = self.recv_frame()
        except BlockingIOError:
            del self._data[: self._at]
            self._at = 0
            return None
        except WebSocketProtocolException:
            raise Refused(protocol_error()) from None
        return self._assembled(item.fin, item.opcode, cast(bytes, item.data))

    def recv_strict(self, bufsize: int) -> bytes:
        """Serve `frame_buffer` from memory, all or nothing.

        The original keeps what it has in a list and adds up its lengths on each call, which for a large message in
        small pieces is quadratic work.
        """
        end = self._at + bufsize
        if end > len(self._data):
            raise BlockingIOError
        taken = bytes(memoryview(self._data)[self._at : end])
        self._at = end
        return taken

    def recv_length(self) -> None:
        """Judge a frame by its header, before a byte of its payload is waited for."""
        super().recv_length()
        assert self.header is not None and self.length is not None
        fin, rsv1, rsv2, rsv3, opcode, masked, _ = self.header
        if rsv1 or rsv2 or rsv3 or masked or opcode not in ABNF.OPCODES:
            raise Refused(protocol_error())
        if opcode >= CLOSE:
            if not fin or self.length > MAX_CONTROL_PAYLOAD:
                raise Refused(protocol_error())
        else:
            self._check_data_frame(opcode, self.length)

    def _check_data_frame(self, opcode: int, length: int) -> None:
        if (opcode == FRAGMENT) != (self._message is not None):
            raise Refused(protocol_error())
        if opcode == BINARY:
            raise Refused(Fault(ErrorCode.WEBSOCKET_FAILED, {"reason": "binary_frame"}))
        total = length + len(self._message or b"")
        if total > self._limit:
            raise Refused(Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"bytes": total, "limit": self._limit}))

    def _assembled(self, fin: int, opcode: int, payload: bytes) -> tuple[int, bytes]:
        if opcode >= CLOSE or (fin and self._message is None):
            return opcode, payload
        # one growing buffer: a list of fragments would let a server of one-byte fragments take forty times the limit
        message = bytearray() if self._message is None else self._message
        message += payload
        self._message = None if fin else message
        return (TEXT, bytes(message)) if fin else (FRAGMENT, b"")


def frame_in_two(opcode: int, payload: Text) -> ClientFrame:
    """Return a client's frame, masked as a whole; a large one in two parts, which saves a copy.

    In place of `transport.frames.frame`.
    """
    size, key = len(payload), os.urandom(4)
    head, body = head_of(opcode, size, key), masked(cast(bytes, payload), key)
    whole = size <= FIRST_PART
    parts = [head + body] if whole else [head + body[:FIRST_PART], memoryview(body)[FIRST_PART:]]
    return ClientFrame(len(head) + size, iter(cast(list[bytes], parts)))


def forget_all_without_channel(dispatcher: Dispatcher) -> None:
    """Forget, with more than 256 keys, all that have no channel up, though they may just be starting.

    In place of `Dispatcher._forget_ended`. It was called before something new was written down, and is now called behind
    that: the newest stays.
    """
    known: dict[str, Any] = vars(dispatcher)["_known"]
    if len(known) > REMEMBERED + 1:
        newest = next(reversed(known))
        connected = dispatcher.link.connected
        kept = {key: one for key, one in known.items() if key == newest or connected(one.connection_id)}
        vars(dispatcher)["_known"] = kept


def frozen_here() -> Callable[[], None]:
    """Return a `gc.freeze` that does nothing in forks of this process."""
    own, freeze = os.getpid(), gc.freeze

    def freezes() -> None:
        if os.getpid() == own:
            freeze()

    return freezes
