"""However many streams a process has open, one socket listens for their connections and one thread reads them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from pixir_actors import AsyncClient, Client, Data, Request
from pixir_actors.simulator import Reply, Simulator
from tests.conftest import within

STREAMS: Final = 30
ACCEPTS: Final = 0x10000
"""Among the flags of a socket in /proc/net/unix: it listens (__SO_ACCEPTCON)."""


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Until it is set, streams stay open; set at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def holding(released: threading.Event) -> Iterator[Simulator]:
    with Simulator(lambda _: Reply.text("at last").held(released, "terminal")) as sim:
        yield sim
        released.set()


def listeners() -> set[str]:
    """Return the inodes of the listening Unix sockets of this process."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    listening = {f"socket:[{line[6]}]" for line in lines if int(line[3], 16) & ACCEPTS}
    return listening & {link for fd in os.listdir("/proc/self/fd") if (link := target(fd))}


def target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # that of the listing itself
        return ""


def readers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "pixir-channel"}


class OneMore:
    """What there was before, to find that there is one socket and one thread more for all streams."""

    def __init__(self, sim: Simulator) -> None:
        self._sim, self.found = sim, (listeners(), readers())

    def check(self) -> None:
        assert [turn.status for turn in self._sim.turns] == ["in_progress"] * STREAMS, "not all streams are open"
        assert len(self._sim.handshakes) == STREAMS, "streams share a socket to the provider"
        assert len(listeners() - self.found[0]) == 1
        assert len(readers() - self.found[1]) == 1


def request_to(sim: Simulator) -> Request:
    return Request.responses(model="m", input="hello", api_key="token-1", base_url=sim.base_url)


def test_one_socket_and_one_thread_serve_all_streams_of_a_client(holding: Simulator, released: threading.Event) -> None:
    before = OneMore(holding)
    with Client.embedded() as client, ExitStack() as opened:
        keys = [f"key {number}" for number in range(STREAMS)]
        streams = [opened.enter_context(client.stream(key, request_to(holding))) for key in keys]
        for stream in streams:
            next(event for event in stream if isinstance(event, Data))
        before.check()
        released.set()
        for stream in streams:
            deque(stream, maxlen=0)

    assert [stream.text for stream in streams] == ["at last"] * STREAMS
    assert (listeners(), readers()) == before.found


def test_and_all_streams_of_a_client_on_a_loop(holding: Simulator, released: threading.Event) -> None:
    before = OneMore(holding)

    async def text(client: AsyncClient, number: int, all_open: asyncio.Barrier) -> str:
        async with client.stream(f"key {number}", request_to(holding)) as stream:
            await anext(event async for event in stream if isinstance(event, Data))
            if await all_open.wait() == 0:
                before.check()
                released.set()
            async for _ in stream:
                pass
            return stream.text

    async def texts() -> list[str]:
        all_open = asyncio.Barrier(STREAMS)
        async with AsyncClient.embedded() as client, asyncio.timeout(within(60)):
            return await asyncio.gather(*(text(client, number, all_open) for number in range(STREAMS)))

    assert asyncio.run(texts()) == ["at last"] * STREAMS
    assert (listeners(), readers()) == before.found
