"""A request whose connection is known and whose channel is up: over the channel, without a word to an actor."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pixir_actors import Client, Data, StreamError
from pixir_actors.dispatch.placement import Placement
from pixir_actors.dispatch.questions import Questions
from pixir_actors.simulator import Reply, Simulator, TurnContext
from tests.conftest import until, within
from tests.scenarios.caller import Caller, texts, user
from tests.scenarios.conftest import plain_thespian

Talk = Callable[..., Caller]

RESTLESS = """
from pixir_actors.actors import outbox
outbox.UNUSED, outbox.CHANNEL_SWEEP = 0.0, 0.005
"""
"""Connections that close a channel as soon as nobody waits at it; they are forks of who starts the system."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What actors were asked by message, by type."""
    counter: Counter[str] = Counter()
    ask = Questions.ask

    def counted(questions: Questions, address: Any, question: Any, **options: Any) -> Any:
        counter[type(question).__name__] += 1
        return ask(questions, address, question, **options)

    monkeypatch.setattr(Questions, "ask", counted)
    return counter


@pytest.fixture
def crossed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each request that went over a channel which ended before the connection had taken it."""
    found: list[bool] = []
    untouched = Placement.untouched

    def noted(placement: Placement) -> bool:
        was = untouched(placement)
        if was:
            found.append(was)
        return was

    monkeypatch.setattr(Placement, "untouched", noted)
    return found


def test_a_warm_turn_asks_no_actor(talk_embedded: Talk, sim: Simulator, asked: Counter[str]) -> None:
    caller = talk_embedded(sim)
    caller.say("cold")
    assert asked["Submit"] == 1
    asked.clear()

    for text in ("one", "two", "three"):
        assert caller.say(text).reason is None

    assert asked == {}
    assert [texts(received.payload["input"]) for received in sim.requests[1:]] == [["one"], ["two"], ["three"]]


def test_nor_does_a_cancel_and_it_is_heard_before_the_next_request(
    talk_embedded: Talk, simulated: Callable[..., Simulator], asked: Counter[str]
) -> None:
    release = threading.Event()
    try:
        sim = simulated([Reply.text("warm"), Reply.text("a b").held(release)])
        caller = talk_embedded(sim)
        caller.history = [user("first")]
        caller.send()
        asked.clear()
        with caller.stream([user("second")]):
            sim.wait_for(lambda seen: len(seen.requests) == 2, within(5))
        answer = caller.send([user("third")])
    finally:
        release.set()

    assert asked == {}
    assert answer.reason == "cancelled"


def test_a_request_of_many_megabytes_goes_over_the_channel(
    talk_embedded: Talk, sim: Simulator, asked: Counter[str]
) -> None:
    caller = talk_embedded(sim)
    caller.say("cold")
    asked.clear()
    large = "x" * 14_500_000
    caller.send([user(large)])
    caller.send([user("again")])

    assert asked == {}
    assert [texts(received.payload["input"])[0] == large for received in sim.requests] == [False, True, False]


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with plain_thespian(tmp_path_factory.mktemp("restless"), RESTLESS) as system:
        client = Client.over(system)
        yield client
        client.close()


def test_a_goodbye_that_crosses_requests_loses_none_and_has_none_run_twice(
    restless: Client, calling: Callable[..., Caller], sim: Simulator, crossed: list[bool]
) -> None:
    """Four threads on two keys, so that a channel goes while another thread has the next one opened."""
    callers = [calling(restless, sim, f"key {number}") for number in range(2)]
    end = time.monotonic() + within(30)

    def talk(thread: int) -> list[str]:
        said, caller = [], callers[thread % 2]
        while len(said) < 15 or (len(crossed) < 5 and time.monotonic() < end):
            text = f"{thread}-{len(said)}"
            with caller.stream([user(text)]) as stream:
                for _ in stream:
                    pass
            assert stream.text == f"You said: {text}"
            said.append(text)
            # The connection looks for idle channels every few milliseconds; this comes at any moment of that.
            time.sleep(0.001 * (len(said) % 13))
        return said

    with ThreadPoolExecutor(4) as threads:
        said = [text for mine in threads.map(talk, range(4)) for text in mine]

    assert len(crossed) >= 5, "no goodbye crossed a request: this shows nothing"
    assert Counter(texts(received.payload["input"])[0] for received in sim.requests) == Counter(said)


def test_a_channel_that_ends_while_idle_costs_no_error_and_no_socket(
    restless: Client, calling: Callable[..., Caller], sim: Simulator
) -> None:
    caller = calling(restless, sim)
    lost: list[str] = []
    restless._link._listener.on_lost = lost.append  # type: ignore[attr-defined]
    for number in range(3):
        before = len(lost)
        assert caller.say(f"{number}").reason == (None if number else "no_previous_response")
        assert until(lambda before=before: len(lost) > before)

    assert len(sim.handshakes) == 1


def test_a_connection_that_is_closed_under_a_loop_of_requests_has_none_run_twice(
    talk_embedded: Talk, sim: Simulator
) -> None:
    """Requests cross the end of their connection, each in another moment of it."""
    caller = talk_embedded(sim)
    said: list[str] = []
    done = threading.Event()

    def close() -> None:
        while not done.wait(0.05):
            caller.client.close(caller.key)

    closing = threading.Thread(target=close)
    closing.start()
    try:
        for number in range(40):
            text = f"request {number}"
            try:
                with caller.stream([user(text)]) as stream:
                    for _ in stream:
                        pass
            except StreamError as error:
                if error.delivery == "not_sent":
                    continue
            said.append(text)
    finally:
        done.set()
        closing.join()

    seen = Counter(texts(received.payload["input"])[0] for received in sim.requests)
    assert set(seen.values()) == {1}
    assert set(seen) <= set(said), "what was said not to be sent was sent"


def test_a_waiting_request_that_was_cancelled_in_time_is_never_begun() -> None:
    released = threading.Event()

    def reply(turn: TurnContext) -> Reply:
        return Reply.text("ran").held(released, "terminal") if turn.text == "running" else Reply.text("quick")

    with Simulator(reply) as sim, Client.embedded() as client:
        caller = Caller(client, sim, "k")
        caller.say("cold")
        running = client.stream(caller.key, caller.request([*caller.history, user("running")]))
        next(event for event in running if isinstance(event, Data))
        waiting = client.stream(caller.key, caller.request([*caller.history, user("waiting")]))
        assert until(lambda: client.status(caller.key)[0].queue_length == 1)
        # The connection wakes up to both at once: the cancel, and the end of the turn ahead, which came after it.
        pid = client.status(caller.key)[0].pid
        os.kill(pid, signal.SIGSTOP)
        waiting.cancel()
        released.set()
        assert until(lambda: sim.turns[-1].status == "completed")
        os.kill(pid, signal.SIGCONT)
        for _ in running:
            pass

        assert running.response is not None
        assert client.respond(caller.key, caller.request([*caller.history, user("after")]))
        assert ["waiting" in str(request.payload["input"]) for request in sim.requests] == [False] * 3
        assert len(sim.handshakes) == 1
