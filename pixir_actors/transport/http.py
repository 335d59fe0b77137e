"""One request over HTTP with server-sent events, behind the same face as a WebSocket.

The socket is opened as one for a WebSocket is, so every step of that can be left and has the same words. Over it, `httpcore`
(the HTTP client under `httpx`, from the extra `http`) makes the exchange. It blocks, so it runs in a helper thread, which
leaves texts under a lock and touches nothing of the actor; a bounded buffer between the two hands the actor's pace on to the
server. What `httpx` adds, redirects, cookies, environment, decoding and a log of every URL, is not wanted here.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from pixir_actors.core.secret import Secret
from pixir_actors.core.text import Text
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.answer import refusal, texts
from pixir_actors.transport.base import Fault, Received, Target, Transport
from pixir_actors.transport.connector import HelperThread
from pixir_actors.transport.faults import Refused, reason_of
from pixir_actors.transport.upgrade import host_header, resource
from pixir_actors.version import __version__

BUFFER_BYTES: Final = 1024 * 1024
"""Bytes that may wait for the actor before the helper thread stops reading."""
WRITE_BYTES: Final = 64 * 1024
"""Bytes per write."""
ERROR_BODY_TIMEOUT: Final = 5.0
"""Seconds for the body of a refusal, all of it; its status is known by then."""
THREAD_NAME: Final = "http-exchange"
OURS: Final = frozenset(
    {"host", "connection", "upgrade", "content-type", "content-length", "accept", "accept-encoding"}
    | {"transfer-encoding", "te", "trailer", "expect"}
)
"""Caller's headers that are about the exchange, which is ours; `sec-websocket-*` are others."""
_WORDS: Final = {
    "RemoteProtocolError": "protocol_error",
    "LocalProtocolError": "invalid_header",
    "UnicodeEncodeError": "invalid_header",
}


def open_http(target: Target) -> HttpConnector:
    """Start opening a socket for one request, in a helper thread.

    Raises:
        OSError: This process has no descriptors left.
    """
    return HttpConnector(target)


class HttpConnector:
    """A `Connector` for one exchange; its faults, `connection_lost` or a timeout, say in which `step` of it."""

    def __init__(self, target: Target) -> None:
        self._thread = HelperThread(target, _adopt, upgrades=False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable at the end; -1 after `abandon`."""
        return self._thread.fileno()

    def result(self) -> Transport | Fault:
        """Hand over the outcome; see `Connector.result`."""
        outcome = self._thread.result()
        if not isinstance(outcome, Fault):
            return outcome
        timed_out = outcome.code is ErrorCode.WEBSOCKET_CONNECT_TIMEOUT
        code = outcome.code if timed_out else ErrorCode.CONNECTION_LOST
        return Fault(code, {**outcome.details, "transport": "http"}, outcome.retry_after)

    def abandon(self) -> None:
        """Give up; returns at once. Idempotent."""
        self._thread.abandon()


def _adopt(sock: socket.socket, target: Target) -> Transport:
    try:
        import httpcore  # noqa: F401 -- here, in the connector's thread: it takes a while the first time
    except ImportError:
        details = {"reason": "no_http_client", "advice": "pip install 'pixir_actors[http]'"}
        raise Refused(Fault(ErrorCode.CONNECTION_LOST, details)) from None
    return HttpTransport(sock, target)


class HttpTransport:
    """A `Transport` for one request. Used from one thread; its helper thread ends by itself or with `close`.

    Args:
        sock: Connected, and owned by the transport from now on.
        target: Where to.
    """

    def __init__(self, sock: socket.socket, target: Target) -> None:
        self._target = target
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._changed = threading.Condition()
        # Guarded by `_changed`, from here on.
        self._sock: socket.socket | None = sock
        self._started = False
        self._texts: deque[bytes] = deque()
        self._buffered = 0
        self._fault: Fault | None = None
        self._written = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fileno()} buffered={self._buffered} fault={self._fault}>"

    def fileno(self) -> int:
        """Return the descriptor to poll, for reading only; -1 after `close`."""
        return self._alarm

    def receive(self, *, max_messages: int, max_bytes: int) -> Received:
        """Take a slice of what the helper thread has left; each text counts as a frame. See `Transport.receive`."""
        received = Received()
        with self._changed:
            if not self._closed:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._alarm)
            taken = 0
            while self._texts and len(received.messages) < max(max_messages, 1) and taken < max(max_bytes, 1):
                text = self._texts.popleft()
                taken += len(text)
                received.messages.append(text)
            self._buffered -= taken
            received.frames = len(received.messages)
            received.more = bool(self._texts)
            received.fault = None if received.more else self._fault
            self._changed.notify_all()
        return received

    def limit(self, max_message_bytes: int) -> None:
        """Do nothing: it was opened for the one request that it serves, with the limit of that."""

    def send_text(self, data: Text) -> Fault | None:
        """Start the exchange; `data` is the body of the POST. Called once."""
        with self._changed:
            if self._closed or self._started:
                return self._fault or _lost("closed")
            self._started = True
        try:
            threading.Thread(target=self._run, args=(self._sock, Secret(bytes(data))), name=THREAD_NAME, daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._end(_lost("no_thread"))
            return self._fault
        return None

    def ping(self, payload: bytes) -> Fault | None:
        """Do nothing: HTTP has no ping."""
        return None

    def flush(self) -> Fault | None:
        """Do nothing: the helper thread writes."""
        return None

    def pending_bytes(self) -> int:
        """Return 0: there is nothing to poll for."""
        return 0

    def written_bytes(self) -> int:
        """Return 0 before the first byte of the request may have left, and 1 after."""
        with self._changed:
            return self._written

    def close(self, code: int | None = None) -> None:
        """Close at once. The helper thread wakes from whatever it waits for, closes the socket and ends."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._texts.clear()
            self._buffered = 0
            self._fault = self._fault or _lost("closed")
            os.close(self._alarm)
            self._alarm = -1
            if self._sock is not None:
                with suppress(OSError):
                    # Not SSLSocket.shutdown: it takes the TLS layer off, and the thread's next write would be plain text.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
                if not self._started:
                    self._sock.close()
                    self._sock = None
            self._changed.notify_all()

    # In the helper thread, from here on.

    def _run(self, sock: socket.socket, body: Secret[bytes]) -> None:
        stream = _Stream(sock, self._target.send_timeout, self._writing)
        try:
            self._exchange(stream, body)
            fault = _lost("eof")
        except Refused as refused:
            fault = Fault(refused.fault.code, {**refused.fault.details, "transport": "http"})
        except Exception as error:  # of httpcore, of TLS, of the operating system: a word of it is all that may go on
            fault = _lost(_word(error, stream.ended))
        self._end(fault)

    def _exchange(self, stream: _Stream, body: Secret[bytes]) -> None:
        import httpcore

        _silence()
        parts = urlsplit(self._target.endpoint)
        # Scheme and host matter to who opens a connection: this one is open, and the Host header stands among ours.
        url = httpcore.URL(scheme=b"http", host=b"server", port=None, target=resource(parts).encode())
        connection = httpcore.HTTP11Connection(url.origin, stream)  # type: ignore[arg-type]  # it has what is called
        with connection.stream("POST", url, headers=self._headers(), content=body.reveal()) as response:
            if response.status != 200:
                stream.deadline = time.monotonic() + ERROR_BODY_TIMEOUT
                self._put(refusal(response.status, response.headers, response.iter_stream()))
                return
            for text in texts(response.headers, response.iter_stream(), self._target.max_message_bytes):
                if not self._put(text):
                    return

    def _headers(self) -> list[tuple[bytes, bytes]]:
        given = [(name, value) for name, value in self._target.headers.reveal() if not _is_ours(name.lower())]
        if not any(name.lower() == "user-agent" for name, _ in given):
            given.append(("User-Agent", f"pixir-actors/{__version__}"))
        ours = [
            ("Host", host_header(urlsplit(self._target.endpoint))),
            ("Content-Type", "application/json"),
            ("Accept", "text/event-stream"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in ours + given]

    def _writing(self) -> None:
        with self._changed:
            self._written = 1

    def _put(self, text: bytes) -> bool:
        """Leave a text for the actor, when there is room; say whether anybody wants more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._buffered < BUFFER_BYTES)
            if self._closed:
                return False
            self._texts.append(text)
            self._buffered += len(text)
            os.eventfd_write(self._alarm, 1)
        return True

    def _end(self, fault: Fault) -> None:
        with self._changed:
            if self._sock is not None:
                self._sock.close()
                self._sock = None
            self._fault = self._fault or fault
            if not self._closed:
                os.eventfd_write(self._alarm, 1)


class _Stream:
    """The open socket, as httpcore wants it; the socket is closed by who opened it."""

    def __init__(self, sock: socket.socket, send_timeout: float | None, writing: Callable[[], None]) -> None:
        self._sock, self._send_timeout, self._writing = sock, send_timeout, writing
        self._written_by: float | None = None  # monotonic time at which the request has to be out
        self.deadline: float | None = None
        """Monotonic time at which reading ends."""
        self.ended = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Wait for bytes; how long is for the actor to say, which closes the socket."""
        self._sock.settimeout(_left(self.deadline))
        data = self._sock.recv(max_bytes)
        self.ended = not data
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        import httpcore

        self._writing()
        if self._written_by is None and self._send_timeout is not None:
            self._written_by = time.monotonic() + self._send_timeout
        rest = memoryview(buffer)
        try:
            while rest:
                self._sock.settimeout(_left(self._written_by))
                rest = rest[self._sock.send(rest[:WRITE_BYTES]) :]
        except TimeoutError:
            late = {"reason": "timeout", "limit_s": self._send_timeout}
            raise Refused(Fault(ErrorCode.WEBSOCKET_SEND_TIMEOUT, late)) from None
        except OSError as error:
            # The server may have answered before it had read all of it: httpcore reads on after this one.
            raise httpcore.WriteError from error

    def close(self) -> None:
        """Leave the socket to the transport, whose `close` may be using it."""

    def get_extra_info(self, info: str) -> None:
        """Know nothing more."""


def _left(deadline: float | None) -> float | None:
    """Return the seconds until a deadline, as a socket's timeout: never 0, which would be another mode."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.001)


def _lost(reason: str) -> Fault:
    return Fault(ErrorCode.CONNECTION_LOST, {"reason": reason, "transport": "http"})


def _is_ours(name: str) -> bool:
    return name in OURS or name.startswith("sec-websocket-")


def _word(error: Exception, ended: bool) -> str:
    """Return the word for what an exchange raised; the text of it may hold a header's value."""
    if ended:
        return "eof"
    return _WORDS.get(type(error).__name__) or reason_of(error)


def _silence() -> None:
    logging.getLogger("httpcore.http11").addFilter(_is_not_ours)


def _is_not_ours(_: logging.LogRecord) -> bool:
    """Keep what is logged of our exchanges out of the host's log: at DEBUG, httpcore writes the response's headers.

    What the host itself does with httpcore, in its own threads, goes through.
    """
    return threading.current_thread().name != THREAD_NAME
