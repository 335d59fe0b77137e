"""The caller's echo of what the model said: in any canonical form it continues, and anything else is replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors.simulator import Reply, Simulator
from tests.scenarios.caller import Caller, Item, tool_output, user

Talk = Callable[..., Caller]
Simulate = Callable[..., Simulator]

ANSWER = Reply.items(
    [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "thinking"}]},
        {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "function_call", "name": "read", "arguments": '{"path": "a.py", "line": 1}', "call_id": "call_1"},
        {"type": "function_call", "name": "read", "arguments": "{}", "call_id": "call_2"},
    ]
)
RESULTS = [tool_output({"call_id": f"call_{n}"}, "contents") for n in (1, 2)]


def without(*names: str) -> Callable[[list[Item]], list[Item]]:
    return lambda items: [{name: value for name, value in item.items() if name not in names} for item in items]


def message_as(**changes: Any) -> Callable[[list[Item]], list[Item]]:
    return lambda items: [item | changes if item["type"] == "message" else item for item in items]


def respaced(items: list[Item]) -> list[Item]:
    for item in items:
        if "arguments" in item:
            item["arguments"] = json.dumps(json.loads(item["arguments"]), indent=2, sort_keys=True)
    return items


def no_type(items: list[Item]) -> list[Item]:
    return [{k: v for k, v in item.items() if k != "type"} if item["type"] == "message" else item for item in items]


@pytest.mark.parametrize(
    "echo",
    [
        list,
        without("id"),
        without("status"),
        without("id", "status"),
        message_as(content="I look."),
        message_as(content=[{"type": "output_text", "text": "I "}, {"type": "output_text", "text": "look."}]),
        no_type,
        lambda items: no_type(message_as(content="I look.")(without("id", "status")(items))),
        lambda items: [item for item in items if item["type"] != "reasoning"],
        respaced,
    ],
    ids=[
        "as it came",
        "no ids",
        "no status",
        "neither",
        "text content",
        "text in two parts",
        "no type",
        "the short form",
        "no reasoning",
        "arguments written anew",
    ],
)
@pytest.mark.parametrize("listed", [True, False], ids=["terminal lists", "terminal lists nothing"])
def test_an_echo_in_any_canonical_form_continues(
    talk: Talk, simulated: Simulate, echo: Callable[..., list[Item]], listed: bool
) -> None:
    sim = simulated([ANSWER if listed else ANSWER.empty_terminal_output()])
    caller = talk(sim)
    caller.say("look")
    caller.history = [caller.history[0], *echo([dict(item) for item in caller.history[1:]]), *RESULTS]

    assert caller.send().reason is None
    assert caller.wire()["input"] == RESULTS


def test_text_deltas_alone_stand_for_one_message(talk: Talk, simulated: Simulate) -> None:
    sim = simulated([Reply.text("I said it in pieces.").no_items()])
    caller = talk(sim)

    answer = caller.say("first")

    assert answer.output == [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I said it in pieces."}]}
    ]
    assert caller.say("second").reason is None


def edited(items: list[Item]) -> list[Item]:
    return message_as(content="I don't look.")(items)


@pytest.mark.parametrize(
    "change",
    [
        edited,
        lambda items: [items[0], items[2], items[1], items[3]],
        lambda items: [items[0], items[1], items[3], items[2]],
        lambda items: [item for item in items if item["type"] != "message"],
        lambda items: items[:-1],
        lambda items: [item | {"arguments": '{"path": "b.py"}'} if "arguments" in item else item for item in items],
        lambda items: [item | {"call_id": "call_9"} if item.get("call_id") == "call_2" else item for item in items],
        lambda items: [user("in between"), *items],
        lambda items: [],
    ],
    ids=[
        "edited text",
        "calls before text",
        "calls swapped",
        "no message",
        "a call missing",
        "edited arguments",
        "another call id",
        "something in between",
        "nothing of it",
    ],
)
@pytest.mark.parametrize("listed", [True, False], ids=["terminal lists", "terminal lists nothing"])
def test_an_echo_that_says_something_else_goes_out_in_full(
    talk: Talk, simulated: Simulate, change: Callable[..., list[Item]], listed: bool
) -> None:
    sim = simulated([ANSWER if listed else ANSWER.empty_terminal_output()])
    caller = talk(sim)
    caller.say("look")
    caller.history = [caller.history[0], *change([dict(item) for item in caller.history[1:]]), *RESULTS]

    answer = caller.send()

    assert answer.reason == "output_mismatch"
    assert caller.wire()["input"] == caller.history
