"""The caller's body as a full `response.create` payload (`behaviours.md` C23, C24).

Each body of a conversation holds the one before it and a little more. What holds the old one byte for byte need not be
parsed again: `parse` reads what follows, and gives the old items out as the very same objects.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

import orjson

from pixir_actors.core.text import Pieces, Text, spliced
from pixir_actors.errors import InvalidRequest

Payload = dict[str, Any]
Whole = bytes | bytearray

OWN_CONTINUATION: Final = ("previous_response_id", "conversation")
"""Fields by which a caller continues by itself. Such a body is sent as it is and never replayed."""
WEBSOCKET_ONLY: Final = ("type", "stream_id")
"""Fields of the WebSocket's envelope, which an HTTP endpoint does not know."""

_ENVELOPE: Final = b'"type":"response.create","store":false}'
_TOUCHED: Final = frozenset({"type", "store", "stream", *OWN_CONTINUATION})


class Grown(NamedTuple):
    """How a body goes on from the one before it.

    Attributes:
        known: The items that were there already.
        at: Where in the text the first new one begins.
        end: Where the last one ends.
    """

    known: int
    at: int
    end: int


class Parsed(NamedTuple):
    """A full payload that has been read.

    Attributes:
        payload: Decoded. Never changed: the next one may share its items.
        text: Encoded.
        items_end: Where in the text the input's last item ends, 0 where that is not known: the text is not as we write it.
        grown: Where only what is new was read, how that stands in the text.
    """

    payload: Payload
    text: Whole
    items_end: int
    grown: Grown | None = None

    def __repr__(self) -> str:
        return f"Parsed(<{len(self.text)} bytes>)"


def full_text(body: bytes, names: Collection[str] | None = None) -> Text:
    """Return the text of the payload that says everything; see `parse`.

    Args:
        body: The caller's.
        names: The names of its fields, where it was made of a mapping by `encode` or as that does: it is not read then.

    Raises:
        InvalidRequest: As `parse`.
    """
    if not is_ready(names):
        return parse(body).text
    return spliced(memoryview(body)[:-1], b"," if names else b"", _ENVELOPE)


def is_ready(names: Collection[str] | None) -> bool:
    """Say whether `full_text` only copies a body with fields of these names."""
    return names is not None and _TOUCHED.isdisjoint(names)


def parse(body: Text, before: Parsed | None = None) -> Parsed:
    """Return the payload that says everything, and its text: the caller's body in the envelope of the WebSocket protocol.

    The text is `body` itself where nothing had to be changed.

    `stream` is implicit on a WebSocket and dropped; `store` is false, because the continuation lives in the provider's
    connection-local cache. A body that continues by itself keeps its own `store`: what it refers to may live in storage.

    Args:
        body: The caller's, or the text of an earlier result.
        before: What was read before, of the same conversation: should the body go on from there, only what is new is parsed.

    Raises:
        InvalidRequest: The body is not a JSON object in UTF-8, or nested too deeply.
    """
    if isinstance(body, Pieces):  # from an actor in the same process: nobody had to pickle it
        body = bytes(body)
    grown = None if before is None else _grown(body, before)
    if grown is not None:
        return grown
    decoded = _decode(body)
    if not isinstance(decoded, dict):
        raise InvalidRequest("body", f"is a JSON {_kind(decoded)}, not an object")
    in_form = _is_in_form(decoded)
    if not in_form:
        decoded.pop("stream", None)
        decoded.update(_envelope(decoded))
    # Also as a check: only what can be written again can be compared and continued.
    text = encode(decoded)
    return Parsed(decoded, body if in_form else text, _items_end(decoded, text) if text == body or not in_form else 0)


def _envelope(payload: Payload) -> Payload:
    envelope: Payload = {"type": "response.create"}
    if not continues_itself(payload):
        envelope["store"] = False
    return envelope


def _is_in_form(payload: Payload) -> bool:
    if payload.get("type") != "response.create" or "stream" in payload:
        return False
    return payload.get("store") is False or continues_itself(payload)


def _items_end(payload: Payload, text: bytes) -> int:
    """Return where the input's last item ends in the text that `encode` made of a payload; 0 where there is none."""
    items = payload.get("input")
    if not isinstance(items, list) or not items:
        return 0
    return bracket(payload, text)


def bracket(payload: Payload, text: bytes) -> int:
    """Return where the bracket at the end of the input stands in the text that `encode` made of a payload with a list."""
    names = list(payload)
    behind = {name: payload[name] for name in names[names.index("input") + 1 :]}
    # The fields with a comma in front, where there are any, in place of their brace.
    return len(text) - 1 - (len(encode(behind)) if behind else 1)


def _grown(body: Whole, before: Parsed) -> Parsed | None:
    """Return the payload of a body that is an earlier one with new items at the end of its input, and no other change.

    None for all others, which have to be parsed as a whole. What has been read is proven to be the same by its bytes. What
    stands between reads as a list of its own, so no bracket in it is the end of the input.
    """
    end = before.items_end
    behind = len(before.text) - end
    if not end or body[end : end + 1] != b",":
        return None
    if not body.startswith(memoryview(before.text)[:end]) or not body.endswith(before.text[end:]):
        return None
    try:
        items = _between(body, end, len(body) - behind)
        for item in items:
            orjson.dumps([[item]])  # as in `parse`, and as deep as it stands there
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    if not items:
        return None
    known = before.payload["input"]
    payload = before.payload | {"input": known + items}
    return Parsed(payload, body, len(body) - behind, Grown(len(known), end + 1, len(body) - behind))


def _between(body: Whole, comma: int, end: int) -> list[Any]:
    """Return the items between a comma and the bracket that ends their list.

    Raises:
        orjson.JSONDecodeError: That is not what is there.
    """
    if isinstance(body, bytes):
        items: list[Any] = orjson.loads(b"".join((b"[", memoryview(body)[comma + 1 : end], b"]")))
        return items
    # In the one place where they are: a copy of a large body costs as much as parsing it.
    body[comma] = ord("[")
    try:
        items = orjson.loads(memoryview(body)[comma : end + 1])
    finally:
        body[comma] = ord(",")
    return items


def _decode(body: Whole) -> Any:
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
