"""Delta or full replay: what of a conversation the provider remembers, and what therefore goes on the wire.

A connection's continuation is either an `Anchor` (the newest response, all of what it covers, and nothing else) or `Cold`
with the reason. The parts of an anchor move together, on completed and incomplete responses only, so that id and input are
never out of step. A delta goes out only on proof: the new input starts with the anchor's input, followed by the items the
provider put out (`design.md` section 6 against C25 to C29).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from operator import is_
from typing import Any, Final

import orjson

from pixir_actors.core.payload import Grown, Payload, Whole, bracket, continues_itself, encode
from pixir_actors.core.text import Text, is_large, spliced


class ResetReason(StrEnum):
    """Why a full payload went out. The first ten are the reference's."""

    NO_PREVIOUS_RESPONSE = "no_previous_response"
    MODEL_CHANGED = "model_changed"
    PREFIX_MISMATCH = "prefix_mismatch"
    EMPTY_DELTA = "empty_delta"
    ENDPOINT_CHANGED = "endpoint_changed"
    HEADERS_CHANGED = "headers_changed"
    KEEPALIVE_FAILED = "keepalive_failed"
    PREVIOUS_RESPONSE_NOT_FOUND = "previous_response_not_found"
    WEBSOCKET_FAILED = "websocket_failed"
    STREAM_CALLBACK_FAILED = "stream_callback_failed"
    OUTPUT_MISMATCH = "output_mismatch"
    RESPONSE_FAILED = "response_failed"
    CANCELLED = "cancelled"
    CALLER_GONE = "caller_gone"
    CALLER_CONTINUATION = "caller_continuation"
    CONNECTION_CLOSED = "connection_closed"
    CONNECTION_LIMIT = "connection_limit"
    MAX_AGE = "max_age"
    CONNECTION_CRASHED = "connection_crashed"
    EVICTED = "evicted"
    SOCKET_CLOSED = "socket_closed"  # of a turn that went over HTTP in place of a WebSocket


@dataclass(frozen=True, slots=True)
class Cold:
    """Nothing to continue from, and why."""

    reason: ResetReason


@dataclass(frozen=True, slots=True, repr=False)
class Anchor:
    """The newest response on this socket.

    Attributes:
        response_id: Its id, opaque and not empty.
        input: The full input it answered, not the delta that went out.
        output: The items the provider put out in it.
        model: The model of that request.
        prefilled: It is a warm-up (`generate: false`): the request itself may follow with nothing new.
    """

    response_id: str
    input: list[Any]
    output: list[Any]
    model: Any
    prefilled: bool = False

    def __repr__(self) -> str:
        return f"Anchor({self.response_id}, {len(self.input)} input items, {len(self.output)} output items)"


Continuation = Anchor | Cold
FRESH: Final = Cold(ResetReason.NO_PREVIOUS_RESPONSE)


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What goes on the wire for one attempt, and the evidence for it.

    Attributes:
        wire: The text message.
        attempted: It carries `previous_response_id` by our decision, and only the delta of the input.
        reset_reason: Why it does not; None when attempted.
        uses_previous_id: It has the field at all (the caller's own counts).
    """

    wire: Text
    attempted: bool
    reset_reason: ResetReason | None
    uses_previous_id: bool


def plan(continuation: Continuation, payload: Payload, body: Whole, grown: Grown | None = None) -> Plan:
    """Decide between delta and full replay; first match wins, as in C25.

    Args:
        continuation: What the provider remembers on this socket.
        payload: The full payload.
        body: The same, encoded: a full replay sends these very bytes.
        grown: How it goes on from the one before it, where that is known: a large delta sends these very bytes, too.
    """
    if continues_itself(payload):
        return Plan(body, False, ResetReason.CALLER_CONTINUATION, "previous_response_id" in payload)
    decided = continuation.reason if isinstance(continuation, Cold) else delta(continuation, payload)
    if isinstance(decided, ResetReason):
        return Plan(body, False, decided, False)
    assert isinstance(continuation, Anchor)
    wire = payload | {"input": decided, "previous_response_id": continuation.response_id}
    cut = None if grown is None else _cut(continuation, wire, payload["input"], body, grown)
    return Plan(encode(wire) if cut is None else cut, True, None, True)


def _cut(anchor: Anchor, wire: Payload, items: list[Any], body: Whole, grown: Grown) -> Text | None:
    """Return the text of a large delta, with its items as they stand in the body, which need not be written again then.

    None where it is not large, or where it is not certain at which byte the items begin.
    """
    covered, new = len(anchor.input), len(wire["input"])
    if grown.known != covered or not is_large(grown.end - grown.at):
        return None
    at = grown.at
    if echo := items[covered : len(items) - new]:
        written = orjson.dumps(echo)[1:-1] + b","
        if body[at : at + len(written)] != written:
            return None
        at += len(written)
    empty = wire | {"input": []}
    around = encode(empty)
    middle = bracket(empty, around)
    return spliced(around[:middle], memoryview(body)[at : grown.end], around[middle:])


def delta(anchor: Anchor, payload: Payload) -> list[Any] | ResetReason:
    """Return the items that are new to the provider, or the reason for a full replay.

    Only behind a warm-up is the list empty.
    """
    if payload.get("model") != anchor.model:
        return ResetReason.MODEL_CHANGED
    items = input_items(payload)
    covered = len(anchor.input)
    if items is None or len(items) < covered or not _same_items(items[:covered], anchor.input):
        return ResetReason.PREFIX_MISMATCH
    rest = items[covered:]
    if not rest:
        return [] if anchor.prefilled else ResetReason.EMPTY_DELTA
    echoed = match_output(rest, anchor.output)
    if echoed is None:
        return ResetReason.OUTPUT_MISMATCH
    return rest[echoed:] or ResetReason.EMPTY_DELTA


def after_response(
    payload: Payload, response_id: str | None, output: list[Any], *, prefilled: bool = False
) -> Continuation:
    """Return what can be continued from after a completed or incomplete response, or a warm-up."""
    if continues_itself(payload):
        return Cold(ResetReason.CALLER_CONTINUATION)
    items = input_items(payload)
    if items is None or not response_id:
        return FRESH
    return Anchor(response_id, items, output, payload.get("model"), prefilled)


def input_items(payload: Payload) -> list[Any] | None:
    """Return the input as a list; an absent one is empty (C26), a text is none and never continues."""
    value = payload.get("input")
    if value is None or value is False:
        return []
    return value if isinstance(value, list) else None


def text_message(text: str) -> dict[str, Any]:
    """Return the assistant message that stands for a response of which only text deltas were seen."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def _same_items(items: list[Any], others: list[Any]) -> bool:
    # Those of a body that was read as the continuation of another are the very same objects (`payload.parse`).
    return all(map(is_, items, others)) or same_json(items, others)


def same_json(left: Any, right: Any) -> bool:
    """Compare JSON values as values: 1 equals 1.0, true does not equal 1, the order of keys does not matter (C28)."""
    if left is right:
        return True
    if left != right:
        return False
    # Python's equality took true for 1. Equal canonical bytes settle it in C for nearly every conversation.
    try:
        if orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(right, option=orjson.OPT_SORT_KEYS):
            return True
    except orjson.JSONEncodeError:
        pass  # nested deeper than orjson writes (254 levels), though it reads that
    return _same_types(left, right)


def _same_types(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return all(_same_types(value, right[name]) for name, value in left.items())
    if isinstance(left, list):
        return all(map(_same_types, left, right))
    return isinstance(left, bool) == isinstance(right, bool)


def match_output(items: list[Any], output: list[Any]) -> int | None:
    """Return how many leading `items` are the caller's echo of `output`, all of it; None where they are not.

    Clients drop reasoning items, so those may be missing; nothing else may, nor may the order change. Where one is missing,
    another one in its place is an edit.
    """
    position = 0
    for put_out in output:
        item = items[position] if position < len(items) else None
        if item is not None and echoes(item, put_out):
            position += 1
        elif _type_of(put_out) != "reasoning" or _type_of(item) == "reasoning":
            return None
    return position


def echoes(item: Any, put_out: Any) -> bool:
    """Say whether a caller's item is what the provider put out, in canonical form.

    Ids and statuses are often stripped, texts stand as a string or as parts, `type: message` is left out. Everything that
    the model would see has to agree.
    """
    if not isinstance(item, dict) or not isinstance(put_out, dict):
        return same_json(item, put_out)
    kind = _type_of(put_out)
    if _type_of(item) != kind:
        return False
    match kind:
        case "message":
            return _echoes_message(item, put_out)
        case "function_call":
            return _echoes_call(item, put_out, "arguments")
        case "custom_tool_call":
            return _echoes_call(item, put_out, "input")
        case "reasoning":
            names = ("id", "encrypted_content", "summary", "content")
            return all(_agree_if_both(item, put_out, name) for name in names)
        case _:
            return _agree_if_both(item, put_out, "id") and same_json(_rest(item, "id"), _rest(put_out, "id"))


def _type_of(item: Any) -> Any:
    if not isinstance(item, dict):
        return None
    return item.get("type", "message" if "role" in item else None)


def _echoes_message(item: dict[str, Any], put_out: dict[str, Any]) -> bool:
    if item.get("role") != put_out.get("role", "assistant"):
        return False
    said, meant = _content(put_out.get("content")), _content(item.get("content"))
    return said is not None and same_json(said, meant) and _extras_agree(item, put_out, ("role", "content"))


def _content(content: Any) -> list[list[Any]] | None:
    """Return message content as [kind, value] pairs, neighbouring texts joined; None for what is no content."""
    if isinstance(content, str):
        content = [{"type": "output_text", "text": content}]
    if not isinstance(content, list):
        return None
    pairs: list[list[Any]] = []
    for part in content:
        pair = _part(part)
        if pair[0] == "text" and pairs and pairs[-1][0] == "text":
            pairs[-1][1] += pair[1]
        elif pair != ["text", ""]:
            pairs.append(pair)
    return pairs


def _part(part: Any) -> list[Any]:
    if isinstance(part, dict) and part.get("type") in ("output_text", "text") and isinstance(part.get("text"), str):
        return ["text", part["text"]]
    return ["part", part]


def _echoes_call(item: dict[str, Any], put_out: dict[str, Any], argument: str) -> bool:
    if any(item.get(name) != put_out.get(name) for name in ("call_id", "name")):
        return False
    said, meant = put_out.get(argument), item.get(argument)
    same = said == meant or (argument == "arguments" and _same_arguments(said, meant))
    return same and _extras_agree(item, put_out, ("call_id", "name", argument))


def _same_arguments(said: Any, meant: Any) -> bool:
    # Clients parse a call's arguments and write them again, with other white space or key order.
    try:
        return same_json(orjson.loads(said), orjson.loads(meant))
    except (orjson.JSONDecodeError, TypeError):
        return False


def _agree_if_both(item: dict[str, Any], put_out: dict[str, Any], name: str) -> bool:
    mine, theirs = item.get(name), put_out.get(name)
    return mine is None or theirs is None or bool(mine == theirs)


def _extras_agree(item: dict[str, Any], put_out: dict[str, Any], known: tuple[str, ...]) -> bool:
    """A field the caller sends beyond the known ones has to be the provider's own; one that it dropped may be missing."""
    return all(
        name in put_out and same_json(value, put_out[name])
        for name, value in _rest(item, "id", *known).items()
        if name not in ("annotations", "logprobs")
    )


def _rest(item: dict[str, Any], *without: str) -> dict[str, Any]:
    dropped = ("type", "status", *without)
    return {name: value for name, value in item.items() if name not in dropped and value is not None}
