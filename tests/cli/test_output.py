"""How a stream is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors.cli.output import Lines, Words, evidence_line
from pixir_actors.core.server_event import Tag
from pixir_actors.errors import Delivery, ErrorCode, Failure, ProviderError, StreamError
from pixir_actors.events import Data, Event, Metadata, Status
from pixir_actors.stream import Stream
from tests.cli.fakes import FakeCall, answer, data, delta

Captured = pytest.CaptureFixture[str]


def ended(*frames: Any) -> Stream:
    stream = Stream(FakeCall(*frames))  # type: ignore[arg-type]
    for _ in stream:
        pass
    return stream


def events(*frames: Any) -> list[Event]:
    return list(Stream(FakeCall(*frames)))  # type: ignore[arg-type]


def test_words_are_there_as_soon_as_they_come(capsys: Captured) -> None:
    words = Words()
    first, second = (Data(delta(text).payload) for text in ("Sev", "en."))
    words.event(first)
    assert capsys.readouterr().out == "Sev"
    words.event(second)
    assert capsys.readouterr().out == "en."
    words.outcome(ended(*answer()), None)
    assert capsys.readouterr().out == "\n"


def test_words_end_with_one_newline(capsys: Captured) -> None:
    words = Words()
    words.event(Data(delta("Seven.\n").payload))
    words.outcome(ended(*answer()), None)
    assert capsys.readouterr().out == "Seven.\n"


def test_a_text_that_came_without_deltas_is_printed_at_the_end(capsys: Captured) -> None:
    Words().outcome(ended(*answer()), None)
    assert capsys.readouterr().out == "Seven.\n"


def test_nothing_but_text_is_printed(capsys: Captured) -> None:
    words = Words()
    arguments = data(Tag.OTHER, type="response.function_call_arguments.delta", delta="{}")
    for event in (Metadata({"x": 1}), Status(200), Data(arguments.payload), Data(b'{"type": "keepalive"}')):
        words.event(event)
    words.outcome(None, None)
    assert capsys.readouterr().out == ""


def test_a_refusal_is_text_too(capsys: Captured) -> None:
    Words().event(Data(b'{"type": "response.refusal.delta", "delta": "I would rather not."}'))
    assert capsys.readouterr().out == "I would rather not."


def test_on_a_terminal_words_move_no_cursor_and_in_a_pipe_they_are_as_they_are(
    capsys: Captured, terminal: Callable[..., None]
) -> None:
    event = Data(delta("a\x1b[2Jb").payload)
    Words().event(event)
    assert capsys.readouterr().out == "a\x1b[2Jb"
    terminal("stdout")
    Words().event(event)
    assert capsys.readouterr().out == "a\N{REPLACEMENT CHARACTER}[2Jb"


def test_a_program_gets_every_event_as_it_is_and_the_outcome_last(capsys: Captured) -> None:
    lines = Lines()
    frames = answer("Seven.")
    for event in events(*frames):
        lines.event(event)
    lines.outcome(ended(*answer("Seven.")), None)
    printed = capsys.readouterr().out.splitlines()
    parsed = [json.loads(line) for line in printed]
    assert [line["type"] for line in parsed] == [
        "pixir.metadata", "pixir.status", "response.output_text.delta", "response.completed", "pixir.outcome",
    ]  # fmt: skip
    assert parsed[0]["metadata"]["wire_bytes"] == 169
    assert printed[2].encode() == delta("Seven.").payload
    assert parsed[-1] == {"type": "pixir.outcome", "ok": True, "status": "completed", "response_id": "resp_1"}


def test_an_event_that_its_provider_broke_into_lines_is_one_line(capsys: Captured) -> None:
    Lines().event(Data(b'{"type":\n "x",\r\n "text": "a\\nb"}'))
    assert capsys.readouterr().out == '{"type":"x","text":"a\\nb"}\n'


def test_a_failure_s_line_says_all_that_a_program_needs(capsys: Captured) -> None:
    Lines().outcome(None, StreamError(Failure.of(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT, retry_after=1.5, limit=16)))
    line = json.loads(capsys.readouterr().out)
    assert line == {
        "type": "pixir.outcome", "ok": False, "status": None, "response_id": None, "code": "queue_full",
        "delivery": "not_sent", "retryable": True, "retry_after": 1.5, "details": {"limit": 16},
    }  # fmt: skip


def test_a_provider_s_error_is_in_it(capsys: Captured) -> None:
    failure = Failure(
        code=ErrorCode.PROVIDER_HTTP_ERROR, delivery=Delivery.REJECTED, retryable=False, status=429, error={"code": "x"}
    )
    Lines().outcome(None, ProviderError(failure))
    line = json.loads(capsys.readouterr().out)
    assert (line["provider_status"], line["provider_error"]) == (429, {"code": "x"})


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "evidence: nothing was sent"),
        (
            {
                "continuation_attempted": True,
                "continuation_reset_reason": None,
                "wire_bytes": 1,
                "full_bytes": 2,
                "connection_age_ms": 3200,
            },
            "delta: 1 of 2 bytes sent, socket open for 3.2s",
        ),
        (
            {
                "continuation_attempted": False,
                "continuation_reset_reason": "max_age",
                "wire_bytes": 2,
                "full_bytes": 2,
                "delivery_attempts": 2,
            },
            "full (max_age): 2 of 2 bytes sent, 2 attempts",
        ),
        (
            {
                "continuation_reset_reason": "socket_closed",
                "wire_bytes": 2,
                "full_bytes": 2,
                "active_transport": "http_sse",
                "fallback_reason": "websocket_connect_failed",
            },
            "full (socket_closed): 2 of 2 bytes sent, over HTTP (websocket_connect_failed)",
        ),
    ],
)
def test_the_evidence_is_one_line(metadata: dict[str, Any], said: str) -> None:
    assert evidence_line(metadata) == said
