"""Frames as a server might send them, and a reader to compare ours with.

The reader keeps the same promises by websocket-client's `frame_buffer`, one frame at a time: the library finds where frames
begin and end; what it lacks (limits by the head, checks of RFC 6455 that it leaves out, fragments put together) is added.
"""

from __future__ import annotations

from typing import cast

from hypothesis import strategies as st
from websocket import ABNF, WebSocketProtocolException, frame_buffer

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused, protocol_error
from tests.transport.peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame

FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, TEXT, CONT, BINARY, CLOSE, PING, PONG, 3, 11]),
    st.binary(max_size=300),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    mask=st.sampled_from([False, False, False, True]),
    wide=st.sampled_from([0, 0, 2, 8]),
)
"""Sound ones and others."""


class LibraryReader(frame_buffer):
    """What `MessageReader` is, but for its fast way: `next` returns every frame."""

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

    def next(self) -> tuple[int, bytes] | None:
        """Return the next opcode and payload, or None until more is fed.

        A `TEXT` is a whole message; a fragment that does not complete one is `(CONT, b"")`.

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
            if not fin or self.length > 125:
                raise Refused(protocol_error())
        else:
            self._check_data_frame(opcode, self.length)

    def _check_data_frame(self, opcode: int, length: int) -> None:
        if (opcode == CONT) != (self._message is not None):
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
        return (TEXT, bytes(message)) if fin else (CONT, b"")
