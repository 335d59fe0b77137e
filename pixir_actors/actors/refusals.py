"""How many messages the actor system has refused because it had not signed them: counted below the actors, told by them.

Whoever starts a system of whose messages somebody keeps count says so here, before its processes are forked.
"""

from __future__ import annotations

from collections.abc import Callable

_count: Callable[[], int] | None = None


def counted_by(count: Callable[[], int] | None) -> None:
    """Have `total` ask `count`; None: nobody counts."""
    global _count
    _count = count


def total() -> int:
    """Return the refused messages of all processes of the system; 0 where nobody counts."""
    return 0 if _count is None else _count()
