"""Many requests and their ends: queues in order, limits of time and number, cancels, and what folds and collects them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from thespian.actors import ActorSystem

from pixir_actors import Client, Data, Stream, StreamError
from pixir_actors.actors import messages
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.errors import Delivery
from pixir_actors.settings import Settings
from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext
from tests.conftest import until, within
from tests.scenarios.caller import Caller, texts, user

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]


def ended(stream: Stream) -> str:
    """Read a stream to its end and return its text."""
    with stream:
        for _ in stream:
            pass
    return stream.text


def failure_of(stream: Stream) -> StreamError:
    with pytest.raises(StreamError) as caught:
        ended(stream)
    return caught.value


@contextmanager
def first_held(simulated: Simulate) -> Iterator[tuple[Simulator, threading.Event]]:
    """A simulator whose first answer waits, before its first output, for the event; it is set in the end."""
    release = threading.Event()
    try:
        yield simulated([Reply.text("held").held(release)]), release
    finally:
        release.set()


def running(sim: Simulator, count: int = 1) -> None:
    sim.wait_for(lambda seen: len(seen.requests) >= count, within(5))


# Queues


def test_requests_of_one_key_are_answered_in_the_order_in_which_they_were_submitted(
    talk_embedded: Talk, simulated: Simulate
) -> None:
    names = [f"request {number}" for number in range(8)]
    with first_held(simulated) as (sim, release):
        caller = talk_embedded(sim)
        streams = [caller.stream([user(name)]) for name in names]
        with ThreadPoolExecutor(len(streams)) as threads:
            # Read by as many threads, the last one first.
            answers = [threads.submit(ended, stream) for stream in reversed(streams)]
            running(sim)
            release.set()
            said = [answer.result(within(20)) for answer in reversed(answers)]

    assert said == ["held", *(f"You said: {name}" for name in names[1:])]
    assert [texts(received.payload["input"]) for received in sim.requests] == [[name] for name in names]
    assert len(sim.handshakes) == 1


def test_threads_that_submit_at_once_are_all_answered_once(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim)
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda n: ended(caller.stream([user(f"{n}")])), range(16)))

    assert said == [f"You said: {n}" for n in range(16)]
    assert len(sim.requests) == 16
    assert len(sim.handshakes) == 1


def test_a_stalled_key_does_not_hold_up_another(talk_embedded: Talk, simulated: Simulate) -> None:
    with first_held(simulated) as (sim, release):
        stalled, other = talk_embedded(sim), talk_embedded(sim)
        with stalled.stream("hello") as stream:
            running(sim)
            assert [other.say(text).reason for text in ("first", "second")] == ["no_previous_response", None]
            release.set()
            assert ended(stream) == "held"
    assert len(sim.handshakes) == 2


def test_a_request_beyond_the_queue_limit_is_refused_at_once(talk_embedded: Talk, simulated: Simulate) -> None:
    with first_held(simulated) as (sim, release):
        caller = talk_embedded(sim, queue_limit=1)
        first, second = caller.stream("first"), caller.stream("second")
        error = failure_of(caller.stream("third"))
        release.set()
        said = [ended(first), ended(second)]

    assert (error.code, error.delivery, error.retryable) == ("queue_full", "not_sent", True)
    assert said == ["held", "You said: second"]
    assert len(sim.requests) == 2


def test_a_request_waits_in_the_queue_no_longer_than_it_wants(talk_embedded: Talk, simulated: Simulate) -> None:
    with first_held(simulated) as (sim, release):
        caller = talk_embedded(sim)
        first = caller.stream("first")
        late = failure_of(caller.stream("second", queue_timeout=0.1))
        never = failure_of(caller.stream("third", timeout=0.1))
        release.set()
        assert ended(first) == "held"

    assert (late.code, late.delivery) == ("queue_timeout", "not_sent")
    assert (never.code, never.delivery) == ("request_timeout", "not_sent")
    assert len(sim.requests) == 1
    assert caller.say("fourth").text == "You said: fourth"


def test_a_waiting_request_that_is_cancelled_was_never_sent_and_disturbs_nobody(
    talk_embedded: Talk, simulated: Simulate
) -> None:
    with first_held(simulated) as (sim, release):
        caller = talk_embedded(sim)
        caller.history = [user("first")]
        first = caller.stream()
        with caller.stream("second"):
            running(sim)
        release.set()
        assert ended(first) == "held"
        caller.history += first.output

    assert len(sim.requests) == 1
    assert caller.say("third").reason is None


def test_the_evidence_says_how_long_a_request_waited(talk_embedded: Talk, simulated: Simulate) -> None:
    with first_held(simulated) as (sim, release):
        caller = talk_embedded(sim)
        first, second = caller.stream("first"), caller.stream("second")
        running(sim)
        time.sleep(0.2)
        release.set()
        ended(first), ended(second)

    assert first.metadata["queue_wait_ms"] < 150 <= second.metadata["queue_wait_ms"]


# Limits of time


def test_a_request_that_takes_too_long_is_given_up_without_a_pause(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text")])
    caller = talk(sim)

    error = failure_of(caller.stream("first", timeout=within(0.3)))

    assert (error.code, error.delivery) == ("request_timeout", "accepted")
    assert caller.say("second").reason == "cancelled"
    assert len(sim.handshakes) == 2


def test_the_limit_of_a_request_covers_its_replay(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["not_found"](), FAULTS["stall"](on_request=2)])
    caller = talk(sim)
    caller.say("first")
    began = time.monotonic()

    error = failure_of(caller.stream([*caller.history, user("second")], timeout=within(0.4)))

    assert error.code == "request_timeout"
    assert len(sim.requests) == 3
    assert time.monotonic() - began < within(2)


def test_no_first_event_in_time_is_ambiguous(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("before_first_event")])
    caller = talk(sim, degraded_for=None)

    error = failure_of(caller.stream("first", first_event_timeout=0.15))

    assert (error.code, error.delivery, error.retryable) == ("first_event_timeout", "ambiguous", True)
    assert caller.say("second").reason == "websocket_failed"


def test_a_stream_that_falls_silent_is_cut_though_the_server_pings(talk_embedded: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text")])
    caller = talk_embedded(sim, degraded_for=None)
    stop = threading.Event()

    def keep_pinging() -> None:
        while not stop.wait(0.02):
            if sim.open_connections:
                sim.ping(b"still here")

    pinger = threading.Thread(target=keep_pinging)
    pinger.start()
    try:
        error = failure_of(caller.stream("first", idle_timeout=0.3))
    finally:
        stop.set()
        pinger.join()

    assert (error.code, error.delivery) == ("stream_idle_timeout", "accepted")
    assert len(sim.pongs) > 2
    assert caller.say("second").reason == "websocket_failed"


def test_a_slow_stream_within_its_limits_is_not_cut(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("a b c d e f", deltas=6).paced(0.05)])
    limits = {"idle_timeout": within(0.4), "first_event_timeout": within(0.4)}

    assert talk(sim, **limits).say("hello").text == "a b c d e f"


# Cancels


def test_leaving_a_stream_early_cancels_it_and_closes_its_socket(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text")])
    caller = talk(sim)

    with caller.stream("first") as stream:
        next(event for event in stream if isinstance(event, Data))
    assert list(stream) == []

    sim.wait_for(lambda seen: seen.open_connections == 0, within(5))
    assert sim.closes[0].by == "client"
    answer = caller.say("second")
    assert answer.reason == "cancelled"
    assert texts(caller.wire()["input"]) == ["second"]


def test_a_cancelled_delta_is_not_continued_from(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("before_terminal", on_request=1)])
    caller = talk(sim)
    caller.say("first")
    with caller.stream([*caller.history, user("abandoned")]) as stream:
        next(event for event in stream if isinstance(event, Data) and event.type == "response.output_item.done")

    assert caller.say("second").reason == "cancelled"
    assert texts(caller.wire()["input"])[::2] == ["first", "second"]


def test_an_exception_within_a_stream_cancels_it(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text")])
    caller = talk(sim)

    with pytest.raises(KeyError), caller.stream("first") as stream:
        next(stream)
        raise KeyError

    assert caller.say("second").reason == "cancelled"


def test_another_thread_can_cancel_a_stream_that_waits(talk_embedded: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text")])
    caller = talk_embedded(sim)
    stream = caller.stream("first")
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(ended, stream)
        assert until(lambda: stream.text)
        time.sleep(0.05)  # it has read what there is, and waits
        stream.cancel()
        error = reading.exception(within(5))

    assert isinstance(error, StreamError) and error.code == "cancelled"
    assert caller.say("second").reason == "cancelled"


def test_closing_a_key_ends_its_requests(talk_embedded: Talk, embedded: Client, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text")])
    caller = talk_embedded(sim)
    first, second = caller.stream("first"), caller.stream("second")
    sim.wait_for(lambda seen: seen.turns, within(5))
    embedded.close(caller.key)

    errors = [failure_of(first), failure_of(second)]

    assert [error.code for error in errors] == ["cancelled", "cancelled"]
    assert errors[0].delivery in (Delivery.AMBIGUOUS, Delivery.ACCEPTED)
    assert errors[1].delivery == "not_sent"
    assert len(sim.requests) == 1


# Keys


def test_keys_are_compared_with_their_type(talk: Talk, sim: Simulator) -> None:
    callers = [talk(sim, key) for key in ("1", 1, b"1", ("1",), (1, b"1"))]

    for caller in callers:
        caller.say("first")

    assert len(sim.handshakes) == len(callers)
    assert [caller.say("second").reason for caller in callers] == [None] * len(callers)


def test_namespaces_keep_the_keys_of_two_programs_apart(
    plain_system: ActorSystem, sim: Simulator, calling: Callable[..., Caller]
) -> None:
    with Client.over(plain_system, namespace="a") as one, Client.over(plain_system, namespace="b") as other:
        callers = [Caller(client, sim, "session") for client in (one, other)]
        reasons = [caller.say(text).reason for text in ("first", "second") for caller in callers]
        for client in (one, other):
            client.close("session")

    assert reasons == ["no_previous_response"] * 2 + [None] * 2
    assert len(sim.handshakes) == 2


def test_two_clients_of_one_system_share_the_connection_of_a_key(
    plain_system: ActorSystem, over: Client, sim: Simulator, calling: Callable[..., Caller]
) -> None:
    caller = calling(over, sim)
    caller.say("first")
    with Client.over(plain_system) as second_client:
        caller.client = second_client
        assert caller.say("second").reason is None
    caller.client = over

    assert caller.say("third").reason is None
    assert len(sim.handshakes) == 1


def test_a_message_that_no_actor_knows_is_ignored(
    plain_system: ActorSystem, over: Client, sim: Simulator, calling: Callable[..., Caller]
) -> None:
    caller = calling(over, sim)
    caller.say("first")
    supervisor = plain_system.createActor(SupervisorActor, globalName=messages.SUPERVISOR_NAME)
    with plain_system.private() as context:
        ask = messages.EnsureStarted.of(1, caller.key, Settings())
        found = context.ask(supervisor, ask, within(10))
        for address in (supervisor, found.address):
            context.tell(address, {"what": "is this"})
            context.tell(address, None)

    assert caller.say("second").reason is None
    assert len(sim.handshakes) == 1


def test_the_script_of_a_simulator_sees_the_whole_conversation_over_deltas(talk: Talk, simulated: Simulate) -> None:
    def count(turn: TurnContext) -> Reply:
        return Reply.text(f"{len(turn.seen)} items, {len(turn.input)} of them new")

    caller = talk(simulated(count))

    said = [caller.say(text).text for text in ("first", "second", "third")]

    assert said == ["1 items, 1 of them new", "3 items, 1 of them new", "5 items, 1 of them new"]
