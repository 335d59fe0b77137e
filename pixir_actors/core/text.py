"""An encoded payload, in one piece or in several.

A copy of a megabyte takes memory that nobody has touched yet, and touching it costs more than what is done with it: 0.4 ms,
where parsing the same takes no longer. So a large text that is put together of others stays in their pieces until it is
sent.
"""

from __future__ import annotations

from typing import Any, Final

Piece = bytes | bytearray | memoryview

_LARGE: Final = 64 * 1024
"""Bytes from which on a text is not joined."""


class Pieces:
    """A large text that was not joined. Where it is pickled, whoever gets it has it joined, as `bytes`.

    Attributes:
        parts: In their order. Nobody changes what they are parts of.
    """

    __slots__ = ("_size", "parts")

    def __init__(self, *parts: Piece) -> None:
        self.parts = parts
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    def __repr__(self) -> str:
        return f"Pieces(<{self._size} bytes>)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pieces | bytes | bytearray) and len(self) == len(other) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # equal to `bytes`, with which it would have to share its hash

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (bytes(self),)


Text = bytes | bytearray | Pieces
"""An encoded payload. One that came as a large frame is a `bytearray`, which it was read into; nobody changes it, but for a
moment `payload._between`."""


def spliced(*parts: Piece) -> Text:
    """Return a text of these parts; it is joined unless it is large."""
    if sum(map(len, parts)) < _LARGE:
        return b"".join(parts)
    return Pieces(*parts)


def parts_of(text: Text) -> tuple[Piece, ...]:
    """Return what a text consists of."""
    return text.parts if isinstance(text, Pieces) else (text,)


def is_large(size: int) -> bool:
    """Say whether a text of so many bytes would not be joined."""
    return size >= _LARGE
