"""What a request becomes: the cache rule, the oracle's records, and what is malformed."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.simulator import FAULTS, Reply, Simulator, same_history
from pixir_actors.simulator.operation import Emit, Operation, Settle, Sleep
from pixir_actors.simulator.rejection import Rejection
from pixir_actors.simulator.turn import document, final_response, gleaned, invalid, items_of
from tests.simulator.client import TOOL, Client, Event, codes, connected, text_of, types

NOT_FOUND = ["previous_response_not_found"]


def continues(client: Client, response_id: str, input: object = "next", **fields: Any) -> bool:
    """Say whether a continuation of this response is taken."""
    return codes(client.turn(input, previous_response_id=response_id, **fields)) != NOT_FOUND


def user(text: str) -> Event:
    return {"role": "user", "content": text}


def test_a_chain_has_the_history_that_the_caller_means() -> None:
    with Simulator() as sim, connected(sim) as client:
        history: list[Event] = [user("use read_file")]
        response = client.response(history, tools=[TOOL])
        for new in ([{"type": "function_call_output", "call_id": "", "output": "42"}], [user("thanks")], [user("bye")]):
            if "call_id" in new[0]:
                new[0]["call_id"] = response["output"][0]["call_id"]
            history += [*response["output"], *new]
            response = client.response(new, tools=[TOOL], previous_response_id=response["id"])
            assert same_history(history, sim.turns[-1].seen) is None
        assert [len(turn.seen) for turn in sim.turns] == [1, 3, 5, 7]
        assert len(history) == 7
        usage = response["usage"]
        assert 0 < usage["input_tokens_details"]["cached_tokens"] < usage["input_tokens"]


def test_a_request_without_an_id_starts_afresh() -> None:
    with Simulator() as sim, connected(sim) as client:
        client.turn("a")
        client.turn("b")
        assert [len(turn.seen) for turn in sim.turns] == [1, 1]


def test_only_the_newest_response_of_a_connection_can_be_continued() -> None:
    with Simulator() as sim, connected(sim) as client:
        old, new = client.response()["id"], client.response()["id"]
        assert not continues(client, old)
        assert continues(client, new), "an unknown id evicts nothing"


def test_with_cache_all_an_older_one_can_be_continued_too() -> None:
    with Simulator(cache="all") as sim, connected(sim) as client:
        old = client.response()["id"]
        client.turn()
        assert continues(client, old)


def test_a_cache_belongs_to_its_connection() -> None:
    with Simulator() as sim:
        with connected(sim) as client:
            response_id = client.response()["id"]
        with connected(sim) as client:
            assert not continues(client, response_id)


def test_a_stored_response_can_be_continued_on_any_connection_until_it_is_evicted() -> None:
    with Simulator() as sim:
        with connected(sim) as client:
            response_id = client.response("a", store=True)["id"]
            client.turn("b")
            assert continues(client, response_id)
        with connected(sim) as client:
            assert continues(client, response_id)
            assert len(sim.turns[-1].seen) == 3
            sim.evict(response_id)
            assert not continues(client, response_id)


@pytest.mark.parametrize(
    "bad",
    [
        Reply.failed("server_error", "x"),
        Reply.error(500, "server_error", "x"),
        Reply.error(500, "server_error", "x", after="output"),
        Reply.error(429, "rate_limit_exceeded", "x"),
    ],
)
@pytest.mark.parametrize("chained", [True, False])
def test_a_turn_that_fails_leaves_nothing_cached(bad: Reply, chained: bool) -> None:
    with Simulator([Reply.text("x"), bad]) as sim, connected(sim) as client:
        first = client.response()["id"]
        failed = client.turn(**({"previous_response_id": first} if chained else {}))[-1]
        assert not continues(client, first)
        if "response" in failed:
            assert not continues(client, failed["response"]["id"])


def test_an_incomplete_response_can_be_continued() -> None:
    with Simulator([Reply.incomplete("half")]) as sim, connected(sim) as client:
        assert continues(client, client.response()["id"])
        assert sim.turns[1].seen[1]["content"][0]["text"] == "half"


def test_a_cut_turn_is_disconnected_and_was_seen() -> None:
    with Simulator(faults=[FAULTS["cut_mid_text"]()]) as sim:
        with connected(sim) as client:
            client.create()
            sim.wait_for(lambda s: s.closes)
        assert [(turn.status, turn.output) for turn in sim.turns] == [("disconnected", [])]


def test_a_warm_up_gives_an_id_to_chain_from_and_no_output() -> None:
    with Simulator([Reply.text("real")]) as sim, connected(sim) as client:
        events = client.turn("a", generate=False)
        assert types(events) == ["created", "in_progress", "completed"]
        assert events[-1]["response"]["output"] == []
        assert text_of(client.turn([], previous_response_id=events[-1]["response"]["id"])) == "real"
        assert [turn.generated for turn in sim.turns] == [False, True]
        assert sim.turns[1].seen == sim.turns[0].seen


def test_a_warm_up_may_have_no_id_and_nothing_to_continue_from() -> None:
    with Simulator(warm_up="no_id") as sim, connected(sim) as client:
        assert client.response(generate=False)["id"] == ""
        assert not continues(client, "")
        assert client.response()["id"]


def test_a_warm_up_may_begin_and_never_end() -> None:
    with Simulator(warm_up="created") as sim, connected(sim) as client:
        client.create(generate=False)
        assert client.event()["type"] == "response.created"
        client.create()
        assert client.event()["type"] == "response.created", "nothing came in between"
        sim.wait_for(lambda seen: seen.overlaps)
        assert [turn.status for turn in sim.turns][:1] == ["in_progress"]


def test_a_warm_up_may_be_answered_like_any_request() -> None:
    with Simulator([Reply.text("real")], warm_up="generated") as sim, connected(sim) as client:
        assert text_of(client.turn("a", generate=False)) == "real"
        assert [turn.generated for turn in sim.turns] == [True]


def test_a_refused_request_is_received_but_is_no_turn() -> None:
    with Simulator() as sim, connected(sim) as client:
        assert not continues(client, "resp_unknown")
        assert len(sim.requests) == 1
        assert sim.turns == []


def test_an_id_of_another_simulator_is_never_valid() -> None:
    with Simulator() as one, Simulator() as two, connected(one) as first, connected(two) as second:
        assert first.response()["id"] != second.response()["id"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": None}, "missing_required_parameter"),
        ({"model": ""}, "missing_required_parameter"),
        ({"stream": False}, "invalid_value"),
        ({"background": True}, "invalid_value"),
        ({"input": 1}, "invalid_type"),
        ({"input": ["text"]}, "invalid_type"),
        ({"previous_response_id": "a", "conversation": "b"}, "mutually_exclusive_parameters"),
    ],
)
def test_a_malformed_request_is_refused(fields: dict[str, Any], code: str) -> None:
    with Simulator() as sim, connected(sim) as client:
        assert codes(client.turn(**({"input": "x"} | fields))) == [code]
        assert text_of(client.turn("x")) == "You said: x"
        assert len(sim.turns) == 1


@pytest.mark.parametrize(
    "payload", [{"model": "m"}, {"model": "m", "stream": True, "input": []}, {"model": "m", "input": "x"}]
)
def test_a_well_formed_request_is_taken(payload: dict[str, Any]) -> None:
    assert invalid(payload) is None


@pytest.mark.parametrize("previous", [1, [], {}])
def test_an_id_that_is_no_text_is_not_found(previous: object) -> None:
    with Simulator() as sim, connected(sim) as client:
        assert codes(client.turn(previous_response_id=previous)) == NOT_FOUND


def test_a_text_input_is_one_user_message() -> None:
    assert items_of("x") == [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}]


def test_verbatim_events_say_what_they_are() -> None:
    events: list[dict[str, Any] | bytes] = [b"{", {"type": "response.failed", "response": {"id": "r", "output": []}}]
    assert gleaned([Emit(event) for event in events]) == ("r", "failed", [])
    assert gleaned([]) == ("", "in_progress", [])
    assert gleaned([Emit({"type": "error"})])[1] == "error"


def test_a_document_is_the_last_response_after_the_waiting() -> None:
    response = {"id": "r"}
    done = Emit({"type": "response.completed", "response": response})
    operations: list[Operation] = [Emit({"type": "response.created", "response": {}}), Sleep(1), Settle(), done]
    assert final_response(operations) == response
    assert final_response(operations[:2]) is None
    assert document(operations, response, None) == [Sleep(1), Settle(), Emit(response, "document")]
    error = Rejection("c", "m")
    assert document(operations, None, error)[-1] == Emit(error.body(), "document")


@pytest.mark.parametrize("payload", [{}, {"stream": True}, {"stream": False}, {"stream": None}, {"background": False}])
def test_over_http_a_request_may_say_whether_it_wants_a_stream(payload: dict[str, Any]) -> None:
    assert invalid({"model": "m"} | payload, "http") is None
