"""A link to the admin daemon of this host, found by its runtime file and found again when its system was started anew."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Final

from thespian.actors import ActorSystemException

from pixir_actors.dispatch.link import RemoteLink
from pixir_actors.dispatch.questions import bounded
from pixir_actors.errors import AdminAlreadyRunning, AdminNotRunning, PixirError, SystemStartFailed
from pixir_actors.system.fit import check_version, key_for
from pixir_actors.system.launch import AdminOptions, start_detached
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime, find, how_to_start
from pixir_actors.system.signed import join_system, leave_system

JOIN_TIMEOUT: Final = 8.0
"""Seconds for the admin to answer one who joins; Thespian alone would wait for up to 15."""
FOLLOW_TIMEOUT: Final = 10.0
"""Seconds that a daemon gets to start its actor system anew."""
FOLLOW_PAUSE: Final = 0.05


class AttachedLink(RemoteLink):
    """To the actor system of the admin daemon. Thread-safe.

    Raises:
        AdminNotRunning: There is none, and `start` is not asked for; the text names the command that starts it.
        AdminMismatch: It has another version, or another cookie.
        CookieUnusable: The cookie cannot be read.
        SystemStartFailed: It does not answer, or does not start.
    """

    kind = "attached"
    owns_system = False

    def __init__(self, places: Places, *, start: bool = False) -> None:
        self._places, self._may_start = places, start
        self._following = threading.Lock()
        self._runtime = self._find()
        self._joined = self._enter()
        try:
            # Whoever finds the daemon shares its runtime directory; /tmp a service may well have to itself.
            super().__init__(self._joined, directory=str(places.runtime_dir))
        except BaseException:
            leave_system(self._joined)
            raise

    @property
    def runtime(self) -> Runtime:
        """The daemon, as it said of itself."""
        return self._runtime

    def supervisor(self, *, again: bool = False) -> Any:
        """Return the supervisor's address; `again` follows a daemon that has started its actor system anew.

        Raises:
            AdminNotRunning: The daemon has ended.
        """
        if not again:
            return super().supervisor()
        known = self._runtime.system_id
        self._follow(known, wait=False)
        try:
            return super().supervisor(again=True)
        except SystemStartFailed:
            # The daemon notices within a moment when its system has ended.
            if not self._follow(known, wait=True):
                raise
        return super().supervisor()

    def restart(self, supervisor: Any) -> bool:
        """Wait for the daemon to start anew what does not answer: that is its business, not ours."""
        known = self._runtime.system_id
        with contextlib.suppress(SystemStartFailed):
            if self._supervisor != supervisor or self._follow(known, wait=True):
                super().supervisor()
                return not self.closed
        return False

    def close(self) -> None:
        """Leave the actor system, which goes on. Idempotent."""
        super().close()
        leave_system(self._joined)

    def _superseded(self) -> bool:
        runtime = find(self._places)
        return runtime is None or runtime.system_id != self._runtime.system_id

    def _follow(self, known: str, *, wait: bool) -> bool:
        """Join the system that the daemon runs now, if that is not the `known` one any more; say whether it is another.

        Args:
            known: Id of the system that does not answer.
            wait: Give the daemon a few seconds to start another.
        """
        give_up = time.monotonic() + FOLLOW_TIMEOUT
        while not self.closed:
            with self._following:  # of several threads one joins, the others find it done
                if self._runtime.system_id == known:
                    runtime = self._find()
                    if runtime.system_id != known:
                        self._move(runtime)
                if self._runtime.system_id != known:
                    return True
            if not wait or time.monotonic() > give_up:
                return False
            time.sleep(FOLLOW_PAUSE)
        return False

    def _move(self, runtime: Runtime) -> None:
        joined = _join(self._places, runtime)
        left, self._joined, self._runtime = self._joined, joined, runtime
        self.moved_to(joined)
        leave_system(left)

    def _enter(self) -> Any:
        """Join the daemon's system, or the one that it starts in place of a system that does not answer."""
        give_up = time.monotonic() + FOLLOW_TIMEOUT
        while True:
            known = self._runtime.system_id
            try:
                return _join(self._places, self._runtime)
            except SystemStartFailed:
                while (runtime := self._find()).system_id == known:
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(FOLLOW_PAUSE)
                self._runtime = runtime

    def _find(self) -> Runtime:
        runtime = find(self._places)
        if runtime is None and self._may_start:
            runtime = self._start()
        if runtime is None:
            raise AdminNotRunning(f"no admin is running: {how_to_start(self._places)}")
        check_version(self._places, runtime)
        return runtime

    def _start(self) -> Runtime | None:
        try:
            return start_detached(AdminOptions(places=self._places, port=self._places.port))
        except AdminAlreadyRunning:
            return find(self._places)  # somebody else was faster


def _join(places: Places, runtime: Runtime) -> Any:
    key = key_for(places, runtime)
    try:
        return bounded(lambda: join_system(key, runtime.port), JOIN_TIMEOUT)
    except (ActorSystemException, PixirError) as error:
        raise SystemStartFailed(f"the admin (pid {runtime.pid}) does not answer at port {runtime.port}") from error

