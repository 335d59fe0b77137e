"""What counts as the same history, and what must not."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.simulator import same_history

Item = dict[str, Any]


def user(text: str) -> Item:
    return {"role": "user", "content": text}


SERVER_MESSAGE: Item = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}],
}
SERVER_CALL: Item = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a": 1, "b": 2}',
}
REASONING: Item = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
OUTPUT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "42"}


@pytest.mark.parametrize(
    ("meant", "seen"),
    [
        ([], []),
        ("hi", [user("hi")]),
        ("hi", [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]),
        ([SERVER_MESSAGE], [SERVER_MESSAGE]),
        ([{"role": "assistant", "content": "hello"}], [SERVER_MESSAGE]),
        ([{"role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}], [SERVER_MESSAGE]),
        ([{"role": "assistant", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}],
         [SERVER_MESSAGE]),
        ([{"role": "user", "content": []}], [user("")]),
        ([{"role": "user", "content": "x", "name": None}], [user("x")]),
        ([{"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"b":2,"a":1}'}], [SERVER_CALL]),
        ([user("a"), SERVER_MESSAGE], [user("a"), REASONING, SERVER_MESSAGE]),
        ([user("a"), REASONING, SERVER_MESSAGE], [user("a"), REASONING, SERVER_MESSAGE]),
        ([user("a")], [user("a"), REASONING]),
        ([{"type": "reasoning", "summary": REASONING["summary"]}], [REASONING]),
        ([SERVER_CALL, OUTPUT], [SERVER_CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "42"}]}]),
        ([{"type": "future", "x": 1}],
         [{"type": "future", "x": 1, "id": "i", "status": "completed", "made_by": "server"}]),
    ],
)  # fmt: skip
def test_the_same(meant: str | list[Item], seen: list[Item]) -> None:
    assert same_history(meant, seen) is None


@pytest.mark.parametrize(
    ("meant", "seen"),
    [
        ([user("a")], []),
        ([], [user("a")]),
        ([user("a")], [user("b")]),
        ([user("a"), user("b")], [user("b"), user("a")]),
        ([user("a")], [user("a"), user("a")]),
        ([user("a"), user("a")], [user("a")]),
        ([user("a")], [{"role": "developer", "content": "a"}]),
        ([user("a")], [{"content": "a"}]),
        ([user("a ")], [user("a")]),
        ([SERVER_MESSAGE], [SERVER_CALL]),
        ([{**SERVER_CALL, "call_id": "call_2"}], [SERVER_CALL]),
        ([{**SERVER_CALL, "name": "g"}], [SERVER_CALL]),
        ([{**SERVER_CALL, "arguments": '{"a": 1, "b": 3}'}], [SERVER_CALL]),
        ([{**SERVER_CALL, "arguments": '{"a": 1.0, "b": 2}'}], [SERVER_CALL]),
        ([{**SERVER_CALL, "arguments": '{"a": true, "b": 2}'}], [SERVER_CALL]),
        ([{**SERVER_CALL, "arguments": "{"}], [SERVER_CALL]),
        ([{**SERVER_CALL, "arguments": '{"a": 0, "a": 1, "b": 2}'}], [SERVER_CALL]),
        ([{"type": "function_call", "call_id": "call_1", "name": "f"}], [SERVER_CALL]),
        ([{**OUTPUT, "call_id": "call_2"}], [OUTPUT]),
        ([{**OUTPUT, "output": "43"}], [OUTPUT]),
        ([{"type": "function_call_output", "call_id": "call_1"}], [OUTPUT]),
        ([REASONING, user("a")], [user("a")]),
        ([REASONING], [{**REASONING, "id": "rs_2"}]),
        ([REASONING], [{**REASONING, "summary": []}]),
        ([user("a"), REASONING], [REASONING, user("a")]),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}],
         [{"role": "user", "content": [{"type": "input_image", "image_url": "v"}]}]),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_image", "image_url": "u"}]}],
         [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}, {"type": "text", "text": "a"}]}]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
         [{"role": "assistant", "content": "no"}]),
        ([{"role": "user", "content": "x", "name": "n"}], [user("x")]),
        ([{"type": "future", "x": 1}], [{"type": "future", "x": True}]),
        ([{"type": "item_reference", "id": "a"}], [{"type": "item_reference", "id": "b"}]),
        ([{"role": "user", "content": ["a"]}], [user("a")]),
    ],
)  # fmt: skip
def test_not_the_same(meant: list[Item], seen: list[Item]) -> None:
    assert same_history(meant, seen) is not None


def test_the_first_difference_is_named_with_both_items() -> None:
    difference = same_history([user("same"), user("meant this")], [user("same"), user("saw that")])
    assert difference is not None
    assert "item 1" in difference
    assert "content" in difference
    assert "meant this" in difference
    assert "saw that" in difference


def test_a_missing_and_an_extra_item_are_called_so() -> None:
    assert "missing" in str(same_history([user("a")], []))
    assert "extra" in str(same_history([], [user("a")]))


def test_a_difference_in_a_long_item_is_cut_short() -> None:
    assert len(str(same_history([user("a" * 10_000)], [user("b" * 10_000)]))) < 600
