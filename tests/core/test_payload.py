"""The envelope: what a caller's body becomes.

Covers C23 (the decoding; that nothing is degraded follows from its happening before anything else), C24, X8, X24, P4; and
that a body which goes on from the one before it reads as if it had been read alone.
"""

from __future__ import annotations

import json
from operator import is_
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixir_actors.core.payload import Parsed, Whole, continues_itself, full_text, http_body, parse, prefill
from pixir_actors.core.text import Pieces, parts_of
from pixir_actors.errors import ErrorCode, InvalidRequest

ENVELOPE = {"type": "response.create", "store": False}

BAD_BODIES = {
    "C23 nothing": (b"", "is not JSON"),
    "C23 no JSON": (b"{", "is not JSON"),
    "C23 an array": (b"[]", "is a JSON array, not an object"),
    "C23 a string": (b'"x"', "is a JSON string, not an object"),
    "C23 a number": (b"1.5", "is a JSON number, not an object"),
    "C23 a boolean": (b"true", "is a JSON boolean, not an object"),
    "C23 null": (b"null", "is a JSON null, not an object"),
    "C23 two objects": (b"{}{}", "is not JSON"),
    "P4 NaN": (b'{"a": NaN}', "is not JSON"),
    "P4 Infinity": (b'{"a": -Infinity}', "is not JSON"),
    "P4 bytes that are no UTF-8": (b'{"a": "\xff"}', "is not JSON"),
    "P4 half a surrogate pair": (b'{"a": "\xed\xa0\x80"}', "is not JSON"),
}


@pytest.mark.parametrize(("body", "problem"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_is_no_json_object_is_refused_as_the_callers_mistake(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as caught:
        parse(body)

    assert caught.value.code is ErrorCode.INVALID_PROVIDER_REQUEST
    assert caught.value.field == "body"


def test_the_refusal_holds_no_word_of_the_body_not_even_in_its_context() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(b'{"input": "CANARY" oops')

    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None


PAYLOADS = {
    "C24 an empty body": ({}, {}),
    "C24 stream is dropped": ({"stream": True}, {}),
    "C24 store is overwritten": ({"store": True}, {}),
    "C24 type is overwritten": ({"type": "other"}, {}),
    "C24 background, cache key, tools, instructions stay": (
        {"background": True, "prompt_cache_key": "px1:a", "tools": [{"type": "x"}], "instructions": "be"},
        {"background": True, "prompt_cache_key": "px1:a", "tools": [{"type": "x"}], "instructions": "be"},
    ),
    "C24 fields that nobody knows stay": ({"new_field": {"a": None}}, {"new_field": {"a": None}}),
    "X6 the caller's own id keeps its store": (
        {"previous_response_id": "resp_9", "store": True},
        {"previous_response_id": "resp_9", "store": True},
    ),
    "X6 the caller's conversation keeps its store": (
        {"conversation": "conv_1", "store": True},
        {"conversation": "conv_1", "store": True},
    ),
    "X6 a null id is none": ({"previous_response_id": None, "store": True}, {"previous_response_id": None}),
}


@pytest.mark.parametrize(("body", "rest"), PAYLOADS.values(), ids=PAYLOADS)
def test_the_payload_is_the_body_in_its_envelope(body: dict[str, object], rest: dict[str, object]) -> None:
    expected = ENVELOPE | rest
    if continues_itself(body) and "store" not in rest:
        del expected["store"]

    payload, text, *_ = parse(orjson.dumps(body))

    assert payload == expected
    assert orjson.loads(text) == expected


def test_a_body_that_continues_itself_and_says_nothing_of_store_gets_none() -> None:
    payload, *_ = parse(b'{"previous_response_id": "resp_9"}')

    assert payload == {"type": "response.create", "previous_response_id": "resp_9"}


OWN = {
    "an id": ({"previous_response_id": "resp_9"}, True),
    "P3 an empty id is one": ({"previous_response_id": ""}, True),
    "a conversation": ({"conversation": {"id": "conv_1"}}, True),
    "nulls": ({"previous_response_id": None, "conversation": None}, False),
    "neither": ({"input": []}, False),
}


@pytest.mark.parametrize(("payload", "own"), OWN.values(), ids=OWN)
def test_a_body_continues_itself_by_an_id_or_a_conversation(payload: dict[str, object], own: bool) -> None:
    assert continues_itself(payload) is own


def test_a_text_outlives_the_round_trip_unchanged() -> None:
    payload, text, *_ = parse('{"model":"gpt","input":"Grüße 👋\\u0000","n":[1,1.5,true,null]}'.encode())

    assert orjson.loads(text) == payload
    assert payload["input"] == "Grüße 👋\0"


IN_FORM = {
    "a full payload": b'{ "type": "response.create", "store": false, "input": [] }',
    "one that continues itself": b'{ "type": "response.create", "conversation": "conv_1", "store": true }',
}


@pytest.mark.parametrize("body", IN_FORM.values(), ids=IN_FORM)
def test_a_body_that_is_in_form_already_is_its_own_text(body: bytes) -> None:
    payload, text, *_ = parse(body)

    assert text is body
    assert payload == orjson.loads(body)


@pytest.mark.parametrize("fields", [b"", b'"type":"response.create","store":false,'], ids=["bare", "in form"])
@pytest.mark.parametrize("levels", [300, 1000], ids=["300 levels", "1000 levels"])
def test_a_body_nested_too_deep_to_be_written_is_refused(fields: bytes, levels: int) -> None:
    body = b"{" + fields + b'"input":' + b"[" * levels + b'"CANARY"' + b"]" * levels + b"}"

    with pytest.raises(InvalidRequest, match="nested deeper") as caught:
        parse(body)

    assert "CANARY" not in str(caught.value)


def test_a_warm_up_is_the_request_without_an_answer_wanted() -> None:
    payload, *_ = parse(b'{"model": "gpt", "input": [1]}')

    assert orjson.loads(prefill(payload)) == payload | {"generate": False}
    assert "generate" not in payload


def test_over_http_nothing_of_the_websockets_envelope_goes_out() -> None:
    payload, *_ = parse(b'{"type": "response.create", "stream_id": "main", "model": "gpt", "input": [1]}')

    assert orjson.loads(http_body(payload)) == {"store": False, "stream": True, "model": "gpt", "input": [1]}
    assert payload["type"] == "response.create"


def body(*items: Any, **behind: Any) -> bytes:
    return full_text(orjson.dumps({"model": "gpt", "input": list(items), **behind}))


def test_a_body_that_goes_on_from_the_one_before_shares_its_items() -> None:
    before = parse(body({"n": 1}, [2], tools=[{"t": 1}]))

    now = parse(body({"n": 1}, [2], {"n": 3}, tools=[{"t": 1}]), before)

    assert now[:2] == parse(now.text)[:2]
    assert list(now.payload) == ["model", "input", "tools", "type", "store"]
    assert all(map(is_, now.payload["input"], before.payload["input"]))


def test_a_long_conversation_is_read_turn_by_turn() -> None:
    items: list[Any] = []
    read: Parsed | None = None
    for turn in range(40):
        items += [{"role": "user", "content": f"Grüße {turn}"}, {"type": "reasoning", "n": turn / 3}]
        known = read.payload["input"] if read is not None else []

        read = parse(body(*items, instructions="be"), read)

        assert read.payload["input"] == items
        assert all(map(is_, read.payload["input"], known))


FIRST = body("a", "b")
IN_ENVELOPE = b',"type":"response.create","store":false}'
WHOLE = {
    "nothing new": FIRST,
    "another history": body("a", "x", "c"),
    "less": body("a"),
    "another field in front": FIRST.replace(b"gpt", b"got").replace(b'"b"]', b'"b","c"]'),
    "white space": FIRST.replace(b'"b"]', b'"b", "c"]'),
    "a second input": b'{"model":"gpt","input":["a","b","c"],"input":["z"]' + IN_ENVELOPE,
    "a field of the front again": b'{"model":"gpt","input":["a","b","c"],"model":"other"' + IN_ENVELOPE,
    "a field twice": b'{"model":"gpt","input":["a","b","c"],"n":1,"n":2' + IN_ENVELOPE,
    "a field without a name": b'{"model":"gpt","input":["a","b","c"],"":["z"]' + IN_ENVELOPE,
    "a stream": b'{"model":"gpt","input":["a","b","c"],"stream":true' + IN_ENVELOPE,
    "it is stored": b'{"model":"gpt","input":["a","b","c"],"type":"response.create","store":true}',
    "no type": b'{"model":"gpt","input":["a","b","c"],"store":false}',
    "store is no false": b'{"model":"gpt","input":["a","b","c"],"type":"response.create","store":0}',
    "it continues itself": b'{"model":"gpt","input":["a","b","c"],"conversation":"r","type":"response.create","store":true}',
    "a number beyond 64 bits": b'{"model":"gpt","input":["a","b",' + b"9" * 30 + b"]" + IN_ENVELOPE,
    "a comma too many": b'{"model":"gpt","input":["a","b",]' + IN_ENVELOPE,
    "a comma too many, and a blank": b'{"model":"gpt","input":["a","b", ]' + IN_ENVELOPE,
    "two lists": b'{"model":"gpt","input":["a","b",1],"n":[2]' + IN_ENVELOPE,
    "an end too early": b'{"model":"gpt","input":["a","b","c"]',
    "more behind it": body("a", "b", "c") + b"{}",
    "no UTF-8": b'{"model":"gpt","input":["a","b","\xff"]' + IN_ENVELOPE,
    "nested too deep": b'{"model":"gpt","input":["a","b",' + b"[" * 300 + b"]" * 301 + IN_ENVELOPE,
}


def outcome(text: Whole, before: Parsed | None) -> object:
    """Return what is read, which is the same in a place of its own, and leaves that as it was."""
    found, place = read(text, before), bytearray(text)
    assert read(place, before) == found
    assert place == text
    return found


def read(text: Whole, before: Parsed | None) -> object:
    try:
        return parse(text, before)[:2]
    except InvalidRequest as refused:
        return str(refused)


@pytest.mark.parametrize("place", [bytes, bytearray])
@pytest.mark.parametrize("new", [["c"], [{"n": [1]}, "c", "Grüße"]], ids=["one", "some"])
@pytest.mark.parametrize("behind", [{}, {"tools": [{"t": [1]}], "n": 1}], ids=["last", "with fields behind"])
def test_it_is_known_where_what_is_new_stands(place: type[bytes], new: list[Any], behind: dict[str, Any]) -> None:
    before = parse(body("a", ["b"], **behind))
    now = parse(place(body("a", ["b"], *new, **behind)), before)

    assert before.grown is None  # read as a whole
    assert now.grown is not None
    assert now.grown.known == 2
    assert now.text[now.grown.at : now.grown.end] == orjson.dumps(new)[1:-1]
    assert parse(body("a", ["b"], *new, "z", **behind), now).grown == (2 + len(new), now.grown.end + 1, now.grown.end + 4)


@pytest.mark.parametrize("item", ["text", 1, None, {}, {"a": 1, "b": None, "c": "d", "e": 1.5, "f": True}], ids=repr)
@pytest.mark.parametrize("levels", [251, 252, 253, 300])
def test_what_goes_on_is_as_deep_as_can_be_written_whatever_stands_in_front_of_it(item: Any, levels: int) -> None:
    for deep in (b"[" * levels + b"]" * levels, b'{"a":1,"b":' + b"[" * levels + b"]" * levels + b"}"):
        grown = body("a", "b", item)[: -len(IN_ENVELOPE) - 1] + b"," + deep + b"]" + IN_ENVELOPE
        assert outcome(grown, parse(FIRST)) == outcome(grown, None)


def test_a_text_in_pieces_is_read_as_if_it_were_joined() -> None:
    whole = body("a", "b", "c")

    assert parse(Pieces(whole[:20], memoryview(whole)[20:])) == parse(whole)


def test_a_large_body_is_not_copied_for_its_envelope() -> None:
    caller = orjson.dumps({"model": "gpt", "input": ["x" * 100_000]})

    text = full_text(caller, ["model", "input"])

    assert bytes(text) == caller[:-1] + IN_ENVELOPE
    front, *_ = parts_of(text)
    assert isinstance(front, memoryview)
    assert front.obj is caller


def test_what_was_read_to_its_place_is_read_there() -> None:
    """And what goes on from it, in a place of its own."""
    before = parse(bytearray(body("a", "b")))
    text = bytearray(body("a", "b", "c", {"n": 1}))
    now = parse(text, before)

    assert now.text is text
    assert now.payload["input"] == ["a", "b", "c", {"n": 1}]
    assert all(map(is_, now.payload["input"], before.payload["input"]))
    assert parse(bytearray(body("a", "b", "c", {"n": 1}, 2)), now).payload["input"] == ["a", "b", "c", {"n": 1}, 2]


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_whatever_comes_next_reads_as_if_it_had_come_alone(text: bytes) -> None:
    assert outcome(text, parse(FIRST)) == outcome(text, None)


TWICE = {
    "the input": b'{"model":"gpt","input":["a"],"input":["b"],"type":"response.create","store":false}',
    "what stands in front": b'{"model":"gpt","input":["a"],"model":"other","type":"response.create","store":false}',
    "a list, in front and behind": b'{"n":0,"input":["a"],"n":["b"],"type":"response.create","store":false}',
}


@pytest.mark.parametrize("twice", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("first", [None, b'{"model":"gpt","input":["a"]' + IN_ENVELOPE], ids=["alone", "behind another"])
def test_behind_a_body_with_a_name_in_it_twice_nothing_is_taken_as_read(twice: bytes, first: bytes | None) -> None:
    before = parse(twice.replace(b'["a"]', b'["a","c"]'), None if first is None else parse(first))

    for end in (b'"c"]', b'"b"]'):
        for fields in (b',"model":"other"', b',"input":["b"]', b""):
            text = before.text.replace(end, end[:-1] + b',"d"]').replace(fields, b"")
            assert outcome(text, before) == outcome(text, None)


@pytest.mark.parametrize("levels", range(248, 257))
def test_new_items_are_refused_at_the_depth_at_which_a_whole_body_is(levels: int) -> None:
    deep = b'{"model":"gpt","input":["a","b",' + b"[" * levels + b"]" * levels + b"]" + IN_ENVELOPE

    assert outcome(deep, parse(FIRST)) == outcome(deep, None)


NAMES = st.sampled_from(["", "input", "model", "n", "stream", "store", "type", "conversation"])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.lists(st.tuples(NAMES, VALUES | st.just(False) | st.just("response.create")), max_size=3)


def written(fields: list[tuple[str, Any]], *, dense: bool) -> bytes:
    """Return an object, in which names may stand twice, as some caller writes it."""
    comma, colon = (",", ":") if dense else (", ", ": ")
    encode = json.JSONEncoder(separators=(comma, colon), ensure_ascii=False).encode
    return ("{" + comma.join(encode(name) + colon + encode(value) for name, value in fields) + "}").encode()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_two_bodies_read_one_after_the_other_as_each_does_alone(data: st.DataObject) -> None:
    front, behind = data.draw(FIELDS), data.draw(FIELDS)
    items, more = data.draw(st.lists(VALUES, min_size=1, max_size=3)), data.draw(st.lists(VALUES, max_size=2))
    envelope = data.draw(st.sampled_from([[], [("type", "response.create"), ("store", False)]]))
    dense = data.draw(st.booleans())
    first = written([*front, ("input", items), *behind, *envelope], dense=dense)
    second = written([*front, ("input", items + more), *data.draw(st.just(behind) | FIELDS), *envelope], dense=dense)
    before = parse(first)

    third = written([*front, ("input", [*items, *more, 1]), *data.draw(FIELDS), *envelope], dense=dense)

    assert outcome(second, before) == outcome(second, None)
    assert outcome(second, parse(before.text)) == outcome(second, None)
    assert outcome(third, parse(second, before)) == outcome(third, None)


MAPPINGS = [{}, {"model": "gpt", "input": ["ü"]}, {"stream": True}, {"store": True}, {"conversation": "c"}]


@pytest.mark.parametrize("fields", MAPPINGS)
def test_the_text_of_a_mapping_is_that_of_its_bytes(fields: dict[str, Any]) -> None:
    written = orjson.dumps(fields)

    assert full_text(written, frozenset(fields)) == parse(written).text == full_text(written)


def test_what_was_read_does_not_print() -> None:
    assert "CANARY" not in repr(parse(body("CANARY")))
