"""Scripted servers on loopback, at the level of bytes, and what the tests of `transport/` read from them."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from urllib.parse import urlsplit

from pixir_actors.core.secret import Secret
from pixir_actors.transport.base import Connector, Fault, Received, Target, Transport
from pixir_actors.transport.websocket import WebSocketTransport, open_websocket
from tests.conftest import within

TEXT, BINARY, CONT, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
LIMIT = 8 * 1024 * 1024


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = False, wide: int = 0
) -> bytes:
    """Return one server frame; `wide` writes the length in 2 or 8 bytes though fewer would do."""
    size = len(payload)
    first = bytes([fin << 7 | rsv << 4 | opcode])
    bit = mask << 7
    if size > 0xFFFF or wide == 8:
        head = first + bytes([bit | 127]) + struct.pack("!Q", size)
    elif size > 125 or wide == 2:
        head = first + bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head = first + bytes([bit | size])
    return head + (bytes(4) if mask else b"") + payload


def text(payload: bytes) -> bytes:
    """Return a text frame."""
    return frame(TEXT, payload)


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def recv_exactly(sock: socket.socket, size: int) -> bytes:
    """Read that many bytes; EOFError when the other end closes before."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Read one client frame, check that it is whole and masked, and return its opcode and payload."""
    first, second = recv_exactly(sock, 2)
    assert first & 0x70 == 0, "a reserved bit is set"
    assert second & 0x80, "a client's frame is not masked"
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(recv_exactly(sock, 2), "big")
    elif size == 127:
        size = int.from_bytes(recv_exactly(sock, 8), "big")
    key = recv_exactly(sock, 4)
    data = recv_exactly(sock, size)
    repeated = (key * (size // 4 + 1))[:size]
    plain = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
    return first & 0x0F, plain.to_bytes(size, "big")


def read_head(sock: socket.socket) -> bytes:
    """Read a request up to its blank line."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        head += recv_exactly(sock, 1)
    return bytes(head)


def header(head: bytes, name: str) -> list[str]:
    """Return the values of a header in a request."""
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]


def accepted(head: bytes, *extra: str, accept: str | None = None) -> bytes:
    """Return the 101 that a request asks for, with further header lines."""
    (key,) = header(head, "sec-websocket-key")
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        f"Sec-WebSocket-Accept: {accept or b64encode(digest).decode()}",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def abort(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_for_end(sock: socket.socket) -> None:
    """Read until the client is gone."""
    with suppress(OSError):
        while sock.recv(65536):
            pass


class Peer:
    """A listener whose connections each run `script(sock)` in a thread; a script's failure fails the test.

    Args:
        script: Runs once per connection; the socket is closed after it.
        context: Speak TLS with this.
        host: Loopback address to listen on.
    """

    def __init__(
        self, script: Callable[[socket.socket], None], *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._script, self._context, self.host = script, context, host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept)]

    def url(self, path: str = "/v1/responses", host: str | None = None) -> str:
        shown = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'wss' if self._context else 'ws'}://{shown}:{self.port}{path}"

    def __enter__(self) -> Peer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(within(5))
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(within(5))
            assert not thread.is_alive(), "a scripted server did not end"
        if error is None and self._failures:
            raise self._failures[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            # A script's last words would wait for the client's word on what came before, and go with the socket's end.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(within(10))
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, len(self._sockets) - 1))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, index: int) -> None:
        try:
            if self._context is not None:
                sock = self._sockets[index] = self._context.wrap_socket(sock, server_side=True)
            self._script(sock)
        except (ConnectionError, ssl.SSLError, EOFError):
            pass  # a client that goes, or refuses the certificate, is what some tests are about
        except BaseException as error:
            self._failures.append(error)
        finally:
            sock.close()


def serving(after: Callable[[socket.socket], None], *extra: str) -> Callable[[socket.socket], None]:
    """Return a script that upgrades, then runs `after`."""

    def script(sock: socket.socket) -> None:
        sock.sendall(accepted(read_head(sock), *extra))
        after(sock)

    return script


def sending(data: bytes) -> Callable[[socket.socket], None]:
    """Return a script that upgrades, sends, and waits for the client to go."""

    def after(sock: socket.socket) -> None:
        sock.sendall(data)
        wait_for_end(sock)

    return serving(after)


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Return a script that answers any request with these bytes and waits for the client to go."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer)
        wait_for_end(sock)

    return script


def target(
    endpoint: str,
    *headers: tuple[str, str],
    ca_file: str | None = None,
    proxy: str | None = None,
    step_timeout: float | None = 10.0,
    limit: int = LIMIT,
    send_timeout: float | None = 10.0,
) -> Target:
    """Return a target with the tests' defaults."""
    return Target(
        endpoint=endpoint,
        headers=Secret(headers),
        ca_file=ca_file,
        proxy=None if proxy is None else Secret(proxy),
        step_timeout=None if step_timeout is None else within(step_timeout),
        max_message_bytes=limit,
        send_timeout=None if send_timeout is None else within(send_timeout),
    )


def readable(descriptor: int, seconds: float) -> bool:
    """Wait until a descriptor is readable; False when it is not in time."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(within(seconds) * 1000))


def outcome_of(connector: Connector) -> Transport | Fault:
    """Wait for a connector as an actor does, take its result and free its descriptor."""
    assert readable(connector.fileno(), 10), "the connector did not end"
    outcome = connector.result()
    connector.abandon()
    return outcome


def opened(at: Target) -> WebSocketTransport:
    """Open a socket that must open."""
    transport = outcome_of(open_websocket(at))
    assert isinstance(transport, WebSocketTransport), transport
    return transport


def refused(at: Target) -> Fault:
    """Open a socket that must not open; return the fault without the host, which has to be the right one."""
    fault = outcome_of(open_websocket(at))
    assert isinstance(fault, Fault), fault
    return anonymous(fault, at)


def anonymous(fault: Fault, at: Target) -> Fault:
    """Return a fault without the host that it names: that of the proxy, if there is one and no tunnel was had of it."""
    details = dict(fault.details)
    host = details.pop("host", None)
    if details["reason"] in ("proxy_unsupported", "proxy_invalid", "ca_file"):
        assert host is None, "nobody was asked"
        return fault
    asked = at.proxy is not None and details.get("step") in ("name", "tcp", "proxy")
    parts = urlsplit(at.proxy.reveal() if asked and at.proxy is not None else at.endpoint)
    if parts.hostname and details["reason"] != "invalid_host":
        port = parts.port or {"http": 80, "ws": 80, "wss": 443}[parts.scheme]
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        assert host == f"{name}:{port}"
    return replace(fault, details=details)


def collect(
    transport: Transport, *, messages: int = 1 << 30, max_messages: int = 64, max_bytes: int = 1 << 18
) -> Received:
    """Receive as an actor does, polling only when there is no `more`, until a fault or that many messages."""
    whole = Received()
    while True:
        part = transport.receive(max_messages=max_messages, max_bytes=max_bytes)
        assert part.frames <= max_messages
        whole.messages += part.messages
        whole.frames += part.frames
        whole.pongs += part.pongs
        if part.fault is not None or len(whole.messages) >= messages:
            whole.fault, whole.more = part.fault, part.more
            return whole
        if not part.more:
            assert readable(transport.fileno(), 10), f"nothing more came: {whole.frames} frames"


Pair = tuple[WebSocketTransport, socket.socket]


@contextmanager
def connection(limit: int = LIMIT, *, buffer: int | None = None) -> Iterator[Pair]:
    """Give a transport as it is after the upgrade, and the server's end of its TCP connection.

    Args:
        limit: Limit of one message.
        buffer: Size of the client's send buffer and the server's receive buffer, to fill them soon.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        client.connect(listener.getsockname())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with listener.accept()[0] as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.settimeout(within(10))
            yield WebSocketTransport(client, limit), server


def open_descriptors() -> set[tuple[str, str]]:
    """Return this process's descriptors and what they stand for."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return {(name, what) for name, what in found if not what.startswith("/proc/")}
