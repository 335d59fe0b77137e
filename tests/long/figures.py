"""What processes cost, from /proc, and how a long run shows its progress: one line in a terminal, lines in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PIPE_INTERVAL: Final = 15.0
"""Seconds between two lines of progress where no terminal is."""


@dataclass(frozen=True)
class Cost:
    """What some processes hold together. A process that has just ended counts as nothing.

    Attributes:
        anonymous: KiB of anonymous memory that they have mapped; copying a page on write does not change it.
        proportional: KiB of their proportional set size.
    """

    processes: int = 0
    anonymous: int = 0
    proportional: int = 0
    descriptors: int = 0
    threads: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def __str__(self) -> str:
        return (
            f"{self.processes:4d} processes {self.anonymous / 1024:8.1f} MiB anonymous"
            f" {self.proportional / 1024:8.1f} MiB PSS {self.descriptors:5d} descriptors {self.threads:4d} threads"
        )


def cost(pids: Iterable[int]) -> Cost:
    """Return what these processes hold now."""
    total = Cost()
    for pid in pids:
        try:
            status = _fields(f"/proc/{pid}/status")
            smaps = _fields(f"/proc/{pid}/smaps_rollup")
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
        # A zombie has neither.
        if "RssAnon" in status:
            total += Cost(1, status["RssAnon"], smaps.get("Pss", 0), descriptors, status["Threads"])
    return total


def _fields(path: str) -> dict[str, int]:
    """Return the numbers of a file of lines "Name:  number unit"."""
    found = {}
    for line in Path(path).read_text().splitlines():
        name, _, rest = line.partition(":")
        value = rest.split()[:1]
        if value and value[0].isdigit():
            found[name] = int(value[0])
    return found


def name_of(pid: int) -> str:
    """Return the name that a process has given itself, "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Progress:
    """Shows where a run is."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self._shown = float("-inf")

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def show(self, text: str) -> None:
        """Show the newest state of things, if it is time to."""
        now = time.monotonic()
        if self._terminal:
            print(f"\r\033[K{self.seconds:6.0f} s  {text}", end="", flush=True)
        elif now - self._shown >= PIPE_INTERVAL:
            self._shown = now
            print(f"{self.seconds:6.0f} s  {text}", flush=True)

    def say(self, text: str) -> None:
        """Print something that stays."""
        print(f"\r\033[K{text}" if self._terminal else text, flush=True)
