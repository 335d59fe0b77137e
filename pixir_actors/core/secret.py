"""Values that do not print.

A `Secret` may cross processes (it pickles) but shows itself in no repr, str, format or log line. Headers, bodies and keys
travel in it from the caller's process to the connection actor.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Generic, TypeVar

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


REDACTED: Final = (
    # What a header says, to the end of its line or of the text it is quoted in.
    (re.compile(r"""(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(["']?\s*[:=]\s*b?["']?)[^"'\r\n]+"""), rf"\1\2{MASK}"),
    (
        re.compile(r"""(?i)\b((?:x-)?api[-_]?key|(?:\w+[-_])?token|password|secret)(["']?\s*[:=]\s*b?["']?)[^\s"'&,;]+"""),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"""(?i)\b(bearer)\s+[^\s"',;]+"""), rf"\1 {MASK}"),
    # Keys that can be told by how they begin (OpenAI, Groq, xAI, GitHub ...), and JSON web tokens.
    (re.compile(r"\b(?:[srp]k|xai|gsk|ghp)[-_][\w-]{8,}"), MASK),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), MASK),
    (re.compile(r"(?<=://)[^\s/@]+@"), f"{MASK}@"),
)
"""What looks like a secret, and what stands for it."""


def redact(text: str) -> str:
    """Return `text` without what looks like a token, a cookie, a password or a credential in a URL.

    The last net below everything else: it knows what secrets usually look like, and cannot know what a prompt is.
    """
    for pattern, mask in REDACTED:
        text = pattern.sub(mask, text)
    return text
