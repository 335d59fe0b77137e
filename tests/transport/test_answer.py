"""What responses say, in the words of a WebSocket: streams, whole answers, refusals in every gateway's form."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest

from pixir_actors.core import server_event
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.answer import MAX_ERROR_BYTES, HeaderList, header, refusal, texts
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused

LIMIT = 100_000


def typed(kind: str | None) -> HeaderList:
    return [] if kind is None else [(b"Content-Type", kind.encode())]


def read(body: bytes, kind: str | None = "application/json", limit: int = LIMIT, *more: tuple[bytes, bytes]) -> list[bytes]:
    return list(texts([*typed(kind), *more], iter([body]), limit))


def refused(body: bytes, kind: str | None = "application/json", limit: int = LIMIT, *more: tuple[bytes, bytes]) -> Fault:
    with pytest.raises(Refused) as caught:
        read(body, kind, limit, *more)
    return caught.value.fault


def fault_of(status: int, body: bytes, headers: HeaderList | None = None) -> server_event.ProviderFault:
    """Return a refusal as the machine understands it."""
    event = server_event.parse(refusal(status, headers or [], iter([body])))
    assert event is not None and event.stage is server_event.Stage.TERMINAL
    fault = server_event.provider_fault(event)
    assert fault is not None
    return fault


# Status 200.


@pytest.mark.parametrize(
    "kind", ["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream;x", "text/plain", "", None]
)
def test_a_stream_gives_its_events_whatever_the_case_of_its_type(kind: str | None) -> None:
    assert read(b'data: {"a":1}\n\ndata: [DONE]\n\n', kind) == [b'{"a":1}', b"[DONE]"]


def test_a_last_event_without_its_empty_line_counts_if_it_is_whole() -> None:
    kind = "text/event-stream"
    assert read(b'data: {"a":1}\n\ndata: {"b":2}', kind) == [b'{"a":1}', b'{"b":2}']
    assert read(b'data: {"a":1}\n\ndata: {"b":2', kind) == [b'{"a":1}'], "cut short"


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled", "queued", "in_progress"])
def test_a_whole_response_is_the_one_event_that_says_the_same(status: str) -> None:
    body = b'\n{ "id": "resp_1", "status": "%s" }\n' % status.encode()
    (text,) = read(body, "application/json; charset=utf-8")
    event = server_event.parse(text)
    assert event is not None and event.type == f"response.{status}"
    assert body in text, "the provider's bytes are touched"
    assert server_event.response_id(event) == "resp_1"


@pytest.mark.parametrize("status", [None, 5, "strange", {}])
def test_a_whole_response_of_another_status_is_completed(status: Any) -> None:
    (text,) = read(orjson.dumps({"id": "resp_1", "status": status}), "application/problem+json")
    assert orjson.loads(text)["type"] == "response.completed"


def test_an_error_with_status_200_is_an_error() -> None:
    (text,) = read(b'{"error":{"code":"rate_limit_exceeded","message":"later"}}')
    event = server_event.parse(text)
    assert event is not None
    fault = server_event.provider_fault(event)
    assert fault is not None and fault.error["code"] == "rate_limit_exceeded" and fault.retryable


def test_a_whole_answer_that_is_an_event_is_that_event() -> None:
    body = b'{"type":"response.completed","response":{"id":"resp_1"}}'
    assert read(body) == [body]


def test_a_whole_answer_that_is_no_json_is_left_to_the_parser() -> None:
    for body in (b"", b"{", b"<html>", b"\xff"):
        assert read(body) == [body]
        with pytest.raises(server_event.MalformedEvent):
            server_event.parse(body)


@pytest.mark.parametrize("body", [b"5", b"null", b"[]", b'"text"'])
def test_json_that_is_no_response_is_a_fault(body: bytes) -> None:
    assert refused(body) == Fault(ErrorCode.CONNECTION_LOST, {"reason": "no_response"})


def test_a_page_is_no_answer() -> None:
    assert refused(b"<html>CANARY", "text/html; charset=utf-8") == Fault(
        ErrorCode.CONNECTION_LOST, {"reason": "content_type"}
    )


def test_what_is_packed_is_not_unpacked() -> None:
    for encoding in (b"gzip", b"br", b"identity, gzip"):
        fault = refused(b"", "text/event-stream", LIMIT, (b"content-encoding", encoding))
        assert fault == Fault(ErrorCode.CONNECTION_LOST, {"reason": "content_encoding"})
    assert read(b"data: 1\n\n", "text/event-stream", LIMIT, (b"Content-Encoding", b" Identity ")) == [b"1"]


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_answer_larger_than_the_limit_is_refused_before_it_is_there(kind: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield b"data:" + b"x" * 100
        raise AssertionError("read beyond the limit")

    with pytest.raises(Refused) as caught:
        list(texts(typed(kind), endless(), 1000))
    assert caught.value.fault == Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"limit": 1000})


# Every other status.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500, 502, 503, 529, 307, 204])
def test_a_refusal_is_an_error_event_with_its_status_and_error(status: int) -> None:
    fault = fault_of(status, b'{"error":{"code":"c","type":"t","param":"p","message":"m"}}')
    assert fault.status == status
    assert fault.error == {"code": "c", "type": "t", "param": "p", "message": "m"}
    assert fault.retryable == (status in server_event.RETRYABLE_STATUSES)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":"nope"}', {"type": "http_error", "message": "nope"}),
        (b'{"detail":"nope"}', {"type": "http_error", "message": "nope"}),
        (b'{"message":"nope","code":7}', {"message": "nope", "code": 7}),
        (b'{"code":"quota","error":"x"}', {"code": "quota", "error": "x"}),
        (b'[{"error":{"code":429,"message":"m"}}]', {"code": 429, "message": "m"}),
    ],
)
def test_the_forms_of_other_gateways_are_understood(body: bytes, error: dict[str, Any]) -> None:
    assert fault_of(429, body).error == error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>CANARY</html>",
        b"\xff\xfe",
        b'{"error":',
        b'{"error":5}',
        b'{"detail":[{"input":"CANARY"}]}',
        b"null",
        b"[]",
        b"5",
        b'{"error":{"a":' + b"[" * 400 + b"]" * 400 + b"}}",
        b"[" * 100_00,
        b'{"error":{"message":"' + b"x" * MAX_ERROR_BYTES + b'"}}',
    ],
)
def test_a_refusal_without_an_error_in_json_keeps_its_status(body: bytes) -> None:
    fault = fault_of(502, body)
    assert (fault.status, fault.retryable, fault.text("type")) == (502, True, "http_error")
    assert "CANARY" not in repr(fault.error)


def test_a_body_that_breaks_off_does_not_hide_the_status() -> None:
    def broken() -> Iterator[bytes]:
        yield b'{"error":'
        raise TimeoutError

    event = orjson.loads(refusal(503, [(b"Retry-After", b"7")], broken()))
    assert (event["status"], event["headers"]) == (503, {"retry-after": 7.0})


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        (b"Retry-After", b"7", 7.0),
        (b"retry-after-ms", b"250", 0.25),
        (b"RETRY-AFTER-MS", b"250.5", 0.2505),
        (b"retry-after", b"soon", None),
        (b"retry-after", b"-1", None),
        (b"retry-after", b"\xff", None),
        (b"x", b"7", None),
    ],
)
def test_how_long_to_wait_is_read_from_either_header(name: bytes, value: bytes, seconds: float | None) -> None:
    assert fault_of(429, b"{}", [(name, value)]).retry_after == seconds


def test_a_date_to_wait_for_is_turned_into_seconds() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True).encode()
    seconds = fault_of(503, b"", [(b"retry-after", date)]).retry_after
    assert seconds is not None and 50 < seconds <= 60


def test_milliseconds_count_before_seconds() -> None:
    assert fault_of(429, b"{}", [(b"retry-after", b"7"), (b"retry-after-ms", b"1500")]).retry_after == 1.5


def test_a_header_is_found_whatever_its_case_and_its_first_value_counts() -> None:
    assert header([(b"A", b"0"), (b"X-Y", b" 1 "), (b"x-y", b"2")], b"x-y") == "1"
    assert header([], b"x-y") == ""
