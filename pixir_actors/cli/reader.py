"""Readers of options: each turns a text into a value, or raises ValueError with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return a reader of seconds within [least, most]."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            raise ValueError(f"a number of seconds from {least:g}" + ("" if math.isinf(most) else f" to {most:g}"))
        return value

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers within [least, most]."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return read


def choice(*words: str) -> Callable[[str], str]:
    """Return a reader of one of a few words, in any case."""

    def read(text: str) -> str:
        found = next((word for word in words if word.lower() == text.lower()), None)
        if found is None:
            raise ValueError(" or ".join(words))
        return found

    return read


def text(given: str) -> str:
    """Read a text that is not empty."""
    if not given:
        raise ValueError("a text that is not empty")
    return given


def switch(given: str) -> bool:
    """Read the value of a switch in the environment."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if given.lower() not in words:
        raise ValueError("1, true, yes, on, or 0, false, no, off")
    return words[given.lower()]
