"""A drain of real processes: what runs ends, what is frozen does not hold it up, and no process is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pixir_actors import Client, Data, Delivery, ErrorCode, StreamError
from pixir_actors.actors.messages import ConnectionClosed, StopAll
from pixir_actors.simulator import Reply, Simulator
from tests.conftest import is_running, until, within
from tests.robustness.conftest import ask


@pytest.fixture
def client() -> Iterator[Client]:
    """A system of the test's own: after a drain it serves nobody."""
    with Client.embedded() as embedded:
        yield embedded


def pid_of(client: Client, key: str) -> int:
    assert until(lambda: client.status(key))
    return client.status(key)[0].pid


def drain(client: Client, seconds: float) -> Any:
    """Ask for a drain; return the answer."""
    link = client._link
    return link.ask(link.supervisor(), StopAll(link.number(), within=seconds), timeout=seconds + within(20))


def draining(client: Client, seconds: float) -> tuple[threading.Thread, list[Any]]:
    """Start a drain in a thread; return it and where its answer goes."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(drain(client, seconds)))
    thread.start()
    assert until(lambda: client.system().draining)
    return thread, answers


def test_a_stream_is_read_to_its_end_while_everything_else_is_refused(client: Client, sim: Simulator) -> None:
    client.respond("idle", ask(sim, "quick"))
    idle = pid_of(client, "idle")
    with client.stream("busy", ask(sim, "go on")) as stream:
        next(event for event in stream if isinstance(event, Data))
        busy = pid_of(client, "busy")
        with client.stream("busy", ask(sim, "quick")) as waiting:
            thread, answers = draining(client, 30.0)
            assert until(lambda: not is_running(idle))
            with pytest.raises(StreamError) as refused:
                list(waiting)
        assert (refused.value.code, refused.value.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)
        for key in ("busy", "new", "idle"):
            with pytest.raises(StreamError) as refused:
                client.respond(key, ask(sim, "quick"))
            assert (refused.value.code, refused.value.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)
        list(stream)
        assert stream.text == "word " * 100
        assert stream.response is not None
    thread.join(within(20))

    assert isinstance(answers[0], ConnectionClosed)
    assert until(lambda: not is_running(busy))
    assert client.system().connections == 0
    assert until(lambda: len(sim.closes) == 2)
    assert [(close.code, close.clean, close.by) for close in sim.closes] == [(1000, True, "client")] * 2


def test_a_turn_that_outlasts_the_drain_is_ended_with_its_verdict(client: Client, sim: Simulator) -> None:
    with client.stream("busy", ask(sim, "go on")) as stream:
        next(event for event in stream if isinstance(event, Data))
        thread, answers = draining(client, 0.3)
        with pytest.raises(StreamError) as ended:
            list(stream)
    thread.join(within(20))

    assert (ended.value.code, ended.value.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.ACCEPTED)
    assert answers[0] is not None


def test_frozen_connections_do_not_hold_it_up(client: Client, sim: Simulator) -> None:
    client.respond("a", ask(sim, "quick"))
    client.respond("b", ask(sim, "quick"))
    pids = [pid_of(client, key) for key in "ab"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    answer = drain(client, 0.5)

    assert isinstance(answer, ConnectionClosed)
    assert 0.5 < time.monotonic() - began < within(5)
    assert until(lambda: not any(map(is_running, pids)))


def test_what_a_slow_reader_has_not_read_is_not_lost(client: Client) -> None:
    """More than the kernel holds: the connection ends when the last of it has been read, and not before."""
    text = "word " * 800_000
    with Simulator([Reply.text(text, deltas=200)]) as sim, client.stream("slow", ask(sim, "go on")) as stream:
        next(event for event in stream if isinstance(event, Data))
        thread, answers = draining(client, 60.0)
        assert until(lambda: sim.turns[0].status == "completed", 20)
        assert until(lambda: len(sim.closes) == 1), "the socket goes with the turn"
        assert not answers
        list(stream)
        assert stream.text == text
    thread.join(within(20))

    assert isinstance(answers[0], ConnectionClosed)
