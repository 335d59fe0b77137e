"""Delta or full replay, as tables.

Covers C25 to C30 and C42 to C46 as far as a plan decides them, T16, T19, T24, T25, T26, X6, X11, X16, X17, X18, X25, P1, P2,
P3, with design section 6: dropped items have to be what the provider put out (`output_mismatch`), and a caller's own
continuation is not touched. The same through whole turns: test_lifecycle.py.
"""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from pixir_actors.core.continuation import (
    FRESH,
    Anchor,
    Cold,
    Continuation,
    ResetReason,
    after_response,
    echoes,
    match_output,
    plan,
    same_json,
    text_message,
)
from pixir_actors.core.payload import full_text, parse
from pixir_actors.core.text import parts_of
from tests.core.machine import assistant, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok", id="msg_1", status="completed")
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "ls", "arguments": '{"a":1,"b":[true]}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "file"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}}

Items = list[Any]


def anchor(input: Items | None = None, output: Items | None = None, model: Any = "gpt") -> Anchor:
    return Anchor("resp_1", [ONE] if input is None else input, [SAID] if output is None else output, model)


def payload_of(input: Any, model: Any = "gpt", **fields: Any) -> dict[str, Any]:
    return {"type": "response.create", "store": False, "model": model, "input": input, **fields}


def decide(continuation: Continuation, payload: dict[str, Any]) -> tuple[Any, ResetReason | None]:
    """Return the input on the wire and the reason, having checked that wire and evidence say the same."""
    body, before = orjson.dumps(payload), copy.deepcopy(payload)
    decided = plan(continuation, payload, body)
    wire = orjson.loads(decided.wire)
    assert payload == before
    assert decided.attempted == (decided.reset_reason is None)
    assert decided.attempted or decided.wire is body
    if decided.attempted:
        assert isinstance(continuation, Anchor)
        assert wire == payload | {"input": wire["input"], "previous_response_id": continuation.response_id}
        assert decided.uses_previous_id
    return wire.get("input"), decided.reset_reason


DELTAS = {
    "T16 a late delta": ([ONE, SAID, TWO], [TWO]),
    "C27 a message without type, its text as a string": ([ONE, {"role": "assistant", "content": "ok"}, TWO], [TWO]),
    "C27 new items of every kind are kept, in order": ([ONE, SAID, RESULT, SEARCH, TWO], [RESULT, SEARCH, TWO]),
    "C27 new items that are no objects are kept": ([ONE, SAID, "text", 1, None], ["text", 1, None]),
    "C27 a further assistant item is the caller's own and is kept": ([ONE, SAID, SAID, TWO], [SAID, TWO]),
    "C28 the order of keys does not matter": ([{"content": "one", "role": "user"}, SAID, TWO], [TWO]),
}


@pytest.mark.parametrize(("input", "delta"), DELTAS.values(), ids=DELTAS)
def test_what_is_proven_goes_out_as_a_delta(input: Items, delta: Items) -> None:
    assert decide(anchor(), payload_of(input)) == (delta, None)


R = ResetReason
FULL: dict[str, tuple[Any, dict[str, Any], ResetReason]] = {
    "T24 another model": ([ONE, SAID, TWO], {"model": "other"}, R.MODEL_CHANGED),
    "C25a another model comes before another prefix": ([TWO], {"model": "other"}, R.MODEL_CHANGED),
    "C25a no model is another model": ([ONE, SAID, TWO], {"model": None}, R.MODEL_CHANGED),
    "T25 an edited item": ([TWO, SAID, TWO], {}, R.PREFIX_MISMATCH),
    "C25b a shorter input": ([], {}, R.PREFIX_MISMATCH),
    "X18 a list, then a string": ("text", {}, R.PREFIX_MISMATCH),
    "C25b an input that is an object": ({"a": 1}, {}, R.PREFIX_MISMATCH),
    "C26 no input after some": (None, {}, R.PREFIX_MISMATCH),
    "T26 nothing but the echo": ([ONE, SAID], {}, R.EMPTY_DELTA),
    "C25c the same request again": ([ONE], {}, R.EMPTY_DELTA),
    "C27 fixed: an edited answer": ([ONE, assistant("OK"), TWO], {}, R.OUTPUT_MISMATCH),
    "C27 fixed: a missing answer": ([ONE, TWO], {}, R.OUTPUT_MISMATCH),
    "C27 fixed: a reordered answer": ([ONE, TWO, SAID], {}, R.OUTPUT_MISMATCH),
}


@pytest.mark.parametrize(("input", "change", "reason"), FULL.values(), ids=FULL)
def test_everything_else_goes_out_in_full_with_a_reason(input: Any, change: dict[str, Any], reason: ResetReason) -> None:
    assert decide(anchor(), payload_of(input, **change)) == (input, reason)


def test_two_absent_models_are_the_same() -> None:  # C25a
    payload = payload_of([ONE, SAID, TWO])
    del payload["model"]

    assert decide(anchor(model=None), payload) == ([TWO], None)


def test_an_absent_input_is_an_empty_one_and_can_be_extended() -> None:  # C26
    for absent in ({}, {"input": None}, {"input": False}):
        continuation = after_response({"model": "gpt"} | absent, "resp_1", [SAID])

        assert decide(continuation, payload_of([SAID, TWO])) == ([TWO], None)
        assert decide(continuation, {"model": "gpt"} | absent)[1] == R.EMPTY_DELTA


@pytest.mark.parametrize("reason", list(ResetReason))
def test_a_cold_connection_sends_all_and_says_why_it_is_cold(reason: ResetReason) -> None:  # C25 2., 3.
    assert decide(Cold(reason), payload_of([ONE, SAID, TWO])) == ([ONE, SAID, TWO], reason)


@pytest.mark.parametrize("field", ["instructions", "tools", "reasoning", "text", "prompt_cache_key"])
def test_other_fields_do_not_decide_and_are_sent_in_full(field: str) -> None:  # C29, X25
    decided = plan(anchor(), payload_of([ONE, SAID, TWO], **{field: "changed"}), b"")

    assert decided.attempted
    assert orjson.loads(decided.wire)[field] == "changed"


LARGE = user("x" * 70_000)
CUT: dict[str, tuple[Items, Items, list[Any]]] = {
    # input of the turn before, its output, and what comes behind it: the echo, and what is new
    "behind its echo": ([ONE], [SAID], [SAID, LARGE, TWO]),
    "its echo is two items": ([ONE], [CALL, SAID], [CALL, SAID, LARGE]),
    "its echo is in part": ([ONE], [THOUGHT, SAID], [SAID, LARGE]),
    "its echo has another order": ([ONE], [SAID], [dict(reversed(SAID.items())), LARGE]),
    "no output": ([ONE], [], [LARGE, {"n": [1, "ü"]}, 5]),
    "no echo of what may be dropped": ([ONE, TWO], [THOUGHT], [LARGE]),
}
BEHIND = [{}, {"tools": [{"type": "x"}], "reasoning": {"a": []}}]


@pytest.mark.parametrize("behind", BEHIND, ids=["last", "with fields behind"])
@pytest.mark.parametrize(("first", "output", "more"), CUT.values(), ids=CUT)
def test_a_large_delta_goes_out_as_it_stands_in_the_body(
    first: Items, output: Items, more: Items, behind: dict[str, Any]
) -> None:
    before = parse(full_text(orjson.dumps({"model": "gpt", "input": first} | behind)))
    now = parse(full_text(orjson.dumps({"model": "gpt", "input": first + more} | behind)), before)
    continuation = after_response(before.payload, "resp_1", output)

    cut = plan(continuation, now.payload, now.text, now.grown)

    written = plan(continuation, now.payload, now.text)
    assert cut == written
    assert written.attempted
    assert isinstance(written.wire, bytes)
    whole = [part.obj for part in parts_of(cut.wire) if isinstance(part, memoryview) and len(part) > 70_000]
    assert [each is now.text for each in whole] == [True]


SPACED = orjson.dumps(SAID).replace(b":", b": ")
WRITTEN: dict[str, tuple[Items, bytes]] = {
    "it is small": ([SAID], orjson.dumps(SAID) + b", " + orjson.dumps(TWO)),
    "its echo is written otherwise": ([SAID], SPACED + b"," + orjson.dumps(LARGE)),
    "a blank stands in front of its echo": ([SAID], b" " + orjson.dumps(SAID) + b"," + orjson.dumps(LARGE)),
    "a blank stands behind its echo": ([SAID], orjson.dumps(SAID) + b" ," + orjson.dumps(LARGE)),
}


@pytest.mark.parametrize(("output", "more"), WRITTEN.values(), ids=WRITTEN)
def test_a_delta_is_written_anew_where_it_is_small_or_not_certain_where_it_begins(output: Items, more: bytes) -> None:
    before = parse(full_text(orjson.dumps({"model": "gpt", "input": [ONE]})))
    now = parse(bytes(before.text).replace(b"]", b"," + more + b"]", 1), before)
    assert now.grown is not None
    continuation = after_response(before.payload, "resp_1", output)

    decided = plan(continuation, now.payload, now.text, now.grown)

    assert isinstance(decided.wire, bytes)
    assert decided == plan(continuation, now.payload, now.text)
    assert decided.attempted


def test_a_body_that_goes_on_from_another_one_than_the_provider_knows_is_written_anew() -> None:
    """As behind a request that failed: what is new in the text is not all that is new to the provider."""
    known = parse(full_text(orjson.dumps({"model": "gpt", "input": [ONE]})))
    failed = parse(full_text(orjson.dumps({"model": "gpt", "input": [ONE, SAID, TWO]})), known)
    now = parse(full_text(orjson.dumps({"model": "gpt", "input": [ONE, SAID, TWO, LARGE]})), failed)
    continuation = after_response(known.payload, "resp_1", [SAID])

    decided = plan(continuation, now.payload, now.text, now.grown)

    assert orjson.loads(bytes(decided.wire))["input"] == [TWO, LARGE]
    assert isinstance(decided.wire, bytes)


@pytest.mark.parametrize(("field", "used"), [("previous_response_id", True), ("conversation", False)])
@pytest.mark.parametrize("continuation", [FRESH, anchor()], ids=["cold", "warm"])
def test_a_callers_own_continuation_goes_out_untouched(  # X6, C32
    continuation: Continuation, field: str, used: bool
) -> None:
    payload = payload_of([ONE, SAID, TWO], **{field: "theirs"})
    decided = plan(continuation, payload, b"the body")

    assert (decided.wire, decided.attempted) == (b"the body", False)
    assert (decided.reset_reason, decided.uses_previous_id) == (R.CALLER_CONTINUATION, used)
    assert after_response(payload, "resp_2", [SAID]) == Cold(R.CALLER_CONTINUATION)


AFTER: dict[str, tuple[Any, str | None, Continuation]] = {
    "C43 id, full input, output and model together": ([ONE], "resp_2", Anchor("resp_2", [ONE], [SAID], "gpt")),
    "C44 fixed: no id, nothing to continue from": ([ONE], None, FRESH),
    "P3 an empty id is none": ([ONE], "", FRESH),
    "X18 a string input": ("text", "resp_2", FRESH),
    "C26 no input": (None, "resp_2", Anchor("resp_2", [], [SAID], "gpt")),
}


@pytest.mark.parametrize(("input", "id", "expected"), AFTER.values(), ids=AFTER)
def test_the_parts_of_an_anchor_move_together(input: Any, id: str | None, expected: Continuation) -> None:
    assert after_response(payload_of(input), id, [SAID]) == expected


EQUAL = {
    "X17 1 and 1.0": (1, 1.0, True),
    "X17 true and 1": (True, 1, False),
    "P2 false and 0": (False, 0, False),
    "P2 deep inside": ({"a": [{"b": True}]}, {"a": [{"b": 1}]}, False),
    "P2 1 and 1.0 deep inside, beside a true": ({"a": [1, True]}, {"a": [1.0, True]}, True),
    "P2 1.0 and true": ([1.0], [True], False),
    "P3 null and false": (None, False, False),
    "P3 null and absent": ({"a": None}, {}, False),
    "C28 the order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    "the order of items": ([1, 2], [2, 1], False),
    "a string and a number": ("1", 1, False),
    "large whole numbers": (2**53 + 1, float(2**53), False),
    "empty list and empty object": ([], {}, False),
}


@pytest.mark.parametrize(("left", "right", "equal"), EQUAL.values(), ids=EQUAL)
def test_json_values_are_compared_with_their_types(left: Any, right: Any, equal: bool) -> None:
    assert same_json(left, right) is equal
    assert same_json(right, left) is equal


def test_values_nested_deeper_than_can_be_written_are_compared_all_the_same() -> None:
    deep: Any = True
    other: Any = 1
    for _ in range(300):
        deep, other = [deep], [other]

    assert same_json(deep, copy.deepcopy(deep))
    assert not same_json(deep, other)


def without(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


PARTS = [{"type": "output_text", "text": "o", "annotations": [1]}, {"type": "output_text", "text": "k"}]
REFUSAL = assistant("") | {"content": [{"type": "refusal", "refusal": "no"}]}
PATCH = {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** a"}
ECHOES = {
    "X16 the very item": (SAID, SAID),
    "id and status stripped": (assistant("ok"), SAID),
    "a text as a string": ({"role": "assistant", "content": "ok"}, SAID),
    "a text in several parts": (SAID | {"content": PARTS}, SAID),
    "several parts as one": (SAID, SAID | {"content": PARTS}),
    "an empty part": (SAID | {"content": [*SAID["content"], {"type": "output_text", "text": ""}]}, SAID),
    "annotations and logprobs dropped": (SAID, SAID | {"annotations": [1], "logprobs": []}),
    "a refusal": (without(REFUSAL, "type"), REFUSAL),
    "a field that was dropped": (SAID, SAID | {"phase": "final"}),
    "a field that is null": (SAID | {"phase": None}, SAID),
    "a call": (CALL, CALL),
    "a call without id": (without(CALL, "id"), CALL | {"status": "completed"}),
    "a call's arguments written anew": (CALL | {"arguments": '{ "b": [true], "a": 1 }'}, CALL),
    "a call's arguments that are no JSON": (CALL | {"arguments": "{"}, CALL | {"arguments": "{"}),
    "a custom call": (PATCH, PATCH | {"id": "ctc_1"}),
    "reasoning without its id": (without(THOUGHT, "id"), THOUGHT),
    "reasoning without its content": (without(THOUGHT, "encrypted_content"), THOUGHT),
    "another kind, without id and status": (without(SEARCH, "id", "status"), SEARCH),
    "an item that is no object": ("text", "text"),
}
EDITS = {
    "a text": (assistant("ok!"), SAID),
    "a role": (SAID | {"role": "user"}, SAID),
    "content that is none": (SAID | {"content": None}, SAID),
    "an image beside the text": (SAID | {"content": [*SAID["content"], {"type": "input_image"}]}, SAID),
    "a part left out": (SAID | {"content": []}, SAID),
    "a refusal as a text": (assistant("no"), REFUSAL),
    "a field of the caller's own": (SAID | {"phase": "final"}, SAID),
    "a field's value": (SAID | {"phase": "a"}, SAID | {"phase": "b"}),
    "a call's id": (CALL | {"call_id": "call_2"}, CALL),
    "a call's name": (CALL | {"name": "rm"}, CALL),
    "a call's arguments": (CALL | {"arguments": '{"a":2,"b":[true]}'}, CALL),
    "X17 a call's argument by its type": (CALL | {"arguments": '{"a":1,"b":[1]}'}, CALL),
    "a call's arguments cut off": (CALL | {"arguments": '{"a":1,'}, CALL),
    "a call's arguments left out": (without(CALL, "arguments"), CALL),
    "a custom call's input by white space": (PATCH | {"input": "*** a "}, PATCH),
    "reasoning by its id": (THOUGHT | {"id": "rs_2"}, THOUGHT),
    "reasoning by its content": (THOUGHT | {"encrypted_content": "abc"}, THOUGHT),
    "another kind by a value": (SEARCH | {"action": {"query": "other"}}, SEARCH),
    "another kind by its id": (SEARCH | {"id": "ws_2"}, SEARCH),
    "another kind by a field left out": (without(SEARCH, "action"), SEARCH),
    "a type": (CALL | {"type": "function_call_output"}, CALL),
    "an object for none": ({"type": "message"}, "text"),
}


@pytest.mark.parametrize(("item", "put_out"), ECHOES.values(), ids=ECHOES)
def test_an_echo_may_differ_in_form(item: Any, put_out: Any) -> None:
    assert echoes(item, put_out)


@pytest.mark.parametrize(("item", "put_out"), EDITS.values(), ids=EDITS)
def test_an_echo_may_not_differ_in(item: Any, put_out: Any) -> None:
    assert not echoes(item, put_out)


OTHER_THOUGHT = THOUGHT | {"id": "rs_2", "encrypted_content": "abc"}
MATCHES: dict[str, tuple[Items, Items, int | None]] = {
    "X16 all of it, and more": ([THOUGHT, SAID, CALL, RESULT], [THOUGHT, SAID, CALL], 3),
    "X16 reasoning dropped": ([SAID, CALL, RESULT], [THOUGHT, SAID, OTHER_THOUGHT, CALL], 2),
    "X16 nothing but reasoning, dropped": ([RESULT], [THOUGHT], 0),
    "X16 a message missing": ([CALL, RESULT], [SAID, CALL], None),
    "X16 a call missing": ([SAID, RESULT], [SAID, CALL], None),
    "X16 a call missing at the end": ([SAID], [SAID, CALL], None),
    "X16 out of order": ([CALL, SAID], [SAID, CALL], None),
    "X16 edited reasoning before a message": ([OTHER_THOUGHT, SAID], [THOUGHT, SAID], None),
    "X16 edited reasoning alone": ([OTHER_THOUGHT, TWO], [THOUGHT], None),
    "X16 no output at all": ([TWO], [], 0),
}


@pytest.mark.parametrize(("items", "output", "count"), MATCHES.values(), ids=MATCHES)
def test_the_echo_has_to_be_all_of_the_output_in_order(items: Items, output: Items, count: int | None) -> None:
    assert match_output(items, output) == count


def test_text_deltas_stand_for_a_message_that_was_not_listed() -> None:
    assert match_output([SAID, TWO], [text_message("ok")]) == 1
    assert match_output([TWO], [text_message("ok")]) is None


def test_an_anchor_and_a_plan_do_not_print_what_was_said() -> None:
    shown = repr(anchor()) + repr(plan(FRESH, payload_of([ONE]), b"one"))

    assert "one" not in shown
    assert "ok" not in shown
