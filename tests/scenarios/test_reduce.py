"""Folding and collecting: `reduce` as the reference has it, `respond` on top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors import Data, Metadata, ProviderError, Status, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.scenarios.caller import Caller, shape, texts, user

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]


def test_reduce_folds_every_event_in_order(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)

    shapes = caller.client.reduce(caller.key, caller.request("hello"), (), lambda event, acc: (*acc, shape(event)))

    assert list(shapes) == talk(sim).send("hello").types


@pytest.mark.parametrize("kind", [Metadata, Status, Data])
def test_an_exception_of_the_folding_function_reaches_the_caller_unchanged(
    talk: Talk, simulated: Simulate, kind: type
) -> None:
    sim = simulated(faults=[FAULTS["stall"]("mid_text", on_request=1)])
    caller = talk(sim)
    caller.say("first")
    broken = LookupError("mine")

    def fold(event: Any, acc: int) -> int:
        if isinstance(event, kind):
            raise broken
        return acc + 1

    with pytest.raises(LookupError) as caught:
        caller.client.reduce(caller.key, caller.request([*caller.history, user("breaks")]), 0, fold)

    assert caught.value is broken
    answer = caller.say("second")
    assert answer.reason == "stream_callback_failed"
    assert texts(caller.wire()["input"])[::2] == ["first", "second"]
    assert len(sim.handshakes) == 2


def test_an_exception_over_an_answer_that_had_come_as_a_whole_costs_no_word(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)

    def fold(event: Any, acc: int) -> int:
        if shape(event) == "response.completed":
            raise LookupError
        return acc

    caller.history = [user("breaks")]
    with pytest.raises(LookupError):
        caller.client.reduce(caller.key, caller.request(), 0, fold)

    assert caller.send().text == "You said: breaks"
    assert texts(caller.wire()["input"]) == ["breaks"]
    assert caller.say("second").text == "You said: second"


def test_reduce_gives_the_accumulator_back_with_an_error(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["cut_after_first_event"]()])
    caller = talk(sim)

    with pytest.raises(StreamError) as caught:
        caller.client.reduce(caller.key, caller.request("hello"), [], lambda event, acc: [*acc, shape(event)])

    assert caught.value.acc == ["metadata", "status", "response.created"]


def test_a_failed_response_is_an_event_to_reduce_and_an_error_to_respond(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.failed("server_error", "It broke.")] * 2)
    caller = talk(sim)

    shapes = caller.client.reduce(caller.key, caller.request("hello"), (), lambda event, acc: (*acc, shape(event)))
    with pytest.raises(ProviderError) as caught:
        caller.client.respond(caller.key, caller.request("hello"))

    assert "response.failed" in shapes and shapes[-1] == "metadata"
    assert caught.value.error == {"code": "server_error", "message": "It broke."}


@pytest.mark.parametrize(
    ("reply", "status"), [(Reply.text("all of it"), "completed"), (Reply.incomplete("a part"), "incomplete")]
)
def test_respond_returns_the_response(talk: Talk, simulated: Simulate, reply: Reply, status: str) -> None:
    sim = simulated([reply])
    caller = talk(sim)

    response = caller.client.respond(caller.key, caller.request("hello"))

    assert (response["status"], response["id"]) == (status, sim.turns[0].response_id)
