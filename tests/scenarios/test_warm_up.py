"""Warm-ups, on servers that take `generate: false` in each of the ways that are met with (`protocol.md` 2.2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pixir_actors import StreamError
from pixir_actors.core import deadlines
from pixir_actors.simulator import FAULTS, Simulator, same_history
from tests.conftest import within
from tests.scenarios.caller import Caller, user

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]

def warm(caller: Caller, text: str = "one", *, prefill: bool = True, **options: Any) -> dict[str, Any]:
    """Warm up with the first turn's request, as `say` will send it."""
    request = caller.request([*caller.history, user(text)])
    return caller.client.warm(caller.key, request, prefill=prefill, **options)


def judged(sim: Simulator, caller: Caller) -> None:
    """See that the model answered what was meant, once."""
    answered = [turn for turn in sim.turns if turn.generated and turn.status == "completed"]
    assert len(answered) == 1
    assert same_history(caller.history[:1], answered[0].seen) is None


def test_the_first_turn_continues_from_a_warm_up_that_was_answered_with_an_id(talk: Talk, simulated: Simulate) -> None:
    sim = simulated()
    caller = talk(sim)

    evidence = warm(caller)
    answer = caller.say("one")

    assert evidence["websocket_captured_response_id"] == sim.turns[0].response_id
    assert answer.reason is None
    sent, delta = caller.data(last=2)
    assert (sent["generate"], sent["input"]) == (False, caller.history[:1])
    assert (delta["previous_response_id"], delta["input"]) == (sim.turns[0].response_id, [])
    assert "generate" not in delta
    assert len(sim.handshakes) == 1
    assert [turn.generated for turn in sim.turns] == [False, True]
    judged(sim, caller)
    assert caller.say("two").reason is None


def test_what_the_first_turn_says_besides_goes_out_behind_what_was_read(talk: Talk, simulated: Simulate) -> None:
    sim = simulated()
    caller = talk(sim)
    caller.history = [user("the whole repository")]
    caller.client.warm(caller.key, caller.request(), prefill=True)

    assert caller.say("and now?").reason is None
    assert caller.wire()["input"] == [user("and now?")]


def test_after_a_warm_up_with_an_empty_id_the_first_turn_is_full(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(warm_up="no_id")
    caller = talk(sim)

    evidence = warm(caller)
    answer = caller.say("one")

    assert sim.turns[0].response_id == ""
    assert evidence["websocket_captured_response_id"] is None
    assert answer.reason == "no_previous_response"
    assert "previous_response_id" not in caller.wire()
    assert len(sim.handshakes) == 1, "the socket is a good one"
    judged(sim, caller)
    assert caller.say("two").reason is None


def test_a_warm_up_that_is_begun_and_never_ended_is_not_waited_for(
    talk: Talk, simulated: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`simulated` sees that nothing is sent on a socket whose last request has not ended."""
    monkeypatch.setattr(deadlines, "WARM_UP_TIMEOUT", 0.3)  # in `local` only; a limit of the request's own does it elsewhere
    sim = simulated(warm_up="created")
    caller = talk(sim)

    began = time.monotonic()
    warm(caller, idle_timeout=within(0.3))
    assert time.monotonic() - began < within(2)
    answer = caller.say("one")

    assert answer.reason == "cancelled"
    assert "previous_response_id" not in caller.wire()
    assert len(sim.handshakes) == 2, "what the socket's server still does is not known"
    judged(sim, caller)
    assert caller.say("two").reason is None


def test_a_server_that_answers_a_warm_up_is_cut_short_and_the_first_turn_is_full(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(warm_up="generated")
    caller = talk(sim)

    warm(caller)
    answer = caller.say("one")

    assert sim.turns[0].generated, "it generates, whatever it was told"
    assert answer.reason == "cancelled"
    assert "previous_response_id" not in caller.wire()
    assert len(sim.handshakes) == 2
    assert answer.text == "You said: one"
    assert same_history(caller.history[:1], sim.turns[1].seen) is None
    assert caller.say("two").reason is None


@pytest.mark.parametrize("way", ["answered", "no_id", "created", "generated"])
def test_a_first_turn_that_comes_during_the_warm_up_is_served(talk_embedded: Talk, simulated: Simulate, way: str) -> None:
    sim = simulated(warm_up=way)
    caller = talk_embedded(sim)
    with ThreadPoolExecutor(1) as pool:
        warming = pool.submit(warm, caller, idle_timeout=within(0.3))
        sim.wait_for(lambda seen: seen.requests)
        answer = caller.say("one")
        warming.result()

    assert answer.text == "You said: one"
    assert (answer.reason is None) == (way == "answered")


def test_without_prefill_a_socket_is_opened_and_nothing_is_sent(talk: Talk, simulated: Simulate) -> None:
    sim = simulated()
    caller = talk(sim)

    evidence = warm(caller, prefill=False)

    assert evidence["active_transport"] == "websocket"
    sim.wait_for(lambda seen: seen.open_connections == 1)
    assert (len(sim.handshakes), sim.requests) == (1, [])
    assert caller.say("one").reason == "no_previous_response"
    assert len(sim.handshakes) == 1


def test_a_warm_up_that_the_provider_refuses_says_so(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["error_429"](7)])
    caller = talk(sim)

    with pytest.raises(StreamError) as refused:
        warm(caller)

    assert (refused.value.code, refused.value.retry_after) == ("provider_http_error", 7)
    assert caller.say("one").text == "You said: one"
