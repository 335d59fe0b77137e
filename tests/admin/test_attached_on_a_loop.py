"""The admin daemon and programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pixir_actors import AsyncClient
from pixir_actors.errors import AdminNotRunning
from pixir_actors.simulator import Simulator
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime
from tests.admin.conftest import ask

pytestmark = pytest.mark.processes


def test_an_async_client_attaches_to_the_daemon_and_leaves_it_running(
    start: Callable[..., Runtime], sim: Simulator, key: str
) -> None:
    async def attached() -> None:
        async with AsyncClient.attach() as client:
            assert client.admin is not None
            assert client.admin.pid == runtime.pid
            assert (await client.respond(key, ask(sim, "hello")))["status"] == "completed"
        async with AsyncClient.attach() as second:
            [status] = await second.status(key)
            assert status.turns == 1

    runtime = start()
    asyncio.run(attached())
    assert runtime.alive()


def test_without_a_daemon_an_async_client_says_how_to_start_one(places: Places) -> None:
    async def attached() -> None:
        with pytest.raises(AdminNotRunning, match="pixir-actors start"):
            async with AsyncClient.attach():
                raise AssertionError

    asyncio.run(attached())


def test_an_async_client_starts_a_daemon_if_it_is_to(places: Places, sim: Simulator, key: str) -> None:
    async def attached() -> None:
        async with AsyncClient.attach(start=True) as client:
            assert (await client.respond(key, ask(sim, "hello")))["status"] == "completed"

    asyncio.run(attached())
