"""What comes into a connection, taken apart."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pixir_actors.actors.intake import Intake, parse_events
from pixir_actors.actors.messages import Submit
from pixir_actors.core import fingerprint, payload
from pixir_actors.core.secret import Secret
from pixir_actors.errors import InvalidRequest
from tests.actors.fakes import completed, created, delta, submit, user

CANARY = "canary-prompt-4711"


def changed(made: Submit, **fields: Any) -> Submit:
    return Submit(**{name: getattr(made, name) for name in Submit.__slots__} | fields)


def test_a_request_is_what_its_submit_says() -> None:
    made = submit(7, user("hello"), url="https://api.example:443/v1/responses?a=b", queue_timeout=3.0, identity="me")

    request = Intake().prepare(made).turn_request(12, now=100.0, jitter=0.25)

    assert request.request_id == 12
    assert request.body == made.body.reveal()
    assert request.payload == orjson.loads(request.body)
    assert request.endpoint == "wss://api.example/v1/responses?a=b"
    assert request.fingerprint == fingerprint.fingerprint(made.headers.reveal(), "me")
    assert request.key == "'session'"
    assert request.limits == made.settings
    assert (request.received_at, request.jitter) == (100.0, 0.25)


def test_a_body_that_an_actor_did_not_put_into_form_is_put_into_form() -> None:
    plain = orjson.dumps({"model": "m", "input": [], "stream": True})

    request = Intake().prepare(changed(submit(1), body=Secret(plain))).turn_request(1, now=0.0, jitter=0.0)

    assert (request.payload, request.body) == payload.parse(plain)[:2]
    assert request.payload["type"] == "response.create"
    assert "stream" not in request.payload


def test_what_a_request_has_in_common_with_the_one_before_is_taken_over() -> None:
    intake = Intake()
    first = intake.prepare(submit(1, user("one"))).parsed.payload["input"]
    made = submit(2, user("one"), user("two"))

    request = intake.prepare(made).turn_request(2, now=0.0, jitter=0.0)

    assert request.payload == orjson.loads(made.body.reveal())
    assert request.payload["input"][0] is first[0]


def test_one_that_is_refused_leaves_what_was_known() -> None:
    intake = Intake()
    first = intake.prepare(submit(1, user("one"))).parsed.payload["input"]
    for strange in ({"body": Secret(b"[]")}, {"headers": Secret(((CANARY,),))}):
        with pytest.raises(InvalidRequest):
            intake.prepare(changed(submit(2), **strange))

    assert intake.prepare(submit(3, user("one"), user("two"))).parsed.payload["input"][0] is first[0]


def test_each_request_has_the_identity_of_its_own_headers() -> None:
    intake = Intake()
    others = Secret((("Authorization", "Bearer other"), ("X-Team", "b")))
    made = [submit(1), changed(submit(2), headers=others), submit(3, identity="me"), submit(4, identity="me"), submit(5)]

    for one in made:
        request = intake.prepare(one).turn_request(1, now=0.0, jitter=0.0)
        headers = one.headers.reveal()
        assert request.fingerprint == fingerprint.fingerprint(headers, one.settings.identity)
        assert request.bearer == fingerprint.bearer(headers)


BAD = [
    ({"body": Secret(CANARY.encode())}, "body"),
    ({"body": Secret(orjson.dumps([CANARY]))}, "body"),
    ({"url": Secret("ftp://host/")}, "url"),
    ({"url": Secret("ws:///nowhere")}, "url"),
    ({"url": Secret("ws://203.0.113.1/v1")}, "url"),
    ({"url": Secret("wss://host:port/v1")}, "url"),
    ({"url": Secret(7)}, "Submit"),
    ({"url": CANARY}, "Submit"),
    ({"body": Secret({CANARY})}, "body"),
    ({"body": None}, "Submit"),
    ({"headers": Secret(7)}, "Submit"),
    ({"headers": Secret(((CANARY,),))}, "Submit"),
    ({"headers": ((CANARY, CANARY),)}, "Submit"),
    ({"key": CANARY}, "Submit"),
    ({"key": Secret((CANARY,))}, "Submit"),
    ({"proxy": CANARY}, "Submit"),
    ({"settings": {}}, "Submit"),
    ({"channel": 7}, "Submit"),
    ({"purpose": "run"}, "Submit"),
    ({"request_id": "7"}, "Submit"),
    ({"request_id": 0}, "Submit"),
    ({"request_id": 2**64}, "Submit"),
]


@pytest.mark.parametrize(("fields", "named"), BAD)
def test_what_submit_of_would_not_have_built_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Intake().prepare(changed(submit(1), **fields))

    assert caught.value.field == named
    assert CANARY not in str(caught.value)


def raw(*events: dict[str, Any] | bytes) -> list[bytes]:
    return [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]


EVENTS = [
    ((), [], False),
    ((created(), delta("a")), ["response.created", "response.output_text.delta"], False),
    ((b"[]", b"3", b'{"no": "type"}', b"[DONE]", completed()), ["response.completed"], False),
    ((created(), b"{", completed()), ["response.created"], True),
    ((b"\xff\xfe",), [], True),
    ((created(), b'{"type": "response.output_text.delta", "delta": "\xff"}'), ["response.created"], True),
]


@pytest.mark.parametrize(("messages", "types", "malformed"), EVENTS)
def test_events_are_taken_up_to_what_is_not_json(messages: tuple[Any, ...], types: list[str], malformed: bool) -> None:
    events, broken = parse_events(raw(*messages))

    assert [event.type for event in events] == types
    assert broken is malformed
    assert all(event.raw in raw(*messages) for event in events)
