"""What a server event means.

Covers C36 and X22 (the pattern; looked for in the event itself, design section 6), W15 to W17, T34 to T39, P3, P4, P10, and
protocol sections 3, 3.1 and 5: every form of an error, what it says of coming back, and the backends' private events. T33
(an endpoint's URL in errors) and T40 (what stands behind a terminal event) are in test_secret.py and test_lifecycle.py.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pixir_actors.core.server_event import (
    MalformedEvent,
    Rejection,
    ServerEvent,
    Stage,
    Tag,
    listed_output,
    parse,
    provider_fault,
    response_id,
    succeeded,
)
from pixir_actors.errors import Delivery
from tests.core.machine import error, event, failed

PRIVATE, OPENING, OUTPUT, TERMINAL = Stage.PRIVATE, Stage.OPENING, Stage.OUTPUT, Stage.TERMINAL
STAGES: dict[str, tuple[Stage, Tag]] = {
    "response.created": (OPENING, Tag.OTHER),
    "response.queued": (OPENING, Tag.OTHER),
    "response.in_progress": (OPENING, Tag.OTHER),
    "response.output_item.added": (OUTPUT, Tag.OTHER),
    "response.output_item.done": (OUTPUT, Tag.ITEM_DONE),
    "response.output_text.delta": (OUTPUT, Tag.TEXT_DELTA),
    "response.function_call_arguments.delta": (OUTPUT, Tag.OTHER),
    "response.future_event": (OUTPUT, Tag.OTHER),
    "response.completed": (TERMINAL, Tag.TERMINAL),
    "response.incomplete": (TERMINAL, Tag.TERMINAL),
    "response.failed": (TERMINAL, Tag.TERMINAL),
    "response.cancelled": (TERMINAL, Tag.TERMINAL),
    "response.done": (TERMINAL, Tag.TERMINAL),
    "error": (TERMINAL, Tag.TERMINAL),
    "response.metadata": (PRIVATE, Tag.OTHER),
    "codex.rate_limits": (PRIVATE, Tag.OTHER),
    "codex.response.metadata": (PRIVATE, Tag.OTHER),
    "responsesapi.websocket_timing": (PRIVATE, Tag.OTHER),
    "keepalive": (PRIVATE, Tag.OTHER),
    "responses": (PRIVATE, Tag.OTHER),
}


@pytest.mark.parametrize("type", STAGES)
def test_a_type_says_where_in_a_response_its_event_stands(type: str) -> None:  # T39, W16
    parsed = event(type)

    assert (parsed.type, parsed.stage, parsed.tag) == (type, *STAGES[type])


def test_the_bytes_of_an_event_are_kept_as_they_came() -> None:  # W15, not decoded and encoded again
    raw = b' { "type" : "response.created", "n": 1.50 } '
    parsed = parse(raw)

    assert parsed is not None
    assert parsed.raw is raw


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"type": 1}', b'{"type": null}', b" [DONE]\n"])
def test_what_is_no_event_is_skipped(raw: bytes) -> None:  # W15
    assert parse(raw) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"type":"\xff"}', b'{"type": NaN}', b"[DONE", b"CANARY{"])
def test_what_is_no_json_is_malformed(raw: bytes) -> None:  # P4; W15 skipped it
    with pytest.raises(MalformedEvent) as caught:
        parse(raw)

    assert "CANARY" not in repr(caught.value)
    assert caught.value.__context__ is None


IDS: dict[str, tuple[ServerEvent, str | None]] = {
    "T34 completed envelope": (event("response.completed", response={"id": "resp_1"}), "resp_1"),
    "T35 response_id field": (event("response.output_text.delta", response_id="resp_1"), "resp_1"),
    "T36 created with a top-level id": (event("response.created", id="resp_1"), "resp_1"),
    "T37 in_progress envelope": (event("response.in_progress", response={"id": "resp_1"}), "resp_1"),
    "T38 a message's id": (event("response.output_text.done", id="msg_1"), None),
    "T38 a call's id": (event("response.function_call_arguments.done", id="call_1"), None),
    "T38 a nested item's id": (event("response.output_item.done", item={"id": "resp_1"}), None),
    "T38 an item's id as the response's": (event("response.completed", response={"id": "msg_1"}), None),
    "W17 the envelope comes first": (event("response.created", response={"id": "resp_1"}, response_id="resp_2"), "resp_1"),
    "W17 response_id comes before id": (event("response.created", response_id="resp_1", id="resp_2"), "resp_1"),
    "W17 a foreign id in the envelope blocks the others": (
        event("response.created", response={"id": "msg_1"}, response_id="resp_2", id="resp_3"),
        None,
    ),
    "W17 the bare prefix": (event("response.created", id="resp_"), "resp_"),
    "W17 id of an event that is no response": (event("codex.thing", id="resp_1"), None),
    "W17 an envelope without id": (event("response.created", response={}, response_id="resp_2"), "resp_2"),
    "ids are opaque": (event("response.completed", response={"id": "chatcmpl-9"}), "chatcmpl-9"),
    "P3 an empty id is none": (event("response.completed", response={"id": ""}), None),
    "an id that is a number": (event("response.completed", response={"id": 7}), None),
    "none": (event("response.completed"), None),
}


@pytest.mark.parametrize(("given", "id"), IDS.values(), ids=IDS)
def test_the_id_of_the_response(given: ServerEvent, id: str | None) -> None:
    assert response_id(given) == id


SUCCESSES = {
    "completed": (event("response.completed"), True),
    "incomplete": (event("response.incomplete"), True),
    "failed": (event("response.failed"), False),
    "cancelled": (event("response.cancelled"), False),
    "error": (event("error"), False),
    "done, completed": (event("response.done", response={"status": "completed"}), True),
    "done, incomplete": (event("response.done", response={"status": "incomplete"}), True),
    "done, failed": (event("response.done", response={"status": "failed"}), False),
    "done, nothing said": (event("response.done"), False),
}


@pytest.mark.parametrize(("given", "good"), SUCCESSES.values(), ids=SUCCESSES)
def test_only_completed_and_incomplete_can_be_continued(given: ServerEvent, good: bool) -> None:  # C42 to C45 fixed
    assert succeeded(given) is good
    assert (provider_fault(given) is None) is good


@pytest.mark.parametrize(("response", "output"), [({"output": [1]}, [1]), ({"output": None}, []), ({}, []), (None, [])])
def test_the_output_a_terminal_event_lists(response: Any, output: list[Any]) -> None:
    assert listed_output(event("response.completed", response=response)) == output


def flat(**fields: Any) -> ServerEvent:
    return event("error", **fields)


PREV = "previous_response_not_found"
LIMIT = "websocket_connection_limit_reached"
GUIDE = "Responses websocket connection limit reached (60 minutes). Create a new websocket connection to continue."
REJECTIONS: dict[str, tuple[ServerEvent, Rejection | None]] = {
    "X22 code": (error(PREV, 400), Rejection.NOT_FOUND),
    "X22 type": (error(None, 400, type=PREV), Rejection.NOT_FOUND),
    "X22 message": (error(None, 400, message="Previous response with id 'r' not found."), Rejection.NOT_FOUND),
    "X22 details code": (error(None, 400, details={"code": PREV}), Rejection.NOT_FOUND),
    "X22 details type": (error(None, 400, details={"type": PREV}), Rejection.NOT_FOUND),
    "X22 details message is not looked at": (error(None, 400, details={"message": PREV}), None),
    "X22 case and separators": (error("Previous-Response abc NotFound"), Rejection.NOT_FOUND),
    "X22 no separator, then one": (error("previousresponse not_found"), Rejection.NOT_FOUND),
    "X22 in the middle of a text": (error(None, message="Oh: previous_response x not-found!"), Rejection.NOT_FOUND),
    "X22 an abbreviation": (error("prev response not found"), None),
    "P10 not across lines": (error(None, message="previous response\nnot found"), None),
    "X22 two separators": (error("previous  response not found"), None),
    "flat": (flat(code=PREV, message="no"), Rejection.NOT_FOUND),
    "response.failed": (failed(PREV), Rejection.NOT_FOUND),
    "param alone": (error("invalid_request", 400, param="previous_response_id"), Rejection.NOT_FOUND),
    "invalid_previous_response_id": (error("invalid_previous_response_id", 400), Rejection.NOT_FOUND),
    "limit by code": (error(LIMIT, 400, message=GUIDE), Rejection.CONNECTION_LIMIT),
    "limit by type": (error(None, 408, type=LIMIT), Rejection.CONNECTION_LIMIT),
    "limit, flat": (flat(code=LIMIT), Rejection.CONNECTION_LIMIT),
    "limit in response.failed": (failed(LIMIT), Rejection.CONNECTION_LIMIT),
    "unauthorized by status": (error(None, 401), Rejection.UNAUTHORIZED),
    "unauthorized by code": (error("invalid_api_key", None), Rejection.UNAUTHORIZED),
    "unauthorized, flat": (flat(code="invalid_api_key"), Rejection.UNAUTHORIZED),
    "unauthorized in response.failed": (failed("invalid_api_key"), Rejection.UNAUTHORIZED),
    "forbidden is not unauthorized": (error("misalignment_policy_violation", 403), None),
    "a limit, whatever its status": (error(LIMIT, 401), Rejection.CONNECTION_LIMIT),
    "another limit": (error("websocket_stream_limit_reached", 400), None),
    "a rate limit": (error("rate_limit_exceeded", 429), None),
    "an output that was not found": (error(None, 400, message="No tool output found for function call c."), None),
    "nothing said": (flat(), None),
}


@pytest.mark.parametrize(("given", "rejection"), REJECTIONS.values(), ids=REJECTIONS)
def test_an_error_says_whether_the_socket_was_refused(given: ServerEvent, rejection: Rejection | None) -> None:
    fault = provider_fault(given)

    assert fault is not None
    assert fault.rejection is rejection


@pytest.mark.parametrize("given", [event("response.completed", error={"code": PREV}), event("response.created")])
def test_what_is_no_error_event_is_no_error(given: ServerEvent) -> None:
    assert provider_fault(given) is None


def test_a_warning_that_the_connection_expires_ends_nothing() -> None:
    for warning in (error("connection_expiring", None), flat(code="connection_expiring")):
        assert (warning.stage, warning.tag) == (PRIVATE, Tag.OTHER)
        assert provider_fault(warning) is None or warning.stage is not TERMINAL


RETRYABLE: dict[str, tuple[ServerEvent, bool]] = {
    "rate limit": (error("rate_limit_exceeded", 429), True),
    "rate limit in the type": (error(None, None, type="rate_limit_exceeded"), True),
    "overloaded": (error("server_is_overloaded", 503), True),
    "server error in response.failed": (failed("server_error"), True),
    "an unknown code by its status": (error("websocket_queue_full", 429), True),
    "a bad gateway": (error(None, 502), True),
    "a spent quota": (error("insufficient_quota", 429), False),
    "usage limit in the type": (error(None, 429, type="usage_limit_reached"), False),
    "a bad request": (error("invalid_prompt", 400), False),
    "a policy": (error("misalignment_policy_violation", 403), False),
    "nothing known": (failed("invalid_image"), False),
}


@pytest.mark.parametrize(("given", "retryable"), RETRYABLE.values(), ids=RETRYABLE)
def test_an_error_says_whether_to_try_again(given: ServerEvent, retryable: bool) -> None:
    fault = provider_fault(given)

    assert fault is not None
    assert fault.retryable is retryable


def says(message: str) -> ServerEvent:
    return error("rate_limit_exceeded", 429, message=message)


WAITS: dict[str, tuple[ServerEvent, float | None]] = {
    "error.headers": (error(headers={"Retry-After": "7"}), 7.0),
    "top-level headers, a number": (event("error", error={}, headers={"retry-after": 7}), 7.0),
    "milliseconds first": (error(headers={"retry-after": "9", "Retry-After-Ms": "250"}), 0.25),
    "a date needs a clock": (error(headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
    "a negative one": (error(headers={"retry-after": "-1"}), None),
    "no number": (error(headers={"retry-after": "nan"}), None),
    "an endless one": (error(headers={"retry-after": "inf"}), None),
    "headers before the message": (error(headers={"retry-after": "7"}, message="try again in 9s"), 7.0),
    "seconds in the message": (says("Please try again in 1.5s."), 1.5),
    "milliseconds in the message": (says("Try again in 250ms"), 0.25),
    "the word seconds": (says("try again in 3 seconds"), 3.0),
    "the word milliseconds": (says("try again in 500 milliseconds"), 0.5),
    "the word minutes": (says("try again in 2 minutes"), 120.0),
    "the letter m": (says("try again in 2m"), 120.0),
    "another unit": (says("try again in 2 moons"), None),
    "nothing": (says("slow down"), None),
}


@pytest.mark.parametrize(("given", "seconds"), WAITS.values(), ids=WAITS)
def test_an_error_says_when_to_come_back(given: ServerEvent, seconds: float | None) -> None:
    fault = provider_fault(given)

    assert fault is not None
    assert fault.retry_after == seconds


STATUSES: dict[str, tuple[ServerEvent, int | None]] = {
    "status": (event("error", status=400, error={}), 400),
    "status_code": (event("error", status_code=429, error={}), 429),
    "inside the error": (event("error", error={"status": 503}), 503),
    "flat": (event("error", status=404, code="x"), 404),
    "a text": (event("error", status="400", error={}), None),
    "no status at all": (event("error", status=7, error={}), None),
    "true": (event("error", status=True, error={}), None),
}


@pytest.mark.parametrize(("given", "status"), STATUSES.values(), ids=STATUSES)
def test_an_error_has_a_status_wherever_it_stands(given: ServerEvent, status: int | None) -> None:
    fault = provider_fault(given)

    assert fault is not None
    assert fault.status == status


def test_an_error_becomes_a_failure_whose_details_leave_the_message_out() -> None:
    fault = provider_fault(error("invalid_prompt", 400, type="invalid_request_error", message="CANARY", param=None))

    assert fault is not None
    failure = fault.failure(Delivery.REJECTED)
    assert (failure.code, failure.delivery, failure.retryable, failure.status) == (
        "provider_http_error",
        "rejected",
        False,
        400,
    )
    assert failure.details == {
        "provider_code": "invalid_prompt",
        "provider_type": "invalid_request_error",
        "status": 400,
    }
    assert failure.error is not None
    assert failure.error["message"] == "CANARY"
    assert "CANARY" not in repr(failure)


def test_a_flat_error_keeps_its_fields_and_only_those() -> None:
    fault = provider_fault(flat(code="c", message="m", param="p", sequence_number=3))

    assert fault is not None
    assert fault.error == {"code": "c", "message": "m", "param": "p"}


def test_an_event_prints_its_type_and_size_only() -> None:
    shown = repr(event("response.output_text.delta", delta="CANARY"))

    assert "CANARY" not in shown
    assert "response.output_text.delta" in shown


def test_every_event_of_a_union_survives_fields_of_the_wrong_type() -> None:
    for type in STAGES:
        wrongs: list[Any] = [None, 1, "x", [], {"id": 1, "output": 1, "error": 1}]
        for wrong in wrongs:
            fields = dict.fromkeys(("response", "error", "headers", "item", "id", "message", "status"), wrong)
            parsed = parse(orjson.dumps({"type": type, **fields}))
            assert parsed is not None
            response_id(parsed), succeeded(parsed), listed_output(parsed)
            fault = provider_fault(parsed)
            if fault is not None:
                fault.failure(Delivery.REJECTED)
