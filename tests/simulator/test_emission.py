"""The documented event sequence."""

from __future__ import annotations

import threading

import pytest

from pixir_actors.simulator import Reply
from pixir_actors.simulator.emission import Facts, arranged, chunks, complete_items, operations, tokens
from pixir_actors.simulator.operation import Emit, Hold, SendClose, Settle, Sleep
from pixir_actors.simulator.rejection import connection_limit

FACTS = Facts("resp_abc", {"model": "m", "tools": [{"name": "t"}], "instructions": "i"}, 1, 5, 9)


def events(reply: Reply) -> list[dict]:  # type: ignore[type-arg]
    output = complete_items(reply, FACTS.response_id)
    return [dict(one.event) for one in operations(reply, FACTS, output) if isinstance(one, Emit)]  # type: ignore[arg-type]


def test_a_text_has_the_documented_sequence_numbered_from_zero() -> None:
    sequence = events(Reply.text("hello", deltas=2))
    assert [event["type"] for event in sequence] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in sequence] == list(range(10))


def test_a_call_has_its_arguments_in_deltas() -> None:
    sequence = events(Reply.tool_call("f", '{"a":1}'))
    types = [event["type"] for event in sequence]
    assert types.count("response.function_call_arguments.delta") == 3
    done = next(event for event in sequence if event["type"] == "response.function_call_arguments.done")
    assert done["arguments"] == '{"a":1}'
    added = next(event for event in sequence if event["type"] == "response.output_item.added")
    assert (added["item"]["status"], added["item"]["arguments"], added["item"]["name"]) == ("in_progress", "", "f")


def test_the_response_object_is_full_at_the_end() -> None:
    sequence = events(Reply.text("hello"))
    first, last = sequence[0]["response"], sequence[-1]["response"]
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert (last["status"], last["id"], last["model"]) == ("completed", "resp_abc", "m")
    assert last["output"][0]["content"][0]["text"] == "hello"
    assert last["usage"]["input_tokens"] == 9
    assert last["usage"]["input_tokens_details"] == {"cached_tokens": 5}
    assert last["usage"]["total_tokens"] == 9 + last["usage"]["output_tokens"]
    assert (last["tools"], last["instructions"]) == ([{"name": "t"}], "i")


def test_a_text_is_cut_into_pieces_none_of_them_empty() -> None:
    assert chunks("abcdefg", 3) == ["ab", "cd", "efg"]
    assert chunks("ab", 5) == ["a", "b"]
    assert chunks("", 3) == []


def test_an_empty_text_has_no_delta() -> None:
    assert not [event for event in events(Reply.text("")) if event["type"].endswith(".delta")]


def test_pace_and_holds_stand_before_their_events_and_settle_just_before_the_end() -> None:
    go = threading.Event()
    created, done = Emit({"type": "response.created"}), Emit({"type": "response.completed"})
    reply = Reply.text("x").paced(1.0).held(go, "terminal")
    assert arranged(reply, [created, done]) == [created, Hold(go), Sleep(1.0), Settle(), done]


@pytest.mark.parametrize("point", ["created", "first_output", "terminal"])
def test_a_hold_applies_also_to_a_reply_that_lacks_its_point(point: str) -> None:
    go = threading.Event()
    emit = Emit({"type": "response.other"})
    assert Hold(go) in arranged(Reply.text("x").held(go, point), [emit])  # type: ignore[arg-type]


def test_a_limit_notice_is_followed_by_its_close() -> None:
    last = operations(Reply(rejection=connection_limit()), FACTS, [])[-1]
    assert isinstance(last, SendClose)
    assert last.code == 1000


def test_tokens_grow_with_the_text() -> None:
    assert tokens(["x" * 400]) > tokens(["x" * 40]) > 0
