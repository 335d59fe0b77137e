"""A log director that was stopped is killed, so that another takes its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from pixir_actors import Client
from pixir_actors.admin.log_director import MISSES, LogDirectorWatch
from pixir_actors.simulator import Simulator
from pixir_actors.system.processes import descendants, is_stopped, name_of
from pixir_actors.system.signed import LOGGER_NAME
from tests.admin.conftest import ask
from tests.admin.test_restart import foreground  # noqa: F401
from tests.conftest import until, within

PROGRAM = """
import sys
from pixir_actors.system.processes import set_process_name
set_process_name(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
Named = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def named() -> Iterator[Named]:
    """Start a process that has a name and does nothing."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    assert until(lambda: is_stopped(pid))


def test_one_that_runs_is_left_alone_and_looked_for_once(named: Named) -> None:
    process = named(LOGGER_NAME)
    asked: list[int] = []
    watch = LogDirectorWatch(lambda: asked.append(1) or [os.getpid(), process.pid])  # type: ignore[func-returns-value]

    assert [watch.look() for _ in range(2 * MISSES)] == [False] * 2 * MISSES
    assert process.poll() is None
    assert asked == [1]


def test_one_that_is_stopped_for_long_is_killed_once(named: Named) -> None:
    process = named(LOGGER_NAME)
    watch = LogDirectorWatch(lambda: [process.pid])
    stop(process.pid)

    assert [watch.look() for _ in range(MISSES)] == [False] * (MISSES - 1) + [True]
    assert process.wait(within(10)) == -signal.SIGKILL
    assert not watch.look()


def test_one_that_was_continued_begins_anew(named: Named) -> None:
    process = named(LOGGER_NAME)
    watch = LogDirectorWatch(lambda: [process.pid])
    for _ in range(2):
        stop(process.pid)
        assert not any(watch.look() for _ in range(MISSES - 1))
        process.send_signal(signal.SIGCONT)
        assert until(lambda: not is_stopped(process.pid))
        assert not watch.look()
    assert process.poll() is None


def test_a_process_of_another_name_is_no_business_of_its(named: Named) -> None:
    process = named("pixir-actor")
    watch = LogDirectorWatch(lambda: [process.pid])
    stop(process.pid)

    assert not any(watch.look() for _ in range(2 * MISSES))
    assert process.poll() is None


@pytest.mark.processes
def test_a_daemon_logs_on_after_its_log_director_was_stopped(
    sim: Simulator, foreground: Callable[[str], subprocess.Popen[str]], key: str  # noqa: F811
) -> None:
    daemon = foreground("heart.BEAT_EVERY = 0.1")

    def directors() -> list[int]:
        return [pid for pid in descendants(daemon.pid) if name_of(pid) == LOGGER_NAME]

    assert until(lambda: len(directors()) == 1, 10)
    before = directors()
    stop(before[0])
    assert until(lambda: len(directors()) == 1 and directors() != before, 20)
    with Client.attach() as client:
        client.respond(key, ask(sim, "hello"))
        client.close(key)
    daemon.terminate()
    said = daemon.communicate(timeout=within(20))[1]

    assert "the log director was stopped, and is started anew" in said
    assert "pixir_actors.connection" in said
