"""Keys: what names a conversation, the same in every process, compared with its type."""

from __future__ import annotations

from typing import Final

from pixir_actors.errors import InvalidRequest

Key = str | int | bytes | tuple["Key", ...]

MAX_KEY_CHARACTERS: Final = 1024
MAX_NUMBER_BITS: Final = 4 * MAX_KEY_CHARACTERS


def canonical(key: object, namespace: str | None) -> str:
    """Return the text that stands for a key in its namespace; 1, "1" and b"1" have different ones.

    Raises:
        InvalidRequest: The key is no str, int, bytes or tuple of them, or its text is longer than 1024 characters.
    """
    text = repr((namespace, _plain(key, depth=0)))
    if len(text) > MAX_KEY_CHARACTERS:
        raise InvalidRequest("key", f"is too long: {len(text)} characters, allowed are {MAX_KEY_CHARACTERS}")
    return text


def _plain(key: object, *, depth: int) -> Key:
    """Return the key without subclasses: what those print may differ from process to process."""
    match key:
        case tuple() if depth < 8:
            return tuple(_plain(part, depth=depth + 1) for part in key)
        case str():
            return str.__str__(key)
        case bytes():
            return b"".join((key,))
        case int() if not isinstance(key, bool):
            bits = key.bit_length()
            if bits > MAX_NUMBER_BITS:  # Python refuses to write very long numbers
                raise InvalidRequest("key", f"is too long: a number of {bits} bits, allowed are {MAX_NUMBER_BITS}")
            return int.__int__(key)
    raise InvalidRequest("key", f"holds a {type(key).__name__}: allowed are str, int, bytes and tuples of them")
