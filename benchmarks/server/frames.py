"""The little of RFC 6455 that the server needs. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_EDGE: Final = 4096


class Refused(Exception):
    """A client sent what no client of the benchmarks sends."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return an unmasked frame."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 1 << 16:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8) + payload


def upgrade(request: bytes) -> bytes:
    """Return the answer to an upgrade request; extensions are declined by not naming them."""
    fields = (line.partition(b":") for line in request.split(b"\r\n")[1:])
    key = next((value.strip() for name, _, value in fields if name.lower() == b"sec-websocket-key"), None)
    if key is None:
        raise Refused("the request has no Sec-WebSocket-Key")
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    head = (b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade")
    return b"\r\n".join((*head, b"Sec-WebSocket-Accept: " + accept, b"", b""))


class Message:
    """One frame of a client, still masked: most of a large one never needs to be read."""

    __slots__ = ("_mask", "_masked", "opcode")

    def __init__(self, opcode: int, mask: bytes, masked: memoryview) -> None:
        self.opcode = opcode
        self._mask = mask
        self._masked = masked

    def __len__(self) -> int:
        return len(self._masked)

    def payload(self) -> bytes:
        """Return all of it."""
        return unmask(self._masked, self._mask)

    def head(self) -> bytes:
        """Return its first few kilobytes."""
        return unmask(self._masked[:_EDGE], self._mask)

    def tail(self) -> bytes:
        """Return its last few kilobytes."""
        start = max(0, len(self._masked) - _EDGE) & ~3
        return unmask(self._masked[start:], self._mask)


def unmask(data: bytes | memoryview, mask: bytes) -> bytes:
    """Return `data` with the mask taken off, or put on."""
    length = len(data)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


class Incoming:
    """What a client has sent and is not read yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 2

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """Take what came and yield the frames that are complete.

        Raises:
            Refused: A frame is not masked, or part of a fragmented message.
        """
        self._buffer += data
        while len(self._buffer) >= self._needed:
            message = self._next()
            if message is None:
                return
            yield message

    def _next(self) -> Message | None:
        """Return the next frame; None if more is needed, how much stands in `_needed` then."""
        buffer = self._buffer
        if not (buffer[0] & 0x80 and buffer[1] & 0x80) or not buffer[0] & 0x0F:
            raise Refused("frames of clients are whole and masked here")
        length, start = buffer[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                self._needed = start
                return None
            length = int.from_bytes(buffer[2:start])
        end = start + 4 + length
        if len(buffer) < end:
            self._needed = end
            return None
        # What follows is little; the frame may be large, and stays where it is.
        self._buffer, self._needed = buffer[end:], 2
        return Message(buffer[0] & 0x0F, bytes(buffer[start : start + 4]), memoryview(buffer)[start + 4 : end])
