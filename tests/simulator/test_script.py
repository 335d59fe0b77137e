"""Replies, and the scripts that choose them."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext, coding_agent
from pixir_actors.simulator.script import Player
from tests.conftest import within
from tests.simulator.client import TOOL, codes, connected, text_of, types


def context(text: Any = "hello", **fields: Any) -> TurnContext:
    item = {"role": "user", "content": text} if isinstance(text, str) else text
    return TurnContext({"model": "m", **fields}, [item], [item], 0, 0)


def test_the_default_script_echoes_a_user_message_in_deltas() -> None:
    with Simulator() as sim, connected(sim) as client:
        events = client.turn("how are you?")
        assert text_of(events) == "You said: how are you?"
        assert types(events).count("output_text.delta") == 3
        assert types(events)[-1] == "completed"


def test_the_default_script_plays_a_tool_conversation() -> None:
    with Simulator() as sim, connected(sim) as client:
        call = client.response('Please use read_file with {"path": "a.py"}.', tools=[TOOL])["output"][0]
        assert (call["type"], call["name"], json.loads(call["arguments"])) == (
            "function_call",
            "read_file",
            {"path": "a.py"},
        )
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "print(1)"}
        events = client.turn([output], tools=[TOOL], previous_response_id=sim.turns[0].response_id)
        assert text_of(events) == "The tool returned: print(1)"


@pytest.mark.parametrize("text", ["use read_file", "use other_tool", "read_file"])
def test_without_that_tool_in_the_request_the_text_is_echoed(text: str) -> None:
    reply = coding_agent(context(text, tools=[]))
    assert reply.output[0]["content"] == f"You said: {text}"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("use read_file", "{}"),
        ("use read_file {broken", "{}"),
        ('use read_file {"a": {"b": 1}} please', '{"a": {"b": 1}}'),
        ("use read_file " + '{"a":' * 100_000, "{}"),
    ],
)
def test_a_tool_gets_the_object_that_follows_its_name(text: str, arguments: str) -> None:
    assert coding_agent(context(text, tools=[TOOL])).output[0]["arguments"] == arguments


def test_an_empty_input_is_answered_too() -> None:
    assert coding_agent(TurnContext({"model": "m"}, [], [], 0, 0)).output[0]["content"] == "Ready."


def test_a_context_knows_model_tools_and_text() -> None:
    turn = context({"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "x"}]}, tools=[TOOL, 1])
    assert (turn.model, turn.tools, turn.text) == ("m", ["read_file"], "a")


def test_a_list_is_played_in_order_over_all_connections_and_then_the_default() -> None:
    with Simulator([Reply.text("one"), Reply.text("two")]) as sim:
        with connected(sim) as client:
            assert text_of(client.turn()) == "one"
        with connected(sim) as client:
            assert text_of(client.turn()) == "two"
            assert text_of(client.turn("x")) == "You said: x"


def test_a_function_gets_the_history_and_chooses() -> None:
    def script(turn: TurnContext) -> Reply:
        return Reply.text(f"{turn.connection}/{turn.request_index}: {len(turn.seen)} items, {len(turn.input)} new")

    with Simulator(script) as sim, connected(sim) as client:
        first = client.turn("a")
        assert text_of(first) == "0/0: 1 items, 1 new"
        second = client.turn("b", previous_response_id=first[-1]["response"]["id"])
        assert text_of(second) == "0/1: 3 items, 1 new"


def test_a_function_that_returns_no_reply_is_an_error() -> None:
    with pytest.raises(TypeError, match="returned a str"):
        Player(lambda turn: "text").reply(context())  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("x", "a str is no script: give a list of Reply, or a function that returns one"),
        ("", "a str is no script"),
        (5, "a int is no script"),
        (Reply.text("x"), "a Reply is no script: give a list of Reply"),
        ([Reply.text("x"), "y"], "the script holds a str, not a Reply"),
    ],
)
def test_what_is_no_script_is_refused_at_once(script: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Simulator(script)


def test_reasoning_comes_before_the_text() -> None:
    with Simulator([Reply.reasoning_and_text("thinking", "answer")]) as sim, connected(sim) as client:
        events = client.turn()
        assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message"]
        assert "reasoning_summary_text.delta" in types(events)


def test_incomplete_ends_early_with_its_reason() -> None:
    with Simulator([Reply.incomplete("half an ans", "content_filter")]) as sim, connected(sim) as client:
        last = client.turn()[-1]
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"] == {"reason": "content_filter"}
        assert last["response"]["output"][0]["status"] == "incomplete"
        assert sim.turns[0].status == "incomplete"


def test_failed_runs_and_fails() -> None:
    with Simulator([Reply.failed("server_error", "sorry")]) as sim, connected(sim) as client:
        events = client.turn()
        assert types(events) == ["created", "in_progress", "failed"]
        assert events[-1]["response"]["error"] == {"code": "server_error", "message": "sorry"}
        assert sim.turns[0].status == "failed"


@pytest.mark.parametrize(
    ("after", "first", "turns"), [("nothing", "error", 0), ("created", "created", 1), ("output", "created", 1)]
)
def test_an_error_comes_where_it_was_asked_for(after: Any, first: str, turns: int) -> None:
    with Simulator([Reply.error(500, "server_error", "sorry", after=after)]) as sim, connected(sim) as client:
        events = client.turn()
        assert types(events)[0] == first
        assert codes(events) == ["server_error"]
        assert ("output_text.delta" in types(events)) is (after == "output")
        assert ("sequence_number" in events[-1]) is (after != "nothing")
        assert [turn.status for turn in sim.turns] == ["error"] * turns


def test_an_error_carries_its_headers() -> None:
    reply = Reply.error(429, "rate_limit_exceeded", "later", headers={"retry-after": "7"})
    with Simulator([reply]) as sim, connected(sim) as client:
        assert client.turn()[-1]["error"]["headers"] == {"retry-after": "7"}


def test_events_are_sent_verbatim_and_understood() -> None:
    item = {"type": "message", "role": "assistant", "content": []}
    script = [
        Reply.events(
            [
                {"type": "response.created", "response": {"id": "resp_own"}},
                b'{"type": "response.custom", "spaced":   1}',
                {"type": "response.output_item.done", "item": item},
                {"type": "response.completed", "response": {"id": "resp_own", "output": []}},
            ]
        )
    ]
    with Simulator(script) as sim, connected(sim) as client:
        client.create()
        client.event()
        assert client.frame()[1] == b'{"type": "response.custom", "spaced":   1}'
        client.events()
        turn = sim.turns[0]
        assert (turn.response_id, turn.status, turn.output) == ("resp_own", "completed", [item])
        assert client.turn("next", previous_response_id="resp_own")[-1]["type"] == "response.completed"
        assert sim.turns[1].seen[1] == item


def test_verbatim_events_that_only_refuse_are_no_turn() -> None:
    with Simulator([Reply.events([{"type": "error", "code": "x", "message": "y"}])]) as sim, connected(sim) as client:
        client.turn()
        assert sim.turns == []


def test_verbatim_events_without_an_end_leave_the_request_in_flight() -> None:
    script = [Reply.events([{"type": "response.created", "response": {"id": "r"}}])]
    with Simulator(script) as sim, connected(sim) as client:
        client.create("a")
        client.event()
        assert sim.turns[0].status == "in_progress"
        client.turn("b")
        assert [received.index for received in sim.overlaps] == [1]


def test_pacing_waits_between_events() -> None:
    with Simulator([Reply.text("abc").paced(0.01)]) as sim, connected(sim) as client:
        started = time.monotonic()
        events = client.turn()
        assert time.monotonic() - started >= 0.009 * (len(events) - 1)


@pytest.mark.parametrize(
    ("point", "before"),
    [("created", []), ("first_output", ["created", "in_progress"]), ("terminal", ["output_item.done"])],
)
def test_a_held_reply_waits_at_its_point(point: Any, before: list[str]) -> None:
    go = threading.Event()
    with Simulator([Reply.text("x", deltas=1).held(go, point)]) as sim, connected(sim) as client:
        client.create()
        seen: list[str] = []
        while seen[-len(before) :] != before if before else seen:
            seen += types([client.event()])
        assert client.silent_for(0.05)
        sim.ping(b"alive")
        assert client.silent_for(0.05)
        sim.wait_for(lambda s: (0, b"alive") in s.pongs, within(5))
        go.set()
        assert types(client.events())[-1] == "completed"


def test_an_empty_terminal_output_leaves_the_items_to_their_events() -> None:
    with Simulator([Reply.text("x").empty_terminal_output()]) as sim, connected(sim) as client:
        events = client.turn()
        assert events[-1]["response"]["output"] == []
        assert "output_item.done" in types(events)
        assert sim.turns[0].output[0]["content"][0]["text"] == "x"


def test_no_items_leaves_text_deltas_only() -> None:
    with Simulator([Reply.text("xyz").no_items()]) as sim, connected(sim) as client:
        events = client.turn()
        assert types(events) == ["created", "in_progress", *["output_text.delta"] * 3, "completed"]
        assert events[-1]["response"]["output"] == []
        assert text_of(events) == "xyz"
        assert [event["sequence_number"] for event in events] == sorted({e["sequence_number"] for e in events})


def test_a_big_terminal_is_big() -> None:
    with Simulator([Reply.text("x").with_big_terminal(100_000)]) as sim, connected(sim) as client:
        assert len(json.dumps(client.turn()[-1])) > 100_000


def test_items_are_completed_and_kept_in_order() -> None:
    items = [
        {"type": "function_call", "name": "a", "arguments": "{}", "call_id": "call_own"},
        {"type": "custom_tool_call", "name": "b", "input": "text"},
        {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "web_search_call", "action": {"type": "search"}},
    ]
    with Simulator([Reply.items(items)]) as sim, connected(sim) as client:
        events = client.turn()
        output = events[-1]["response"]["output"]
        assert [item["type"] for item in output] == [item["type"] for item in items]
        assert all(item["id"] and item["status"] == "completed" for item in output)
        assert output[0]["call_id"] == "call_own"
        assert output[1]["call_id"].startswith("call_")
        assert {"custom_tool_call_input.delta", "refusal.delta"} <= set(types(events))


def test_a_reply_can_carry_its_own_faults() -> None:
    script = [Reply.text("ok"), Reply.text("lost").with_faults(FAULTS["cut_mid_text"]()), Reply.text("ok")]
    with Simulator(script) as sim:
        with connected(sim) as client:
            client.turn()
            client.create()
            with pytest.raises(Exception, match="lost"):
                client.events()
        with connected(sim) as client:
            assert text_of(client.turn()) == "ok"


def test_a_reply_can_be_refused_by_its_own_fault() -> None:
    with Simulator([Reply.text("x").with_faults(FAULTS["error_503"]())]) as sim, connected(sim) as client:
        assert codes(client.turn()) == ["server_is_overloaded"]
        assert sim.turns == []


@pytest.mark.parametrize("name", ["slow_accept", "ignore_pings", "silent"])
def test_a_reply_cannot_carry_a_fault_of_the_handshake(name: str) -> None:
    with pytest.raises(ValueError, match="give it to the simulator"):
        Reply.text("x").with_faults(FAULTS[name]())


def test_modifiers_return_new_replies() -> None:
    reply = Reply.text("x")
    assert reply.paced(1) is not reply
    assert reply.pace == 0


def test_a_mapping_of_arguments_becomes_json() -> None:
    assert Reply.tool_call("f", {"a": 1}).output[0]["arguments"] == '{"a": 1}'
    assert Reply.tool_call("f", "{ }", "call_9").output[0]["call_id"] == "call_9"


def test_two_connections_are_answered_side_by_side() -> None:
    go = threading.Event()
    script = [Reply.text("slow").held(go), Reply.text("quick")]
    with Simulator(script) as sim, connected(sim) as one, connected(sim) as two:
        one.create()
        sim.wait_for(lambda s: s.requests, within(5))
        assert text_of(two.turn()) == "quick"
        go.set()
        assert text_of(one.events()) == "slow"
