"""From a reply to the events on the wire: the documented sequence, with ids, sequence numbers and usage. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pixir_actors.simulator.operation import Emit, Hold, Operation, SendClose, Sleep, settled
from pixir_actors.simulator.rejection import Rejection
from pixir_actors.simulator.script import Reply

Item = dict[str, Any]
Event = dict[str, Any]
_ECHOED: Final = ("instructions", "metadata", "reasoning", "store", "text", "tool_choice", "tools")
_PREFIXES: Final = {"message": "msg", "function_call": "fc", "reasoning": "rs", "custom_tool_call": "ctc"}
_STATUSLESS: Final = frozenset({"reasoning", "compaction", "item_reference"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What a response is made of besides its reply: the request, and what the server counted."""

    response_id: str
    payload: Mapping[str, Any]
    created_at: int
    cached_tokens: int = 0
    input_tokens: int = 0


def tokens(value: object) -> int:
    """Return a made-up number of tokens: a quarter of the JSON's bytes."""
    return len(orjson.dumps(value)) // 4


def complete_items(reply: Reply, response_id: str) -> list[Item]:
    """Return the reply's output items as the server lists them: with ids, a status, and content in parts."""
    status = "incomplete" if reply.incomplete_reason else "completed"
    return [_complete(item, f"{response_id[5:]}{index:02d}", status) for index, item in enumerate(reply.output)]


def operations(reply: Reply, facts: Facts, output: list[Item]) -> list[Operation]:
    """Return what the server does to play a reply, before any fault.

    Args:
        reply: Not a verbatim one.
        facts: What the response object says besides.
        output: The reply's items, completed.
    """
    writer = _Writer(facts, reply)
    events = writer.answer(output) if reply.rejection is None else writer.rejection(reply.rejection, output)
    return arranged(reply, [Emit(event) for event in events])


def arranged(reply: Reply, emits: list[Emit]) -> list[Operation]:
    """Return the events with the reply's pace, holds and close around them."""
    points = {
        "created": next((index for index, emit in enumerate(emits) if emit.type == "response.created"), 0),
        "first_output": next((index for index, emit in enumerate(emits) if emit.output or emit.terminal), 0),
        "terminal": next((index for index, emit in enumerate(emits) if emit.terminal), len(emits) - 1),
    }
    result: list[Operation] = []
    for index, emit in enumerate(emits):
        result += [Hold(event) for point, event in reply.holds if points[point] == index]
        if index and reply.pace:
            result.append(Sleep(reply.pace))
        result.append(emit)
    if reply.rejection is not None and reply.rejection.close is not None:
        result.append(SendClose(*reply.rejection.close))
    return settled(result)


class _Writer:
    """Writes the events of one response; counts their sequence numbers."""

    def __init__(self, facts: Facts, reply: Reply) -> None:
        self._facts = facts
        self._reply = reply
        self._next = 0

    def answer(self, output: list[Item]) -> Iterator[Event]:
        """Yield the events of a response that completes or ends early."""
        yield from self._opening()
        yield from self._items(output)
        listed = output if self._reply.terminal_output else []
        usage = self._usage(output)
        reason = self._reply.incomplete_reason
        if reason is None:
            yield self._lifecycle("completed", listed, usage=usage)
        else:
            yield self._lifecycle("incomplete", listed, usage=usage, incomplete_details={"reason": reason})

    def rejection(self, rejection: Rejection, output: list[Item]) -> Iterator[Event]:
        """Yield the events of a request that is refused, or of a response that fails."""
        if rejection.silent:
            return
        if rejection.after != "nothing":
            yield from self._opening()
        if rejection.after == "output":
            yield from self._items(output)
        if rejection.form == "failed":
            yield self._lifecycle("failed", [], error={"code": rejection.code, "message": rejection.message})
        elif rejection.after == "nothing":
            yield rejection.event()
        else:
            yield self._event(**rejection.event())

    def _event(self, type: str, **fields: Any) -> Event:
        event = {"type": type, "sequence_number": self._next} | fields
        self._next += 1
        return event

    def _opening(self) -> Iterator[Event]:
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))

    def _lifecycle(self, status: str, output: list[Item], **fields: Any) -> Event:
        response = self._response(status, output, **fields)
        if self._reply.terminal_padding:
            response["metadata"] = {"padding": "x" * self._reply.terminal_padding}
        return self._event(f"response.{status}", response=response)

    def _response(self, status: str, output: list[Item], **fields: Any) -> Event:
        payload = self._facts.payload
        return {
            "id": self._facts.response_id,
            "object": "response",
            "created_at": self._facts.created_at,
            "status": status,
            "model": payload["model"],
            "previous_response_id": payload.get("previous_response_id"),
            "error": None,
            "incomplete_details": None,
            "output": output,
            "usage": None,
            **{name: payload[name] for name in _ECHOED if name in payload},
            **fields,
        }

    def _usage(self, output: list[Item]) -> Event:
        written = tokens(output) if output else 0
        read = self._facts.input_tokens
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": self._facts.cached_tokens},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }

    def _items(self, output: list[Item]) -> Iterator[Event]:
        for index, item in enumerate(output):
            if not self._reply.item_events:
                yield from (event for event in self._inner(item, index) if event["type"].endswith(".delta"))
                continue
            added = {**item, **_UNWRITTEN.get(item["type"], {})}
            if "status" in item:
                added["status"] = "in_progress"
            yield self._event("response.output_item.added", output_index=index, item=added)
            yield from self._inner(item, index)
            yield self._event("response.output_item.done", output_index=index, item=item)

    def _inner(self, item: Item, index: int) -> Iterator[Event]:
        match item["type"]:
            case "message":
                for number, part in enumerate(item["content"]):
                    yield from self._part(item, index, number, part)
            case "function_call":
                yield from self._field(item, index, "function_call_arguments", "arguments")
            case "custom_tool_call":
                yield from self._field(item, index, "custom_tool_call_input", "input")
            case "reasoning":
                yield from self._summary(item, index)

    def _part(self, item: Item, index: int, number: int, part: Item) -> Iterator[Event]:
        name, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
        place = {"item_id": item["id"], "output_index": index, "content_index": number}
        extra: Event = {} if name == "refusal" else {"logprobs": []}
        yield self._event("response.content_part.added", **place, part={**part, key: ""})
        for chunk in chunks(part[key], self._reply.deltas):
            yield self._event(f"response.{name}.delta", **place, delta=chunk, **extra)
        yield self._event(f"response.{name}.done", **place, **{key: part[key]}, **extra)
        yield self._event("response.content_part.done", **place, part=part)

    def _field(self, item: Item, index: int, name: str, key: str) -> Iterator[Event]:
        place = {"item_id": item["id"], "output_index": index}
        for chunk in chunks(item[key], self._reply.deltas):
            yield self._event(f"response.{name}.delta", **place, delta=chunk)
        yield self._event(f"response.{name}.done", **place, **{key: item[key]})

    def _summary(self, item: Item, index: int) -> Iterator[Event]:
        for number, part in enumerate(item.get("summary", [])):
            place = {"item_id": item["id"], "output_index": index, "summary_index": number}
            empty = {**part, "text": ""}
            yield self._event("response.reasoning_summary_part.added", **place, part=empty)
            for chunk in chunks(part["text"], self._reply.deltas):
                yield self._event("response.reasoning_summary_text.delta", **place, delta=chunk)
            yield self._event("response.reasoning_summary_text.done", **place, text=part["text"])
            yield self._event("response.reasoning_summary_part.done", **place, part=part)


_UNWRITTEN: Final[dict[str, Item]] = {
    "message": {"content": []},
    "function_call": {"arguments": ""},
    "custom_tool_call": {"input": ""},
    "reasoning": {"summary": []},
}


def chunks(text: str, count: int) -> list[str]:
    """Return a text in at most `count` pieces of nearly equal length, none of them empty."""
    count = max(1, min(count, len(text)))
    edges = [len(text) * number // count for number in range(count + 1)]
    return [text[start:end] for start, end in itertools.pairwise(edges) if end > start]


def _complete(item: Item, suffix: str, status: str) -> Item:
    kind = item.get("type", "message")
    whole = {"id": f"{_PREFIXES.get(kind, 'item')}_{suffix}", "type": kind}
    if kind not in _STATUSLESS:
        whole["status"] = status
    whole |= item
    if kind == "message":
        whole["role"] = item.get("role", "assistant")
        whole["content"] = _parts(item.get("content", ""))
    if kind in ("function_call", "custom_tool_call"):
        whole.setdefault("call_id", f"call_{suffix}")
    return whole


def _parts(content: str | list[Item]) -> list[Item]:
    if isinstance(content, str):
        return [{"type": "output_text", "text": content, "annotations": [], "logprobs": []}] if content else []
    return [dict(part) for part in content]
