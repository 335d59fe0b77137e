"""Delta or full replay, as the server sees it and as the evidence says it: on every base, through real actors and sockets.

Every answer is compared with what the model saw (`Caller.check`), so each test also shows that no word was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors import Metadata, ProviderError, Status
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.scenarios.caller import AFTER, BEFORE, Caller, Item, texts, tool_output, user

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]


def test_the_second_turn_sends_only_what_is_new(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.fields = {"prompt_cache_key": "px1:test"}

    first, second = caller.say("first"), caller.say("second")

    opening, late = caller.data(last=2)
    assert (first.reason, second.reason) == ("no_previous_response", None)
    assert "previous_response_id" not in opening
    assert late["previous_response_id"] == first.metadata["websocket_captured_response_id"]
    assert texts(late["input"]) == ["second"]
    assert [payload["type"] for payload in (opening, late)] == ["response.create"] * 2
    assert [payload["store"] for payload in (opening, late)] == [False, False]
    assert [payload["prompt_cache_key"] for payload in (opening, late)] == ["px1:test"] * 2
    assert len(sim.handshakes) == 1


def test_a_long_tool_loop_stays_on_one_socket_and_sends_each_item_once(talk: Talk, simulated: Simulate) -> None:
    calls = 10
    script = [Reply.tool_call("read_file", {"path": f"{n}.py"}) for n in range(calls)]
    sim = simulated([*script, Reply.text("Done.")])
    caller = talk(sim)

    caller.say("read ten files")
    for number in range(calls):
        caller.history.append(tool_output(caller.history[-1], f"contents {number}"))
        caller.history += caller.send().output

    assert len(sim.handshakes) == 1
    assert [len(received.payload["input"]) for received in sim.requests] == [1] * (calls + 1)
    assert caller.history[-1]["content"][0]["text"] == "Done."


def test_the_evidence_has_exactly_the_documented_keys_and_matches_the_wire(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim, ("session", 7))

    first, second = caller.say("first"), caller.say("second")

    ids = [answer.response["id"] for answer in (first, second) if answer.response]
    assert [set(values) for values in first.evidence + second.evidence] == [BEFORE, AFTER] * 2
    fixed = {"transport_preference": "websocket", "active_transport": "websocket", "websocket_key": "('session', 7)"}
    expected = [
        {
            "continuation_attempted": False,
            "continuation_reset_reason": "no_previous_response",
            "used_previous_response_id": False,
            "websocket_stored_previous_response_id": None,
        },
        {
            "continuation_attempted": True,
            "continuation_reset_reason": None,
            "used_previous_response_id": True,
            "websocket_stored_previous_response_id": ids[0],
        },
    ]
    for answer, values, response_id, received in zip((first, second), expected, ids, sim.requests, strict=True):
        before, after = answer.evidence
        assert before.items() >= (fixed | values | {"delivery_attempts": 1}).items()
        assert before["wire_bytes"] == received.wire_bytes
        assert dict(after) == dict.fromkeys(AFTER, response_id)
        assert answer.metadata == {**before, **after}
    assert first.metadata["full_bytes"] == first.metadata["wire_bytes"]
    assert second.metadata["full_bytes"] > second.metadata["wire_bytes"]
    assert 0 <= second.metadata["connection_age_ms"] <= within(10) * 1000
    assert 0 <= second.metadata["queue_wait_ms"] <= within(10) * 1000


def test_events_come_as_metadata_then_status_then_the_providers_then_metadata(talk: Talk, sim: Simulator) -> None:
    answer = talk(sim).say("hello")

    assert answer.types[:3] == ["metadata", "status", "response.created"]
    assert answer.types[-2:] == ["response.completed", "metadata"]
    assert answer.types.count("metadata") == 2
    assert Status(200) in answer.events
    assert isinstance(answer.events[0], Metadata)
    assert answer.text == "You said: hello"


# Who the socket belongs to


def test_a_rotated_bearer_keeps_the_socket(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    caller.api_key = "token-2"

    assert caller.say("second").reason is None
    assert len(sim.handshakes) == 1
    assert sim.handshakes[0].header("authorization") == "Bearer token-1"


@pytest.mark.parametrize(
    "change",
    [{"headers": {"chatgpt-account-id": "b"}}, {"api_key": None}, {"options": {"identity": "another"}}],
    ids=["a header", "no bearer", "another identity"],
)
def test_changed_headers_open_another_socket(talk: Talk, sim: Simulator, change: dict[str, Any]) -> None:
    caller = talk(sim)
    caller.headers = {"ChatGPT-Account-Id": "a"}
    caller.say("first")
    for name, value in change.items():
        setattr(caller, name, value)

    assert caller.say("second").reason == "headers_changed"
    assert len(sim.handshakes) == 2
    assert texts(caller.wire()["input"])[::2] == ["first", "second"]
    sim.wait_for(lambda seen: [close.code for close in seen.closes] == [1000], within(5))


def test_the_order_of_headers_and_the_case_of_their_names_do_not_matter(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.headers = {"X-One": "1", "X-Two": "2"}
    caller.say("first")
    caller.headers = {"x-two": "2", "x-one": "1"}

    assert caller.say("second").reason is None


@pytest.mark.parametrize("headers", [{}, {"x-other": "too"}], ids=["endpoint alone", "headers changed as well"])
def test_another_endpoint_opens_another_socket(talk: Talk, simulated: Simulate, headers: dict[str, str]) -> None:
    here, there = simulated(), simulated()
    caller = talk(here)
    caller.say("first")
    caller.sim, caller.headers = there, headers

    assert caller.say("second").reason == "endpoint_changed"
    assert [len(sim.handshakes) for sim in (here, there)] == [1, 1]
    here.wait_for(lambda seen: seen.open_connections == 0, within(5))


def test_another_query_is_another_endpoint(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    caller.url = f"{sim.base_url}?tenant=b"

    assert caller.say("second").reason == "endpoint_changed"
    assert [handshake.path for handshake in sim.handshakes] == ["/v1/responses", "/v1/responses?tenant=b"]


# What goes out in full, and why


def test_another_model_gets_the_whole_history_on_the_same_socket(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    caller.model = "m-2"

    assert caller.say("second").reason == "model_changed"
    assert len(caller.wire()["input"]) == 3
    assert len(sim.handshakes) == 1
    assert caller.say("third").reason is None


def test_another_model_is_named_before_another_prefix(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    caller.model, caller.history = "m-2", [user("rewritten")]

    assert caller.say("second").reason == "model_changed"


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda history: [user("rewritten"), *history[1:]],
        lambda history: [user("system", role="developer"), *history],
        lambda history: [],
    ],
    ids=["edited", "something in front", "shorter"],
)
def test_a_rewritten_history_goes_out_in_full(talk: Talk, sim: Simulator, rewrite: Callable[..., list[Item]]) -> None:
    caller = talk(sim)
    caller.say("first")
    caller.history = rewrite(caller.history)

    assert caller.say("second").reason == "prefix_mismatch"
    assert "previous_response_id" not in caller.wire()
    assert len(caller.wire()["input"]) == len(caller.history) - 1
    assert caller.say("third").reason is None


def test_a_branch_goes_back_and_continues_from_there(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")
    fork = list(caller.history)
    caller.say("one way")
    caller.history = fork

    assert caller.say("the other way").reason == "prefix_mismatch"
    assert caller.say("and on").reason is None


@pytest.mark.parametrize("with_answer", [True, False], ids=["history and answer", "history alone"])
def test_nothing_new_goes_out_in_full(talk: Talk, sim: Simulator, with_answer: bool) -> None:
    caller = talk(sim)
    caller.say("first")
    history = caller.history if with_answer else caller.history[:1]

    assert caller.send(history).reason == "empty_delta"
    assert len(caller.wire()["input"]) == len(history)


@pytest.mark.parametrize(("value", "reason"), [(1.0, None), (True, "prefix_mismatch")])
def test_numbers_are_compared_as_numbers_and_true_is_none(talk: Talk, sim: Simulator, value: Any, reason: Any) -> None:
    caller = talk(sim)
    caller.history = [user("earlier", n=1)]
    caller.say("first")
    caller.history[0] = user("earlier", n=value)

    # The oracle, stricter than the wire, takes 1.0 for a change.
    assert caller.send([*caller.history, user("second")], exact=reason is not None).reason == reason


def test_a_text_as_input_is_never_continued(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)

    reasons = [caller.send("hello").reason, caller.send("hello").reason, caller.say("list").reason]

    assert reasons == ["no_previous_response"] * 3
    assert caller.send("hello").reason == "prefix_mismatch"
    assert caller.wire()["input"] == "hello"


def test_only_model_and_input_decide_and_the_rest_is_sent_each_time(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.fields = {"instructions": "Be brief.", "tools": [{"type": "function", "name": "a", "parameters": {}}]}
    caller.say("first")
    caller.fields = {"instructions": "Be long.", "tools": [], "reasoning": {"effort": "low"}, "temperature": 0.5}

    assert caller.say("second").reason is None
    assert caller.wire().items() >= caller.fields.items()


def test_stream_is_dropped_store_is_false_and_everything_else_is_kept(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    kept = {"metadata": {"a": "b"}, "instructions": "x", "prompt_cache_key": "k", "custom": [1, 2.5, True, {"n": None}]}

    caller.send([user("hello")], stream=True, store=True, type="something.else", **kept)

    expected = {"type": "response.create", "store": False, "model": "m", "input": [user("hello")], **kept}
    assert caller.wire() == expected


# What the caller continues itself


def test_a_callers_own_previous_response_id_is_sent_as_it_is(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    first = caller.say("first")
    own = {"previous_response_id": first.metadata["websocket_captured_response_id"], "store": True}

    answer = caller.send([user("second")], exact=False, **own)

    assert answer.reason == "caller_continuation"
    assert answer.evidence[0]["used_previous_response_id"] is True
    assert answer.evidence[1]["websocket_stored_previous_response_id"] is None
    assert caller.wire().items() >= {**own, "input": [user("second")]}.items()
    assert texts(sim.turns[-1].seen)[::2] == ["first", "second"]
    assert caller.say("third").reason == "caller_continuation"
    assert caller.say("fourth").reason is None


def test_a_callers_own_unknown_id_is_the_callers_to_handle(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)

    with pytest.raises(ProviderError) as caught:
        caller.send([user("hello")], previous_response_id="resp_unknown")

    assert caught.value.error["code"] == "previous_response_not_found"
    assert (caught.value.delivery, caught.value.status) == ("rejected", 400)
    assert len(sim.requests) == 1
    assert caller.say("hello").reason == "caller_continuation"
    assert len(sim.handshakes) == 1


def test_a_callers_own_conversation_is_never_continued(talk: Talk, sim: Simulator) -> None:
    caller = talk(sim)
    caller.say("first")

    answer = caller.send([user("second")], conversation="conv_1")

    assert answer.reason == "caller_continuation"
    assert answer.metadata["used_previous_response_id"] is False
    assert caller.wire()["conversation"] == "conv_1"


# Answers that are not complete


def test_an_incomplete_response_is_continued(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.incomplete("as far as it")])
    caller = talk(sim)

    answer = caller.say("first")

    assert answer.response is not None and answer.response["status"] == "incomplete"
    assert caller.say("go on").reason is None


@pytest.mark.parametrize(
    "reply",
    [
        Reply.failed("server_error", "It broke."),
        Reply.failed("server_error", "It broke.", after="output"),
        Reply.error(500, "server_error", "It broke."),
        Reply.error(500, "server_error", "It broke.", form="flat"),
        Reply.error(500, "server_error", "It broke.", after="output"),
    ],
    ids=["failed, with an id", "failed after output", "error, without an id", "flat error", "error after output"],
)
@pytest.mark.parametrize("place", [0, 1], ids=["in the first turn", "in a delta"])
def test_after_a_failed_response_the_next_turn_goes_out_in_full(
    talk: Talk, simulated: Simulate, reply: Reply, place: int
) -> None:
    sim = simulated([Reply.text("fine")] * place + [reply])
    caller = talk(sim)
    for number in range(place):
        caller.say(f"turn {number}")

    with pytest.raises(ProviderError) as caught:
        caller.say("the one that fails")

    assert caught.value.code == "provider_http_error"
    assert caught.value.error["code"] == "server_error"
    assert caller.say("after it").reason == "response_failed"
    assert "the one that fails" in texts(caller.wire()["input"])
    assert caller.say("and on").reason is None
    assert len(sim.handshakes) == 1


def test_private_and_unknown_events_pass_through_and_disturb_nothing(talk: Talk, simulated: Simulate) -> None:
    sim = simulated(faults=[FAULTS["unknown_events"](times=None)])
    caller = talk(sim)

    types = caller.say("first").types

    assert {"codex.rate_limits", "keepalive", "response.future_event"} <= set(types)
    assert [caller.say(text).reason for text in ("second", "third")] == [None, None]


@pytest.mark.parametrize("fault", ["split_every_byte", "fragment", "coalesce", "trailing_partial"])
def test_frames_may_come_in_any_pieces(talk: Talk, simulated: Simulate, fault: str) -> None:
    sim = simulated(faults=[FAULTS[fault](times=None)])
    caller = talk(sim)

    reasons = [caller.say(text).reason for text in ("first", "second", "third")]

    assert reasons == ["no_previous_response", None, None]
    assert len(sim.handshakes) == 1
