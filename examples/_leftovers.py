"""What a program has running: the processes below it, its threads, its open descriptors. Reads /proc, so Linux only."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Running:
    """What was running at one moment."""

    processes: frozenset[int]
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Self:
        """Look at this process and at all below it."""
        return cls(frozenset(_below(os.getpid())), threading.active_count(), len(os.listdir("/proc/self/fd")))

    def left(self, before: Running) -> str:
        """Say what of it is still there and was not `before`; "" if nothing is."""
        processes = sum(_parent(pid) is not None for pid in self.processes - before.processes)
        now = Running.now()
        counts = {
            "processes": processes,
            "threads": now.threads - before.threads,
            "descriptors": now.descriptors - before.descriptors,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _below(ancestor: int) -> set[int]:
    parents = {int(name): _parent(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    below: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in below | {ancestor}} - below:
        below |= more
    return below


def _parent(pid: int) -> int | None:
    """Return the parent of a living process; None if it has ended."""
    try:
        # The name stands in parentheses and may hold anything; behind it: state, parent, ...
        state, parent = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state in "ZX" else int(parent)
