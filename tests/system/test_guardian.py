"""The guardian ends with its system, and its system with it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system import guardian
from pixir_actors.system.embedded import EmbeddedSystem, GuardianProcess
from tests.conftest import is_running, until, within
from tests.system.actors import Helper

ROOT = Path(__file__).parents[2]
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
    fields = {"key": "00ff" * 16, "host": 7, "path": [], "port": 0, "log": ["INFO", 5], "ca_file": None}
    config = guardian.Config.of(fields)

    assert config == guardian.Config(key=b"\x00\xff" * 16, host=7, port=0, log=("INFO", 5), ca_file=None)
    assert "ff" not in repr(config)


def test_a_guardian_whose_host_ends_before_it_has_configured_anything_ends() -> None:
    waiting = GuardianProcess(0)
    assert waiting.alive()

    waiting.stop(within(5))

    assert not waiting.alive()


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=within(20))


SHARING = """
import gc, os, sys
from types import SimpleNamespace
from pixir_actors.system import guardian
guardian._import_shared()
ca_file = sys.argv[1] or None
guardian._share_memory(ca_file)
from pixir_actors.transport import tls
kept = [context for _, context in tls._kept.values()]
held = [[] for _ in range(5000)]
child = os.fork()
if child == 0:
    tracked, imports = len(gc.get_objects()), []
    sys.meta_path.insert(0, SimpleNamespace(find_spec=lambda name, *_: imports.append(name)))
    from thespian.system.utilis import setProcName
    setProcName("an actor", None)
    print(tracked < 1000, kept == [tls.client_context(ca_file)], imports, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("named", [True, False])
def test_a_fork_goes_through_nothing_of_its_parents_and_loads_nothing_that_is_there(named: bool, tmp_path: Path) -> None:
    """Neither values that the parent has come to hold since, nor authorities; and it looks for no module."""
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))

    done = run(SHARING, str(ca_file) if named else "")

    assert (done.stdout, done.stderr) == ("True True []\n", "")


def test_authorities_that_cannot_be_loaded_do_not_keep_a_system_from_starting(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        with EmbeddedSystem.start(start_timeout=within(20)) as system:
            assert system.alive()


FIRST_TURN = """
import sys
from pixir_actors.system import guardian
guardian._import_shared()
guardian._share_memory(None)
from benchmarks.asks import MODEL, Ask
from benchmarks.contest import server
from pixir_actors import Client, Request
with server() as url, Client.local() as client:
    known = set(sys.modules)
    client.respond("key", Request(url + "/responses", body={"model": MODEL, "input": Ask().input()}))
    print(sorted(set(sys.modules) - known))
"""


def test_a_connections_first_turn_imports_nothing() -> None:
    done = run(FIRST_TURN)

    assert (done.stdout, done.stderr) == ("[]\n", "")
