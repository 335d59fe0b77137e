"""What the actors log: what, at which level, with which fields. Never per event, and never a secret.

    pixir_actors.supervisor    INFO     connection_started    key connection_id pid ms
                               INFO     connection_ended      key connection_id pid why
                               WARNING  the same, where nobody had asked for it: crashed, killed, start_failed_...
                               WARNING  connection_refused    key code, and limit or reason
                               INFO     drain_begun           within_s connections
                               INFO     drain_ended           seconds left
    pixir_actors.connection    INFO     socket_opened         host via ms
                               INFO     socket_closed         host via reason close_code detail age_s
                               WARNING  degraded              host seconds cause
                               WARNING  turn_failed           code delivery model ms status; INFO where the caller gave up
                               DEBUG    turn_ended            model purpose ms; and if it was sent: via delta reset_reason
                                                              wire_bytes full_bytes attempts

A record's text holds the event and its fields; each field is an attribute of the record as well, and so is `event`. Those
of a connection also have `key` and `connection_id`. A key appears as its label: a digest, unless its program exposes it. Of
a host there are name and port. Words of a provider, of a header or of a request do not appear, but for the model's name.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from typing import Any, Final

from pixir_actors.core import actions as do
from pixir_actors.core import inputs
from pixir_actors.core.fingerprint import authority
from pixir_actors.core.state import Connection, State, TurnRequest
from pixir_actors.errors import ErrorCode, Failure

RATE: Final = 20.0
"""Records per second that a process may send on, and `BURST`, how many at once: each of them is an actor message."""
BURST: Final = 100
MAX_TEXT: Final = 100
"""Characters of a text that comes from outside."""

# Where the program configures no logging, nothing is to be printed on its standard error.
logging.getLogger("pixir_actors").addHandler(logging.NullHandler())

_WORD: Final = re.compile(r"[a-z0-9_]{1,40}")

Note = tuple[int, str, dict[str, Any]]
"""Level, event, fields; those that are None are left out."""


class Limiter:
    """Lets through `RATE` records a second on average, and `BURST` at once. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._since = float("-inf")
        self._dropped = 0

    def admit(self, now: float) -> int | None:
        """Return how many records were dropped before this one, which may pass; None: this one is dropped as well."""
        self._tokens = min(float(BURST), self._tokens + max(0.0, now - self._since) * RATE)
        self._since = now
        if self._tokens < 1:
            self._dropped += 1
            return None
        self._tokens -= 1
        dropped, self._dropped = self._dropped, 0
        return dropped


class Journal:
    """One actor's log. Used from its thread only; configures nothing, and raises nothing.

    Args:
        name: The logger's name.
        limited: Records travel to another process as messages, and must not be too many.
    """

    def __init__(self, name: str, *, limited: bool) -> None:
        self._logger = logging.getLogger(name)
        self._limiter = Limiter() if limited else None
        self._about: dict[str, Any] = {}

    def about(self, **fields: Any) -> None:
        """Have these fields in every record from now on."""
        self._about = fields

    def write(self, level: int, event: str, **fields: Any) -> None:
        """Log an event with its fields, if anybody wants it."""
        if not self._logger.isEnabledFor(level):
            return
        dropped = 0 if self._limiter is None else self._limiter.admit(time.monotonic())
        if dropped is None:
            return
        extra = {"event": event, **self._about, **{name: value for name, value in fields.items() if value is not None}}
        if dropped:
            extra["dropped"] = dropped
        text = " ".join([event.replace("_", " "), *(f"{name}={_shown(extra[name])}" for name in extra if name != "event")])
        # A handler or filter of the host program may raise: that is not to cost anybody a turn.
        with contextlib.suppress(Exception):
            self._logger.log(level, text, extra=extra)

    def observe(
        self, before: Connection, input: inputs.Input, after: Connection, actions: list[do.Action], now: float
    ) -> None:
        """Log what one transition of a connection's machine was about."""
        if self._logger.isEnabledFor(logging.WARNING):  # or nothing of it is wanted
            for level, event, fields in notes(before, input, after, actions, now):
                self.write(level, event, **fields)


def notes(
    before: Connection, input: inputs.Input, after: Connection, actions: list[do.Action], now: float
) -> Iterator[Note]:
    """Yield what is to be logged of a transition."""
    if after.statistics.sockets != before.statistics.sockets and before.turn is not None:
        turn = before.turn
        opened = {"host": authority(turn.request.endpoint), "via": turn.via.value, "ms": _ms(now - turn.phase_since)}
        yield logging.INFO, "socket_opened", opened
    for action in actions:
        match action:
            case do.CloseSocket():
                yield logging.INFO, "socket_closed", _closed(action, before, input, after, now)
            case do.Fail(request_id, failure):
                yield _failed(failure, _request(before, input, request_id), now)
            case do.Finish(request_id, None):
                yield logging.DEBUG, "turn_ended", _ended(before, _request(before, input, request_id), now)
            case do.Finish(request_id, failure) if failure is not None:
                yield _failed(failure, _request(before, input, request_id), now)
    if after.backoff.until is not None and after.backoff.failures > before.backoff.failures:
        yield logging.WARNING, "degraded", _degraded(before, after, now)


def _closed(
    action: do.CloseSocket, before: Connection, input: inputs.Input, after: Connection, now: float
) -> dict[str, Any]:
    socket = before.socket
    details = input.details if isinstance(input, inputs.SocketFailed) else {}
    reason = _stopped_by(input, after) if after.state is State.STOPPED else action.reason
    return {
        "host": None if socket is None else authority(socket.endpoint),
        "via": None if socket is None else socket.via.value,
        "reason": reason,
        "close_code": details.get("close_code") or action.code,
        "detail": _word(details.get("reason")),
        "age_s": None if socket is None else round(now - socket.opened_at, 3),
    }


def _stopped_by(input: inputs.Input, after: Connection) -> str:
    """Return why a connection has ended."""
    if isinstance(input, inputs.StopAsked):
        return input.code.value
    if isinstance(input, inputs.EvictAsked):
        return "evicted"
    return "drained" if after.drained_by is not None else "retired"


def _failed(failure: Failure, request: TurnRequest | None, now: float) -> Note:
    level = logging.INFO if failure.code is ErrorCode.CANCELLED else logging.WARNING
    return level, "turn_failed", {
        "code": failure.code.value,
        "delivery": failure.delivery.value,
        "model": _model(request),
        "ms": None if request is None else _ms(now - request.received_at),
        "status": failure.status,
    }


def _ended(before: Connection, request: TurnRequest | None, now: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": _model(request),
        "purpose": None if request is None else request.purpose.value,
        "ms": None if request is None else _ms(now - request.received_at),
    }
    turn = before.turn
    if turn is None or turn.plan is None or turn.request is not request:
        return fields  # nothing was sent for it
    return fields | {
        "via": turn.via.value,
        "delta": turn.plan.attempted,
        "reset_reason": None if turn.plan.reset_reason is None else turn.plan.reset_reason.value,
        "wire_bytes": len(turn.plan.wire),
        "full_bytes": len(turn.request.body),
        "attempts": turn.attempts,
    }


def _degraded(before: Connection, after: Connection, now: float) -> dict[str, Any]:
    return {
        "host": None if before.turn is None else authority(before.turn.request.endpoint),
        "seconds": round(after.backoff.remaining(now), 3),
        "cause": after.backoff.cause,
    }


def _request(before: Connection, input: inputs.Input, request_id: Any) -> TurnRequest | None:
    """Return the request that a transition has answered."""
    held = [before.turn.request] if before.turn is not None else []
    brought = [input.request] if isinstance(input, inputs.Submitted) else []
    return next((one for one in (*held, *before.queue, *brought) if one.request_id == request_id), None)


def _model(request: TurnRequest | None) -> str | None:
    model = None if request is None else request.payload.get("model")
    return model[:MAX_TEXT] if isinstance(model, str) else None


def _word(value: object) -> str | None:
    """Return a word of our own, and nothing that a server could have said."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _shown(value: object) -> object:
    """Return a value as it stands in a record's text: in one piece, and on one line."""
    return repr(value) if isinstance(value, str) and (" " in value or not value.isprintable()) else value


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
