"""In a fork of its process a client does nothing, and says so in the same words whatever is asked of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pixir_actors import Client
from pixir_actors.errors import PixirError, WrongProcess
from pixir_actors.simulator import Simulator
from tests.conftest import within
from tests.dispatch.fakes import FakeLink

THREADS = """
import os, sys
from pixir_actors import Client, Request
request = Request.responses(model="m", input="hello", base_url=sys.argv[1])
with getattr(Client, sys.argv[2])() as client:
    client.respond("k", request)
    with client.stream("s", request) as stream:
        next(stream)
        pid = os.fork()
        if not pid:
            uses = (lambda: client.respond("k", request), lambda: client.stream("new", request),
                    lambda: client.warm("w", request), client.status, lambda: client.status("k"), client.system,
                    lambda: client.close("k"))
            for use in uses:
                try:
                    use()
                except Exception as error:
                    print(repr(type(error).__name__), error, flush=True)
            sys.exit(0)
        print("the child ended with", os.waitpid(pid, 0)[1], flush=True)
        for event in stream:
            pass
        print("the stream has", bool(stream.text), "and the key", len(client.status("k")), flush=True)
    print("the next", client.respond("k", request)["status"], flush=True)
"""

LOOP = """
import asyncio, os, sys
from pixir_actors import AsyncClient, Request
request = Request.responses(model="m", input="hello", base_url=sys.argv[1])

async def use(client, stream, pid):
    if pid:
        print("the child ended with", os.waitpid(pid, 0)[1], flush=True)
        return
    uses = (lambda: client.respond("k", request), lambda: client.stream("new", request).__aenter__(),
            lambda: client.warm("w", request), client.status, lambda: client.status("k"), client.system,
            lambda: client.close("k"))
    for one in uses:
        try:
            await one()
        except Exception as error:
            print(repr(type(error).__name__), error, flush=True)
    raise SystemExit

async def main():
    async with AsyncClient.embedded() as client:
        await client.respond("k", request)
        async with client.stream("s", request) as stream:
            await anext(stream)
            await use(client, stream, os.fork())
            async for event in stream:
                pass
            print("the stream has", bool(stream.text), "and the key", len(await client.status("k")), flush=True)
        print("the next", (await client.respond("k", request))["status"], flush=True)

async def leave():
    try:
        await main()
    except SystemExit:
        os._exit(0)  # the loop's poller is the parent's as well, and not to be closed

asyncio.run(leave())
"""


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as sim:
        yield sim


@pytest.mark.parametrize(
    ("program", "kind"), [(THREADS, "embedded"), (THREADS, "local"), (LOOP, "")], ids=["embedded", "local", "loop"]
)
def test_a_child_cannot_use_its_parent_s_client_and_leaves_its_blocks_without_a_trace(
    sim: Simulator, program: str, kind: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, sim.base_url, kind], capture_output=True, text=True, timeout=within(60)
    )
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(lines[:7])) == 1, lines
    assert lines[0].startswith("'WrongProcess' this client belongs to process ")
    assert lines[7:] == ["the child ended with 0", "the stream has True and the key 1", "the next completed"]


def test_closing_in_a_fork_closes_nothing() -> None:
    link = FakeLink()
    link.owns_system = True
    client = Client(link)
    child = os.fork()
    if not child:
        client.close()
        os._exit(len(link.asked) + link.closed)

    assert os.waitpid(child, 0) == (child, 0)
    client.close()
    assert link.closed == 1


def test_the_error_is_one_of_ours_and_names_the_process() -> None:
    error = WrongProcess(4711)

    assert isinstance(error, PixirError)
    assert error.pid == 4711
    assert str(error) == (
        "this client belongs to process 4711, and a forked process cannot use it: make a new client after the fork"
    )
