"""The process that all records of the actor system go through, watched from the daemon.

Nobody waits for it, so one that is stopped holds nothing up; but all records are lost, and nothing would ever say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pixir_actors.system.processes import is_stopped, kill, name_of
from pixir_actors.system.signed import LOGGER_NAME

MISSES: Final = 3
"""Looks in a row at which it is stopped, after which it is killed."""


class LogDirectorWatch:
    """Kills a log director that is stopped (SIGSTOP); Thespian's admin starts another one in its place.

    Args:
        pids: Returns those of the actor system. Called only when the log director is not known: it reads all of /proc.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self._known: int | None = None
        self._misses = 0

    def look(self) -> bool:
        """Look at it; True when it was killed just now."""
        if self._known is None or name_of(self._known) != LOGGER_NAME:
            self._known = next((pid for pid in self._pids() if name_of(pid) == LOGGER_NAME), None)
            self._misses = 0
        if self._known is None or not is_stopped(self._known):
            self._misses = 0
            return False
        self._misses += 1
        if self._misses < MISSES:
            return False
        kill(self._known)
        self._known = None
        return True
