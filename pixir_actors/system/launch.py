"""How the admin daemon is started out of any program, and ended.

The program that starts it gives it nothing but its options: no descriptor, no terminal, no working directory, no
environment but a few harmless variables. The daemon is nobody's child.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Final

from pixir_actors.errors import AdminAlreadyRunning, CookieUnusable, InvalidSettings, PixirError, SystemStartFailed
from pixir_actors.system.embedded import inherited, interpreter, python_path
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime

BOOTSTRAP: Final = (
    "import json, sys; config = json.loads(sys.stdin.readline()); sys.path[:] = config['path'];"
    " from pixir_actors.admin.detached import main; main(config)"
)
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS: Final = ("text", "json")
LONGEST_DRAIN: Final = 24 * 3600.0
STOP_GRACE: Final = 10.0
"""Seconds that a daemon may take to end, beyond the time it was given for its running turns."""
LOOK_EVERY: Final = 0.2
ERRORS: Final[dict[str, type[PixirError]]] = {
    kind.__name__: kind for kind in (AdminAlreadyRunning, CookieUnusable, SystemStartFailed)
}
"""What a daemon that cannot start may report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminOptions:
    """How an admin daemon runs.

    Attributes:
        places: Where its files are.
        port: Its TCP port on 127.0.0.1; None takes a free one.
        drain_timeout: Seconds that running turns get to end when the daemon is told to stop.
        log_level: The lowest level that is logged: one of `LEVELS`.
        log_format: One of `FORMATS`.
        log_file: A file that is rotated; None: standard error.

    Raises:
        InvalidSettings: A value is out of range.
    """

    places: Places
    port: int | None = None
    drain_timeout: float = 30.0
    log_level: str = "INFO"
    log_format: str = "text"
    log_file: Path | None = None

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise InvalidSettings("port", self.port, "a whole number from 1 to 65535")
        if not 0 <= self.drain_timeout <= LONGEST_DRAIN:
            raise InvalidSettings("drain_timeout", self.drain_timeout, f"seconds from 0 to {LONGEST_DRAIN:.0f}")
        if self.log_level not in LEVELS:
            raise InvalidSettings("log_level", self.log_level, " or ".join(LEVELS))
        if self.log_format not in FORMATS:
            raise InvalidSettings("log_format", self.log_format, " or ".join(FORMATS))

    def fields(self) -> dict[str, Any]:
        """Return them as JSON can hold them."""
        return {**_plain(self), "places": _plain(self.places)}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> AdminOptions:
        """Return the options that `fields()` wrote down."""
        places: dict[str, Any] = {
            name: Path(value) if isinstance(value, str) else value for name, value in fields["places"].items()
        }
        log_file = None if fields["log_file"] is None else Path(fields["log_file"])
        return cls(**{**fields, "places": Places(**places), "log_file": log_file})


def _plain(values: AdminOptions | Places) -> dict[str, Any]:
    named = {each.name: getattr(values, each.name) for each in dataclass_fields(values)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in named.items()}


def start_detached(
    options: AdminOptions, *, timeout: float = 30.0, complain: Callable[[str], None] = lambda _: None
) -> Runtime:
    """Start an admin daemon that has nothing to do with this process any more; return when it is ready.

    Its log goes to `options.log_file`, or where that is None to the place's own.

    Args:
        options: How it runs.
        timeout: Seconds for it to become ready.
        complain: Called with each line that it prints although it starts: why it cannot write its log.

    Raises:
        AdminAlreadyRunning: One runs; the text says where.
        CookieUnusable: Its secret is missing, or others can read it.
        SystemStartFailed: It did not start; the text says why.
    """
    try:
        process = subprocess.Popen(
            [interpreter(), "-P", "-c", BOOTSTRAP, "pixir-actors-admin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=inherited(os.environ),
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise SystemStartFailed(f"cannot start {sys.executable}: {error.strerror}") from error
    with process:  # it forks and ends at once: what is waited for is its report
        assert process.stdin is not None and process.stdout is not None
        config = {"path": python_path(), "options": options.fields()}
        with contextlib.suppress(OSError):  # it has ended: what it printed is the reason
            process.stdin.write(json.dumps(config).encode() + b"\n")
        process.stdin.close()
        try:
            return _reported(_read_all(process.stdout.fileno(), time.monotonic() + timeout), complain)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the daemon as well: it leads no session of its own
            raise


def _read_all(fd: int, give_up: float) -> bytes:
    """Return what comes until the daemon lets go of its report, which it does when it is ready or has failed."""
    printed = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, give_up - time.monotonic()) * 1000):
        more = os.read(fd, 65536)
        if not more:
            return printed
        printed += more
    raise SystemStartFailed("the admin was not ready in time: its log says how far it came")


def _reported(printed: bytes, complain: Callable[[str], None]) -> Runtime:
    lines = printed.decode(errors="replace").strip().splitlines()
    for line in lines:
        report = _json(line)
        if "ready" in report:
            for word in lines:
                if not _json(word):
                    complain(word)
            return Runtime(**report["ready"])
        if "error" in report:
            raise ERRORS.get(report["kind"], SystemStartFailed)(report["error"])
    raise SystemStartFailed(f"the admin ended before it was ready: {lines[-1] if lines else 'it printed nothing'}")


def _json(line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        report = json.loads(line)
        if isinstance(report, dict):
            return report
    return {}


def stop_admin(runtime: Runtime, *, timeout: float, progress: Callable[[], None] = lambda: None) -> bool:
    """Tell a daemon to end, and wait until it has.

    Args:
        runtime: Which one.
        timeout: Seconds to wait; its own drain_timeout bounds how long it lets running turns go on.
        progress: Called about five times a second meanwhile.

    Returns:
        False if it still runs after `timeout` seconds: it goes on ending.
    """
    try:
        process = os.pidfd_open(runtime.pid)
    except ProcessLookupError:
        return True
    try:
        # Looked at after the descriptor was had, so that it cannot be somebody else's by now.
        if not runtime.alive():
            return True
        signal.pidfd_send_signal(process, signal.SIGTERM)
        return _ended(process, time.monotonic() + timeout, progress)
    except ProcessLookupError:
        return True
    finally:
        os.close(process)


def _ended(process: int, give_up: float, progress: Callable[[], None]) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    while not poll.poll(LOOK_EVERY * 1000):
        if time.monotonic() > give_up:
            return False
        progress()
    return True
