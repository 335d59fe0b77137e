"""The envelope: what a caller's body becomes.

Covers C23 (the decoding; that nothing is degraded follows from its happening before anything else), C24, X8, X24, P4.
"""

from __future__ import annotations

import orjson
import pytest

from pixir_actors.core.payload import continues_itself, full_payload, http_body, prefill
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
        full_payload(body)

    assert caught.value.code is ErrorCode.INVALID_PROVIDER_REQUEST
    assert caught.value.field == "body"


def test_the_refusal_holds_no_word_of_the_body_not_even_in_its_context() -> None:
    with pytest.raises(InvalidRequest) as caught:
        full_payload(b'{"input": "CANARY" oops')

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

    payload, text = full_payload(orjson.dumps(body))

    assert payload == expected
    assert orjson.loads(text) == expected


def test_a_body_that_continues_itself_and_says_nothing_of_store_gets_none() -> None:
    payload, _ = full_payload(b'{"previous_response_id": "resp_9"}')

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
    payload, text = full_payload('{"model":"gpt","input":"Grüße 👋\\u0000","n":[1,1.5,true,null]}'.encode())

    assert orjson.loads(text) == payload
    assert payload["input"] == "Grüße 👋\0"


IN_FORM = {
    "a full payload": b'{ "type": "response.create", "store": false, "input": [] }',
    "one that continues itself": b'{ "type": "response.create", "conversation": "conv_1", "store": true }',
}


@pytest.mark.parametrize("body", IN_FORM.values(), ids=IN_FORM)
def test_a_body_that_is_in_form_already_is_its_own_text(body: bytes) -> None:
    payload, text = full_payload(body)

    assert text is body
    assert payload == orjson.loads(body)


@pytest.mark.parametrize("fields", [b"", b'"type":"response.create","store":false,'], ids=["bare", "in form"])
@pytest.mark.parametrize("levels", [300, 1000], ids=["300 levels", "1000 levels"])
def test_a_body_nested_too_deep_to_be_written_is_refused(fields: bytes, levels: int) -> None:
    body = b"{" + fields + b'"input":' + b"[" * levels + b'"CANARY"' + b"]" * levels + b"}"

    with pytest.raises(InvalidRequest, match="nested deeper") as caught:
        full_payload(body)

    assert "CANARY" not in str(caught.value)


def test_a_warm_up_is_the_request_without_an_answer_wanted() -> None:
    payload, _ = full_payload(b'{"model": "gpt", "input": [1]}')

    assert orjson.loads(prefill(payload)) == payload | {"generate": False}
    assert "generate" not in payload


def test_over_http_nothing_of_the_websockets_envelope_goes_out() -> None:
    payload, _ = full_payload(b'{"type": "response.create", "stream_id": "main", "model": "gpt", "input": [1]}')

    assert orjson.loads(http_body(payload)) == {"store": False, "stream": True, "model": "gpt", "input": [1]}
    assert payload["type"] == "response.create"
