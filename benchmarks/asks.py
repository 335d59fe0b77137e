"""What one turn asks the server for, and how that travels in the text of the request's last input item."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

MODEL: Final = "gpt-5-bench"
TOOL: Final = "read_file"
AROUND: Final = 8
"""Events of a text answer beside its deltas; a call has two fewer."""
ITEM_BYTES: Final = 4096
"""Bytes of one input item of a large request."""
MARK: Final = b"@bench "
_MARKED: Final = re.compile(rb"@bench deltas=(\d+) size=(\d+) rate=(\d+) call=(\d+);")


@dataclass(frozen=True, slots=True)
class Item:
    """One new input item.

    Attributes:
        text: A user's message, or a tool's output.
        call: Number of the call whose output it is; 0: it is a user's message.
    """

    text: str
    call: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn.

    Attributes:
        deltas: Deltas of the answer.
        size: Characters of each.
        rate: Deltas per second, each with the time of its writing as text; 0: all at once.
        call: The answer is a function call with this number; 0: it is text.
        output_of: The new item is the output of this call; 0: it is a user's message.
        load: Further characters of new input, in items of at most `ITEM_BYTES`.
    """

    deltas: int = 12
    size: int = 6
    rate: int = 0
    call: int = 0
    output_of: int = 0
    load: int = 0

    @property
    def events(self) -> int:
        """Events of the answer."""
        return self.deltas + (AROUND - 2 if self.call else AROUND)

    def items(self) -> list[Item]:
        """Return the new input, the one that says what is asked for last."""
        return list(_items(self))

    def input(self) -> list[dict[str, Any]]:
        """Return the new input as the Responses API takes it."""
        return [wire(item) for item in self.items()]


@lru_cache(maxsize=1)
def _items(ask: Ask) -> tuple[Item, ...]:
    mark = f"@bench deltas={ask.deltas} size={ask.size} rate={ask.rate} call={ask.call};"
    *parts, last = [*_pieces(ask.load), ""] if not ask.output_of else [_filler(ask.load)]
    return (*(Item(part) for part in parts), Item(last + mark, ask.output_of))


def wire(item: Item) -> dict[str, Any]:
    """Return an input item of the Responses API."""
    if item.call:
        return {"type": "function_call_output", "call_id": call_id(item.call), "output": item.text}
    return {"type": "message", "role": "user", "content": item.text}


def call_id(call: int) -> str:
    """Return the id of a call, the same for whoever answers and whoever asks."""
    return f"call_{call:08d}"


def read(request: bytes) -> Ask | None:
    """Return what the last item of a request asks for, None if it does not say."""
    at = request.rfind(MARK)
    found = _MARKED.match(request, at) if at >= 0 else None
    return Ask(*map(int, found.groups())) if found else None


def _pieces(load: int) -> Iterator[str]:
    for start in range(0, load, ITEM_BYTES):
        yield _filler(min(ITEM_BYTES, load - start))


def _filler(length: int) -> str:
    return ("lorem ipsum dolor sit amet " * (length // 27 + 1))[:length]
