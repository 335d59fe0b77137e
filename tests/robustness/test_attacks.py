"""A stranger's program against every port of a running system: nothing executes, nothing ends, the streams go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from pixir_actors import Client, Settings
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.simulator import Reply, Simulator
from tests.conftest import until, within
from tests.robustness.conftest import ROOT, ask
from tests.system.conftest import listeners

WORDS = "word " * 100
LOOPBACK = "0100007F"
MORE_MEMORY = 8 * 1024
"""KB that a process may grow by while strangers stuff it: a fraction of what they send."""


def pids(client: Client) -> list[int]:
    assert isinstance(client._link, EmbeddedLink)
    return client._link.pids()


class Stranger:
    """The stranger's program, at work. What it opens stays open until it is left.

    Args:
        marker: A file that appears when anything is executed that it sends.
        ports: Where it sends it.
        deaf_ports: Where it sends it as well, and does not wait.
    """

    def __init__(self, marker: Path, ports: Iterable[int], deaf_ports: Iterable[int]) -> None:
        lists = (",".join(map(str, each)) for each in (ports, deaf_ports))
        command = [sys.executable, "-m", "tests.robustness.attacker", str(marker), *lists]
        self._program = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def refused(self) -> int:
        """Wait until it has sent what has to be refused; return how many frames those were for each port."""
        return int(self._said())

    def go_on(self) -> None:
        """Have it send beginnings, and wait until it has."""
        assert self._program.stdin is not None
        self._program.stdin.write("\n")
        self._program.stdin.flush()
        assert self._said() == "done\n"

    def _said(self) -> str:
        assert self._program.stdout is not None
        said = self._program.stdout.readline()
        assert said, "the stranger's program has failed: somebody neither heard nor refused it"
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.communicate()


def memory(pid: int) -> int:
    """Return what a process has of its own, in KB."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))


@contextmanager
def streaming(client: Client, sim: Simulator, keys: list[str]) -> Iterator[Callable[[], int]]:
    """Keep a stream running per key, one turn after another; yield a function that counts the turns that ended well."""
    stop, texts = threading.Event(), []

    def converse(key: str) -> None:
        try:
            while not stop.is_set():
                with client.stream(key, ask(sim, "go on")) as stream:
                    for _ in stream:
                        pass
                texts.append(stream.text)
        except Exception as error:
            texts.append(repr(error))

    threads = [threading.Thread(target=converse, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    try:
        assert until(lambda: len(client.status()) == len(keys), 10)
        yield lambda: texts.count(WORDS)
    finally:
        stop.set()
        for thread in threads:
            thread.join(within(30))
    assert set(texts) == {WORDS}


def slowly(_: object) -> Reply:
    return Reply.text(WORDS, deltas=100).paced(0.005)


def test_strangers_at_every_port_change_nothing_but_the_count(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    with Simulator(slowly) as sim, Client.embedded() as client, streaming(client, sim, ["a", "b"]) as turns:
        system = pids(client)
        ports = {port for _, port in listeners(system)}
        ours = {port for _, port in listeners([os.getpid()])} - {int(sim.base_url.split(":")[2].split("/")[0])}
        assert len(ports) >= 5, "admin, logger, supervisor and two connections listen"
        before, grown = client.system().refusals, {pid: memory(pid) for pid in system}
        with Stranger(marker, ports, ours) as stranger:
            each = stranger.refused()
            assert client.system().refusals == before + each * len(ports)
            stranger.go_on()
            done = turns()
            assert {len(client.status()), client.system().connections} == {2}
            assert client.respond("a new key", ask(sim, "quick"))["status"] == "completed"
            assert until(lambda: turns() >= done + 2, 20), "a stream stands still"
            grown = {pid: memory(pid) - grown[pid] for pid in system}
        assert not marker.exists()
        assert set(system) <= set(pids(client)), "a process has ended"
        assert max(grown.values()) < MORE_MEMORY


def test_no_port_is_open_to_other_hosts(client: Client, sim: Simulator, key: str) -> None:
    client.respond(key, ask(sim, "quick"))

    found = listeners(pids(client))

    assert len(found) >= 4
    assert {address for address, _ in found} == {LOOPBACK}
    listed = subprocess.run(["ss", "-H", "-ltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [line.split()[3] for line in listed if any(f"pid={pid}," in line for pid in pids(client))]
    assert len(mine) >= 4
    assert {place.rpartition(":")[0] for place in mine} == {"127.0.0.1"}


# What other processes of this user could see of a system.


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-environment-8d31")
    monkeypatch.setenv("PIXIR_ACTORS_ANYTHING", "canary-environment-8d31")
    with Client.embedded(settings=Settings()) as client:
        yield client


def test_every_process_is_closed_to_the_curious(guarded: Client, sim: Simulator) -> None:
    guarded.respond("k", ask(sim, "quick"))
    system = pids(guarded)
    assert len(system) >= 5, "guardian, admin, logger, supervisor and connection"
    for pid in system:
        process = Path(f"/proc/{pid}")
        limits = {line[:25].strip(): line[25:].split() for line in (process / "limits").read_text().splitlines()}
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert limits["Max core file size"][:2] == ["0", "0"]
        assert int((process / "coredump_filter").read_text(), 16) == 0, "a core piped to a program would hold memory"
        assert status["Umask"].strip() == "0077"
        assert status["Name"].startswith("pixir-")
        for name in ("environ", "cmdline"):
            assert "canary" not in (process / name).read_bytes().decode(errors="replace")
        assert {os.readlink(process / "fd" / number) for number in "012"} == {os.devnull}
        assert os.readlink(process / "cwd") == "/"
