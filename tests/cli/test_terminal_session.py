"""A person's session: start, status --watch, stream and stop, each in a terminal, and what its screen shows."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pixir_actors.simulator import Reply, Simulator, TurnContext
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import find
from tests.cli.screen import CTRL_C, CTRL_D, Terminal
from tests.conftest import until, within

pytestmark = pytest.mark.processes


@pytest.fixture
def go() -> threading.Event:
    """Lets answers that wait go on."""
    return threading.Event()


@pytest.fixture
def sim(go: threading.Event) -> Iterator[Simulator]:
    """Echoes; what begins with "wait" is answered up to its first words, and then only when `go` is set."""

    def answer(turn: TurnContext) -> Reply:
        reply = Reply.text(f"You said: {turn.text}")
        return reply.held(go, "terminal") if turn.text.startswith("wait") else reply

    with Simulator(answer) as simulator:
        yield simulator
        go.set()


@pytest.fixture
def open_terminal(home: Path, sim: Simulator) -> Iterator[Callable[..., Terminal]]:
    """Open terminals; an admin that is left at the end is ended."""
    environment = dict(os.environ) | {"PIXIR_ACTORS_BASE_URL": sim.base_url, "PIXIR_ACTORS_MODEL": "gpt-sim"}
    with ExitStack() as terminals:
        yield lambda **size: terminals.enter_context(Terminal(environment, **size))
        runtime = find(Places.of(os.environ))
        if runtime is not None:
            with suppress(ProcessLookupError):
                os.kill(runtime.pid, signal.SIGKILL)
            until(lambda: not runtime.alive())


def test_a_session(open_terminal: Callable[..., Terminal], home: Path, go: threading.Event) -> None:
    talk = str(home / "talk.json")
    admin, watch, work, other = (open_terminal() for _ in range(4))

    admin.start("start")
    admin.shows("the admin is running: pid ", "log: stderr; Ctrl-C ends it")
    watch.start("status", "--watch", "0.1")
    watch.shows("0 connections", "no connections yet", "Ctrl-C ends this")

    assert work.run("stream", "session-1", "one", "--conversation", talk, "--evidence") == 0
    assert work.rows[0] == "You said: one"
    assert re.fullmatch(r"full \(no_previous_response\): (\d+) of \1 bytes sent, socket open for .*", work.rows[1])
    assert work.run("stream", "session-1", "two", "--conversation", talk, "--evidence") == 0
    assert work.rows[1].startswith("delta: ")
    watch.shows("1 connection ", "KEY", "STATE", "DELTA", "SAVED", "idle", "gpt-sim", " 50% ")

    other.start("stream", "session-2")
    other.shows("type the message")
    other.type(b"wait for it\n" + CTRL_D)
    other.shows("You said: wait for it")
    watch.shows("2 connections", "streaming")
    assert watch.rows[2].split()[1] == "streaming"  # what runs comes first

    work.start("stop")
    work.shows("waiting for 1 running turn")
    watch.shows("draining")
    go.set()
    assert other.ends() == 0
    assert work.ends() == 0
    assert re.fullmatch(r"the admin \(pid \d+\) has ended", work.rows[-1])
    assert admin.ends() == 0
    watch.shows("no admin is running: waiting for one")

    assert work.run("start", "--detach") == 0
    watch.shows("the admin was restarted at ", "no connections yet")
    watch.type(CTRL_C)
    assert watch.ends() == 0
    assert "Ctrl-C ends this" not in watch.rows[-1]
    assert watch.raw.endswith(b"\n") and b"\x1b[?25h" in watch.raw  # the cursor is back
    assert work.run("stop") == 0
    assert work.run("status") == 3
    work.shows("start it with `pixir-actors start --detach`")


def test_ctrl_c_cancels_a_stream_and_ends_an_admin(open_terminal: Callable[..., Terminal], sim: Simulator) -> None:
    admin, work = open_terminal(), open_terminal()
    admin.start("start", "--drain-timeout", "5")
    admin.shows("the admin is running")

    work.start("stream", "session-1", "wait")
    work.shows("You said: wait")
    work.type(CTRL_C)
    assert work.ends() == 130
    work.shows("cancelled")
    assert "Traceback" not in "\n".join(work.rows)
    sim.wait_for(lambda sim: sim.open_connections == 0, within(20))

    assert work.run("start") == 1
    work.shows("an admin is running already: pid ")
    admin.type(CTRL_C)
    assert admin.ends() == 0
    assert "Traceback" not in "\n".join(admin.rows)


def test_a_narrow_terminal_gets_what_fits(open_terminal: Callable[..., Terminal]) -> None:
    wide, narrow = open_terminal(columns=120), open_terminal(columns=60, lines=8)
    assert wide.run("start", "--detach") == 0
    for number in range(6):
        assert wide.run("stream", f"session-{number}", "hello") == 0
    assert wide.run("status") == 0
    assert "LAST RESET" in wide.rows[1] and len(wide.rows) == 8
    narrow.start("status", "--watch")
    narrow.shows("6 connections", "KEY", "SAVED", "more connections", "Ctrl-C ends this")
    assert max(map(len, narrow.rows)) <= 60
    narrow.type(CTRL_C)
    assert narrow.ends() == 0
    assert wide.run("stop") == 0
