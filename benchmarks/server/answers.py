"""The answers of the server, encoded once per kind of answer; only a number in them is new in each turn. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any, Final

import orjson

from benchmarks.asks import MODEL, TOOL, Ask, call_id
from benchmarks.server.frames import frame

_NUMBER: Final = b"@@@@@@@@@@@@"
"""Stands for the turn's number; as long as what replaces it, so the frames stay right."""
_TIME: Final = b"################"

END: Final = b'"reasoning_tokens":0}}}}'
"""What every answer ends with, and nothing else in it does."""


class Answer:
    """One kind of answer.

    Attributes:
        whole: All of it, if it goes out at once.
        head: What comes before the deltas.
        tail: What comes after them.
    """

    def __init__(self, ask: Ask) -> None:
        head, deltas, tail = _events(ask)
        self._deltas = b"".join(map(_framed, deltas))
        self._head = b"".join(map(_framed, head))
        self._tail = b"".join(map(_framed, tail))

    def whole(self, number: int) -> bytes:
        return _numbered(self._head + self._deltas + self._tail, number)

    def head(self, number: int) -> bytes:
        return _numbered(self._head, number)

    def tail(self, number: int) -> bytes:
        return _numbered(self._tail, number)


@lru_cache(64)
def answer(ask: Ask) -> Answer:
    """Return the answer of this kind; made at the first call."""
    return Answer(ask)


@lru_cache(1)
def _timed() -> bytes:
    return _framed(_delta(0, _TIME.decode(), 0))


def timed_delta(nanoseconds: int) -> bytes:
    """Return a delta whose text is a time in nanoseconds, in 16 digits."""
    return _timed().replace(_TIME, b"%016d" % nanoseconds, 1)


def _framed(event: dict[str, Any]) -> bytes:
    return frame(orjson.dumps(event))


def _numbered(frames: bytes, number: int) -> bytes:
    return frames.replace(_NUMBER, b"%012d" % number)


def _events(ask: Ask) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the events of an answer: before, within and after the deltas."""
    # What is timed has texts that are not known yet; the proof of the continuation goes by the item, not by the deltas.
    length = ask.size * ask.deltas
    text = '{"path":"' + "x" * (length - 11) + '"}' if ask.call else "x" * length
    item = _item(ask, text)
    sequence = count()
    head = [*_opening(item, sequence)]
    pieces = (text[at : at + ask.size] for at in range(0, 0 if ask.rate else length, ask.size))
    deltas = [_delta(next(sequence), piece, ask.call) for piece in pieces]
    return head, deltas, [*_closing(item, sequence)]


def _item(ask: Ask, text: str) -> dict[str, Any]:
    number = _NUMBER.decode()
    if ask.call:
        what: dict[str, Any] = {"type": "function_call", "id": f"fc_{number}", "call_id": call_id(ask.call)}
        return what | {"name": TOOL, "arguments": text, "status": "completed"}
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [content]}


def _delta(sequence: int, text: str, call: int) -> dict[str, Any]:
    number = _NUMBER.decode()
    if call:
        where: dict[str, Any] = {"item_id": f"fc_{number}", "output_index": 0}
        return {"type": "response.function_call_arguments.delta", **where, "sequence_number": sequence, "delta": text}
    where = {"item_id": f"msg_{number}", "output_index": 0, "content_index": 0, "logprobs": []}
    return {"type": "response.output_text.delta", **where, "sequence_number": sequence, "delta": text}


def _opening(item: dict[str, Any], sequence: Iterator[int]) -> Iterator[dict[str, Any]]:
    response = _response([], "in_progress")
    yield {"type": "response.created", "sequence_number": next(sequence), "response": response}
    yield {"type": "response.in_progress", "sequence_number": next(sequence), "response": response}
    empty: dict[str, Any] = {"arguments": ""} if "arguments" in item else {"content": []}
    added = item | empty | {"status": "in_progress"}
    yield {"type": "response.output_item.added", "sequence_number": next(sequence), "output_index": 0, "item": added}
    if "content" in item:
        part = item["content"][0] | {"text": ""}
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        yield {"type": "response.content_part.added", "sequence_number": next(sequence), **where, "part": part}


def _closing(item: dict[str, Any], sequence: Iterator[int]) -> Iterator[dict[str, Any]]:
    where: dict[str, Any] = {"item_id": item["id"], "output_index": 0}
    if "content" in item:
        part = item["content"][0]
        where["content_index"] = 0
        done = {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}
        yield done | {"sequence_number": next(sequence)}
        yield {"type": "response.content_part.done", "sequence_number": next(sequence), **where, "part": part}
    else:
        done = {"type": "response.function_call_arguments.done", **where, "name": TOOL, "arguments": item["arguments"]}
        yield done | {"sequence_number": next(sequence)}
    yield {"type": "response.output_item.done", "sequence_number": next(sequence), "output_index": 0, "item": item}
    yield {"type": "response.completed", "sequence_number": next(sequence), "response": _response([item], "completed")}


def _response(output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20, **details}
    return {
        "id": f"resp_{_NUMBER.decode()}",
        "object": "response",
        "created_at": 1_750_000_000,
        "model": MODEL,
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if status == "completed" else None,
    }
