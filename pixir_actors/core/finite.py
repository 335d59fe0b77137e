"""Numbers that JSON does not have: orjson writes `null` for them, and a request would say what nobody has said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any, Final

_SHORT: Final = 128 * 1024
"""Bytes of a text that is gone through without a look at any value: half a microsecond for each thousand."""
_BYTES_PER_VALUE: Final = 128
"""Bytes of a text that take as long to go through as one value does to be looked at."""


def is_true_to(text: bytes, body: Mapping[str, Any]) -> bool:
    """Say whether a text says what the body says that orjson has written it of: that all its numbers are finite."""
    if len(text) > _SHORT:
        found = _is_finite(body, len(text) // _BYTES_PER_VALUE)
        if found is not None:
            return found
    return b"null" not in text or _is_finite(body) is True


def is_finite(body: Mapping[str, Any]) -> bool:
    """Say whether all numbers of a body are finite. Only for what orjson has written: in a circle it goes round for ever."""
    return _is_finite(body) is True


def _is_finite(body: Mapping[str, Any], most: int | None = None) -> bool | None:
    """Answer the question; None where that takes a look at more values than `most`."""
    # Level by level, with the cheapest question first: most values are texts. It grows while it is gone through.
    waiting: list[Collection[Any]] = [body.values()]
    looked = 0
    for values in waiting:
        looked += len(values)
        if most is not None and looked > most:
            return None
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


def _inside(value: Any) -> Collection[Any]:
    """Return what orjson writes of a value of the rarer kinds."""
    if isinstance(value, Enum):
        return (value.value,)
    if isinstance(value, dict):
        return dict.values(value)
    if isinstance(value, list):
        return list(list.__iter__(value))
    if is_dataclass(value) and not isinstance(value, type):
        held = vars(value) if hasattr(value, "__dict__") else _slots(value)
        return [each for name, each in held.items() if not name.startswith("_")]
    return ()


def _slots(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name, None) for field in fields(value)}
