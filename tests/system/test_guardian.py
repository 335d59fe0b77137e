"""The guardian ends with its system, and its system with it."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system import guardian
from pixir_actors.system.embedded import EmbeddedSystem, GuardianProcess
from tests.conftest import is_running, until, within
from tests.system.actors import Helper

GONE_WITHIN = 2.0


@pytest.fixture
def running() -> Iterator[EmbeddedSystem]:
    with EmbeddedSystem.start(start_timeout=within(20)) as system:
        helper = system.actor_system.createActor(Helper)
        assert system.actor_system.ask(helper, ("child",), within(10))
        yield system


def all_gone(pids: list[int]) -> bool:
    return until(lambda: not any(map(is_running, pids)), GONE_WITHIN)


def test_killing_the_guardian_ends_everything(running: EmbeddedSystem) -> None:
    pids = running.pids()
    assert len(pids) == 5

    os.kill(pids[0], signal.SIGKILL)

    assert all_gone(pids)
    assert not running.alive()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_admin_ends_everything(running: EmbeddedSystem, sent: signal.Signals) -> None:
    """Thespian would leave actors that run on, and a logger that holds the port so that nobody can start again."""
    pids = running.pids()

    os.kill(pids[1], sent)

    assert all_gone(pids)


def test_killing_an_actor_ends_its_children_and_nothing_else(running: EmbeddedSystem) -> None:
    with running.actor_system.private() as endpoint:
        parent = running.actor_system.createActor(Helper)
        pid = endpoint.ask(parent, ("pid",), within(10))
        child = endpoint.ask(parent, ("child",), within(10))
        others = set(running.pids()) - {pid, child}

        os.kill(pid, signal.SIGKILL)

        assert all_gone([pid, child])
        assert set(running.pids()) == others


def test_shutting_the_actor_system_down_ends_the_guardian(running: EmbeddedSystem) -> None:
    pids = running.pids()

    running.actor_system.shutdown()

    assert all_gone(pids)


def test_stopped_processes_are_ended_too(running: EmbeddedSystem) -> None:
    pids = running.pids()
    for pid in pids[1:]:
        os.kill(pid, signal.SIGSTOP)

    running.close()

    assert not any(map(is_running, pids))


def test_a_stopped_guardian_is_killed_when_closing_takes_too_long(running: EmbeddedSystem) -> None:
    pids = running.pids()
    os.kill(pids[0], signal.SIGSTOP)

    running.close(timeout=0.1)

    assert all_gone(pids)


def test_dead_actors_do_not_pile_up(running: EmbeddedSystem) -> None:
    with running.actor_system.private() as endpoint:
        for _ in range(3):
            actor = running.actor_system.createActor(Helper)
            endpoint.tell(actor, ("die",))

    parents = {str(pid) for pid in running.pids()}
    assert until(lambda: not zombies_below(parents))


def zombies_below(parents: set[str]) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state == "Z" and parent in parents:
                found.append(entry.name)
    return found


def test_processes_are_named_and_limited(running: EmbeddedSystem) -> None:
    pid, *others = running.pids()

    assert Path(f"/proc/{pid}/comm").read_text() == "pixir-guardian\n"
    names = [Path(f"/proc/{other}/comm").read_text().strip() for other in others]
    assert names[0] == "pixir-admin"
    assert sorted(set(names[1:])) == ["pixir-actor", "pixir-logger"]
    for other in others:
        soft, hard = resource.prlimit(other, resource.RLIMIT_NOFILE)
        assert soft == min(hard, guardian.MAX_DESCRIPTORS)
        assert resource.prlimit(other, resource.RLIMIT_CORE) == (0, 0)
        assert "Umask:\t0077" in Path(f"/proc/{other}/status").read_text()


def test_nobody_else_is_given_a_port_that_is_reserved() -> None:
    with guardian._reserve_port() as reserved:
        address = reserved.getsockname()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(address)
        with socket.socket() as admin:
            admin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            admin.bind(address)
            admin.listen()


def test_a_port_that_somebody_listens_on_is_named_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "PORT_PATIENCE", 0.0)
    with socket.create_server((guardian.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemStartFailed, match=f"port {port} of 127.0.0.1 cannot be used: Address already in use"):
            guardian._reserve_port(port)


def test_a_configuration_does_not_show_its_key() -> None:
    config = guardian.Config.of({"key": "00ff" * 16, "host": 7, "path": [], "port": 0, "log": ["INFO", 5]})

    assert config == guardian.Config(key=b"\x00\xff" * 16, host=7, port=0, log=("INFO", 5))
    assert "ff" not in repr(config)


def test_a_guardian_whose_host_ends_before_it_has_configured_anything_ends() -> None:
    waiting = GuardianProcess(0)
    assert waiting.alive()

    waiting.stop(within(5))

    assert not waiting.alive()
