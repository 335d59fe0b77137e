"""What an actor's process arranges for itself: to die with its parent, to be told apart, to know its limits."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
MAX_DESCRIPTORS: Final = 2**20


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent ends, however it ends (Linux).

    Thespian leaves the children of a killed actor running, and `shutdown()` does not find them.

    Args:
        parent_pid: The parent as it introduced itself.

    Returns:
        False when the parent has gone already: then nothing will kill this process, and it should end itself.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def settle(name: str, parent_pid: int) -> bool:
    """Make this process one of ours: with a name, all the descriptors that it may have, and an end with its parent.

    Returns:
        False when the parent has gone already, as `die_with_parent`.
    """
    raise_descriptor_limit()
    name_process(name)
    return die_with_parent(parent_pid)


def name_process(name: str) -> None:
    """Show `name` (cut to 15 bytes) in process listings."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode("ascii", "replace")[:15]))


def raise_descriptor_limit() -> int:
    """Raise the limit of open descriptors as far as allowed and useful; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def children() -> set[int]:
    """Return the pids of this process's children, those that have ended and were not collected included."""
    own = os.getpid()
    try:
        return set(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))
    except OSError:
        return set()


def child_lives(pid: int) -> bool:
    """Say whether `pid` is a child of this process that has not ended; one that is stopped has not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    # The name, in parentheses, may hold anything; what follows the last one is: state, parent, ...
    state, parent = stat.rpartition(b")")[2].split()[:2]
    return state not in b"ZX" and int(parent) == os.getpid()


def kill_child(pid: int) -> None:
    """Kill a child of this process, also one that is stopped; nothing happens if it has ended.

    Nobody else is hit: as long as its parent has not collected it, its number is no other's.
    """
    if child_lives(pid):
        os.kill(pid, signal.SIGKILL)


_libc_prctl: Any = ctypes.CDLL(None).prctl  # once: a new process writes nothing to find it


def _prctl(option: int, argument: object) -> None:
    _libc_prctl(option, argument, 0, 0, 0)
