"""What every test stands on: scaled deadlines, a temporary directory of its own, and nothing left behind.

The session makes the test process a subreaper: an orphan of any depth, also one that was started with a scrubbed
environment in a session of its own, gets this process as its parent and is found at the end. Such an orphan stays a
zombie until then, as it does in a container without an init: ask `is_running`, not `os.kill(pid, 0)`, whether it lives.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

TIME_FACTOR = float(os.environ.get("PIXIR_TEST_TIME_FACTOR", "1"))
PR_SET_CHILD_SUBREAPER = 36
GRACE = 5.0
"""Seconds in which what a test stopped may still be on its way out."""


def within(seconds: float) -> float:
    """Return a deadline for tests: `seconds` on a quiet machine, more where PIXIR_TEST_TIME_FACTOR says so."""
    return seconds * TIME_FACTOR


def until(condition: Callable[[], object], seconds: float = GRACE) -> bool:
    """Wait until `condition` is true, for events that only polling shows; return whether it became true in time."""
    deadline = time.monotonic() + within(seconds)
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_running(pid: int) -> bool:
    """Say whether a process lives; a zombie does not."""
    return _stat(pid)[0] not in ("", "Z", "X")


def children(parent: int) -> list[int]:
    """Return the pids of a process's children, zombies included."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if _stat(pid)[1] == str(parent)]


def command(pid: int) -> str:
    """Return a process's command line, for a message."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """Return state and parent of a process; empty texts when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "", ""
    # The name stands in parentheses and may hold anything, parentheses too.
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, parent


def pytest_configure(config: pytest.Config) -> None:
    """Adopt orphans, and move TMPDIR, before any test module is imported."""
    if sys.platform != "linux":
        raise pytest.UsageError("these tests need Linux: they look for leftover processes in /proc")
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise pytest.UsageError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")
    home = tempfile.mkdtemp(prefix="test-")  # short: a Unix socket's path has at most 107 bytes
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = home
    config.add_cleanup(lambda: _move_back(home, before))


def _move_back(home: str, before: str | None) -> None:
    shutil.rmtree(home, ignore_errors=True)
    tempfile.tempdir = None
    os.environ.pop("TMPDIR")
    if before is not None:
        os.environ["TMPDIR"] = before


@pytest.fixture(scope="session", autouse=True)
def no_file_is_left() -> Iterator[None]:
    """Fail the run when a directory of the package or a log of Thespian is left in the temporary directory."""
    home = Path(tempfile.gettempdir())
    yield
    until(lambda: not _leftovers(home), 1)
    assert not _leftovers(home), f"left in the temporary directory: {', '.join(_leftovers(home))}"


def _leftovers(home: Path) -> list[str]:
    """Return the package's and Thespian's names in the directory itself: a test's own tmp_path lies deeper."""
    return sorted(path.name for pattern in ("pixir-*", "thespian.log*") for path in home.glob(pattern))


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left(no_file_is_left: None) -> Iterator[None]:
    """Fail the run, and kill what it finds, when a process of this session outlives its tests, failed ones included.

    It ends before `no_file_is_left` does: what a process takes with it as it ends is not left behind.
    """
    known = set(children(os.getpid()))
    yield
    until(lambda: not _strangers(known))
    left = {pid: command(pid) for pid in _strangers(known)}
    _kill_all(known)
    assert not left, "processes are left behind (now killed): " + "; ".join(f"{p}: {c}" for p, c in left.items())


def _strangers(known: set[int]) -> list[int]:
    """Reap what has ended, and return the living children that were not there at the start."""
    found = []
    for pid in set(children(os.getpid())) - known:
        if not is_running(pid):
            _reap(pid)
        elif "multiprocessing.resource_tracker" not in command(pid):  # the standard library's own; it ends with us
            found.append(pid)
    return found


def _kill_all(known: set[int]) -> None:
    """Kill generation by generation: the children of what is killed become ours."""
    while left := _strangers(known):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(partial(_all_ended, left))


def _all_ended(pids: list[int]) -> bool:
    return not any(map(is_running, pids))


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # whoever started it was quicker
        os.waitpid(pid, os.WNOHANG)
