"""The server itself: sockets, and what is due when."""

from __future__ import annotations

import heapq
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from benchmarks.asks import Ask, read
from benchmarks.server.answers import answer, timed_delta
from benchmarks.server.frames import CLOSE, PING, PONG, TEXT, Incoming, Message, Refused, frame, upgrade

_READ: Final = 1 << 20
_GOLDEN: Final = 0.6180339887
"""Its multiples lie evenly in 0..1: streams of one rate do not tick together."""
_CONTINUES: Final = b'"previous_response_id"'


@dataclass
class Figures:
    """What the server has done so far; lateness since it was last asked for."""

    connections: int = 0
    requests: int = 0
    continued: int = 0
    request_bytes: int = 0
    deltas: int = 0
    pings: int = 0
    late: list[float] = field(default_factory=list)
    """Milliseconds by which timed deltas were written late."""

    def take(self) -> bytes:
        late = sorted(self.late)
        self.late.clear()
        p99 = late[min(len(late) - 1, len(late) * 99 // 100)] if late else 0.0
        numbers = {"connections": self.connections, "requests": self.requests, "continued": self.continued}
        numbers |= {"request_bytes": self.request_bytes, "deltas": self.deltas, "pings": self.pings}
        return orjson.dumps(numbers | {"late_p99_ms": p99, "cpu_s": time.process_time()})


class Connection:
    """One client's socket."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.upgraded = False
        self.opening = b""
        self.incoming = Incoming()
        self.unsent = memoryview(b"")
        self.closing = False

    def write(self, data: bytes) -> bool:
        """Write what can be written; return whether all of it was."""
        if self.unsent:
            self.unsent = memoryview(bytes(self.unsent) + data)
            return False
        self.unsent = memoryview(data)
        return self.flush()

    def flush(self) -> bool:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return False
        return True


class Server:
    """Serves until `stop` is readable."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._due: list[tuple[float, int, Connection, Ask, int]] = []
        """When, which turn, to whom, of what, deltas left."""
        self._figures = Figures()
        self._accepted = 0
        self._room = memoryview(bytearray(_READ))

    @property
    def url(self) -> str:
        """The base URL, as an SDK takes it."""
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def run(self, stop: int) -> None:
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(stop, select.EPOLLIN)
        while True:
            for fd, what in self._epoll.poll(self._wait()):
                if fd == stop:
                    return
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._connections:
                    self._serve(self._connections[fd], what)
            self._tick()

    def _wait(self) -> float:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._accepted += 1
                self._connections[sock.fileno()] = Connection(sock, self._accepted)
                self._epoll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            return

    def _serve(self, connection: Connection, what: int) -> None:
        try:
            if what & select.EPOLLOUT and connection.flush():
                self._epoll.modify(connection.sock, select.EPOLLIN)
            if what & ~select.EPOLLOUT:
                self._read(connection)
            if connection.closing and not connection.unsent:
                self._drop(connection)
        except BlockingIOError:
            pass
        except (OSError, Refused):
            self._drop(connection)

    def _read(self, connection: Connection) -> None:
        count = connection.sock.recv_into(self._room)
        if not count:
            raise ConnectionResetError
        data: bytes | memoryview = self._room[:count]
        if not connection.upgraded:
            connection.opening += data
            head, end, data = connection.opening.partition(b"\r\n\r\n")
            if not end:
                return
            self._open(connection, head)
        for message in connection.incoming.feed(data):
            self._take(connection, message)

    def _open(self, connection: Connection, head: bytes) -> None:
        connection.upgraded = True
        if head.startswith(b"GET /stats "):
            connection.closing = True
            self._write(connection, b"HTTP/1.0 200 OK\r\n\r\n" + self._figures.take())
        else:
            self._figures.connections += 1
            self._write(connection, upgrade(head))

    def _take(self, connection: Connection, message: Message) -> None:
        if message.opcode == TEXT:
            self._answer(connection, message)
        elif message.opcode == PING:
            self._figures.pings += 1
            self._write(connection, frame(message.payload(), PONG))
        elif message.opcode == CLOSE:
            connection.closing = True
            self._write(connection, frame(message.payload(), CLOSE))

    def _answer(self, connection: Connection, message: Message) -> None:
        tail = message.tail()
        ask = read(tail) or read(message.payload())
        figures = self._figures
        figures.requests += 1
        figures.request_bytes += len(message)
        figures.continued += _CONTINUES in tail or _CONTINUES in message.head()
        if ask is None:
            error = {"type": "error", "status": 400, "error": {"message": "the input does not say what to answer"}}
            self._write(connection, frame(orjson.dumps(error)))
            return
        figures.deltas += ask.deltas
        if not ask.rate:
            self._write(connection, answer(ask).whole(figures.requests))
            return
        self._write(connection, answer(ask).head(figures.requests))
        first = time.monotonic() + connection.number * _GOLDEN % 1 / ask.rate
        heapq.heappush(self._due, (first, figures.requests, connection, ask, ask.deltas))

    def _tick(self) -> None:
        """Write the timed deltas that are due."""
        while self._due and self._due[0][0] <= time.monotonic():
            due, number, connection, ask, left = self._due[0]
            if connection.sock.fileno() < 0:
                heapq.heappop(self._due)
                continue
            now = time.monotonic_ns()
            self._figures.late.append(now / 1e6 - due * 1e3)
            self._write(connection, timed_delta(now) + (answer(ask).tail(number) if left == 1 else b""))
            if left > 1:
                heapq.heapreplace(self._due, (due + 1 / ask.rate, number, connection, ask, left - 1))
            else:
                heapq.heappop(self._due)

    def _write(self, connection: Connection, data: bytes) -> None:
        try:
            if not connection.write(data):
                self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection.sock.fileno() >= 0:
            del self._connections[connection.sock.fileno()]
            connection.sock.close()  # which takes it out of the epoll

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._listener.close()
        self._epoll.close()


def stats(url: str) -> dict[str, Any]:
    """Return what the server at `url` has done so far."""
    host, port = url.removeprefix("ws://").partition("/")[0].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"GET /stats HTTP/1.0\r\n\r\n")
        answered = b""
        while data := sock.recv(1 << 16):
            answered += data
    found: dict[str, Any] = orjson.loads(answered.partition(b"\r\n\r\n")[2])
    return found
