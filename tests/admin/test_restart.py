"""A daemon in the foreground, with less patience than its constants say: what is stuck, or ends again and again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pixir_actors import Client
from pixir_actors.errors import AdminAlreadyRunning
from pixir_actors.simulator import Simulator
from pixir_actors.system.places import Places
from pixir_actors.system.processes import descendants
from pixir_actors.system.runtime import StartLock, find
from tests.admin.conftest import ask
from tests.admin.test_daemon import comm
from tests.conftest import is_running, until, within

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys
from pixir_actors.admin import daemon, heart
from pixir_actors.system.launch import AdminOptions
from pixir_actors.system.places import Places
exec(sys.argv[1])
sys.exit(daemon.run_admin(AdminOptions(places=Places.of(os.environ)), ready=lambda runtime: print("ready", flush=True)))
"""
Foreground = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def foreground(places: Places, environment: dict[str, str]) -> Iterator[Foreground]:
    """Run a daemon after some lines of Python, and return it when it is ready."""
    started: list[subprocess.Popen[str]] = []

    def run(patch: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, patch],
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def supervisors(daemon: subprocess.Popen[str]) -> set[int]:
    return {pid for pid in descendants(daemon.pid) if comm(pid) == "pixir-superv"}


def supervisor_of(daemon: subprocess.Popen[str]) -> int:
    assert until(lambda: supervisors(daemon), 10)
    return next(iter(supervisors(daemon)))


def test_a_system_that_is_stuck_is_replaced(sim: Simulator, places: Places, foreground: Foreground, key: str) -> None:
    daemon = foreground("heart.BEAT_EVERY, heart.BEAT_TIMEOUT = 0.1, 0.5")
    before, system_id = descendants(daemon.pid), find(places).system_id  # type: ignore[union-attr]
    with Client.attach() as client:
        client.respond(key, ask(sim, "hello"))
        supervisor = supervisor_of(daemon)
        os.kill(supervisor, signal.SIGSTOP)
        os.kill(int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGSTOP)

        assert until(lambda: not any(map(is_running, before)), 30)
        assert client.respond(key, ask(sim, "hello"))
        assert find(places).system_id != system_id  # type: ignore[union-attr]
    daemon.terminate()
    said = daemon.communicate(timeout=within(20))[1]
    assert daemon.returncode == 0
    assert "the actor system is started anew: it stopped answering" in said


def test_a_system_that_ends_again_and_again_is_given_up(places: Places, foreground: Foreground) -> None:
    daemon = foreground("daemon.MAX_RESTARTS = 1")
    for _ in range(2):
        old = supervisor_of(daemon)
        os.kill(descendants(daemon.pid)[0], signal.SIGKILL)
        # Until it is the new one: the old one is there for a moment.
        assert until(lambda old=old: daemon.poll() is not None or supervisors(daemon) - {old}, 20)  # type: ignore[misc]
    said = daemon.communicate(timeout=within(20))[1]

    assert daemon.returncode == 1
    assert "the actor system is started anew: it ended" in said
    assert "the actor system is given up: it ended, 2 times within 60 seconds" in said
    assert not places.runtime_file.exists()


def test_what_any_process_of_the_system_logs_comes_out_in_one_place(
    sim: Simulator, foreground: Foreground, key: str
) -> None:
    daemon = foreground("")
    with Client.attach() as client:
        client.respond(key, ask(sim, "hello"))
    daemon.send_signal(signal.SIGINT)
    said = daemon.communicate(timeout=within(20))[1]

    for name in ("pixir_actors.admin", "pixir_actors.supervisor", "pixir_actors.connection"):
        assert name in said
    assert "Traceback" not in said
    assert key not in said


def test_without_a_reader_of_its_log_it_goes_on_serving(sim: Simulator, foreground: Foreground, key: str) -> None:
    daemon = foreground("")
    assert daemon.stderr is not None
    daemon.stderr.close()
    with Client.attach() as client:
        assert client.respond(key, ask(sim, "hello"))
    daemon.terminate()

    assert daemon.wait(within(20)) == 0


def test_a_daemon_whose_runtime_directory_was_removed_is_found_again(places: Places, foreground: Foreground) -> None:
    daemon = foreground("heart.BEAT_EVERY = 0.1")
    shutil.rmtree(places.runtime_dir)

    assert until(lambda: find(places) is not None, 20)
    assert find(places).pid == daemon.pid  # type: ignore[union-attr]
    with pytest.raises(AdminAlreadyRunning), StartLock(places):
        pass
    with Client.attach() as client:
        assert client.system().connections == 0
    daemon.terminate()
    assert "the runtime file was removed, and is written anew" in daemon.communicate(timeout=within(20))[1]
    assert not places.runtime_file.exists()


def test_a_daemon_whose_place_another_has_taken_ends(tmp_path: Path, places: Places, foreground: Foreground) -> None:
    daemon = foreground("heart.BEAT_EVERY = 0.1")
    other = replace(places, runtime_dir=tmp_path / "other")
    with StartLock(other):
        places.runtime_dir.rename(tmp_path / "removed")
        other.runtime_dir.rename(places.runtime_dir)
        assert "another admin has taken this one's place" in daemon.communicate(timeout=within(20))[1]
    assert daemon.returncode == 0
