"""What processes cost, from the kernel; and percentiles. Linux only."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_CPUCLOCK_SCHED: Final = 2


def adopt_orphans() -> None:
    """Make this process the parent of whatever is orphaned below it, so that `below` finds it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def below(pid: int) -> list[int]:
    """Return the processes that descend from `pid` and live."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (parent := _living_parent(int(entry))) is not None:
            children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found


def _living_parent(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything.
    state, parent = text.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has used, its ended threads included; 0.0 if it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def switches_of(pid: int) -> tuple[int, int]:
    """Return how often the threads of a process have waited for something, and have been made to wait."""
    waited = preempted = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found = {name: value for name, _, value in (line.partition(":") for line in lines)}
        waited += int(found["voluntary_ctxt_switches"])
        preempted += int(found["nonvoluntary_ctxt_switches"])
    return waited, preempted


class Cpu:
    """Seconds of CPU that some processes use from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = {pid: cpu_of(pid) for pid in pids}
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Return what those of them that live have used since."""
        return sum(max(0.0, cpu_of(pid) - before) for pid, before in self._before.items())

    def percent(self) -> float:
        """Return the same as a share of one core."""
        return 100 * self.seconds() / (time.monotonic() - self._began)


def pss_of(pids: Iterable[int]) -> float:
    """Return the proportional set size of some processes together, in MB. Those that have ended count as nothing."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def available_memory() -> int:
    """Return the bytes that programs can have without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that is not exceeded by `percent` of them.

    Raises:
        ValueError: There are none.
    """
    if not values:
        raise ValueError("no values")
    rank = -(-len(values) * percent // 100)  # rounded up
    return sorted(values)[max(0, int(rank) - 1)]
