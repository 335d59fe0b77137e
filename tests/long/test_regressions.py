"""Inputs that the fuzzer found, each with what it broke; they go through the same checks."""

from __future__ import annotations

from random import Random

import orjson
import pytest

from pixir_actors.channel.frame import Frame, FrameType, encode
from pixir_actors.core import server_event
from tests.long.targets import TARGETS

CHECKS = {target.name: target.check for target in TARGETS}
FAILED = {
    "code": "websocket_closed",
    "delivery": "ambiguous",
    "retryable": True,
    "retry_after": 1.5,
    "details": {"close_code": 1011},
    "status": None,
    "error": None,
}
DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize("code", [b"[]", b"{}", DEEP], ids=["list", "object", "nested"])
@pytest.mark.parametrize("form", [b'{"type":"error","error":{"code":%s}}', b'{"type":"error","code":%s}'])
def test_an_errors_code_of_another_type_is_an_error_like_any_other(form: bytes, code: bytes) -> None:
    """`code in frozenset(...)` raised TypeError: the connection failed with internal_error."""
    assert CHECKS["event"](form % code, Random(0)) == "fault"


@pytest.mark.parametrize("unit", ["s", "minutes", "ms"])
def test_a_message_that_asks_for_an_endless_wait_asks_for_none(unit: str) -> None:
    """`float` of four hundred digits is infinite, and so was `retry_after`."""
    message = f"try again in {'9' * 400} {unit}"
    event = server_event.parse(orjson.dumps({"type": "error", "error": {"message": message}}))
    assert event is not None
    fault = server_event.provider_fault(event)
    assert fault is not None and fault.retry_after is None
    assert CHECKS["event"](event.raw, Random(0)) == "fault"


@pytest.mark.parametrize("item", [b'"x"', b"5", b"null", b"[]", b'{"type":"message","content":[5,{"text":5}]}'])
def test_the_text_of_a_stream_can_be_read_whatever_items_its_response_lists(item: bytes) -> None:
    """`Stream.text` raised AttributeError on an item that is no object."""
    event = b'{"type":"response.completed","response":{"id":"resp_1","output":[%s]}}' % item
    assert CHECKS["turn"](event, Random(1)) == "1 turns"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("error", b"[1,{}]"),
        ("error", b'"text"'),
        ("retry_after", b"[]"),
        ("retry_after", b"true"),
        ("status", b'"429"'),
        ("code", b"[]"),
        ("code", DEEP),
        ("delivery", DEEP),
        ("details", b'{"status":%s}' % DEEP),
        ("details", b'[["a","b"]]'),
    ],
)
def test_a_failure_with_a_field_of_another_type_is_no_failure_of_this_protocol(name: str, value: bytes) -> None:
    """`failure_from` let it through, and the exception made of it raised another one."""
    fields = [b'"%s":%s' % (key.encode(), value if key == name else orjson.dumps(FAILED[key])) for key in FAILED]
    frame = encode(Frame(FrameType.FAILED, 0, 7, b"{" + b",".join(fields) + b"}"))
    assert CHECKS["channel"](frame, Random(0)) == "a failure has not the fields of this version"


def test_what_stands_before_a_large_server_sent_event_is_not_lost_with_it() -> None:
    """`EventReader` raised before it had handed out the events of the same piece; where it raised hung on the cuts."""
    stream = b"data: 1\n\n: " + b"x" * 30_000 + b"\n\ndata: 2\n\n"
    assert CHECKS["sse"](stream, Random(0)) == "refused"
    assert CHECKS["answer"](stream, Random(0))
