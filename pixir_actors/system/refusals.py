"""How many frames of strangers were refused: by this process, and by all processes of its actor system.

The common count is a counter in the kernel (an eventfd) that the guardian makes before it forks: adding to it is one
system call, which nothing can interrupt half-way, and nobody ever waits for anybody.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_own = 0
_shared: int | None = None


def refusals() -> int:
    """Return how many frames the calling process has refused, over all its signed transports, since it was forked."""
    return _own


def share_refusals() -> None:
    """Have the refusals of this process and of all its later forks counted together; called twice, it does nothing."""
    global _shared
    if _shared is None:
        # Non-blocking: a counter that is full (after 2**64 refusals) must not hold up anybody either.
        _shared = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def total_refusals() -> int:
    """Return how many frames all processes of this system have refused; without `share_refusals`, only this one's."""
    if _shared is None:
        return _own
    # Reading the counter itself would set it to zero.
    for line in Path(f"/proc/self/fdinfo/{_shared}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "eventfd-count":
            return int(value, 16)
    return _own


def count_refusal() -> None:
    """Count one refused frame. Raises nothing."""
    global _own
    _own += 1
    if _shared is not None:
        with contextlib.suppress(OSError):
            os.eventfd_write(_shared, 1)


def _forget() -> None:
    global _own
    _own = 0


os.register_at_fork(after_in_child=_forget)
