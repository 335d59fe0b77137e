"""What a provider put out in a response, of what it said: the items that a continuation has to be proven by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pixir_actors.core.continuation import text_message
from pixir_actors.core.server_event import ServerEvent, listed_output


def indexed_item(event: ServerEvent) -> tuple[int, Any]:
    """Return the item that an event says is done, with its place among the others."""
    index = event.body.get("output_index")
    return (index if isinstance(index, int) else 0, event.body.get("item"))


def output_of(terminal: ServerEvent, items: Iterable[tuple[int, Any]], text: str) -> list[Any]:
    """Return all of them: as the terminal event lists them, else as they came, else the text alone.

    Args:
        terminal: The last event of the response.
        items: Those that were done before it, as `indexed_item` returns them, in the order in which they came.
        text: The deltas of its text.
    """
    listed = listed_output(terminal)
    if listed:
        return listed
    placed = [item for _, item in sorted(items, key=lambda pair: pair[0])]
    return placed or ([text_message(text)] if text else [])
