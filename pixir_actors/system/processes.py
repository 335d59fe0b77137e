"""What Linux knows about processes: who descends from whom, under which name, and what happens when a parent dies.

All of it reads `/proc` or calls `prctl`; where the platform has neither, the tree is empty and the calls do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
MAX_NAME: Final = 15
"""Bytes of a process name that the kernel keeps."""


try:
    # Once, so that a new process writes nothing to find it.
    _libc_prctl: Any = ctypes.CDLL(None).prctl
except (OSError, AttributeError):
    _libc_prctl = None


def _prctl(option: int, argument: int | bytes) -> bool:
    """Call prctl(2) on the calling thread; False where it is missing or refuses."""
    if _libc_prctl is None:
        return False
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    return bool(_libc_prctl(option, value, 0, 0, 0) == 0)


def set_process_name(name: str) -> None:
    """Name the calling process as `ps -o comm` shows it; only the first 15 bytes are kept."""
    _prctl(PR_SET_NAME, name.encode()[:MAX_NAME])


def adopt_orphans() -> bool:
    """Make the calling process the parent of every orphan below it, in place of init."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill the calling process when the thread that forked it ends.

    Args:
        parent: The parent's pid, taken before the fork. If that process has ended in the meantime, this one ends now.

    Returns:
        False where the kernel does no such thing.
    """
    bound = _prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
    return bound


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/<pid>/stat from the third on; None for a process that is gone or only to be collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may hold anything; what follows the last one is: state, parent, ...
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in b"ZX" else fields


def name_of(pid: int) -> str | None:
    """Return the name of a process, as `ps -o comm` shows it; None for one that is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return None


def is_stopped(pid: int) -> bool:
    """Tell whether a process was stopped by a signal and has not been continued; one under a debugger does not count."""
    fields = _stat(pid)
    return fields is not None and fields[0] == b"T"


def no_core_dumps() -> None:
    """Keep the memory of the calling process and of its later forks out of core dumps.

    A limit of no bytes is not enough: the kernel does not apply it to dumps that it pipes to a program.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/coredump_filter").write_text("0")


def _parent_of(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def start_time(pid: int) -> int | None:
    """Return when a living process started, in clock ticks since the boot: with its pid, this names it for ever.

    None for one that is gone or waits to be collected.
    """
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def descendants(ancestor: int) -> list[int]:
    """Return the living processes below `ancestor`, nearest first. Processes born meanwhile may be missing."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for pid in (int(name) for name in names if name.isdigit()):
        parent = _parent_of(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    level = children.get(ancestor, [])
    while level:
        found += level
        level = [child for pid in level for child in children.get(pid, [])]
    return found


def living_children(parent: int) -> list[int]:
    """Return the living direct children of `parent`."""
    return [pid for pid in descendants(parent) if _parent_of(pid) == parent]


def kill(pid: int) -> None:
    """End one process at once; nothing happens if it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
