"""The program of the admin daemon: it keeps one actor system running, and tells where it is.

It holds the start lock as long as it lives, so that there is one daemon at a place. The actor system lives under a
guardian, like an embedded one; should it end or stop answering, it is started anew, cold, under another system id: what
was signed for the one before is refused by this one. Everything that is logged, by the daemon or by any process of the
system, is written here and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, Final

from pixir_actors.admin import heart
from pixir_actors.admin.log_director import LogDirectorWatch
from pixir_actors.core.secret import Secret
from pixir_actors.dispatch.questions import Questions
from pixir_actors.errors import SystemStartFailed
from pixir_actors.system.cookie import ensure_cookie, proof, system_key
from pixir_actors.system.embedded import EmbeddedSystem, LogPipe
from pixir_actors.system.launch import AdminOptions
from pixir_actors.system.logs import open_handler, relay
from pixir_actors.system.notify import notify
from pixir_actors.system.processes import no_core_dumps, set_process_name, start_time
from pixir_actors.system.runtime import Runtime, StartLock, boot_id, find, publish, withdraw
from pixir_actors.version import __version__

PROCESS_NAME: Final = "pixir-actors"
MAX_RESTARTS: Final = 5
RESTART_PERIOD: Final = 60.0
"""Seconds within which the actor system may be started anew `MAX_RESTARTS` times; OTP calls it intensity and period."""
READ_BYTES: Final = 65536
CLOSE_TIMEOUT: Final = 5.0

log = logging.getLogger("pixir_actors.admin")


def run_admin(options: AdminOptions, *, ready: Callable[[Runtime], None]) -> int:
    """Run an admin daemon in this process until SIGTERM, SIGINT or SIGHUP; return its exit code.

    Belongs into the main thread: it takes over those signals. A second signal ends it without waiting for running turns.

    Args:
        options: How it runs.
        ready: Called once, when clients can attach.

    Returns:
        0 after it was told to end; 1 when the actor system could not be kept running.

    Raises:
        AdminAlreadyRunning: One runs at this place.
        CookieUnusable: Its secret cannot be had.
        SystemStartFailed: The actor system does not start.
    """
    with StartLock(options.places) as lock, Daemon(options, lock) as daemon:
        return daemon.run(ready)


class Daemon:
    """One admin daemon. A context manager: at its end nothing of it is left but the log."""

    def __init__(self, options: AdminOptions, lock: StartLock) -> None:
        self._options, self._lock = options, lock
        self._runtime: Runtime | None = None
        self._hidden = False
        self._cookie: Secret[bytes] = ensure_cookie(options.places.cookie_file)
        self._selector = selectors.DefaultSelector()
        self._log_end, self._log_fd = os.pipe()
        os.set_blocking(self._log_fd, False)
        os.set_blocking(self._log_end, False)
        self._unread = b""
        self._wake_end, self._wake_fd = os.pipe()
        os.set_blocking(self._wake_fd, False)
        os.set_blocking(self._wake_end, False)
        self._handler = open_handler(options.log_file, options.log_format, options.log_level)
        self._system: EmbeddedSystem | None = None
        self._questions: Questions | None = None
        self._heart: heart.Heart | None = None
        self._restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        self._started_at = time.time()
        self._signals = 0
        self._stuck = False
        self._drained: bool | None = None

    def __enter__(self) -> Daemon:
        log.addHandler(self._handler)
        log.setLevel(self._options.log_level)
        log.propagate = False
        set_process_name(PROCESS_NAME)
        no_core_dumps()
        return self

    def __exit__(self, *_error: object) -> None:
        withdraw(self._options.places)
        self._stop_system()
        self._relay()
        log.removeHandler(self._handler)
        self._handler.close()
        self._selector.close()
        for fd in (self._log_end, self._log_fd, self._wake_end, self._wake_fd):
            os.close(fd)

    def run(self, ready: Callable[[Runtime], None]) -> int:
        """Start the system, say that it is ready, and keep it so until a signal comes."""
        with self._heard_signals():
            self._selector.register(self._log_end, selectors.EVENT_READ, self._relay)
            self._selector.register(self._wake_end, selectors.EVENT_READ, self._awake)
            runtime = self._start_system()
            ready(runtime)
            notify("READY=1", os.environ)
            while not self._signals:
                self._turn()
                if self._has_ended() and not self._restart():
                    return 1
            self._drain()
        return 0

    # The actor system

    def _start_system(self) -> Runtime:
        system_id = secrets.token_hex(16)
        key = system_key(self._cookie, system_id)
        system = EmbeddedSystem.start(
            key=key, port=self._options.port or 0, log=LogPipe(self._options.log_level, self._log_fd)
        )
        self._system = system
        self._selector.register(system, selectors.EVENT_READ, lambda: None)
        Questions(system.actor_system).supervisor()  # so that it is there when the first client comes
        self._questions = Questions(system.actor_system, create_timeout=heart.BEAT_TIMEOUT)
        self._stuck = False
        director = LogDirectorWatch(system.pids)
        self._heart = heart.Heart(self._questions, beat=lambda: self._beats(director), stuck=self._is_stuck)
        self._heart.start()
        path = self._options.log_file
        runtime = Runtime(
            pid=os.getpid(),
            born=start_time(os.getpid()) or 0,
            boot_id=boot_id(),
            port=system.port,
            system_id=system_id,
            proof=proof(key),
            version=__version__,
            thespian=metadata.version("thespian"),
            started_at=self._started_at,
            log=None if path is None else str(path),
        )
        publish(self._options.places, runtime)
        self._runtime = runtime
        log.info("ready", extra={"port": system.port, "version": __version__})
        return runtime

    def _stop_system(self) -> None:
        if self._heart is not None:
            self._heart.stop()
        if self._questions is not None:
            self._questions.close()
        if self._system is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._system)
            self._system.close(CLOSE_TIMEOUT)
        self._heart = self._questions = self._system = None

    def _has_ended(self) -> bool:
        return self._stuck or self._system is None or not self._system.alive()

    def _restart(self) -> bool:
        """Start the system anew; False when it has been started too often lately, or cannot be started."""
        now = time.monotonic()
        why = "it stopped answering" if self._stuck else "it ended"
        if len(self._restarts) == MAX_RESTARTS and now - self._restarts[0] < RESTART_PERIOD:
            times, period = MAX_RESTARTS + 1, RESTART_PERIOD
            log.error("the actor system is given up: %s, %d times within %g seconds", why, times, period)
            return False
        self._restarts.append(now)
        log.error("the actor system is started anew: %s", why)
        self._stop_system()
        try:
            self._start_system()
        except SystemStartFailed as failed:
            log.error("the actor system cannot be started anew: %s", failed)
            return False
        return True

    # Signals, the heart's words, and the log: all come in here

    def _turn(self) -> None:
        for key, _ in self._selector.select():
            key.data()

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_end, READ_BYTES)
        if not self._signals:
            self._be_found()

    def _be_found(self) -> None:
        """Put back what others find this daemon by, should somebody have removed it."""
        places, hidden = self._options.places, self._hidden
        try:
            if not self._lock.keep():
                log.error("the runtime directory was removed, and another admin has taken this one's place: it ends")
                self._signals += 1
            elif self._runtime is not None and find(places) is None:
                publish(places, self._runtime)
                log.warning("the runtime file was removed, and is written anew")
            else:
                os.utime(places.runtime_file)
            self._hidden = False
        except (SystemStartFailed, OSError) as error:
            self._hidden = True
            if not hidden:
                log.error("nobody finds this admin any more: %s", error)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_fd, b"!")

    def _beats(self, director: LogDirectorWatch) -> None:
        notify("WATCHDOG=1", os.environ)
        if director.look():
            log.warning("the log director was stopped, and is started anew: records have been lost")
        self._wake()

    def _is_stuck(self) -> None:
        self._stuck = True
        self._wake()

    def _relay(self) -> None:
        """Write out what the log director of the system has sent."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._log_end, READ_BYTES):
                *lines, self._unread = (self._unread + more).split(b"\n")
                for line in lines:
                    relay(line, self._handler)

    @contextlib.contextmanager
    def _heard_signals(self) -> Iterator[None]:
        heard = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._signalled) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, *_: Any) -> None:
        self._signals += 1
        self._wake()

    # The end

    def _drain(self) -> None:
        within = self._options.drain_timeout
        notify("STOPPING=1", os.environ)
        log.info("draining: running turns have %g seconds", within)
        drain = threading.Thread(target=self._drain_in_thread, args=(within,), name="drain", daemon=True)
        drain.start()
        while self._drained is None and self._signals == 1 and not self._has_ended():
            self._turn()
        if self._drained is None:
            log.warning("ended without waiting for running turns")
        else:
            log.info("ended" if self._drained else "ended: the supervisor did not answer in time")

    def _drain_in_thread(self, within: float) -> None:
        self._drained = self._heart is not None and self._heart.drain(within)
        self._wake()
