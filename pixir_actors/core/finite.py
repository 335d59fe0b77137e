"""Numbers that JSON does not have: orjson writes `null` for them, and a request would say what nobody has said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any, Final

_MANY: Final = 32 * 1024
"""Bytes behind which it is quicker to look at all values than through their text."""


def may_hold_others(text: bytes) -> bool:
    """Say whether a JSON text may stand for numbers that are not finite."""
    return len(text) > _MANY or b"null" in text


def is_finite(body: Mapping[str, Any]) -> bool:
    """Say whether all numbers of a body that orjson has written are finite."""
    # Level by level, with the cheapest question first: most values are texts. It grows while it is gone through.
    waiting: list[Iterable[Any]] = [body.values()]
    for values in waiting:
        for each in values:
            kind = type(each)
            if kind is str or each is None:
                continue
            if kind is dict:
                waiting.append(each.values())
            elif kind is list or kind is tuple:
                waiting.append(each)
            elif kind is float:
                if not isfinite(each):
                    return False
            elif kind is not int and kind is not bool:
                waiting.append(_inside(each))
    return True


def _inside(value: Any) -> Iterable[Any]:
    """Return what is in a value of the rarer kinds that orjson writes."""
    if isinstance(value, Enum):
        return (value.value,)
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return (float(value),) if isinstance(value, float) else ()
