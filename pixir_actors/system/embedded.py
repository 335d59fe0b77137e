"""The actor system of one program: private to it, started with it, gone when it is.

The host starts one small process, the guardian (`guardian.py`), which forks the actor system. Nothing but a lifeline,
a report and a few harmless environment variables is handed down: no descriptor, no terminal, no secret of the host's
environment. However the host ends, the system ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from thespian.actors import ActorSystem, ActorSystemException

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system.environment import named_ca_file
from pixir_actors.system.processes import descendants, kill
from pixir_actors.system.signed import join_system, leave_system

StrPath = str | os.PathLike[str]
KEY_BYTES: Final = 32
KILLED_WITHIN: Final = 2.0
"""Seconds that processes get to vanish after they were killed."""
INHERITED: Final = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"}
)
"""Variables of the host's environment that its actor system sees, besides LC_*: no other, since others may be
secrets."""
ADDED: Final = {"THESPIAN_MAX_PENDING_TRANSMITS": "1000", "MALLOC_ARENA_MAX": "1"}
"""How many messages a process may have on the way, to all others together: with Thespian's own 20, as many stuck peers
freeze it. And one heap for all threads of a process: the one that opens sockets needs none of its own."""
BOOTSTRAP: Final = (
    "import json, sys; config = json.loads(sys.stdin.readline()); sys.path[:] = config['path'];"
    " from pixir_actors.system.guardian import main; main(config)"
)
PACKAGE_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class LogPipe:
    """Where a system's log director writes.

    Attributes:
        level: Name of the lowest level that is logged.
        fd: The write end of a pipe, one line of JSON per record (`logs.relay` reads it).
    """

    level: str
    fd: int


class EmbeddedSystem:
    """A running actor system and this program's place in it.

    Belongs to the process that started it: a fork of that process cannot use it and does not keep it alive. May be
    used from many threads, each with its own `actor_system.private()` context.

    Attributes:
        port: The admin's TCP port on 127.0.0.1.
    """

    def __init__(self, guardian: GuardianProcess, port: int, actor_system: ActorSystem) -> None:
        self.port = port
        self._guardian = guardian
        self._actor_system = actor_system
        self._owner = os.getpid()
        self._closing = threading.RLock()
        self._closed = False
        atexit.register(self.close)

    @classmethod
    def start(
        cls,
        *,
        start_timeout: float = 20.0,
        import_paths: Iterable[StrPath] | None = None,
        key: bytes | None = None,
        port: int = 0,
        log: LogPipe | None = None,
    ) -> Self:
        """Start a system and join it.

        Args:
            start_timeout: Seconds for the whole system to become ready.
            import_paths: Directories that actor classes are looked for in before the calling process's own `sys.path`.
            key: What its messages are signed with; None makes one that nobody else has.
            port: The admin's TCP port; 0 takes a free one.
            log: Where the records of its processes go; None drops them.

        Raises:
            SystemStartFailed: It did not start; the text says why. Nothing is left running.
        """
        key = key or secrets.token_bytes(KEY_BYTES)
        ca_file = named_ca_file(os.environ)
        config = {
            "key": key.hex(),
            "host": os.getpid(),
            "path": python_path(import_paths or ()),
            "port": port,
            "log": None if log is None else [log.level, log.fd],
            "ca_file": None if ca_file is None else os.path.abspath(ca_file),  # the guardian has another working directory
        }
        guardian = GuardianProcess(time.monotonic() + start_timeout, [] if log is None else [log.fd])
        try:
            port = guardian.configure(config)
            return cls(guardian, port, join_system(key, port))
        except ActorSystemException as error:
            guardian.stop(KILLED_WITHIN)
            raise SystemStartFailed(f"the actor system started, but could not be joined: {error}") from error
        except BaseException:
            guardian.stop(KILLED_WITHIN)
            raise

    @property
    def actor_system(self) -> ActorSystem:
        """The Thespian actor system, joined by this process.

        Raises:
            SystemStartFailed: The system is closed, or belongs to the process that this one was forked from.
        """
        if os.getpid() != self._owner:
            raise SystemStartFailed(
                f"this actor system belongs to process {self._owner}: a forked process has to start its own"
            )
        if self._closed:
            raise SystemStartFailed("this actor system is closed: start another one")
        return self._actor_system

    def alive(self) -> bool:
        """Tell whether the system's guardian and with it its admin run. False in a forked process."""
        return not self._closed and os.getpid() == self._owner and self._guardian.alive()

    def fileno(self) -> int:
        """Return a descriptor to wait on: it becomes readable when the system has ended by itself."""
        return self._guardian.fileno()

    def pids(self) -> list[int]:
        """Return the pids of all processes of the system, the guardian first; empty when it has ended."""
        return self._guardian.pids() if self.alive() else []

    def close(self, timeout: float = 5.0) -> None:
        """End the system: afterwards none of its processes lives. Runs at the exit of the program at the latest.

        Closing twice does nothing, closing in a forked process neither.

        Args:
            timeout: Seconds for the guardian to end the system, before guardian and system are killed.
        """
        if os.getpid() != self._owner:
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
            atexit.unregister(self.close)
            self._guardian.stop(timeout)
            leave_system(self._actor_system)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedSystem port={self.port} {'running' if self.alive() else 'ended'}>"


class GuardianProcess:
    """The host's end of a guardian: its lifeline and its report."""

    def __init__(self, ready_by: float, pass_fds: Sequence[int] = ()) -> None:
        """Start the guardian's process; it waits for `configure`.

        Args:
            ready_by: Monotonic time by which it has to report.
            pass_fds: Descriptors that it keeps, besides lifeline and report.

        Raises:
            SystemStartFailed: There is no interpreter to start it with.
        """
        self._ready_by = ready_by
        self._lifeline, theirs = socket.socketpair()
        try:
            # What it prints on stderr, before it has got as far as reporting, is the reason why it has not.
            self._process = subprocess.Popen(
                [interpreter(), "-P", "-c", BOOTSTRAP, "pixir-actors-guardian"],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=inherited(os.environ),
                cwd="/",
                pass_fds=pass_fds,
                start_new_session=True,
                bufsize=0,
            )
        except BaseException as error:
            self._lifeline.close()
            if isinstance(error, OSError):
                raise SystemStartFailed(f"cannot start {sys.executable}: {error.strerror}") from error
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None
        self._report = self._process.stdout
        _guardians.add(self)

    def fileno(self) -> int:
        """Return the report's descriptor: it becomes readable when the last process of the system has gone."""
        return self._report.fileno()

    def configure(self, config: Mapping[str, Any]) -> int:
        """Send the configuration and wait for the report; return the admin's port.

        Raises:
            SystemStartFailed: It reported an error, ended, or did not report in time.
        """
        with contextlib.suppress(OSError):  # it has ended: what it printed is the reason
            self._lifeline.settimeout(max(0.001, self._ready_by - time.monotonic()))
            self._lifeline.sendall(json.dumps(config).encode() + b"\n", socket.MSG_NOSIGNAL)
        return _port_in(self._read_report())

    def _read_report(self) -> bytes:
        """Return what the guardian printed up to the end of its report, or all of it if it never reported."""
        printed = b""
        while self._readable(self._ready_by - time.monotonic()):
            more = os.read(self._report.fileno(), 65536)
            if not more:
                return printed
            printed += more
            if _report_in(printed):
                return printed
        raise SystemStartFailed("the actor system was not ready in time; allow a longer start_timeout")

    def _readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._report, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout) * 1000))

    def alive(self) -> bool:
        return self._process.poll() is None

    def pids(self) -> list[int]:
        return [self._process.pid, *descendants(self._process.pid)]

    def stop(self, timeout: float) -> None:
        """End guardian and system, and wait until the last of their processes is gone.

        Args:
            timeout: Seconds before they are killed.
        """
        with contextlib.suppress(OSError):
            # A closed lifeline would do, but for a fork that may hold it, too. No SIGPIPE: it may kill the host.
            self._lifeline.send(b"\n", socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        self._lifeline.close()
        if not self._gone(timeout):
            for pid in self.pids() if self.alive() else []:
                kill(pid)
            self._gone(KILLED_WITHIN)
        with self._process:  # closes the report and collects the guardian
            pass

    def _gone(self, timeout: float) -> bool:
        """Wait until no process holds the report open any more."""
        end = time.monotonic() + timeout
        while self._readable(end - time.monotonic()):
            if not os.read(self._report.fileno(), 65536):
                return True
        return False

    def forget(self) -> None:
        """Let go of the guardian in a fork of the host: the fork must not keep the system alive, nor wait for it."""
        self._lifeline.close()
        self._report.close()
        self._process.returncode = 0


_guardians: weakref.WeakSet[GuardianProcess] = weakref.WeakSet()


def _forget_guardians() -> None:
    for guardian in list(_guardians):
        guardian.forget()


os.register_at_fork(after_in_child=_forget_guardians)


def interpreter() -> str:
    """Return the Python interpreter that new processes run.

    Raises:
        SystemStartFailed: There is none, or this is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise SystemStartFailed(f"an embedded actor system needs Linux, this is {sys.platform}")
    if not sys.executable or getattr(sys, "frozen", False):
        raise SystemStartFailed("an embedded actor system needs a Python interpreter to start (sys.executable)")
    return sys.executable


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a new actor system gets of this process's environment."""
    kept = {name: value for name, value in environment.items() if name in INHERITED or name.startswith("LC_")}
    return kept | ADDED


def python_path(first: Iterable[StrPath] = ()) -> list[str]:
    """Return where a new process finds the modules that this one does, as absolute paths: it has another working
    directory."""
    return list(dict.fromkeys(os.path.abspath(path) for path in [*first, *sys.path, PACKAGE_ROOT]))


def _report_in(printed: bytes) -> dict[str, object] | None:
    """Return the guardian's report if its line is complete."""
    for line in printed.splitlines(keepends=True):
        if line.startswith(b"{") and line.endswith(b"\n"):
            with contextlib.suppress(ValueError):
                report: dict[str, object] = json.loads(line)
                return report
    return None


def _port_in(printed: bytes) -> int:
    report = _report_in(printed)
    if report is None:
        lines = printed.decode(errors="replace").strip().splitlines()
        raise SystemStartFailed(
            f"the actor system's guardian ended before it reported: {lines[-1] if lines else 'no output'}"
        )
    port = report.get("port")
    if not isinstance(port, int):
        raise SystemStartFailed(f"the actor system could not be started: {report.get('error')}")
    return port
