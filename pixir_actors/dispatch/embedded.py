"""A link to an actor system of this program's own, which is started with it and started again should it die."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from pixir_actors.dispatch.link import RemoteLink
from pixir_actors.errors import SystemStartFailed
from pixir_actors.system.embedded import EmbeddedSystem

NOTICE: Final = 3.0
"""Seconds within which a dead system is seen to be dead."""


class EmbeddedLink(RemoteLink):
    """To an `EmbeddedSystem`. Thread-safe.

    Raises:
        SystemStartFailed: It did not start; nothing is left running.
    """

    kind = "embedded"
    owns_system = True

    def __init__(self) -> None:
        self._embedded = EmbeddedSystem.start()
        self._revival = threading.Lock()
        try:
            super().__init__(self._embedded.actor_system)
        except BaseException:
            self._embedded.close()
            raise

    def supervisor(self, *, again: bool = False) -> Any:
        """Return the supervisor's address; a system that has died is started anew, with every key cold."""
        if not again:
            return super().supervisor()
        try:
            if self._embedded.alive():
                return super().supervisor(again=True)
        except SystemStartFailed:
            if not self._ends():
                raise
        self._revive()
        return super().supervisor(again=True)

    def restart(self, supervisor: Any) -> bool:
        try:
            with self._revival:
                # Of several requests that found it silent, the first one does it.
                if not self.closed and self._supervisor == supervisor:
                    self._start_anew()
            super().supervisor()
        except SystemStartFailed:
            return False
        return not self.closed

    def close(self) -> None:
        """End the system: afterwards none of its processes lives. Idempotent."""
        super().close()
        with self._revival:
            self._embedded.close()

    def pids(self) -> list[int]:
        """Return the pids of the system's processes, for operators and tests."""
        return self._embedded.pids()

    def _ends(self) -> bool:
        """Say whether the system turns out to be dead: its guardian takes a moment to notice that the admin is."""
        deadline = time.monotonic() + NOTICE
        while self._embedded.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _revive(self) -> None:
        with self._revival:
            if self.closed:
                raise SystemStartFailed("this client is closed")
            if not self._embedded.alive():
                self._start_anew()

    def _start_anew(self) -> None:
        self._embedded.close()
        self._embedded = EmbeddedSystem.start()
        self.moved_to(self._embedded.actor_system)
