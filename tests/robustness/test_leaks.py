"""What is left after use: no descriptor, no thread, no process, no socket, no file."""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pixir_actors import Client, PixirError, Settings, StreamError
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.simulator import FAULTS, Simulator
from tests.conftest import is_running, until, within
from tests.robustness.conftest import ask


def descriptors(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def pids(client: Client) -> list[int]:
    assert isinstance(client._link, EmbeddedLink)
    return client._link.pids()


def test_two_hundred_turns_leave_no_descriptor_behind(client: Client, sim: Simulator, key: str) -> None:
    def turns(count: int, name: str) -> None:
        for number in range(count):
            if number % 5 == 0:
                sim.inject(FAULTS["cut_before_first_event"]())
            try:
                client.respond((name, key), ask(sim, f"quick {number}"), degraded_for=None)
            except StreamError:
                continue

    turns(10, "a")
    here, there = descriptors(), descriptors(client.status(("a", key))[0].pid)
    turns(190, "a")
    assert descriptors() <= here + 2
    assert descriptors(client.status(("a", key))[0].pid) <= there + 2


def test_many_threads_over_one_client_leave_as_many_descriptors_as_few(sim: Simulator) -> None:
    with Client.embedded() as client:

        def turn(number: int) -> str:
            return str(client.respond(("thread", number % 4), ask(sim, f"quick {number}"))["status"])

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(turn, range(64))) == {"completed"}
        before = descriptors()
        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(turn, range(64))) == {"completed"}
        assert descriptors() <= before + 8


def test_closing_a_client_leaves_nothing(sim: Simulator) -> None:
    threads, opened = threading.active_count(), descriptors()
    files = set(Path(tempfile.gettempdir()).iterdir())
    client = Client.embedded()
    client.respond("k", ask(sim, "quick"))
    system = pids(client)
    client.close()
    client.close()
    assert not any(map(is_running, system))
    assert until(lambda: sim.open_connections == 0)
    assert [close.code for close in sim.closes] == [1000], "the socket was not closed with a close frame"
    assert set(Path(tempfile.gettempdir()).iterdir()) == files
    assert until(lambda: threading.active_count() == threads and descriptors() <= opened)


def test_a_closed_client_says_so(sim: Simulator) -> None:
    client = Client.embedded()
    stream = client.stream("k", ask(sim, "go on"))
    next(stream)
    client.close()
    for use in (lambda: list(stream), lambda: client.respond("k", ask(sim, "quick")), lambda: client.status()):
        with pytest.raises(StreamError) as refused:
            use()
        assert refused.value.code == "shutting_down"


def test_a_forked_process_cannot_use_its_parents_client(client: Client, sim: Simulator, key: str) -> None:
    client.respond(key, ask(sim, "quick"))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for use in (lambda: client.respond(key, ask(sim, "quick")), lambda: client.respond("new", ask(sim, "quick"))):
            try:
                use()
            except PixirError as error:
                said.append(str(error))
        os.write(write, pickle.dumps(said))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    assert len(said) == 2
    assert all("process" in text for text in said), said
    assert client.respond(key, ask(sim, "quick", "quick"))["status"] == "completed"


def listening_on(pid: int) -> list[tuple[str, int]]:
    """Return the addresses on which a process listens, from /proc."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}") if os.path.lexists(f"/proc/{pid}/fd/{fd}") else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                host, port = fields[1].split(":")
                found.append((host, int(port, 16)))
    return found


class Bomb:
    """Executes a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_every_listener_is_on_loopback_and_executes_nothing(
    client: Client, sim: Simulator, key: str, tmp_path: Path
) -> None:
    client.respond(key, ask(sim, "quick"))
    marker = tmp_path / "executed"
    bomb = pickle.dumps((None, Bomb(marker)))
    addresses = [address for pid in pids(client) for address in listening_on(pid)]
    assert len(addresses) >= 4, "admin, logger, supervisor and connection listen"
    for host, port in addresses:
        assert host == "0100007F", f"port {port} is reachable from other hosts"
        for data in (b"%d>" % len(bomb) + bomb, b"-5>x", b"99999999999999>x", os.urandom(100), b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=within(5)) as sock:
                sock.sendall(data)
    for number in range(3):
        assert client.respond(key, ask(sim, f"quick {number}"))["status"] == "completed"
    assert not marker.exists()


def test_new_keys_find_room_at_once_though_the_idle_ones_have_not_said_so(sim: Simulator) -> None:
    with Client.embedded(settings=Settings(max_connections=2)) as client:
        for number in range(6):
            assert client.respond(number, ask(sim, "quick"))["status"] == "completed"
        with client.stream(0, ask(sim, "quick")) as stream:
            for _ in stream:
                pass
            assert stream.metadata["continuation_reset_reason"] == "evicted"
