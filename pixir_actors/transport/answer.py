"""What an HTTP response says, as the texts that a WebSocket would have brought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

import orjson

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.sse import EventReader
from pixir_actors.transport.upgrade import retry_after_seconds

MAX_ERROR_BYTES: Final = 64 * 1024
HeaderList = list[tuple[bytes, bytes]]
_STREAMED: Final = ("text/event-stream", "text/plain", "application/octet-stream", "")
_STATUSES: Final = frozenset({"completed", "incomplete", "failed", "cancelled", "queued", "in_progress"})
_UNEXPLAINED: Final = {"type": "http_error", "message": "the answer holds no error in JSON; its status is all there is"}


def texts(headers: HeaderList, body: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield the events of a response with status 200 as JSON texts.

    Raises:
        Refused: What came is no answer, or is larger than `max_bytes`.
    """
    if header(headers, b"content-encoding").lower() not in ("", "identity"):
        # None was asked for. Unpacking is where a kilobyte becomes a gigabyte, so it is not begun.
        raise Refused(Fault(ErrorCode.CONNECTION_LOST, {"reason": "content_encoding"}))
    kind = header(headers, b"content-type").partition(";")[0].strip().lower()
    if kind in _STREAMED:
        reader = EventReader(max_bytes)
        for piece in body:
            yield from reader.feed(piece)
        yield from filter(_is_whole, reader.finish())
    elif kind.endswith("json"):
        yield _completed(_read(body, max_bytes))  # a server that does not stream
    else:
        raise Refused(Fault(ErrorCode.CONNECTION_LOST, {"reason": "content_type"}))


def refusal(status: int, headers: HeaderList, body: Iterable[bytes]) -> bytes:
    """Return a refused request as the `error` event that the same refusal would be on a WebSocket.

    The status is what matters: a body that breaks off, or does not come in time, does not hide it.
    """
    stated: Any = None
    with suppress(Exception):  # whatever cuts the body short, or makes it no JSON
        stated = orjson.loads(_read(body, MAX_ERROR_BYTES))
    event = {"type": "error", "status": status, "error": _error(stated), "headers": _retry_headers(headers)}
    return _dumped(event, event | {"error": _UNEXPLAINED})


def header(headers: HeaderList, name: bytes) -> str:
    """Return the first value of a header, or an empty text."""
    return next((value for key, value in headers if key.lower() == name), b"").decode("latin-1").strip()


def _retry_headers(headers: HeaderList) -> dict[str, Any]:
    milliseconds = header(headers, b"retry-after-ms")
    # A date is turned into seconds here, where there is a clock; an event is judged without one.
    seconds = retry_after_seconds(header(headers, b"retry-after"))
    named = {"retry-after-ms": milliseconds or None, "retry-after": seconds}
    return {name: value for name, value in named.items() if value is not None}


def _error(stated: Any) -> dict[str, Any]:
    """Return the error object of a body, in the forms that gateways give it."""
    if isinstance(stated, list) and len(stated) == 1:
        stated = stated[0]
    if not isinstance(stated, dict):
        return _UNEXPLAINED
    error = stated.get("error")
    if isinstance(error, dict):
        return error
    if "message" in stated or "code" in stated:
        return stated
    message = error if isinstance(error, str) else stated.get("detail")
    return {"type": "http_error", "message": message} if isinstance(message, str) else _UNEXPLAINED


def _completed(body: bytes) -> bytes:
    """Return a whole answer as the one event that says the same."""
    try:
        stated = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body  # whoever parses it says so
    if not isinstance(stated, dict):
        raise Refused(Fault(ErrorCode.CONNECTION_LOST, {"reason": "no_response"}))
    if isinstance(stated.get("type"), str):
        return body  # it is an event already
    status = stated.get("status")
    if isinstance(stated.get("error"), dict) and status is None:
        return _dumped({"type": "error", "error": stated["error"]}, {"type": "error", "error": _UNEXPLAINED})
    name = status if isinstance(status, str) and status in _STATUSES else "completed"
    # Spliced, not encoded anew: the caller gets the provider's bytes.
    return b'{"type":"response.%s","response":%s}' % (name.encode(), body)


def _dumped(event: dict[str, Any], otherwise: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes (254 levels), though it reads that
        return orjson.dumps(otherwise)


def _is_whole(event: bytes) -> bool:
    """Say whether a text is JSON, which one that was cut short is not."""
    try:
        orjson.loads(event)
    except orjson.JSONDecodeError:
        return False
    return True


def _read(body: Iterable[bytes], max_bytes: int) -> bytes:
    whole = bytearray()
    for piece in body:
        whole += piece
        if len(whole) > max_bytes:
            raise Refused(Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"limit": max_bytes}))
    return bytes(whole)
