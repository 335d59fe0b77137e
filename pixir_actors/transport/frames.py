"""Frames: an incremental reader, bytes in, messages out, whatever the cuts between them; and the frames that are sent.

Of websocket-client only the opcodes and its judgement of a close frame's payload are used. Its `frame_buffer` takes ten
times as long for a small frame, knows no limit, and leaves checks of RFC 6455 out.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Final, NamedTuple

from websocket import ABNF, WebSocketProtocolException

from pixir_actors.core.text import Piece, Pieces, Text, parts_of
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused, protocol_error
from pixir_actors.transport.masking import masked

TEXT: Final = ABNF.OPCODE_TEXT
BINARY: Final = ABNF.OPCODE_BINARY
FRAGMENT: Final = ABNF.OPCODE_CONT
CLOSE: Final = ABNF.OPCODE_CLOSE
PING: Final = ABNF.OPCODE_PING
PONG: Final = ABNF.OPCODE_PONG
MAX_CONTROL_PAYLOAD: Final = 125
_CHUNK: Final = 64 * 1024
"""Bytes of a frame that are masked at once; a multiple of the key's four."""
_FIN: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_WHOLE_TEXT: Final = _FIN | TEXT
_HEAD: Final = struct.Struct("!BBH")  # two bytes, and the length where it is in the next two
_LENGTH_BYTES: Final = {126: 2, 127: 8}  # behind the first two bytes, by the length that they state


class MessageReader:
    """Puts frames and messages together from bytes that arrive in any pieces. No I/O.

    Nearly every frame is a whole message and has arrived as a whole: `texts` takes those, in one loop over a block. What
    else there is, `next` takes, a frame at a time. Feed again once `next` has returned None.

    Args:
        limit: Bytes of one message, over all its fragments.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = b""
        self._at = 0  # in `_data`: where the next frame begins, or goes on
        self._message: BytesIO | None = None  # a message that has begun; what is there of it
        self._missing = 0  # bytes of its current frame that are not there
        self._last = False  # its current frame is its last

    def limit(self, size: int) -> None:
        """Bound each message by so many bytes from now on."""
        self._limit = size

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the socket."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def unread(self) -> int:
        """Return how many bytes were fed that are in no message yet, nor in what is there of one."""
        return len(self._data) - self._at

    def texts(self, messages: list[bytes], most: int) -> int:
        """Append the next whole messages that are one frame each, up to a frame that is not; return how many.

        It refuses nothing and passes over nothing: where it returns less than `most`, what comes is for `next`.
        """
        if self._message is not None:
            return 0
        data, at, limit, before = self._data, self._at, self._limit, len(messages)
        size, head = len(data), _HEAD.unpack_from
        for _ in range(most):
            if size - at < 4:  # at most a message of one byte
                break
            first, length, extended = head(data, at)
            if first != _WHOLE_TEXT or length > 126:  # also where it is masked, or longer than 64 kB
                break
            begin = at + 2
            if length == 126:
                begin, length = at + 4, extended
            end = begin + length
            if end > size or length > limit:
                break
            messages.append(data[begin:end])
            at = end
        self._at = at
        if at == size:
            self._data, self._at = b"", 0  # nobody may ask for more for a long time
        return len(messages) - before

    def next(self) -> tuple[int, bytes] | None:
        """Return the next opcode and payload, or None until more is fed.

        A `TEXT` is a whole message; a fragment that does not complete one is `(FRAGMENT, b"")`.

        Raises:
            Refused: The server broke the protocol or a limit; nothing after that can be read.
        """
        item = self._item() if self._at < len(self._data) else None
        if item is None:
            # Let go of what was read. No more is left than the beginning of a head or of a control frame.
            self._data, self._at = self._data[self._at :], 0
        return item

    def _item(self) -> tuple[int, bytes] | None:
        if self._missing:
            return self._go_on()
        head = self._head()
        if head is None:
            return None
        first, length, begin = head
        if first & _OPCODE >= CLOSE:
            return self._control(first & _OPCODE, begin, begin + length)
        self._at, self._missing, self._last = begin, length, bool(first & _FIN)
        if self._message is None:
            self._message = BytesIO()
        return self._go_on()

    def _head(self) -> tuple[int, int, int] | None:
        """Judge the next frame by its head, before a byte of its payload is waited for.

        Returns:
            Its first byte, its length and where its payload begins; None if the head is not there as a whole.
        """
        data, begin = self._data, self._at + 2
        if begin > len(data):
            return None
        first, second = data[begin - 2 : begin]
        length = second & ~_MASKED
        if length in _LENGTH_BYTES:
            extended = data[begin : begin + _LENGTH_BYTES[length]]
            if len(extended) < _LENGTH_BYTES[length]:
                return None
            begin, length = begin + len(extended), int.from_bytes(extended, "big")
        opcode = first & _OPCODE
        if first & _RESERVED or second & _MASKED or opcode not in ABNF.OPCODES:
            raise Refused(protocol_error())
        if opcode < CLOSE:
            self._check_data_frame(opcode, length)
        elif not first & _FIN or length > MAX_CONTROL_PAYLOAD:
            raise Refused(protocol_error())
        return first, length, begin

    def _check_data_frame(self, opcode: int, length: int) -> None:
        if (opcode == FRAGMENT) != (self._message is not None):
            raise Refused(protocol_error())
        if opcode == BINARY:
            raise Refused(Fault(ErrorCode.WEBSOCKET_FAILED, {"reason": "binary_frame"}))
        total = length + (0 if self._message is None else self._message.tell())
        if total > self._limit:
            raise Refused(Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"bytes": total, "limit": self._limit}))

    def _control(self, opcode: int, begin: int, end: int) -> tuple[int, bytes] | None:
        if end > len(self._data):
            return None
        payload = self._data[begin:end]
        if opcode == CLOSE:
            try:
                ABNF(fin=1, opcode=CLOSE, data=payload).validate(skip_utf8_validation=True)
            except WebSocketProtocolException:
                raise Refused(protocol_error()) from None
        self._at = end
        return opcode, payload

    def _go_on(self) -> tuple[int, bytes] | None:
        """Add what is there of the current frame to its message: each byte once, however small the pieces."""
        assert self._message is not None
        part = self._data[self._at : self._at + self._missing]
        # One growing buffer: a list of fragments would let a server of one-byte fragments take forty times the limit. A
        # bytearray would do as well, but takes several times as long to grow.
        self._message.write(part)
        self._at += len(part)
        self._missing -= len(part)
        if self._missing:
            return None
        if not self._last:
            return FRAGMENT, b""
        message, self._message = self._message.getvalue(), None
        return TEXT, message


class ClientFrame(NamedTuple):
    """One whole frame, masked while it is taken: a large one is never there as a whole, in memory that nobody has touched.

    Attributes:
        size: Bytes on the wire.
        chunks: They, in pieces of about 64 kB.
    """

    size: int
    chunks: Iterator[bytes]


def frame(opcode: int, payload: Text) -> ClientFrame:
    """Return one frame of a client. Its payload must stay as it is until the last chunk was taken."""
    size, key = len(payload), os.urandom(4)
    head = head_of(opcode, size, key)
    if size <= _CHUNK:
        whole = bytes(payload) if isinstance(payload, Pieces) else payload
        return ClientFrame(len(head) + size, iter((head + masked(whole, key),)))
    return ClientFrame(len(head) + size, _masked_chunks(head, parts_of(payload), key))


def head_of(opcode: int, size: int, key: bytes) -> bytes:
    """Return what stands in front of a masked payload of so many bytes."""
    if size < 126:
        return struct.pack("!BB4s", _FIN | opcode, _MASKED | size, key)
    if size < 1 << 16:
        return struct.pack("!BBH4s", _FIN | opcode, _MASKED | 126, size, key)
    return struct.pack("!BBQ4s", _FIN | opcode, _MASKED | 127, size, key)


def _masked_chunks(head: bytes, parts: tuple[Piece, ...], key: bytes) -> Iterator[bytes]:
    for chunk in _chunks(parts):
        yield head + masked(chunk, key)
        head = b""


def _chunks(parts: tuple[Piece, ...]) -> Iterator[Piece]:
    """Yield parts in pieces of one size, but for the last: each begins with the key's first byte."""
    held: list[Piece] = []
    missing = _CHUNK
    for part in parts:
        left = memoryview(part)
        while left:
            held.append(left[:missing])
            missing -= len(held[-1])
            left = left[len(held[-1]) :]
            if not missing:
                yield held[0] if len(held) == 1 else b"".join(held)
                held, missing = [], _CHUNK
    if held:
        yield b"".join(held)
