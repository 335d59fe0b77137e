"""HTTP/1.1 of one connection by h11: requests out of bytes, heads into bytes. No I/O; the peer writes the body."""

from __future__ import annotations

import email.utils
import http
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import h11

from pixir_actors.simulator.rejection import Rejection

_HEAD_LIMIT: Final = 64 * 1024
_BODILESS: Final = frozenset({204, 304})
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Post:
    """One HTTP request with its body; of any method. `problem` is why it must be refused before anything is looked at.

    `size` is the body's, also when it was too large to be kept.
    """

    method: str
    path: str
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)
    size: int
    problem: Rejection | None = None

    def header(self, name: str) -> str:
        """Return a header's first value, or ""; names are compared without case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class HttpParser:
    """Requests come one after another; the next is handed out after `finish` only. Larger bodies are read and dropped."""

    def __init__(self, max_body_bytes: int) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
        self._limit = max_body_bytes
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._size = 0
        self._broken = False

    def receive(self, data: bytes = b"") -> tuple[bytes, Post | None]:
        """Take what came, and return what to send at once (a 100 Continue) and the request, if it is whole."""
        if self._broken:
            return b"", None
        try:
            if data:
                self._connection.receive_data(data)
            return self._advance()
        except h11.RemoteProtocolError as error:
            self._broken = True
            return b"", self._post(_problem("invalid_http", "Malformed HTTP request.", error.error_status_hint))

    def head(self, status: int, headers: Headers, length: int | None = None) -> bytes:
        """Return the head of the answer; its body has `length` bytes, or is chunked.

        Raises:
            ValueError: The status or a header cannot be sent.
        """
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        added = [("Date", email.utils.formatdate(usegmt=True)), *([] if status in _BODILESS else [framing])]
        if self._broken:
            added.append(("Connection", "close"))
        given = list(headers)
        names = {name.lower() for name, _ in given}
        added = [pair for pair in added if pair[0].lower() not in names]
        try:
            response = h11.Response(status_code=status, reason=_phrase(status), headers=[*given, *added])
            return self._connection.send(response) or b""
        except h11.LocalProtocolError as error:
            raise ValueError(f"status {status} or one of its headers cannot be sent: {error}") from error

    def whole(self, status: int, headers: Headers, body: bytes) -> bytes:
        """Return a whole answer. Raises ValueError as `head`; where no body may follow, it is left out."""
        head = self.head(status, headers, len(body))
        if not body or status in _BODILESS or (self._request is not None and self._request.method == b"HEAD"):
            return head
        return head + (self._connection.send(h11.Data(data=body)) or b"")

    def finish(self) -> bool:
        """The answer was sent to its end: say whether the connection stays, for `receive` to go on."""
        self._connection.send(h11.EndOfMessage())
        if self._broken or self._connection.our_state is not h11.DONE or self._connection.their_state is not h11.DONE:
            return False
        self._connection.start_next_cycle()
        return True

    def _advance(self) -> tuple[bytes, Post | None]:
        while True:
            match self._connection.next_event():
                case h11.Request() as request:
                    self._request, self._size = request, 0
                    self._body.clear()
                case h11.Data(data=data):
                    self._size += len(data)
                    if self._size <= self._limit:
                        self._body += data
                case h11.EndOfMessage():
                    return b"", self._post(self._refusal())
                case _:
                    return self._interim(), None

    def _interim(self) -> bytes:
        if not self._connection.they_are_waiting_for_100_continue:
            return b""
        return self._connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""

    def _refusal(self) -> Rejection | None:
        if self._size > self._limit:
            return _problem("request_too_large", f"The body has more than {self._limit} bytes.", 413)
        if self._request is not None and self._request.http_version != b"1.1":
            return _problem("unsupported_http_version", "Only HTTP/1.1 is spoken here.", 505)
        return None

    def _post(self, problem: Rejection | None) -> Post:
        if self._request is None:
            return Post("", "", [], b"", 0, problem)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._request.headers.raw_items()]
        method, path = self._request.method.decode("latin-1"), self._request.target.decode("latin-1")
        return Post(method, path, headers, bytes(self._body), self._size, problem)


def _problem(code: str, message: str, status: int) -> Rejection:
    return Rejection(code, message, status)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Refused"
