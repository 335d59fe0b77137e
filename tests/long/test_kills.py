"""The kills in short: a round of each kind that is quick, and what is stopped for ever with less patience."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from pixir_actors import Client, Data, Delivery, ErrorCode, Metadata, StreamError
from pixir_actors.dispatch import call, dispatcher, placement
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.errors import Failure
from pixir_actors.simulator import Simulator
from tests.conftest import is_running, until, within
from tests.long import kills
from tests.long.figures import name_of
from tests.long.kills import Blow, Deed, Kills
from tests.robustness.conftest import ask, parent_of, slowly

BLOWS = (
    Blow(("key",)),
    Blow(("all keys",)),
    Blow(("supervisor",)),
    Blow(("admin",)),
    Blow(("guardian",)),
    Blow(("key",), stop=True, seconds=0.5),
    Blow(("supervisor",), stop=True, seconds=0.5),
)


def short(run: Kills, rounds: int) -> list[Deed]:
    """Return the deeds of a short run."""
    return [*map(kills._system_deed, BLOWS[:rounds]), kills._program_deed(run, "caller killed")]


@pytest.mark.slow
def test_nothing_is_lost_that_a_kill_does_not_take_with_it() -> None:
    tally = kills.kill(rounds=len(BLOWS), seed=5, lanes=3, deeds=short)

    assert not tally.violations, "\n".join(tally.violations)
    assert tally.rounds.total() == len(BLOWS) + 1


# Stopped for ever. The client has less patience here than its constants say, the supervisor has what it always has.


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "PROBE_AFTER", within(0.5))
    for module in (call, placement):
        monkeypatch.setattr(module, "PROBE_TIMEOUT", within(1.5))
    monkeypatch.setattr(placement, "SUBMIT_TIMEOUT", within(1.5))
    monkeypatch.setattr(dispatcher, "SUPERVISOR_PATIENCE", within(1.0))
    monkeypatch.setattr(dispatcher, "ENSURE_TIMEOUT", within(2.5))


@pytest.fixture
def sim() -> Simulator:
    return Simulator(slowly)


def pids(client: Client) -> list[int]:
    assert isinstance(client._link, EmbeddedLink)
    return client._link.pids()


def stopped_mid_stream(client: Client, sim: Simulator, victim: Callable[[], int]) -> tuple[StreamError, StreamError]:
    """Stop a process when a stream has begun and another request waits behind it; return how both ended."""
    with client.stream("k", ask(sim, "go on")) as running, client.stream("k", ask(sim, "quick")) as waiting:
        next(event for event in running if isinstance(event, Data))
        os.kill(victim(), signal.SIGSTOP)
        with ThreadPoolExecutor(2) as pool:
            ends = [pool.submit(_end, stream) for stream in (running, waiting)]
        return ends[0].result(), ends[1].result()


def _end(stream: object) -> StreamError:
    with pytest.raises(StreamError) as ended:
        list(stream)  # type: ignore[call-overload]
    return ended.value


def test_a_connection_that_is_stopped_is_killed_and_its_key_served_anew(sim: Simulator, hasty: None) -> None:
    with sim, Client.embedded() as client:
        client.respond("k", ask(sim, "quick"))
        pid = client.status("k")[0].pid
        running, waiting = stopped_mid_stream(client, sim, lambda: pid)

        assert (running.code, running.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.ACCEPTED)
        assert (waiting.code, waiting.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.NOT_SENT)
        assert until(lambda: not is_running(pid)), "the stopped process is still there"
        with client.stream("k", ask(sim, "quick")) as stream:
            first = next(event for event in stream if isinstance(event, Metadata))
            assert first.values["continuation_reset_reason"] == "connection_crashed"
            assert stream.text or [*stream]
        assert len(sim.requests) == 3


def test_a_request_that_meets_a_stopped_connection_is_brought_to_the_next_one(sim: Simulator, hasty: None) -> None:
    with sim, Client.embedded() as client:
        client.respond("k", ask(sim, "quick"))
        pid = client.status("k")[0].pid
        os.kill(pid, signal.SIGSTOP)

        assert client.respond("k", ask(sim, "quick"))["status"] == "completed"
        assert not is_running(pid)
        assert len(sim.requests) == 2


@pytest.mark.parametrize("victim", ["supervisor", "admin and supervisor"])
def test_a_system_that_is_stopped_is_replaced_by_the_next_request_that_needs_it(
    sim: Simulator, hasty: None, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixir_actors.dispatch.questions.CREATE_TIMEOUT", within(3))
    with sim, Client.embedded() as client:
        client.respond("k", ask(sim, "quick"))
        before = pids(client)
        supervisor = next(pid for pid in before if name_of(pid) == "pixir-superv")
        if victim == "supervisor":
            os.kill(supervisor, signal.SIGSTOP)
        else:
            os.kill(parent_of(supervisor), signal.SIGSTOP)
            os.kill(supervisor, signal.SIGKILL)

        with ThreadPoolExecutor(3) as pool:
            statuses = list(pool.map(lambda key: client.respond(key, ask(sim, "quick"))["status"], ["a", "b", "c"]))
        assert statuses == ["completed"] * 3
        assert until(lambda: not any(map(is_running, before))), "a process of the stopped system is still there"
        assert until(lambda: len(client.status()) == 3)
        assert len({parent_of(status.pid) for status in client.status()}) == 1, "more than one system was started"


def test_a_client_whose_system_is_stopped_is_closed_all_the_same(sim: Simulator) -> None:
    with sim:
        client = Client.embedded()
        client.respond("k", ask(sim, "quick"))
        system = pids(client)
        for pid in system:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < within(12)
        assert until(lambda: not any(map(is_running, system)))


# The run itself


def test_a_verdict_that_does_not_agree_with_what_the_server_saw_is_found(sim: Simulator) -> None:
    with sim, Client.local() as client:
        run = Kills(sim, 0)
        told = run.ask(client, "k", "quick", quick=True)
        assert run.judge() == {"answered, seen": 1}
        assert run.tally.violations == []
        told.error = StreamError(Failure.of(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT))
        run.tally.asked.append(kills.Asked("never sent"))
        run.judge()
    assert len(run.tally.violations) == 2


def test_a_violation_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = kills.Tally()
    monkeypatch.setattr(kills, "kill", lambda **_: tally)
    monkeypatch.setattr(kills, "sandbox", nullcontext)
    assert kills.main(["--rounds", "1", "--seed", "1"]) == 0
    tally.violations.append("something")
    assert kills.main(["--rounds", "1", "--seed", "1"]) == 1
