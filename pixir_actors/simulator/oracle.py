"""Whether the model saw what the caller meant. Written apart from the package under test, and stricter than its wire.

Two histories are the same when their items agree one by one, in order, with nothing missing and nothing extra:

* a message: role and text; text may stand in a string or in parts, whose borders do not matter; other parts (images,
  files, refusals) by all their fields;
* a call: type, call_id, name, and arguments, which as JSON must say the same;
* anything else: all fields.

A caller's echo of the server's own items may leave out their id, status and other fields that the server filled in; it
may not have a field that the model did not see. Reasoning items, and only they, may be missing from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

Item = Mapping[str, Any]
_IGNORED: Final = frozenset({"id", "status"})
_IGNORED_IN_PARTS: Final = frozenset({"annotations", "logprobs"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text"})
_EXCERPT: Final = 160


def same_history(meant: str | Sequence[Item], seen: str | Sequence[Item]) -> str | None:
    """Compare the caller's full input with what the model saw.

    Returns:
        None when they are the same, else the first difference in words, with excerpts of the items.
    """
    wanted, found = _items(meant), _items(seen)
    place = 0
    for position, item in enumerate(found):
        expected = wanted[place] if place < len(wanted) else None
        if expected is not None and _difference(expected, item) is None:
            place += 1
        elif _kind(item) == "reasoning" and (expected is None or _kind(expected) != "reasoning"):
            continue
        elif expected is None:
            return f"item {position} of what the model saw is extra: {_excerpt(item)}"
        else:
            what = _difference(expected, item)
            return f"item {place}: {what}; meant {_excerpt(expected)}, the model saw {_excerpt(item)}"
    if place < len(wanted):
        return f"item {place} is missing from what the model saw: {_excerpt(wanted[place])}"
    return None


def _items(history: str | Sequence[Item]) -> list[Item]:
    return [{"role": "user", "content": history}] if isinstance(history, str) else list(history)


def _kind(item: Item) -> str:
    return str(item.get("type", "message"))


def _difference(meant: Item, seen: Item) -> str | None:
    """Return which field of two items differs, or None."""
    if _kind(meant) != _kind(seen):
        return f"type {_kind(meant)} against {_kind(seen)}"
    if _kind(meant) == "reasoning" and meant.get("id") and seen.get("id") and meant["id"] != seen["id"]:
        return "another reasoning item"
    if _kind(meant) == "item_reference" and meant.get("id") != seen.get("id"):
        return "another item referred to"
    left, right = _fields(meant), _fields(seen)
    for name in _REQUIRED.get(_kind(meant), ()):
        left.setdefault(name, "null")
        right.setdefault(name, "null")
    return next((f"{name} differs" for name, value in left.items() if right.get(name) != value), None)


_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
}
"""Fields that must be on both sides or on neither; any other may be missing from the caller's echo."""


def _fields(item: Item) -> dict[str, str]:
    """Return an item's fields in a form in which equal meaning is equal text; absent and null are one."""
    fields: dict[str, str] = {}
    for name, value in item.items():
        if name in _IGNORED or name == "type" or value is None:
            continue
        if name in ("content", "output", "summary"):
            fields[name] = _content(value)
        elif name == "arguments" and isinstance(value, str):
            fields[name] = _arguments(value)
        else:
            fields[name] = _canonical(value)
    return fields


def _content(value: object) -> str:
    """Return text and parts as one list, in which neighbouring texts are joined and empty ones left out."""
    if isinstance(value, str):
        value = [{"type": "text", "text": value}]
    if not isinstance(value, list):
        return _canonical(value)
    merged: list[Any] = []
    for part in value:
        if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
            if merged and isinstance(merged[-1], str):
                merged[-1] += part["text"]
            elif part["text"]:
                merged.append(part["text"])
        elif isinstance(part, Mapping):
            merged.append({name: field for name, field in part.items() if name not in _IGNORED_IN_PARTS})
        else:
            merged.append([part])  # wrapped, so that a bare text is not taken for a text part
    return _canonical(merged)


def _arguments(text: str) -> str:
    """Return JSON arguments without their spacing and key order; what is no JSON, or repeats a key, as it is."""
    try:
        return _canonical(json.loads(text, object_pairs_hook=_unrepeated))
    except (ValueError, RecursionError):
        return "text " + text


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a repeated key")
    return dict(pairs)


def _canonical(value: object) -> str:
    """Return JSON in which 1, 1.0 and true stay apart."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _excerpt(item: Item) -> str:
    text = json.dumps(dict(item), ensure_ascii=False)
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
