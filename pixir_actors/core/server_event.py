"""What a server event means: does it end the response, carry its id, reject the continuation, bring an output item?

The events are those of `protocol.md` section 3. Unknown types and fields are let through: they are the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Final, NamedTuple

import orjson

from pixir_actors.errors import Delivery, ErrorCode, Failure


class Tag(IntEnum):
    """What the receiving end wants to know of an event without parsing it again; travels with its bytes."""

    OTHER = 0
    TEXT_DELTA = 1
    ITEM_DONE = 2
    TERMINAL = 3


class Stage(IntEnum):
    """Where in a response an event stands."""

    PRIVATE = 0  # a backend's own (`codex.rate_limits`, `keepalive`): about no response, at any time
    OPENING = 1  # created, queued, in_progress: says nothing about whether a continuation was taken
    OUTPUT = 2  # the model has begun: the attempt is accepted
    TERMINAL = 3  # the last event of a response


class ServerEvent(NamedTuple):
    """One parsed event, and the bytes it came as."""

    raw: bytes
    type: str
    stage: Stage
    tag: Tag
    body: dict[str, Any]

    def __repr__(self) -> str:
        return f"ServerEvent({self.type}, <{len(self.raw)} bytes>)"


class MalformedEvent(Exception):
    """A text message that is not JSON, or not UTF-8: what it said is lost, so the socket cannot be trusted."""


class Rejection(Enum):
    """Errors that say that the request did not run because of the socket, not of what it asks."""

    NOT_FOUND = "previous_response_not_found"
    CONNECTION_LIMIT = "websocket_connection_limit_reached"
    UNAUTHORIZED = "unauthorized"  # the bearer the socket was opened with, not necessarily the request's


_KNOWN: Final[dict[str, tuple[Stage, Tag]]] = {
    "response.created": (Stage.OPENING, Tag.OTHER),
    "response.queued": (Stage.OPENING, Tag.OTHER),
    "response.in_progress": (Stage.OPENING, Tag.OTHER),
    "response.metadata": (Stage.PRIVATE, Tag.OTHER),
    "response.output_text.delta": (Stage.OUTPUT, Tag.TEXT_DELTA),
    "response.output_item.done": (Stage.OUTPUT, Tag.ITEM_DONE),
    "response.completed": (Stage.TERMINAL, Tag.TERMINAL),
    "response.incomplete": (Stage.TERMINAL, Tag.TERMINAL),
    "response.failed": (Stage.TERMINAL, Tag.TERMINAL),
    "response.cancelled": (Stage.TERMINAL, Tag.TERMINAL),
    "response.done": (Stage.TERMINAL, Tag.TERMINAL),
    "error": (Stage.TERMINAL, Tag.TERMINAL),
}
_OTHER_RESPONSE: Final = (Stage.OUTPUT, Tag.OTHER)
_OTHER_PRIVATE: Final = (Stage.PRIVATE, Tag.OTHER)

_END_OF_SSE: Final = b"[DONE]"
_MALFORMED: Final = object()
_WARNINGS: Final = ("connection_expiring",)  # no set: what is looked for may be a list
_ITEM_ID_PREFIXES: Final = ("msg_", "call_", "fc_", "rs_", "ws_", "item_")
_NOT_FOUND: Final = re.compile(r"previous[ _-]?response.*not[ _-]?found", re.IGNORECASE)
_TRY_AGAIN: Final = re.compile(r"try again in\s+(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|seconds?|m|minutes?)\b", re.IGNORECASE)
_UNITS: Final = {"ms": 0.001, "mil": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0}
RETRYABLE_STATUSES: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
_RETRYABLE_CODES: Final = frozenset(
    {"rate_limit_exceeded", "server_error", "server_is_overloaded", "slow_down", "too_many_requests", "server_busy"}
)
_FINAL_CODES: Final = frozenset(
    {"insufficient_quota", "usage_limit_reached", "usage_not_included", "credit_balance_exhausted"}
)


def parse(raw: bytes) -> ServerEvent | None:
    """Parse one text message; None for what is JSON but no event, and for SSE's `[DONE]` (both are skipped).

    Raises:
        MalformedEvent: Not JSON or not UTF-8. The transport skips websocket-client's UTF-8 check because this is one.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = _MALFORMED
    if body is _MALFORMED:
        if raw.strip() == _END_OF_SSE:
            return None
        # Raised outside the except clause: the decoder's error, whose `doc` holds the event, is not its context.
        raise MalformedEvent
    kind = body.get("type") if isinstance(body, dict) else None
    if not isinstance(kind, str):
        return None
    known = _KNOWN.get(kind)
    if known is None:
        known = _OTHER_RESPONSE if kind.startswith("response.") else _OTHER_PRIVATE
    elif kind == "error" and _error_object(body).get("code") in _WARNINGS:
        known = _OTHER_PRIVATE
    return ServerEvent(raw, kind, known[0], known[1], body)


def response_id(event: ServerEvent) -> str | None:
    """Return the response's id, if the event carries it (W17).

    `response.id` comes first, then `response_id`, then `id` of a `response.*` event. Ids are opaque, may be empty (then
    there is nothing to chain from), and item ids are not taken for one.
    """
    response = event.body.get("response")
    if isinstance(response, dict) and isinstance(response.get("id"), str):
        return _accepted_id(response["id"])
    if isinstance(event.body.get("response_id"), str):
        return _accepted_id(event.body["response_id"])
    own = event.body.get("id")
    if event.type.startswith("response.") and isinstance(own, str) and own.startswith("resp"):
        return own
    return None


def _accepted_id(value: str) -> str | None:
    return value if value and not value.startswith(_ITEM_ID_PREFIXES) else None


def succeeded(event: ServerEvent) -> bool:
    """Say whether a terminal event leaves a response that can be continued: completed or incomplete."""
    if event.type == "response.done":
        response = event.body.get("response")
        return isinstance(response, dict) and response.get("status") in ("completed", "incomplete")
    return event.type in ("response.completed", "response.incomplete")


def listed_output(event: ServerEvent) -> list[Any]:
    """Return the output items a terminal event lists; some backends leave the list empty."""
    response = event.body.get("response")
    output = response.get("output") if isinstance(response, dict) else None
    return output if isinstance(output, list) else []


@dataclass(frozen=True, slots=True)
class ProviderFault:
    """A provider's error in one shape, whichever of the wire's four it came in.

    Attributes:
        error: The error object as it came.
        status: HTTP-like status, or None.
        retry_after: Seconds from the headers in either place, or from the message; None where nothing says.
    """

    error: dict[str, Any]
    status: int | None
    retry_after: float | None

    def text(self, name: str) -> str | None:
        """Return a field of the error if it is a text."""
        value = self.error.get(name)
        return value if isinstance(value, str) else None

    @property
    def rejection(self) -> Rejection | None:
        """Say whether the socket, not the request, was refused."""
        if self._is_limit():
            return Rejection.CONNECTION_LIMIT
        if self.status == 401 or self.text("code") == "invalid_api_key":
            return Rejection.UNAUTHORIZED
        return Rejection.NOT_FOUND if self._is_not_found() else None

    def _is_limit(self) -> bool:
        name = Rejection.CONNECTION_LIMIT.value
        return any(name in (self.text(field) or "") for field in ("code", "type", "message"))

    def _is_not_found(self) -> bool:
        details = self.error.get("details")
        nested = [details.get("code"), details.get("type")] if isinstance(details, dict) else []
        candidates = [self.text("code"), self.text("type"), self.text("message"), *nested]
        if self.text("param") == "previous_response_id" or "invalid_previous_response_id" in candidates:
            return True
        return any(isinstance(text, str) and _NOT_FOUND.search(text) for text in candidates)

    @property
    def retryable(self) -> bool:
        """Say whether the same request may succeed later; a spent quota does not come back by waiting a little."""
        if self.text("code") in _FINAL_CODES or self.text("type") in _FINAL_CODES:
            return False
        named = self.text("code") in _RETRYABLE_CODES or self.text("type") in _RETRYABLE_CODES
        return named or self.status in RETRYABLE_STATUSES

    def failure(self, delivery: Delivery) -> Failure:
        """Return it as a `Failure`. The message stays in `error`: it is the provider's text and may quote the prompt."""
        details = {f"provider_{name}": self.text(name) for name in ("code", "type", "param")}
        return Failure(
            code=ErrorCode.PROVIDER_HTTP_ERROR,
            delivery=delivery,
            retryable=self.retryable,
            retry_after=self.retry_after,
            details={name: value for name, value in (details | {"status": self.status}).items() if value is not None},
            status=self.status,
            error=self.error,
        )


def provider_fault(event: ServerEvent) -> ProviderFault | None:
    """Return the error a terminal event carries, or None for one that is no error."""
    if event.type == "error":
        error = _error_object(event.body)
    elif event.stage is Stage.TERMINAL and not succeeded(event):
        response = event.body.get("response")
        stated = response.get("error") if isinstance(response, dict) else None
        error = stated if isinstance(stated, dict) else {}
    else:
        return None
    return ProviderFault(error, _status(event.body, error), _retry_after(event.body, error))


def _error_object(body: dict[str, Any]) -> dict[str, Any]:
    nested = body.get("error")
    if isinstance(nested, dict):
        return nested
    # The flat form: code, message and param stand beside the type.
    return {name: value for name, value in body.items() if name not in ("type", "sequence_number", "error")}


def _status(body: dict[str, Any], error: dict[str, Any]) -> int | None:
    for place in (body, error):
        for name in ("status", "status_code"):
            value = place.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 999:
                return value
    return None


def _retry_after(body: dict[str, Any], error: dict[str, Any]) -> float | None:
    for headers in (error.get("headers"), body.get("headers")):
        if isinstance(headers, dict):
            seconds = _retry_after_header(headers)
            if seconds is not None:
                return seconds
    message = error.get("message")
    match = _TRY_AGAIN.search(message) if isinstance(message, str) else None
    return _sane(float(match[1]) * _UNITS[match[2].lower()[:3]]) if match else None


def _retry_after_header(headers: Mapping[Any, Any]) -> float | None:
    # Values may be numbers (`protocol.md` 3.1); an HTTP date would need a clock and is not used in events.
    lower = {str(name).lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = _sane(float(lower[name]) * unit)
        except (KeyError, TypeError, ValueError):
            continue
        if seconds is not None:
            return seconds
    return None


def _sane(seconds: float) -> float | None:
    return seconds if 0 <= seconds < 1e9 else None
