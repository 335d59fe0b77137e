"""What was meant by a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelled most like this one; None if there is none that is nearly the same."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.7)), None)


def hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean stream?", or nothing."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""
