"""Values that do not print.

A `Secret` may cross processes (it pickles) but shows itself in no repr, str, format or log line. Headers, bodies and keys
travel in it from the caller's process to the connection actor.
"""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

T = TypeVar("T")

MASK = "***"


class Secret(Generic[T]):
    """A value that only `reveal()` gives away. Two secrets are equal when what they hide is equal."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the hidden value; do not log, raise or format it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[type[Secret[T]], tuple[T]]:
        return Secret, (self._value,)


def digest(value: object) -> str:
    """Return a short name for a key that logs, status and process names may show.

    Twelve hex digits of SHA-256 over the key's repr: the same in every process, and no way back to a key that is not
    guessed.
    """
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:12]
