"""What the provider refuses for the socket's sake is sent again in full, once, and the caller sees one attempt only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors import Client, Data, Metadata, ProviderError, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.scenarios.caller import AFTER, BEFORE, Caller, texts

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]
FORMS = ["nested", "flat", "failed", "message"]
LIMIT = {
    "type": "error",
    "status": 400,
    "error": {"code": "websocket_connection_limit_reached", "message": "Responses websocket connection limit reached."},
}


def not_found(after: str = "nothing", form: str = "nested") -> Reply:
    message = "Previous response with id 'resp_1' not found."
    return Reply.error(400, "previous_response_not_found", message, after=after, form=form)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_an_unknown_id_is_replayed_once_and_out_of_the_callers_sight(
    talk: Talk, simulated: Simulate, form: str
) -> None:
    sim = simulated(faults=[FAULTS["not_found"](form)])
    caller = talk(sim)
    caller.fields = {"prompt_cache_key": "px1:test"}
    clean = caller.say("first")

    answer = caller.say("second")

    refused, replay = caller.data(last=2)
    assert answer.types == clean.types
    assert answer.text == "You said: second"
    assert [set(values) for values in answer.evidence] == [BEFORE, AFTER]
    assert answer.evidence[0].items() >= {
        "continuation_attempted": False,
        "continuation_reset_reason": "previous_response_not_found",
        "used_previous_response_id": False,
        "websocket_stored_previous_response_id": None,
        "delivery_attempts": 2,
    }.items()
    assert len(sim.requests) == 3
    assert (len(refused["input"]), len(replay["input"])) == (1, 3)
    assert refused["previous_response_id"] and "previous_response_id" not in replay
    assert [payload["prompt_cache_key"] for payload in (refused, replay)] == ["px1:test"] * 2
    assert [payload["store"] for payload in (refused, replay)] == [False, False]
    assert len(sim.handshakes) == 1
    assert caller.say("third").reason is None


def test_what_was_created_before_the_refusal_stays_out_of_sight(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("one"), not_found(after="created"), Reply.text("two")])
    caller = talk(sim)
    clean = caller.say("first")

    answer = caller.say("second")

    assert answer.types == clean.types
    assert answer.reason == "previous_response_not_found"
    created = [event.json() for event in answer.events if isinstance(event, Data) and event.type == "response.created"]
    assert [event["response"]["id"] for event in created] == [answer.metadata["websocket_captured_response_id"]]


def test_private_events_of_a_refused_attempt_stay_out_of_sight(talk: Talk, simulated: Simulate) -> None:
    private = {"type": "codex.rate_limits", "rate_limits": {"limit_reached": False}}
    error = {"type": "error", "status": 400, "error": {"code": "previous_response_not_found", "message": "not found"}}
    sim = simulated([Reply.text("one"), Reply.events([private, error]), Reply.text("two")])
    caller = talk(sim)
    clean = caller.say("first")

    assert caller.say("second").types == clean.types


def test_what_the_server_has_forgotten_is_replayed(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    sim.evict()

    assert caller.say("second").reason == "previous_response_not_found"
    assert caller.say("third").reason is None


def test_reduce_sees_one_clean_attempt(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["not_found"]()])
    caller = talk(sim)
    caller.say("first")
    seen: list[str] = []

    def collect(event: Any, acc: int) -> int:
        seen.append(type(event).__name__)
        return acc + 1

    count = caller.client.reduce(caller.key, caller.request([*caller.history, {"role": "user", "content": "x"}]), 0, collect)

    assert count == len(seen)
    assert seen[:2] == ["Metadata", "Status"]
    assert seen.count("Metadata") == 2


def test_a_second_refusal_is_an_error_and_costs_a_pause(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("one"), not_found(), not_found()])
    caller = talk(sim, degraded_for=within(30))
    caller.say("first")

    with pytest.raises(ProviderError) as caught:
        caller.say("second")

    assert caught.value.code == "provider_http_error"
    assert caught.value.delivery == "rejected"
    assert caught.value.details["reason"] == "previous_response_not_found"
    assert len(sim.requests) == 3
    with pytest.raises(StreamError) as degraded:
        caller.say("third")
    assert degraded.value.code == "websocket_degraded"
    assert len(sim.requests) == 3


def test_a_refusal_after_output_is_an_answer_and_not_replayed(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("one"), not_found(after="output")])
    caller = talk(sim)
    caller.say("first")

    with pytest.raises(ProviderError) as caught:
        caller.say("second")

    assert caught.value.delivery == "accepted"
    assert len(sim.requests) == 2
    assert caller.say("third").reason == "response_failed"


def test_other_refusals_are_the_callers_to_handle(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["error_429"](7, on_request=1), FAULTS["error_503"](on_request=2)])
    caller = talk(sim)
    caller.say("first")

    with pytest.raises(ProviderError) as limited:
        caller.say("second")
    with pytest.raises(ProviderError) as overloaded:
        caller.say("third")

    assert (limited.value.status, limited.value.retry_after, limited.value.retryable) == (429, 7.0, True)
    assert (overloaded.value.status, overloaded.value.retryable) == (503, True)
    assert [error.value.delivery for error in (limited, overloaded)] == ["rejected"] * 2
    assert len(sim.requests) == 3
    assert caller.say("fourth").reason == "response_failed"
    assert len(sim.handshakes) == 1


@pytest.mark.parametrize("before", [0, 1], ids=["first turn", "delta"])
def test_a_refused_bearer_costs_its_socket_and_the_next_one_opens_another(
    talk: Talk, simulated: Simulate, before: int
) -> None:
    sim = simulated([Reply.text("fine")] * before + [Reply.error(401, "invalid_api_key", "Incorrect API key.")])
    caller = talk(sim)
    for number in range(before):
        caller.say(f"turn {number}")

    with pytest.raises(ProviderError) as caught:
        caller.say("refused")
    caller.api_key = "token-2"

    assert (caught.value.status, caught.value.delivery, caught.value.retryable) == (401, "rejected", False)
    assert caller.say("taken").reason == "response_failed"
    assert [handshake.header("authorization") for handshake in sim.handshakes] == ["Bearer token-1", "Bearer token-2"]
    assert len(sim.requests) == before + 2


def test_a_socket_whose_bearer_has_run_out_is_replaced_with_the_new_one(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("one"), Reply.error(401, "invalid_api_key", "Expired."), Reply.text("two")])
    caller = talk(sim)
    clean = caller.say("first")
    caller.api_key = "token-2"

    answer = caller.say("second")

    assert answer.types == clean.types
    assert answer.metadata["delivery_attempts"] == 2
    assert [handshake.header("authorization") for handshake in sim.handshakes] == ["Bearer token-1", "Bearer token-2"]
    assert caller.say("third").reason is None


@pytest.mark.parametrize("turn", [0, 1], ids=["first turn", "delta"])
def test_a_connection_that_is_too_old_is_replaced_and_the_request_replayed(
    talk: Talk, simulated: Simulate, turn: int
) -> None:
    sim = simulated(faults=[FAULTS["connection_limit"](on_request=turn)])
    caller = talk(sim)
    answers = [caller.say(text) for text in ("first", "second")]

    assert answers[turn].reason == "connection_limit"
    assert answers[turn].metadata["delivery_attempts"] == 2
    assert answers[turn].types == answers[1 - turn].types
    assert len(sim.handshakes) == 2
    assert texts(sim.turns[-1].seen)[::2] == ["first", "second"]
    assert caller.say("third").reason is None


def test_a_second_connection_limit_reaches_the_caller(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["connection_limit"](times=2)])
    caller = talk(sim)

    with pytest.raises(ProviderError) as caught:
        caller.say("first")

    assert caught.value.error["code"] == "websocket_connection_limit_reached"
    assert caught.value.delivery == "rejected"
    assert len(sim.requests) == 2
    assert caller.say("second").reason == "connection_limit"


def test_a_limit_notice_between_turns_is_no_failure(talk_embedded: Talk, embedded: Client, sim: Simulator) -> None:
    caller = talk_embedded(sim)
    caller.say("first")
    sim.push(LIMIT)
    sim.wait_for(lambda seen: seen.open_connections == 0, within(5))

    answer = caller.say("second")

    assert answer.reason == "connection_limit"
    assert answer.metadata["delivery_attempts"] == 1
    assert embedded.status(caller.key)[0].failures == 0


def test_a_lifetime_that_ends_between_turns_is_no_failure(talk_embedded: Talk, simulated: Simulate) -> None:
    sim = simulated(lifetime=0.3)
    caller = talk_embedded(sim)
    caller.say("first")
    sim.wait_for(lambda seen: seen.open_connections == 0, within(5))

    assert caller.say("second").reason == "connection_limit"


def test_an_event_that_nobody_asked_for_costs_the_socket(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim)
    caller.say("first")
    sim.push({"type": "response.output_text.delta", "delta": "late"})
    sim.wait_for(lambda seen: seen.open_connections == 0, within(5))

    answer = caller.say("second")

    assert answer.reason == "websocket_failed"
    assert answer.text == "You said: second"


def test_a_private_event_between_turns_costs_nothing(talk_embedded: Talk, sim: Simulator) -> None:
    caller = talk_embedded(sim)
    caller.say("first")
    sim.push({"type": "codex.rate_limits", "rate_limits": {}})
    sim.push({"type": "keepalive"})
    sim.ping(b"seen")
    sim.wait_for(lambda seen: seen.pongs, within(5))

    assert caller.say("second").reason is None
    assert len(sim.handshakes) == 1


def test_a_second_terminal_event_never_answers_the_next_request(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["second_terminal"](on_request=0)])
    caller = talk(sim)
    caller.say("first")

    answer = caller.say("second")

    assert answer.text == "You said: second"
    assert [event.type for event in answer.events if isinstance(event, Data)].count("response.completed") == 1
    assert any(isinstance(event, Metadata) for event in answer.events)
