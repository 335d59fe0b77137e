"""What a person is told about a failure: what happened, whether the request has run, what to do; and the exit code."""

from __future__ import annotations

import traceback
from typing import Final

from pixir_actors.cli import catalog
from pixir_actors.cli.options import WrongUsage
from pixir_actors.errors import (
    AdminMismatch,
    AdminNotRunning,
    CookieUnusable,
    Delivery,
    ErrorCode,
    InvalidRequest,
    InvalidSettings,
    PixirError,
    ProviderError,
    StreamError,
)

VERDICTS: Final = {
    Delivery.NOT_SENT: "nothing was sent: to send it again is safe",
    Delivery.REJECTED: "the provider refused it before any output: to send it again is safe",
    Delivery.AMBIGUOUS: "it was sent and may have run: to send it again may run it twice",
    Delivery.ACCEPTED: "it has run, at least in part: to send it again runs it again",
}
"""What each verdict means."""

ADVICE: Final = {
    ErrorCode.WEBSOCKET_DEGRADED: "the connection failed a moment ago, and is left alone for a while",
    ErrorCode.WEBSOCKET_START_FAILED: "look at the host: memory, process limits, and the admin's log",
    ErrorCode.WEBSOCKET_CONNECT_FAILED: "`pixir-actors doctor` shows which step fails: name, TCP, proxy or TLS",
    ErrorCode.WEBSOCKET_HANDSHAKE_FAILED: "the status says why: 401, 403: the key; 404: the URL, or no WebSocket mode there"
    " (--option transport=http); 429, 5xx: wait",
    ErrorCode.WEBSOCKET_READ_FAILED: "the network broke",
    ErrorCode.WEBSOCKET_CLOSED: "the provider closed the socket",
    ErrorCode.WEBSOCKET_FAILED: "the server does not speak the protocol: check --base-url; report it to the provider",
    ErrorCode.WEBSOCKET_FRAME_TOO_LARGE: "raise it with --option max_message_bytes=..., or ask for less",
    ErrorCode.STREAM_IDLE_TIMEOUT: "the provider fell silent; --option idle_timeout=... waits longer",
    ErrorCode.PROVIDER_HTTP_ERROR: "the provider said no; its words are above",
    ErrorCode.WEBSOCKET_CONNECT_TIMEOUT: "`pixir-actors doctor` shows which step is slow",
    ErrorCode.WEBSOCKET_SEND_TIMEOUT: "the provider did not read; --option send_timeout=... waits longer",
    ErrorCode.FIRST_EVENT_TIMEOUT: "the provider did not answer; --option first_event_timeout=... waits longer",
    ErrorCode.REQUEST_TIMEOUT: "give it longer: --option timeout=...",
    ErrorCode.QUEUE_TIMEOUT: "other requests of this key took too long; try again, or use another key",
    ErrorCode.QUEUE_FULL: "too many requests of this key wait already; try again when one has ended, or use another key",
    ErrorCode.CANCELLED: "somebody closed this key's connection, or cancelled",
    ErrorCode.SLOW_CONSUMER: "what reads the output is too slow; --option max_buffered_bytes=... allows for more",
    ErrorCode.CONNECTION_LOST: "the connection's process died, or the admin was ended (`pixir-actors status` shows it); the"
    " next request opens a new connection, if an admin runs",
    ErrorCode.CONNECTION_UNRESPONSIVE: "look at the host's load; `pixir-actors status` shows the connection",
    ErrorCode.TOO_MANY_CONNECTIONS: "all are busy; try again, `pixir-actors close KEY`, or raise the limit",
    ErrorCode.SHUTTING_DOWN: "the admin is being stopped; start it again",
    ErrorCode.INTERNAL_ERROR: "a defect of this package; the admin's log names the place. The next request is served",
    ErrorCode.INVALID_PROVIDER_REQUEST: "the request cannot be sent as it stands",
}
"""What to do about each code."""

CODES: Final = (
    (AdminNotRunning, catalog.NOT_RUNNING),
    (AdminMismatch, catalog.MISMATCH),
    (CookieUnusable, catalog.MISMATCH),
    ((WrongUsage, InvalidRequest, InvalidSettings), catalog.WRONG_USAGE),
)

HTTP_LOST: Final = "the HTTP exchange broke; `pixir-actors doctor` shows which step of the way fails"

MAX_PROVIDER_TEXT: Final = 500


class Terminated(BaseException):
    """SIGTERM or SIGHUP came: whatever runs ends as it would at Ctrl-C."""


def code_of(error: BaseException) -> int:
    """Return the exit code that an exception stands for."""
    return next((code for kinds, code in CODES if isinstance(error, kinds)), catalog.FAILED)


def lines_of(error: BaseException, *, debug: bool = False, secret: str | None = None) -> list[str]:
    """Return what to print about an exception, the gist first.

    Args:
        error: What was raised.
        debug: Show where an unexpected one arose. The message of one is never shown: it may quote anything.
        secret: An API key, which a provider may repeat in what it says.
    """
    match error:
        case StreamError():
            return _stream_error(error, secret)
        case InvalidSettings():
            return [error.problem or f"{error.field} is not valid: allowed is {error.allowed}"]
        case PixirError() | WrongUsage():
            return [str(error)]
        case OSError() if error.strerror:
            lines = [f"{error.strerror}: {error.filename}" if error.filename else error.strerror]
        case _:
            lines = [f"an unexpected {type(error).__name__}: this is a defect" + ("" if debug else "; --debug shows where")]
    return lines + (_frames(error) if debug else [])


def _stream_error(error: StreamError, secret: str | None) -> list[str]:
    facts = ", ".join(f"{name}={value}" for name, value in error.details.items() if name != "advice")
    lines = [f"{error.code}{f' ({facts})' if facts else ''}"]
    if isinstance(error, ProviderError):
        lines.append(f"the provider: {_provider_text(error, secret)}")
    lines.append(f"{error.delivery}: {VERDICTS[error.delivery]}")
    advice = _advice(error)
    if error.retry_after is not None:
        advice += f". Wait {error.retry_after:.1f} s before you try again"
    return [*lines, f"to do: {advice}"]


def _advice(error: StreamError) -> str:
    if "advice" in error.details:  # it knows more than the code
        return str(error.details["advice"])
    over_http = error.code is ErrorCode.CONNECTION_LOST and error.details.get("transport") == "http"
    return HTTP_LOST if over_http else ADVICE[error.code]


def _provider_text(error: ProviderError, secret: str | None) -> str:
    """Return what the provider said, in one line, without the API key that it may have repeated."""
    words = [str(error.error[name]) for name in ("code", "message") if error.error.get(name)]
    said = ": ".join(words) or "no reason given"
    if secret:
        said = said.replace(secret, "***")
    said = " ".join(said.split())
    status = f"{error.status}, " if error.status else ""
    return status + (said if len(said) <= MAX_PROVIDER_TEXT else said[:MAX_PROVIDER_TEXT] + "...")


def _frames(error: BaseException) -> list[str]:
    """Return the frames and types of an exception and its causes, without their messages."""
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        lines += [line for frame in traceback.format_tb(seen.__traceback__) for line in frame.rstrip().splitlines()]
        lines.append(type(seen).__name__)
        seen = seen.__cause__ or seen.__context__
    return lines
