"""Keys: what names a conversation, the same in every process, compared with its type."""

from __future__ import annotations

from typing import Final

from pixir_actors.errors import InvalidRequest

Key = str | int | bytes | tuple["Key", ...]

MAX_KEY_CHARACTERS: Final = 1024


def canonical(key: object, namespace: str | None) -> str:
    """Return the text that stands for a key in its namespace; 1, "1" and b"1" have different ones.

    Raises:
        InvalidRequest: The key is no str, int, bytes or tuple of them, or its text is longer than 1024 characters.
    """
    _check(key, depth=0)
    text = repr((namespace, key))
    if len(text) > MAX_KEY_CHARACTERS:
        raise InvalidRequest("key", f"is too long: {len(text)} characters, allowed are {MAX_KEY_CHARACTERS}")
    return text


def _check(key: object, *, depth: int) -> None:
    if isinstance(key, tuple) and depth < 8:
        for part in key:
            _check(part, depth=depth + 1)
    elif isinstance(key, bool) or not isinstance(key, str | int | bytes):
        raise InvalidRequest("key", f"holds a {type(key).__name__}: allowed are str, int, bytes and tuples of them")
