"""Actor systems to try, and host programs to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pixir_actors.system.embedded import EmbeddedSystem
from tests.conftest import within
from tests.system.actors import Helper

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, signal, sys, time
from pixir_actors.system.embedded import EmbeddedSystem
from tests.system.actors import Helper
def ready(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write: a fork may be writing, too
def helper_of(system):
    helper = system.actor_system.createActor(Helper)
    return helper, system.actor_system.ask(helper, ("pid",), 20)
"""


@pytest.fixture(scope="module")
def system() -> Iterator[EmbeddedSystem]:
    with EmbeddedSystem.start(start_timeout=within(20)) as running:
        yield running


@pytest.fixture(scope="module")
def helper(system: EmbeddedSystem):
    """An actor of the system, as an address."""
    return system.actor_system.createActor(Helper)


@pytest.fixture
def ask(system: EmbeddedSystem, helper) -> Iterator[Callable[..., object]]:
    """Ask the helper over an endpoint of the test's own."""
    with system.actor_system.private() as endpoint:
        yield lambda *message: endpoint.ask(helper, message, within(10))


@pytest.fixture
def run_host(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program that embeds an actor system; whatever it starts is ended with the test."""
    hosts: list[subprocess.Popen[str]] = []

    def run(script: str, **variables: str) -> subprocess.Popen[str]:
        environment = {"THESPLOG_FILE_MAXSIZE": "0", **os.environ, "PYTHONPATH": str(ROOT), **variables}
        host = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        hosts.append(host)
        return host

    yield run
    for host in hosts:
        with suppress(ProcessLookupError):
            os.kill(host.pid, signal.SIGKILL)
        with host:
            pass


def numbers(host: subprocess.Popen[str]) -> list[int]:
    """Read the next line that a host prints: pids or ports."""
    assert host.stdout is not None
    return [int(word) for word in host.stdout.readline().split()]


def listeners(pids: list[int]) -> dict[tuple[str, int], set[int]]:
    """Return address and port of every listening TCP socket that one of the processes holds, with its holders."""
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                listening[f"socket:[{fields[9]}]"] = (address, int(port, 16))
    found: dict[tuple[str, int], set[int]] = {}
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                place = listening.get(os.readlink(fd))
                if place is not None:
                    found.setdefault(place, set()).add(pid)
    return found
