"""One request over HTTP with server-sent events, behind the same face as a WebSocket.

The HTTP client is `httpx`, from the extra `http`. It blocks, so it runs in a helper thread, which leaves messages under a
lock and touches nothing of the actor. A bounded buffer between the two hands the actor's pace on to the socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from pixir_actors.core.secret import Secret
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault, Received, Target
from pixir_actors.transport.faults import Refused, reason_of
from pixir_actors.transport.sse import EventReader, TooLarge
from pixir_actors.transport.tls import client_context
from pixir_actors.version import __version__

BUFFER_BYTES: Final = 1024 * 1024
"""Bytes that may wait for the actor before the helper thread stops reading."""
MAX_ERROR_BYTES: Final = 64 * 1024
THREAD_NAME: Final = "http-exchange"
OURS: Final = frozenset({"host", "connection", "content-type", "content-length", "accept", "transfer-encoding"})


def open_http(target: Target) -> HttpConnector:
    """Return a connector that is ready at once: over HTTP, connecting is part of the request."""
    return HttpConnector(target)


class HttpConnector:
    """A `Connector` whose transport opens its socket with the request."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ready = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return a descriptor that is readable; -1 after `abandon`."""
        return self._ready

    def result(self) -> HttpTransport | Fault:
        """Return the transport, or the fault of a target that cannot be used."""
        self.abandon()
        try:
            context = client_context(self._target.ca_file) if self._target.endpoint.startswith("wss:") else None
        except Refused as refused:
            return Fault(ErrorCode.CONNECTION_LOST, refused.fault.details)
        return HttpTransport(self._target, context)

    def abandon(self) -> None:
        """Free the descriptor. Idempotent."""
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1


class HttpTransport:
    """A `Transport` for one request. Used from one thread; its helper thread ends by itself or with `close`."""

    def __init__(self, target: Target, context: ssl.SSLContext | None) -> None:
        self._target, self._context = target, context
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._changed = threading.Condition()
        # Guarded by `_changed`, from here on.
        self._messages: deque[bytes] = deque()
        self._buffered = 0
        self._fault: Fault | None = None
        self._written = 0
        self._sock: Any = None
        self._closed = False

    def fileno(self) -> int:
        return self._alarm

    def receive(self, *, max_messages: int, max_bytes: int) -> Received:
        received = Received()
        with self._changed:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._alarm)
            taken = 0
            while self._messages and len(received.messages) < max_messages and taken < max_bytes:
                message = self._messages.popleft()
                taken += len(message)
                received.messages.append(message)
            self._buffered -= taken
            received.frames = len(received.messages)
            received.more = bool(self._messages)
            received.fault = None if received.more else self._fault
            self._changed.notify_all()
        return received

    def send_text(self, data: bytes) -> Fault | None:
        """Start the exchange; `data` is the body of the POST. Called once."""
        try:
            threading.Thread(target=self._run, args=(Secret(data),), name=THREAD_NAME, daemon=True).start()
        except RuntimeError:
            return Fault(ErrorCode.CONNECTION_LOST, {"reason": "no_thread"})
        return None

    def ping(self, payload: bytes) -> Fault | None:
        """Do nothing: HTTP has no ping."""
        return None

    def flush(self) -> Fault | None:
        return None

    def pending_bytes(self) -> int:
        return 0

    def written_bytes(self) -> int:
        """Return 0 before the first byte of the request may have left, and 1 after."""
        with self._changed:
            return self._written

    def close(self, code: int | None = None) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._messages.clear()
            os.close(self._alarm)
            if self._sock is not None:
                # Wakes the helper thread from whatever it waits for.
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    # The helper thread.

    def _run(self, body: Secret[bytes]) -> None:
        import httpx

        try:
            with self._client(httpx) as client, self._posted(client, body) as response:
                for message in _messages(response, self._target.max_message_bytes):
                    if not self._put(message):
                        return
            self._end(Fault(ErrorCode.CONNECTION_LOST, {"reason": "eof", "transport": "http"}))
        except TooLarge:
            limit = self._target.max_message_bytes
            self._end(Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"limit": limit, "transport": "http"}))
        except Exception as error:  # of httpx, of TLS, of the operating system: a word of it is all that may go on
            self._end(Fault(ErrorCode.CONNECTION_LOST, {"reason": _word(error), "transport": "http"}))

    def _client(self, httpx: Any) -> Any:
        step = self._target.step_timeout
        proxy = None if self._target.proxy is None else self._target.proxy.reveal()
        return httpx.Client(
            verify=self._context or False,  # False only for plain http, where nothing is verified
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(connect=step, write=step, read=None, pool=None),
        )

    def _posted(self, client: Any, body: Secret[bytes]) -> Any:
        parts = urlsplit(self._target.endpoint)
        scheme = "https" if parts.scheme == "wss" else "http"
        given = {name: value for name, value in self._target.headers.reveal() if name.lower() not in OURS}
        ours = {"content-type": "application/json", "accept": "text/event-stream"}
        agent = {} if any(name.lower() == "user-agent" for name in given) else {"user-agent": f"pixir-actors/{__version__}"}
        return client.stream(
            "POST",
            parts._replace(scheme=scheme, fragment="").geturl(),
            content=body.reveal(),
            headers=given | agent | ours,
            extensions={"trace": self._trace},
        )

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        """Called by the HTTP client at each step: the socket is had, the request begins to leave."""
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info.get("return_value")
            sock = None if stream is None else stream.get_extra_info("socket")
            with self._changed:
                self._sock = sock
                if self._closed and sock is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
        elif name.endswith("send_request_headers.started") and "proxy" not in name:
            with self._changed:
                self._written = 1

    def _put(self, message: bytes) -> bool:
        """Leave a message for the actor, when there is room; say whether anybody wants more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._buffered < BUFFER_BYTES)
            if self._closed:
                return False
            self._messages.append(message)
            self._buffered += len(message)
            os.eventfd_write(self._alarm, 1)
        return True

    def _end(self, fault: Fault) -> None:
        with self._changed:
            self._fault = fault
            if not self._closed:
                os.eventfd_write(self._alarm, 1)


def _messages(response: Any, max_bytes: int) -> Iterator[bytes]:
    """Yield the events of a response as JSON texts, whatever form the server gave it."""
    if response.status_code != 200:
        yield _refusal(response)
    elif "text/event-stream" in response.headers.get("content-type", ""):
        reader = EventReader(max_bytes)
        for chunk in response.iter_bytes():
            yield from reader.feed(chunk)
    else:
        # A server that does not stream answers with the response object.
        whole = _bounded(response, max_bytes)
        yield b'{"type":"response.completed","response":%s}' % whole


def _refusal(response: Any) -> bytes:
    """Return an HTTP error as the `error` event that the same refusal would be on a WebSocket."""
    body = b""
    with contextlib.suppress(TooLarge):
        body = _bounded(response, MAX_ERROR_BYTES)
    try:
        stated = orjson.loads(body)
    except orjson.JSONDecodeError:
        stated = None
    error = stated.get("error") if isinstance(stated, dict) else None
    headers = {name: response.headers[name] for name in ("retry-after", "retry-after-ms") if name in response.headers}
    event = {
        "type": "error",
        "status": response.status_code,
        "error": error if isinstance(error, dict) else {"type": "http_error", "message": "the error has no JSON body"},
        "headers": headers,
    }
    return orjson.dumps(event)


def _bounded(response: Any, max_bytes: int) -> bytes:
    parts, size = [], 0
    for chunk in response.iter_bytes():
        parts.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge
    return b"".join(parts)


def _word(error: Exception) -> str:
    """Return the word for what httpx raised; its own text may name URLs."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return reason_of(cause)
        cause = cause.__cause__ or cause.__context__
    words = {
        "ConnectTimeout": "timeout",
        "ReadTimeout": "timeout",
        "WriteTimeout": "timeout",
        "ConnectError": "refused",
        "ProxyError": "proxy_refused",
        "RemoteProtocolError": "protocol_error",
        "ReadError": "reset",
        "WriteError": "reset",
    }
    return words.get(type(error).__name__, type(error).__name__)
