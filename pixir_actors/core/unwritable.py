"""What in a body cannot be written as JSON, and where: for its caller, after the writing has failed.

The writer's own words may quote a value. These say of values only what type they have, and of names only those that look
like a field's: another may be a customer's, or a key.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from pixir_actors.core.finite import is_finite

MAX_DEPTH: Final = 254
"""Levels that can be written; the writer has no setting for it."""
MAX_STEPS: Final = 8
"""Steps of a path that are shown: what is deeper is found from there."""
ORDINARY: Final = re.compile(r"[A-Za-z_]{1,32}")
HIDDEN: Final = "*"


def problem(body: dict[str, Any]) -> str:
    """Return in words why a body cannot be written: "cannot be written as JSON: input[3].content is a set"."""
    path: list[str] = []
    above: list[int] = []
    value: Any = body
    while True:
        if id(value) in above:
            return f"cannot be written as JSON: {_shown(path)} contains itself"
        above.append(id(value))
        found = _culprit(value)
        if found is None or len(above) > MAX_DEPTH:
            break
        step, value = found
        path.append(step)
    # What holds others, each of which can be written by itself, is only too deep.
    if len(above) > MAX_DEPTH or (_holds_others(value) and _key_type(value) is None):
        return f"is nested deeper than {MAX_DEPTH} levels" + (f", in {_shown(path)}" if path else "")
    return f"cannot be written as JSON: {_shown(path)} {_kind(value)}"


def _holds_others(value: Any) -> bool:
    return isinstance(value, (dict, list)) or type(value) is tuple  # a named tuple is not written


def _culprit(value: Any) -> tuple[str, Any] | None:
    """Return the first member that cannot be written by itself, and its step of the path; None if it is not a member."""
    if not _holds_others(value) or _key_type(value) is not None:
        return None
    if isinstance(value, dict):
        members = ((f".{key}" if ORDINARY.fullmatch(key) else f".{HIDDEN}", member) for key, member in value.items())
    else:
        members = ((f"[{index}]", member) for index, member in enumerate(value))
    return next((found for found in members if not _writable(found[1])), None)


def _key_type(value: Any) -> str | None:
    """Return what is wrong with one of a dict's keys; None if they are all names."""
    keys = value if isinstance(value, dict) else ()
    for key in keys:
        if not _writable({key: None}):
            return "that is no valid Unicode" if type(key) is str else f"of the type {type(key).__name__}"
    return None


def _kind(value: Any) -> str:
    wrong_key = _key_type(value)
    if wrong_key is not None:
        return f"has a key {wrong_key}"
    if _is_written(value):
        return "is NaN or an infinity"
    if type(value) is str:
        return "is a str that is no valid Unicode: it has half of a surrogate pair"
    if type(value) is int:
        return "is an int of more than 64 bits"
    name = type(value).__name__
    return f"is {'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _shown(path: list[str]) -> str:
    shown = "".join(path[:MAX_STEPS]).removeprefix(".")
    return (shown or "it") + ("..." if len(path) > MAX_STEPS else "")


def _writable(value: Any) -> bool:
    return _is_written(value) and is_finite({"": value})


def _is_written(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
