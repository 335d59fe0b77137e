"""The exception tree, and the words every failure is described with.

    PixirError
    ├── InvalidSettings      a setting out of range: field, value, what is allowed
    ├── InvalidRequest       a request that cannot be sent as it stands (code "invalid_provider_request")
    ├── WrongProcess         a client used in a fork of the process that made it
    ├── SystemStartFailed    the actor system could not be started or joined
    ├── AdminNotRunning      no admin on this host to attach to
    ├── AdminMismatch        an admin runs, but not one for this process: another version, another cookie
    ├── AdminAlreadyRunning  an admin cannot be started beside the one that runs
    ├── CookieUnusable       the cookie file is missing, unreadable, or readable by others
    └── StreamError          a request that ended without a complete response: code, delivery, retryable
        └── ProviderError    the provider itself said no: status, error

All but the last two are raised in the caller's process before anything is sent. A `StreamError` is born in a connection
actor, travels as a value (`Failure`), and becomes an exception again only in the caller's process. No message, detail or
attribute ever holds a token, a header value or a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

Details = Mapping[str, str | int | float | bool | None]
"""Facts about a failure: scalars only, never a secret."""


class ErrorCode(StrEnum):
    """Why a stream failed. The strings are stable; the comment says what to do.

    The first ten are the reference's own kinds (`behaviours.md` 1.14, 2.6), so that evidence stays comparable.
    """

    WEBSOCKET_DEGRADED = "websocket_degraded"  # wait `retry_after`; the connection failed a moment ago
    WEBSOCKET_START_FAILED = "websocket_start_failed"  # the connection actor could not be started: see details
    WEBSOCKET_CONNECT_FAILED = "websocket_connect_failed"  # name, TCP, TLS or proxy: see details["reason"]
    WEBSOCKET_HANDSHAKE_FAILED = "websocket_handshake_failed"  # the upgrade was refused: see details["status"]
    WEBSOCKET_READ_FAILED = "websocket_read_failed"  # the socket broke, or no pong came: see delivery
    WEBSOCKET_CLOSED = "websocket_closed"  # the server closed before a terminal event: details["close_code"]
    WEBSOCKET_FAILED = "websocket_failed"  # the server broke the protocol: see details["reason"]
    WEBSOCKET_FRAME_TOO_LARGE = "websocket_frame_too_large"  # raise max_message_bytes, or ask for less
    STREAM_IDLE_TIMEOUT = "stream_idle_timeout"  # nothing between two events for idle_timeout
    PROVIDER_HTTP_ERROR = "provider_http_error"  # the provider said no
    WEBSOCKET_CONNECT_TIMEOUT = "websocket_connect_timeout"  # connect_timeout passed, as a whole
    WEBSOCKET_SEND_TIMEOUT = "websocket_send_timeout"  # the request could not be written within send_timeout
    FIRST_EVENT_TIMEOUT = "first_event_timeout"  # sent, and no event within first_event_timeout
    REQUEST_TIMEOUT = "request_timeout"  # the request's own `timeout` passed
    QUEUE_TIMEOUT = "queue_timeout"  # waited longer than queue_timeout behind the same key's streams
    QUEUE_FULL = "queue_full"  # queue_limit requests of this key wait already
    CANCELLED = "cancelled"  # the caller, or `close`, ended it
    SLOW_CONSUMER = "slow_consumer"  # more than max_buffered_bytes were left unread
    CONNECTION_LOST = "connection_lost"  # the connection actor died; or the HTTP exchange, if details["transport"] is "http"
    CONNECTION_UNRESPONSIVE = "connection_unresponsive"  # the actor system did not answer in time
    TOO_MANY_CONNECTIONS = "too_many_connections"  # max_connections are busy
    SHUTTING_DOWN = "shutting_down"  # the actor system, or the client, is closing
    INTERNAL_ERROR = "internal_error"  # a bug of ours; nothing was lost but this request
    INVALID_PROVIDER_REQUEST = "invalid_provider_request"  # only for requests that actors send: see InvalidRequest


class Delivery(StrEnum):
    """Whether the request may have run at the provider (`design.md` section 3)."""

    NOT_SENT = "not_sent"  # no byte of the request reached the socket
    REJECTED = "rejected"  # the provider said no before any output
    AMBIGUOUS = "ambiguous"  # written, in part or whole, and no event came back
    ACCEPTED = "accepted"  # at least one event came back that is no rejection


RETRYABLE: Final = frozenset(
    {
        ErrorCode.WEBSOCKET_DEGRADED,
        ErrorCode.WEBSOCKET_CONNECT_FAILED,
        ErrorCode.WEBSOCKET_CONNECT_TIMEOUT,
        ErrorCode.WEBSOCKET_SEND_TIMEOUT,
        ErrorCode.WEBSOCKET_READ_FAILED,
        ErrorCode.WEBSOCKET_CLOSED,
        ErrorCode.FIRST_EVENT_TIMEOUT,
        ErrorCode.STREAM_IDLE_TIMEOUT,
        ErrorCode.QUEUE_TIMEOUT,
        ErrorCode.QUEUE_FULL,
        ErrorCode.CONNECTION_LOST,
        ErrorCode.CONNECTION_UNRESPONSIVE,
        ErrorCode.TOO_MANY_CONNECTIONS,
    }
)
"""Codes for which the same request may succeed later. Whether it may be sent again safely is what `delivery` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure as a value: what travels between processes in place of an exception.

    Attributes:
        code: One of `ErrorCode`.
        delivery: Whether the request may have run.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds to wait before that, or None where nothing is known.
        details: Scalars only, never a secret.
        status: HTTP-like status of a provider's error, or None.
        error: The provider's own error object, as it came, or None.
    """

    code: ErrorCode
    delivery: Delivery
    retryable: bool
    retry_after: float | None = None
    details: Details = field(default_factory=dict)
    status: int | None = None
    error: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, code: ErrorCode, delivery: Delivery, *, retry_after: float | None = None, **details: str | int | float | None
    ) -> Failure:
        """Build a failure whose `retryable` follows from its code; details that are None are left out."""
        known = {name: value for name, value in details.items() if value is not None}
        return cls(code=code, delivery=delivery, retryable=code in RETRYABLE, retry_after=retry_after, details=known)


class PixirError(Exception):
    """Root of everything this package raises on purpose."""


class InvalidSettings(PixirError, ValueError):
    """A setting that is unknown or out of range. Nothing was sent.

    Attributes:
        field: The setting's name.
        value: What was given.
        allowed: What would have been accepted, in words.
        problem: The whole of it in words, where not the value is what is wrong; else None.
    """

    def __init__(self, field: str, value: object, allowed: str, *, problem: str | None = None) -> None:
        self.field, self.value, self.allowed, self.problem = field, value, allowed, problem
        super().__init__(field, value, allowed)

    def __str__(self) -> str:
        return self.problem or f"{self.field}={self.value!r} is not valid: allowed is {self.allowed}"


class InvalidRequest(PixirError, ValueError):
    """A request that cannot be sent as it stands. Nothing was sent, no connection is the worse for it.

    Attributes:
        field: Which part: "url", "headers", "body", "key" or "api_key"; or "request", where it is none at all.
        problem: What is wrong with it and what is allowed; names no secret value.
        code: Always "invalid_provider_request".
    """

    code: Final = ErrorCode.INVALID_PROVIDER_REQUEST

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(field, problem)

    def __str__(self) -> str:
        return f"invalid request: {self.field} {self.problem}"


class WrongProcess(PixirError, RuntimeError):
    """A client, or a stream of it, used in a fork of the process that made it: the child makes a client of its own.

    Attributes:
        pid: Of the process that it belongs to.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(pid)

    def __str__(self) -> str:
        return (
            f"this client belongs to process {self.pid}, and a forked process cannot use it: "
            "make a new client after the fork"
        )


class SystemStartFailed(PixirError):
    """The actor system could not be started or joined; the text says at which step and what to do."""


class AdminNotRunning(PixirError):
    """There is no running admin on this host to attach to; the text names the command that starts one."""


class AdminMismatch(PixirError):
    """An admin runs, but not one that this process can talk to: it has another version, or another cookie."""


class AdminAlreadyRunning(PixirError):
    """An admin cannot be started beside the one that runs; the text says where that is."""


class CookieUnusable(PixirError):
    """The file with the secret that clients and admin share cannot be used; the text names it and says what to do."""


class StreamError(PixirError):
    """A request that ended without a complete response.

    Attributes:
        code: One of `ErrorCode`; its comment there says what to do.
        delivery: Whether the request may have run at the provider.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds to wait before that, or None.
        details: Scalars about the failure, never a secret.
        acc: For `Client.reduce`, the accumulator as of the last event folded in; otherwise None.
    """

    def __init__(self, failure: Failure, *, acc: Any = None) -> None:
        self.failure = failure
        self.code = failure.code
        self.delivery = failure.delivery
        self.retryable = failure.retryable
        self.retry_after = failure.retry_after
        self.details = dict(failure.details)
        self.acc = acc
        super().__init__(failure)

    def __str__(self) -> str:
        facts = [f"delivery={self.delivery}"]
        if self.retry_after is not None:
            facts.append(f"retry_after={self.retry_after:.3g}s")
        facts += [f"{name}={value}" for name, value in self.details.items()]
        return f"{self.code} ({', '.join(facts)})"

    def __repr__(self) -> str:
        # The failure inside says the same at length.
        return f"{type(self).__name__}({str(self)!r})"


class ProviderError(StreamError):
    """The provider itself answered with an error: `response.failed` or an `error` event.

    Attributes:
        status: HTTP-like status of the error, or None where the event had none.
        error: The provider's error object: usually `code`, `message`, `type`, `param`. Its text is the provider's.
    """

    def __init__(self, failure: Failure, *, acc: Any = None) -> None:
        super().__init__(failure, acc=acc)
        self.status = failure.status
        self.error = dict(failure.error or {})


def exception_from(failure: Failure, *, acc: Any = None) -> StreamError:
    """Turn a failure that crossed a process back into the exception it stands for."""
    kind = ProviderError if failure.error is not None else StreamError
    return kind(failure, acc=acc)
