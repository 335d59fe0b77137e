"""Where the two ends meet, and what dead processes left there."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pixir_actors.channel import local
from pixir_actors.errors import SystemStartFailed

NEVER_A_PID = 2**22 + 1


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have temporary directories made in a short directory of this test's own."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(stack: ExitStack) -> Path:
    path, sock = local.listen(5)
    stack.callback(local.remove, path)
    stack.enter_context(sock)
    return Path(path)


def abandoned(base: Path, pid: int, *, age: float | None = None) -> Path:
    """Make what a killed process leaves: a socket nobody listens on, or (with an age) no socket yet."""
    directory = base / f"pixir-{pid}-abcdefgh"
    directory.mkdir(mode=0o700)
    if age is None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(directory / "channel"))
    else:
        then = directory.stat().st_mtime - age
        os.utime(directory, (then, then))
    return directory


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_directory_is_the_users_alone(base: Path, stack: ExitStack) -> None:
    path = listen(stack)

    assert path.parent.parent == base
    assert path.parent.name.startswith(f"pixir-{os.getpid()}-")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert [entry.name for entry in path.parent.iterdir()] == ["channel"]


def test_removing_is_complete_and_may_be_repeated(base: Path, stack: ExitStack) -> None:
    path = str(listen(stack))
    local.remove(path)
    local.remove(path)

    assert list(base.iterdir()) == []


def test_a_temporary_directory_with_too_long_a_path_gives_way_to_tmp(
    base: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = base / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    path = listen(stack)

    assert path.parent.parent == Path("/tmp")


def test_a_path_as_long_as_allowed_is_used(base: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = 107 - len("/pixir-4194304-xxxxxxxx/channel~") - len(str(base)) - 1
    deep = base / ("d" * rest)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    assert listen(stack).parent.parent == deep


def test_without_a_usable_directory_the_error_says_what_to_do(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(base / ("d" * 100)))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemStartFailed, match=r"at most 107 bytes.*set TMPDIR to a shorter directory"):
        local.listen(5)


def test_a_failure_at_the_socket_leaves_nothing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "rename", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SystemStartFailed, match=r"could not be made in .*: Too many open files"):
        local.listen(5)

    assert list(base.iterdir()) == []
    assert os.listdir("/proc/self/fd") == before


def test_a_platform_without_peer_credentials_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(SystemStartFailed, match="needs Linux"):
        local.listen(5)


# What dead processes left.


def test_the_directory_of_a_dead_process_is_swept(base: Path, stack: ExitStack) -> None:
    directory = abandoned(base, ended_pid())
    listen(stack)

    assert not directory.exists()


def test_that_of_a_dead_process_with_this_ones_pid_is_swept(base: Path, stack: ExitStack) -> None:
    directory = abandoned(base, os.getpid())
    listen(stack)

    assert not directory.exists()


def test_that_of_a_living_process_is_kept(base: Path, stack: ExitStack) -> None:
    directory = abandoned(base, os.getppid())
    listen(stack)

    assert directory.exists()


def test_one_where_somebody_listens_is_kept_whatever_its_pid(base: Path, stack: ExitStack) -> None:
    first = listen(stack)
    unseen = first.parent.rename(base / f"pixir-{NEVER_A_PID}-abcdefgh")
    second = listen(stack)
    third = listen(stack)

    assert (unseen / "channel").exists()
    assert second.exists()
    assert third.exists()


@pytest.mark.parametrize(("age", "kept"), [(0.0, True), (30.0, True), (90.0, False)])
def test_one_without_a_socket_is_swept_when_it_is_old(base: Path, stack: ExitStack, age: float, kept: bool) -> None:
    directory = abandoned(base, NEVER_A_PID, age=age)
    listen(stack)

    assert directory.exists() is kept


@pytest.mark.parametrize("name", ["pixir-abc-d", "pixir-", "other-1-x", "pixir-99999999999999999999-x"])
def test_other_names_are_kept(base: Path, stack: ExitStack, name: str) -> None:
    (base / name).mkdir()
    listen(stack)

    assert (base / name).exists()


def test_another_users_directory_is_kept(base: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = abandoned(base, NEVER_A_PID)
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
    listen(stack)

    assert directory.exists()


def test_a_link_is_not_followed(base: Path, stack: ExitStack) -> None:
    target = base / "target"
    target.mkdir()
    (target / "file").touch()
    (base / f"pixir-{NEVER_A_PID}-link").symlink_to(target)
    listen(stack)

    assert (target / "file").exists()


def test_the_peer_of_a_socket_pair_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = os.geteuid()
    left, right = socket.socketpair()
    with left, right:
        assert local.peer_is_ours(left)
        monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
        assert not local.peer_is_ours(left)
