"""The runtime file and the lock: what is found, what is stale, and that only one starts."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pixir_actors.errors import AdminAlreadyRunning, SystemStartFailed
from pixir_actors.system import runtime as module
from pixir_actors.system.places import Places
from pixir_actors.system.processes import start_time
from pixir_actors.system.runtime import Runtime, StartLock, boot_id, find, publish, running, where, withdraw
from tests.conftest import is_running, until, within

ROOT = Path(__file__).parents[2]

HOLDER = """
import os, sys
from pixir_actors.errors import AdminAlreadyRunning
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import StartLock
try:
    with StartLock(Places.of(os.environ), patience=float(sys.argv[1])):
        print("got it", flush=True)
        sys.stdin.read()
except AdminAlreadyRunning:
    print("another", flush=True)
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of({"HOME": str(tmp_path), "PIXIR_ACTORS_RUNTIME_DIR": str(tmp_path / "run")})


def of(pid: int, **other: object) -> Runtime:
    """Return the runtime of an admin that is this process."""
    born = start_time(pid)
    assert born is not None
    runtime = Runtime(
        pid=pid, born=born, boot_id=boot_id(), port=4711, system_id="system", proof="proof", version="1", thespian="4",
        started_at=1_700_000_000.5, log=None,
    )  # fmt: skip
    return replace(runtime, **other)


@pytest.fixture
def me() -> Runtime:
    return of(os.getpid())


def held(places: Places, patience: float = 10.0) -> subprocess.Popen[str]:
    """Return a process that asks for the lock, and prints whether it got it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(patience)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PIXIR_ACTORS_RUNTIME_DIR": str(places.runtime_dir)},
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# The file.


def test_what_is_published_is_found_by_its_own_user_alone(places: Places, me: Runtime) -> None:
    assert find(places) is None

    publish(places, me)

    assert find(places) == me
    assert places.runtime_file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(places.runtime_dir) == ["admin.json"]


def test_an_admin_that_has_a_log_file_says_so(places: Places, me: Runtime) -> None:
    publish(places, replace(me, log="/var/log/admin.log"))

    found = find(places)
    assert found is not None
    assert found.log == "/var/log/admin.log"


def test_publishing_again_replaces_the_file_whole(places: Places, me: Runtime) -> None:
    publish(places, replace(me, version="long" * 1000))
    with places.runtime_file.open() as old:
        publish(places, me)

        assert json.load(old)["version"] == "long" * 1000, "the file was written over while it was read"
    assert find(places) == me


def test_what_a_killed_process_left_half_written_is_in_nobodys_way(places: Places, me: Runtime) -> None:
    publish(places, me)
    (places.runtime_dir / f".admin.json.{os.getpid()}").write_text("half")

    publish(places, me)

    assert os.listdir(places.runtime_dir) == ["admin.json"]


def test_withdrawing_removes_the_file_and_may_be_repeated(places: Places, me: Runtime) -> None:
    publish(places, me)
    withdraw(places)
    withdraw(places)

    assert find(places) is None
    assert not places.runtime_file.exists()


def test_another_admin_that_runs_is_not_withdrawn_but_a_dead_one_is(places: Places) -> None:
    publish(places, of(os.getppid()))
    withdraw(places)
    assert find(places) is not None

    publish(places, replace(of(os.getppid()), born=1))
    withdraw(places)
    assert not places.runtime_file.exists()


@pytest.mark.parametrize("change", [{"born": 1}, {"boot_id": "another"}, {"pid": 1 << 22}, {"pid": 0}, {"pid": -1}])
def test_an_admin_of_another_time_is_stale(places: Places, me: Runtime, change: dict[str, object]) -> None:
    publish(places, replace(me, **change))

    assert find(places) is None
    assert running(places) == []


def test_a_dead_process_is_stale_also_before_its_parent_has_collected_it(places: Places) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        publish(places, of(child.pid))
        assert find(places) is not None

        child.kill()
        assert until(lambda: not is_running(child.pid))
        assert Path(f"/proc/{child.pid}").exists()
        assert find(places) is None


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b"\xff\xfe",
    b"[" * 60_000,
    b'{"pid": 1}',
    b'{"pid": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: repr(text[:12]))
def test_a_broken_file_is_stale(places: Places, me: Runtime, text: bytes) -> None:
    publish(places, me)
    places.runtime_file.write_bytes(text)

    assert find(places) is None
    assert running(places) == []


@pytest.mark.parametrize("name", Runtime.__slots__)
@pytest.mark.parametrize("value", [True, [], 1e400, -1.5])
def test_a_file_with_a_wrong_field_is_stale(places: Places, me: Runtime, name: str, value: object) -> None:
    publish(places, me)
    places.runtime_file.write_text(json.dumps(asdict(me) | {name: value}))

    assert find(places) is None


def test_a_later_version_may_say_more(places: Places, me: Runtime) -> None:
    publish(places, me)
    places.runtime_file.write_text(json.dumps(asdict(me) | {"more": 1}))

    assert find(places) == me


def test_a_file_that_is_not_ours_is_not_believed(places: Places, me: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(places, me)
    places.runtime_file.chmod(0o622)
    assert find(places) is None

    places.runtime_file.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr("os.geteuid", lambda: os.getuid() + 1)
        assert find(places) is None

    places.runtime_file.rename(places.runtime_dir / "elsewhere")
    places.runtime_file.symlink_to(places.runtime_dir / "elsewhere")
    assert find(places) is None


def test_a_directory_or_a_fifo_in_the_files_place_is_stale(places: Places) -> None:
    places.runtime_file.mkdir(parents=True)
    assert find(places) is None

    places.runtime_file.rmdir()
    os.mkfifo(places.runtime_file)
    assert find(places) is None


def test_all_that_run_are_listed_by_port(places: Places, me: Runtime) -> None:
    publish(places, me)
    publish(replace(places, port=9), replace(me, port=9))
    publish(replace(places, port=8), replace(me, port=8, born=1))
    (places.runtime_dir / "admin.lock").touch()
    (places.runtime_dir / "other.json").write_text(json.dumps(asdict(me)))

    assert [runtime.port for runtime in running(places)] == [9, 4711]


@pytest.mark.parametrize("call", ["os.open", "json.dump", "pathlib.Path.rename"])
@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space is left"), (errno.EROFS, "read-only")])
def test_a_file_that_cannot_be_written_says_what_to_do(
    places: Places, me: Runtime, call: str, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(call, failing(number))
        with pytest.raises(SystemStartFailed) as caught:
            publish(places, me)

    assert f"the runtime file {places.runtime_file} cannot be written: " in str(caught.value)
    assert words in str(caught.value)
    assert "set PIXIR_ACTORS_RUNTIME_DIR to" in str(caught.value)
    assert os.listdir(places.runtime_dir) == []


def failing(number: int) -> Callable[..., None]:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_nothing_is_published_in_a_directory_of_others(places: Places, me: Runtime) -> None:
    places.runtime_dir.mkdir()
    places.runtime_dir.chmod(0o777)

    with pytest.raises(SystemStartFailed, match="others can write in it"):
        publish(places, me)


# The lock.


def test_a_second_start_learns_where_the_first_runs(places: Places) -> None:
    with held(places) as first:
        assert said(first) == "got it"
        runtime = of(first.pid)
        publish(places, runtime)

        with pytest.raises(AdminAlreadyRunning) as caught, StartLock(places):
            pytest.fail("two have the lock")
        first.communicate("")

    assert str(caught.value) == f"an admin is running already: {where(runtime)}"
    assert f"pid {first.pid}, port 4711, started 2023-11-1" in str(caught.value)


def test_a_second_start_waits_until_the_first_has_said_where_it_is(places: Places) -> None:
    with held(places) as first:
        assert said(first) == "got it"
        soon = threading.Timer(0.2, publish, [places, of(first.pid)])
        soon.start()

        with pytest.raises(AdminAlreadyRunning, match=f"pid {first.pid}, port 4711"), StartLock(places):
            pytest.fail("two have the lock")
        soon.join()
        first.communicate("")


def test_one_that_says_nothing_is_named_when_patience_ends(places: Places) -> None:
    with held(places) as first:
        assert said(first) == "got it"

        with pytest.raises(AdminAlreadyRunning, match=f"starting or ending .process {first.pid} holds .*admin.lock"):
            StartLock(places, patience=0.05).__enter__()
        first.communicate("")


def test_a_start_waits_for_one_that_is_about_to_end(places: Places) -> None:
    with held(places) as first:
        assert said(first) == "got it"
        assert first.stdin is not None
        threading.Timer(0.2, first.stdin.close).start()

        with StartLock(places, patience=within(10)):
            pass


def test_the_lock_of_a_killed_process_is_free_at_once(places: Places) -> None:
    with held(places) as first:
        assert said(first) == "got it"
        publish(places, of(first.pid))
        first.kill()
        first.wait()

        with StartLock(places, patience=0):
            assert find(places) is None


def test_of_six_that_start_at_once_exactly_one_gets_the_lock(places: Places) -> None:
    processes = [held(places, patience=0.3) for _ in range(6)]
    words = sorted(map(said, processes))
    for process in processes:
        process.communicate("")

    assert words == ["another"] * 5 + ["got it"]


def test_the_lock_can_be_taken_again_and_is_not_given_to_a_program(places: Places) -> None:
    program = [sys.executable, "-c", "print('up', flush=True); input()"]
    with StartLock(places) as lock:
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False) as child:
            assert said(child) == "up"
            lock.release()
            lock.release()
            with StartLock(places, patience=0):
                assert places.lock_file.stat().st_mode & 0o777 == 0o600
            child.communicate("\n")


def test_the_locks_of_two_ports_are_two(places: Places) -> None:
    with StartLock(places), StartLock(replace(places, port=7), patience=0):
        pass


def test_a_lock_that_cannot_be_made_says_what_to_do(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for call, words in (("os.open", "cannot be made"), ("fcntl.flock", "takes no locks")):
        with monkeypatch.context() as patch:
            patch.setattr(call, failing(errno.EROFS))
            with pytest.raises(SystemStartFailed, match=f"{words}: .*read-only.*PIXIR_ACTORS_RUNTIME_DIR"):
                StartLock(places).__enter__()


def test_a_full_disk_does_not_take_the_lock_away(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.pwrite", failing(errno.ENOSPC))

    with StartLock(places), pytest.raises(AdminAlreadyRunning, match=r"\(a process holds"):
        StartLock(places, patience=0).__enter__()


def test_where_there_is_no_boot_id_none_is_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, me: Runtime) -> None:
    monkeypatch.setattr(module, "BOOT_ID", tmp_path / "none")

    assert boot_id() == ""
    assert not me.alive()
    assert replace(me, boot_id="").alive()


def test_a_lock_whose_file_was_removed_is_taken_anew(places: Places) -> None:
    with StartLock(places) as lock:
        places.lock_file.unlink()
        assert lock.keep()
        with pytest.raises(AdminAlreadyRunning), StartLock(places, patience=0.0):
            pass
        assert lock.keep()
    with StartLock(places, patience=0.0):
        pass


def test_a_lock_that_somebody_else_took_meanwhile_is_lost(places: Places) -> None:
    with StartLock(places) as lock:
        places.lock_file.unlink()
        with StartLock(places):
            assert not lock.keep()
        assert lock.keep()


def test_keeping_a_lock_makes_its_file_look_used(places: Places) -> None:
    with StartLock(places) as lock:
        os.utime(places.lock_file, (0, 0))
        assert lock.keep()
        assert places.lock_file.stat().st_mtime > 0
    assert not lock.keep()
