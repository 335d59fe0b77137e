"""No client at all: reads as fast as bytes come and looks for the end alone. Shows what the server could give."""

from __future__ import annotations

import socket

import orjson

from benchmarks.asks import MODEL, Ask
from benchmarks.peers.base import Seen, SyncPeer
from benchmarks.server.answers import END
from benchmarks.server.frames import unmask


class Reader(SyncPeer[socket.socket]):
    """A socket without a WebSocket library. It counts no deltas: what it reads is taken for complete."""

    counts = False

    def open(self, key: str) -> socket.socket:
        return connected(self.url)

    def turn(self, conversation: socket.socket, ask: Ask, seen: Seen) -> None:
        conversation.sendall(masked(orjson.dumps({"type": "response.create", "model": MODEL, "input": ask.input()})))
        read_answer(conversation, seen)

    def forget(self, conversation: socket.socket) -> None:
        pass  # it remembers none

    def end(self, conversation: socket.socket) -> None:
        conversation.close()


def connected(url: str) -> socket.socket:
    """Return a socket to the server that speaks WebSocket."""
    host, port = url.removeprefix("ws://").partition("/")[0].split(":")
    sock = socket.create_connection((host, int(port)), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = (b"GET /v1/responses HTTP/1.1", b"Host: localhost", b"Upgrade: websocket", b"Connection: Upgrade")
    sock.sendall(b"\r\n".join((*head, b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: cmVhZGVycmVhZGVy", b"", b"")))
    answered = b""
    while not answered.endswith(b"\r\n\r\n"):
        answered += sock.recv(4096)
    return sock


def read_answer(sock: socket.socket, seen: Seen) -> None:
    """Read up to the end of an answer.

    Raises:
        ConnectionResetError: There is none.
    """
    end = b""
    while not end.endswith(END):
        data = sock.recv(1 << 20)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        if not end:
            seen("")
        end = (end + data[-len(END) :])[-len(END) :]


def masked(payload: bytes) -> bytes:
    """Return a client's frame."""
    mask = b"\x01\x02\x03\x04"
    length = len(payload)
    if length < 126:
        size = bytes((0x80 | length,))
    else:
        size = b"\xfe" + length.to_bytes(2) if length < 1 << 16 else b"\xff" + length.to_bytes(8)
    return b"\x81" + size + mask + unmask(payload, mask)
