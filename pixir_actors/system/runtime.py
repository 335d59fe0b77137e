"""The runtime file, by which a running admin is found, and the lock that lets only one run.

The file is written whole or not at all and holds no secret. A file says nothing about whether its admin still lives:
that is asked of the kernel, by pid, start time and boot, so that a file which a killed admin left behind fools nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from pixir_actors.errors import AdminAlreadyRunning, SystemStartFailed
from pixir_actors.system.places import (
    PRIVATE_FILE,
    RUNTIME_VARIABLE,
    Places,
    advice,
    secure_directory,
    usual_runtime_dirs,
)
from pixir_actors.system.processes import start_time

MAX_FILE_BYTES: Final = 65536
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
PATIENCE: Final = 10.0
"""Seconds to wait for an admin that is just starting, and will say where it is, or is about to end."""
LOOK_AGAIN: Final = 0.02
_RUNTIME_FILE: Final = re.compile(r"admin(-[0-9]+)?\.json")


@dataclass(frozen=True, slots=True)
class Runtime:
    """One admin, as its runtime file says.

    Attributes:
        pid: The daemon's.
        born: When that process started, in clock ticks since the boot: field 22 of /proc/<pid>/stat.
        boot_id: The boot it started in.
        port: Of the actor system, on loopback.
        system_id: Of the actor system that runs now; another one after the daemon had to start it anew.
        proof: `cookie.proof` of that system's key.
        version: Of this package, as the daemon runs it.
        thespian: Of Thespian.
        started_at: Unix time at which the daemon started.
        log: Path of its log; None where it logs to standard error.
    """

    pid: int
    born: int
    boot_id: str
    port: int
    system_id: str
    proof: str
    version: str
    thespian: str
    started_at: float
    log: str | None

    def alive(self) -> bool:
        """Tell whether the very process that wrote this runs: not a zombie, not another one under its pid."""
        return self.boot_id == boot_id() and self.born == start_time(self.pid)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the text of a runtime file; fields of a later version are left out.

        Raises:
            ValueError: It is none.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("no object")
        known: dict[str, Any] = {name: fields.get(name) for name in cls.__slots__}
        wrong = [name for name, value in known.items() if type(value) not in _KINDS[name]]
        if wrong or not 0 <= known["started_at"] < _LATEST:
            raise ValueError(f"wrong fields: {', '.join(wrong)}")
        return cls(**known)


_LATEST: Final = 1 << 40
"""A time that every calendar still knows."""
_NUMBER: Final = (int,)
_TEXT: Final = (str,)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("pid", "born", "port"), _NUMBER),
    **dict.fromkeys(("boot_id", "system_id", "proof", "version", "thespian"), _TEXT),
    "started_at": (int, float),
    "log": (str, type(None)),
}


def boot_id() -> str:
    """Return the id of the machine's current boot; empty where the platform has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def find(places: Places) -> Runtime | None:
    """Return the admin that runs at these places; None if none does, or its file is stale, broken or another user's."""
    runtime = _read(places.runtime_file)
    return runtime if runtime is not None and runtime.alive() else None


def running(places: Places) -> list[Runtime]:
    """Return all admins that run in the runtime directory, whatever port they were asked for, by port."""
    try:
        names = os.listdir(places.runtime_dir)
    except OSError:
        return []
    found = [_read(places.runtime_dir / name) for name in names if _RUNTIME_FILE.fullmatch(name)]
    return sorted((runtime for runtime in found if runtime and runtime.alive()), key=lambda runtime: runtime.port)


def how_to_start(places: Places) -> str:
    """Say how an admin is started at these places, and which others there are that may have been meant."""
    port = "" if places.port is None else f" --port {places.port}"
    said = f"start it with `pixir-actors start --detach{port}`"
    others = [str(runtime.port) for runtime in running(places)]
    if others:
        said += f"; another one runs at port {', '.join(others)}: name that port"
    elsewhere = [path for path in usual_runtime_dirs() if path != places.runtime_dir]
    for path in elsewhere:
        if running(replace(places, runtime_dir=path)):
            said += f"; another one is found with {RUNTIME_VARIABLE}={path}"
    return said


def publish(places: Places, runtime: Runtime) -> None:
    """Write the runtime file, in place of the one before; who reads it sees the old one or the new one.

    Raises:
        SystemStartFailed: It cannot be written; the text says what to do.
    """
    secure_directory(places.runtime_dir)
    path = places.runtime_file
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()  # of a killed process that had this pid
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
        with open(descriptor, "w") as file:
            json.dump(asdict(runtime), file)
        temporary.rename(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise SystemStartFailed(f"the runtime file {path} cannot be written: {advice(error, RUNTIME_VARIABLE)}") from error


def withdraw(places: Places) -> None:
    """Remove the runtime file, unless it is that of another admin that runs. Never raises."""
    runtime = find(places)
    if runtime is None or runtime.pid == os.getpid():
        with suppress(OSError):
            places.runtime_file.unlink()


def _read(path: Path) -> Runtime | None:
    """Return what a runtime file says; None for one that is missing, broken, or could be somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
                return None
            return Runtime.parse(os.read(descriptor, MAX_FILE_BYTES))
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):  # RecursionError: JSON of brackets only
        return None


class StartLock:
    """Held by an admin from before it starts until it has ended; the kernel frees it however the process ends.

    Belongs to the process that took it and to what that forks, but not to a program it executes.
    """

    def __init__(self, places: Places, *, patience: float = PATIENCE) -> None:
        """Name the lock; entering takes it.

        Args:
            patience: Seconds to wait while another holds it and has not said where it is.
        """
        self._places, self._patience = places, patience
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            AdminAlreadyRunning: Another has it; the text says its pid and port.
            SystemStartFailed: The lock file cannot be made.
        """
        secure_directory(self._places.runtime_dir)
        descriptor = self._open()
        try:
            self._take(descriptor)
            _sign(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def keep(self) -> bool:
        """See to it that others find the lock where they look: who cleans up /tmp removes what has not changed for days.

        Returns:
            False when the file is gone and somebody else has taken the lock of a new one.

        Raises:
            SystemStartFailed: The file is gone and cannot be made anew.
        """
        if self._descriptor is None:
            return False
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self._places.lock_file)):
                os.utime(self._descriptor)
                return True
        secure_directory(self._places.runtime_dir)
        descriptor = self._open()
        if not _locked(descriptor):
            os.close(descriptor)
            return False
        _sign(descriptor)
        self.release()
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back. May be called again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # The file stays: were it removed, one could lock the old file and another the new one.
            os.close(descriptor)

    def _open(self) -> int:
        path = self._places.lock_file
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise SystemStartFailed(f"the lock {path} cannot be made: {advice(error, RUNTIME_VARIABLE)}") from error

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        while not _locked(descriptor):
            runtime = find(self._places)
            if runtime is not None:
                raise AdminAlreadyRunning(f"an admin is running already: {where(runtime)}")
            if time.monotonic() > deadline:
                raise AdminAlreadyRunning(
                    f"another admin is starting or ending ({_holder(descriptor)} holds {self._places.lock_file}), "
                    f"and did not get done within {self._patience:.0f} s: try again, or end that process"
                )
            time.sleep(LOOK_AGAIN)


def where(runtime: Runtime) -> str:
    """Say where an admin is: "pid 12, port 3456, started 2026-01-31 12:34:56"."""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(runtime.started_at))
    return f"pid {runtime.pid}, port {runtime.port}, started {started}"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise SystemStartFailed(f"the runtime directory takes no locks: {advice(error, RUNTIME_VARIABLE)}") from error
    return True


def _sign(descriptor: int) -> None:
    """Leave this process's pid in the lock file, for those who find it locked."""
    with suppress(OSError):  # a full disk: it is a courtesy
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    written = os.pread(descriptor, 20, 0).strip()
    return f"process {written.decode()}" if written.isdigit() else "a process"
