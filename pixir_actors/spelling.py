"""What was meant by a name that nobody knows: the words for it, for programs and the command line alike."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelled most like this one; None if there is none that is nearly the same."""
    from difflib import get_close_matches  # loaded only where a name is wrong

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.7)), None)


def unknown(name: str, known: Iterable[str]) -> str:
    """Return "modle is not known; did you mean model?", or the names that are known where it is like none of them."""
    known = sorted(known)
    return f"{name} is not known" + (hint(name, known) or f": allowed are {', '.join(known)}")


def hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean stream?", or nothing."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""
