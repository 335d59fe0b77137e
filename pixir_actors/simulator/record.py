"""What the simulator saw, for tests to read while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Item = dict[str, Any]
Via = Literal["websocket", "http"]
TurnStatus = Literal["in_progress", "completed", "incomplete", "failed", "error", "disconnected"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Handshake:
    """One HTTP request for an upgrade. `connection` counts from 0, over the connections of both ways.

    `status` is what was answered: 101 when accepted, 0 when nothing was.
    """

    connection: int
    path: str
    headers: list[tuple[str, str]] = field(repr=False)
    accepted: bool
    status: int

    def header(self, name: str) -> str | None:
        """Return a header's first value; names are compared without case."""
        return _header(self.headers, name)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request that is no upgrade. A connection that is kept alive has several.

    `status` is what was answered, 0 when nothing was. `request_index` is its index in `requests`, None for one that
    was refused before its body was taken for a request.
    """

    connection: int
    method: str
    path: str
    headers: list[tuple[str, str]] = field(repr=False)
    status: int
    request_index: int | None

    def header(self, name: str) -> str | None:
        """Return a header's first value; names are compared without case."""
        return _header(self.headers, name)


def _header(headers: list[tuple[str, str]], name: str) -> str | None:
    return next((value for key, value in headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Received:
    """One request: a `response.create`, or the body of a POST.

    `index` counts from 0 over the whole simulator; `wire_bytes` is the message's or the body's size.
    """

    index: int
    connection: int
    payload: dict[str, Any] = field(repr=False)
    wire_bytes: int
    via: Via = "websocket"


@dataclass(frozen=True, slots=True)
class ClientClose:
    """How a WebSocket connection ended as the server saw it.

    `code` and `reason` are those of the client's close frame, 1005 if it had none and 1006 without a close frame;
    `clean` says whether a close frame came; `by` says who began (for an unclean end: who closed the socket).
    """

    connection: int
    code: int
    reason: str
    clean: bool
    by: Literal["client", "server"]


@dataclass(slots=True)
class Turn:
    """One request that ran: it was not refused before `response.created`. Recorded when it starts, `status` is updated.

    `seen` is what the model sees: the history of `previous_response_id`, then the request's input (a text input as one
    user message). `output` is what the model answered. `generated` is False for a warm-up (`generate: false`).
    """

    connection: int
    request_index: int
    response_id: str
    model: str
    seen: list[Item] = field(repr=False)
    output: list[Item] = field(default_factory=list, repr=False)
    status: TurnStatus = "in_progress"
    generated: bool = True
    via: Via = "websocket"


class Ledger:
    """All records, with a condition to wait on. Written by the server's thread, read by any.

    Each list keeps at least the newest `keep` records; older ones are dropped in bulk beyond twice that.
    """

    def __init__(self, keep: int) -> None:
        self.handshakes: list[Handshake] = []
        self.http_requests: list[HttpRequest] = []
        self.requests: list[Received] = []
        self.overlaps: list[Received] = []
        self.pings: list[tuple[int, bytes]] = []
        self.pongs: list[tuple[int, bytes]] = []
        self.closes: list[ClientClose] = []
        self.turns: list[Turn] = []
        self.errors: list[BaseException] = []
        self.open_connections = 0
        self.open_http_connections = 0
        self.tls_failures = 0
        self.connections = 0
        self.received = 0
        self._keep = keep
        self._changed = threading.Condition()

    def add(self, records: list[_T], record: _T) -> None:
        """Append to one of the lists and wake who waits."""
        with self._changed:
            records.append(record)
            if len(records) > 2 * self._keep:
                del records[: -self._keep]
            self._changed.notify_all()

    def receive(
        self, connection: int, payload: dict[str, Any], size: int, *, via: Via = "websocket", overlap: bool = False
    ) -> Received:
        """Number a request and record it; `overlap`: another was in flight."""
        received = Received(self.received, connection, payload, size, via)
        self.received += 1
        if overlap:
            self.add(self.overlaps, received)
        self.add(self.requests, received)
        return received

    def count(self, *, opened: int = 0, http_opened: int = 0, tls_failures: int = 0) -> None:
        """Change the counters and wake who waits."""
        with self._changed:
            self.open_connections += opened
            self.open_http_connections += http_opened
            self.tls_failures += tls_failures
            self._changed.notify_all()

    def settle(self, turn: Turn, status: TurnStatus, output: list[Item]) -> None:
        """Give a turn its end."""
        with self._changed:
            turn.status = status
            turn.output = output
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], object], timeout: float) -> None:
        """Wait until the predicate is true; it is asked after every record, and four times a second besides.

        Raises:
            TimeoutError: It was not within `timeout` seconds; the text says what had been seen.
            RuntimeError: The simulator itself broke meanwhile; the cause is chained.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate():
                if self.errors:
                    raise RuntimeError("the simulator broke while a test waited for it") from self.errors[0]
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not within {timeout:g} s; seen so far: {self.summary()}")
                self._changed.wait(min(left, 0.25))

    def summary(self) -> str:
        """Return one line of counts, without content."""
        turns = ", ".join(turn.status for turn in self.turns[-5:])
        closes = ", ".join(f"{close.code} by {close.by}" for close in self.closes[-5:])
        return (
            f"{len(self.handshakes)} handshakes, {self.open_connections} open connections,"
            f" {len(self.requests)} requests, {len(self.turns)} turns ({turns or '-'}), {len(self.http_requests)} by HTTP,"
            f" {len(self.closes)} closes ({closes or '-'}), {len(self.pings)} pings, {len(self.pongs)} pongs"
        )
