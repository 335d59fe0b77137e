"""The caller's body as a full `response.create` payload (`behaviours.md` C23, C24)."""

from __future__ import annotations

from typing import Any, Final

import orjson

from pixir_actors.errors import InvalidRequest

Payload = dict[str, Any]

OWN_CONTINUATION: Final = ("previous_response_id", "conversation")
"""Fields by which a caller continues by itself. Such a body is sent as it is and never replayed."""
WEBSOCKET_ONLY: Final = ("type", "stream_id")
"""Fields of the WebSocket's envelope, which an HTTP endpoint does not know."""


def full_payload(body: bytes) -> tuple[Payload, bytes]:
    """Return the payload that says everything, and its text: the caller's body in the envelope of the WebSocket protocol.

    The text is `body` itself where nothing had to be changed.

    `stream` is implicit on a WebSocket and dropped; `store` is false, because the continuation lives in the provider's
    connection-local cache. A body that continues by itself keeps its own `store`: what it refers to may live in storage.

    Raises:
        InvalidRequest: The body is not a JSON object in UTF-8, or nested too deeply.
    """
    decoded = _decode(body)
    if not isinstance(decoded, dict):
        raise InvalidRequest("body", f"is a JSON {_kind(decoded)}, not an object")
    envelope: Payload = {"type": "response.create"}
    if not continues_itself(decoded):
        envelope["store"] = False
    in_form = decoded.get("type") == "response.create" and "stream" not in decoded
    if in_form and ("store" not in envelope or decoded.get("store") is False):
        encode(decoded)  # as a check: only what can be written again can be compared and continued
        return decoded, body
    decoded.pop("stream", None)
    decoded.update(envelope)
    return decoded, encode(decoded)


def _decode(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} at byte {error.pos}"
    # Raised outside the except clause: the decoder's error, whose `doc` holds the prompt, is not even its context.
    raise InvalidRequest("body", problem)


def continues_itself(payload: Payload) -> bool:
    """Say whether the caller's own body carries a continuation, which is then not ours to touch."""
    return any(payload.get(name) is not None for name in OWN_CONTINUATION)


def prefill(payload: Payload) -> bytes:
    """Return the text of a warm-up: the request, without an answer wanted."""
    return encode(payload | {"generate": False})


def http_body(payload: Payload) -> bytes:
    """Return the payload as the body of an HTTP POST that streams: without what belongs to the WebSocket alone."""
    return encode({name: value for name, value in payload.items() if name not in WEBSOCKET_ONLY} | {"stream": True})


def encode(payload: Payload) -> bytes:
    """Return the payload as the text of one WebSocket message.

    Raises:
        InvalidRequest: The body is nested deeper than can be written (254 levels).
    """
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError:
        raise InvalidRequest("body", "is nested deeper than 254 levels") from None


def _kind(value: object) -> str:
    kinds = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)
