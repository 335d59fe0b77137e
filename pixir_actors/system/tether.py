"""Every process of an actor system dies with its guardian, and with its own parent.

The guardian holds the only write end of a pipe. The processes forked below it, down to the children of the admin, have
one daemon thread that waits for the end of that pipe and then ends the process at once. Below the admin the kernel kills
each process whose parent dies (Thespian leaves such orphans running, and finds them no more), and so those further down,
which are many, need no thread. Nothing outlives the guardian, however it dies, and whichever one is stopped then.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from typing import Final

from pixir_actors.system.processes import die_with_parent, set_process_name

ADMIN_DEPTH: Final = 2
"""Forks between guardian and admin: Thespian forks twice to detach it, so the admin's first parent always dies."""
DEEPEST_THREAD: Final = ADMIN_DEPTH + 1
"""Forks down to the last that waits for the guardian's end itself: below it, its parent's end is enough."""
PROCESS_NAME: Final = "pixir-actor"
ADMIN_NAME: Final = "pixir-admin"


class Tether:
    """Installed once, in the guardian, before its first fork."""

    def __init__(self, private: Iterable[int] = ()) -> None:
        """Tie all later forks of this process to it.

        Args:
            private: Descriptors that no fork may keep.
        """
        self._end, hold = os.pipe()
        self._private = [hold, *private]
        self._depth = 0
        self._parent = os.getpid()
        os.register_at_fork(before=self._before_fork, after_in_child=self._tie)

    def _before_fork(self) -> None:
        self._parent = os.getpid()

    def _tie(self) -> None:
        """Runs in every new process, before anything else does."""
        for fd in self._private:
            os.close(fd)
        self._private.clear()  # the numbers may come to mean something else in this process and its forks
        self._depth += 1
        bound = self._depth > ADMIN_DEPTH and die_with_parent(self._parent)
        set_process_name(ADMIN_NAME if self._depth == ADMIN_DEPTH else PROCESS_NAME)
        if self._depth <= DEEPEST_THREAD or not bound:
            threading.Thread(target=self._wait_for_the_end, name="tether", daemon=True).start()

    def _wait_for_the_end(self) -> None:
        # Signals are for the main thread: Thespian's handlers must interrupt its wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            os.read(self._end, 1)
        finally:
            os._exit(1)
