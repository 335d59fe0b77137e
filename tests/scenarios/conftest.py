"""Actor systems on each base, a simulator for each test, and callers whose connections end with their test."""

from __future__ import annotations

import gc
import logging
import os
import socket
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorSystem
from thespian.system import utilis

from pixir_actors import AsyncClient, Client
from pixir_actors.simulator import Simulator
from tests.conftest import until, within
from tests.looped import looped
from tests.scenarios.caller import Caller

ROOT = Path(__file__).parents[2]
BASES = ("on_threads", "on_a_loop", "over", "local")
START_PLAIN_SYSTEM = """
import sys
from thespian.actors import ActorSystem
ActorSystem("multiprocTCPBase", {"Admin Port": int(sys.argv[1])}, transientUnique=True)
"""
"""A program of its own: an admin is a fork of who starts it, and would keep the descriptors of pytest's capture open."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let plain Thespian leave its sockets to the garbage collector, whose time may come in any test."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))


@pytest.fixture(scope="package")
def on_threads() -> Iterator[Client]:
    """An embedded client."""
    with Client.embedded() as client:
        yield client


@pytest.fixture(scope="package")
def on_a_loop() -> Iterator[Client]:
    """An embedded `AsyncClient`, used as a `Client`."""
    with looped(AsyncClient.embedded()) as client:
        yield client


@contextmanager
def plain_thespian(directory: Path, prelude: str = "") -> Iterator[Any]:
    """An actor system as a host app runs one: plain Thespian, joined by this process.

    Args:
        directory: Where it runs.
        prelude: What its program does first.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"THESPLOG_FILE_MAXSIZE": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", prelude + START_PLAIN_SYSTEM, str(port)],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
        timeout=within(30),
    )
    settings = utilis._thesplog_control_settings
    utilis.thesplog_control(logging.CRITICAL, False, 0)
    system = ActorSystem("multiprocTCPBase", {"Admin Port": port}, transientUnique=True)
    try:
        yield system
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            system.shutdown()
            gc.collect()
        utilis.thesplog_control(*settings)


@pytest.fixture(scope="package")
def plain_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with plain_thespian(tmp_path_factory.mktemp("plain")) as system:
        yield system


@pytest.fixture(scope="package")
def over(plain_system: Any) -> Iterator[Client]:
    client = Client.over(plain_system)
    yield client
    client.close()


@pytest.fixture
def local() -> Iterator[Client]:
    with Client.local() as client:
        yield client


@pytest.fixture(params=["on_threads", "on_a_loop"])
def embedded(request: pytest.FixtureRequest) -> Client:
    """A client with an actor system of its own, the plain one and the async one."""
    client: Client = request.getfixturevalue(request.param)
    return client


@pytest.fixture(params=BASES)
def client(request: pytest.FixtureRequest) -> Client:
    """A client on each of the bases; a test that only makes sense on one asks for that one."""
    client: Client = request.getfixturevalue(request.param)
    return client


@pytest.fixture
def simulated() -> Iterator[Callable[..., Simulator]]:
    """Start a simulator; as it ends it must have seen no second request before the first had ended."""
    running: list[Simulator] = []
    with ExitStack() as stack:

        def start(script: Any = None, **options: Any) -> Simulator:
            sim = stack.enter_context(Simulator(script, **options))
            running.append(sim)
            return sim

        yield start
        assert not any(sim.overlaps for sim in running), "a request was sent before the one before it had ended"


@pytest.fixture
def sim(simulated: Callable[..., Simulator]) -> Simulator:
    return simulated()


@pytest.fixture
def calling(request: pytest.FixtureRequest) -> Iterator[Callable[..., Caller]]:
    """Make callers, each of a key of its own unless one is given; their connections are closed with the test."""
    used: list[Caller] = []

    def make(client: Client, sim: Simulator, key: Any = None, **options: Any) -> Caller:
        caller = Caller(client, sim, uuid.uuid4().hex if key is None else key, options=options)
        used.append(caller)
        return caller

    yield make
    for caller in used:
        caller.client.close(caller.key)


@pytest.fixture
def talk(client: Client, calling: Callable[..., Caller]) -> Callable[..., Caller]:
    """Make callers on each of the bases."""
    return partial(calling, client)


@pytest.fixture
def talk_embedded(embedded: Client, calling: Callable[..., Caller]) -> Callable[..., Caller]:
    """Make callers on an embedded system: for what happens while nobody waits, and with threads."""
    return partial(calling, embedded)


def gone(client: Client, key: Any) -> bool:
    """Say whether a key has come to have no connection."""
    return until(lambda: client.status(key) == [], 10)
