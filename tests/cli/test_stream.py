"""One request from the command line: what is sent, what is printed, what is kept."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixir_actors.cli import conversation
from pixir_actors.cli.failure import Terminated
from pixir_actors.cli.main import main
from pixir_actors.core.verdict import asked_for
from pixir_actors.errors import AdminNotRunning, Delivery, ErrorCode, Failure, StreamError
from pixir_actors.settings import Settings
from tests.cli.conftest import Run
from tests.cli.fakes import ANSWER, FakeClient, answer, failed, opening, refused

Captured = pytest.CaptureFixture[str]

LOCAL = ("--model", "m", "--base-url", "http://localhost/v1")
BROKEN = Failure.of(ErrorCode.WEBSOCKET_CLOSED, Delivery.ACCEPTED, close_code=1011)
HELLO = {"role": "user", "content": "hello"}


@pytest.fixture
def stream(run: Run, client: FakeClient) -> Callable[..., int]:
    """Run `stream k` against a provider on loopback."""
    return lambda *words, stdin="": run("stream", "k", *LOCAL, *words, stdin=stdin)


def test_the_answer_is_printed_and_nothing_else(stream: Callable[..., int], client: FakeClient, capsys: Captured) -> None:
    assert stream("hello", "there") == 0
    assert capsys.readouterr() == ("Seven.\n", "")
    assert client.requests[0][0] == "k"
    assert client.requests[0][1].url == "http://localhost/v1/responses"
    assert client.body == {"model": "m", "input": [{"role": "user", "content": "hello there"}]}
    assert client.closed == [None]


def test_standard_input_is_the_message_when_no_words_are_given(
    stream: Callable[..., int], client: FakeClient, capsys: Captured
) -> None:
    assert stream(stdin="two\nlines\n") == 0
    assert client.body["input"] == [{"role": "user", "content": "two\nlines"}]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_standard_input_that_is_no_text_is_told_with_the_place(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: Captured, errors: str
) -> None:
    given = io.TextIOWrapper(io.BytesIO(b"a\r\ncanary \xff"), encoding="utf-8", errors=errors)
    monkeypatch.setattr(sys, "stdin", given)
    assert main(["stream", "k", *LOCAL]) == 2
    assert capsys.readouterr().err == "pixir-actors: standard input is not UTF-8 (byte 11)\n"
    assert client.requests == []


def test_line_ends_of_standard_input_are_read_as_text(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("zwölf\r\nBoxer\r\n".encode()), encoding="utf-8"))
    assert main(["stream", "k", *LOCAL]) == 0
    assert client.body["input"] == [{"role": "user", "content": "zwölf\nBoxer"}]


def test_at_a_terminal_it_says_that_it_waits_for_the_message(run: Run, client: FakeClient, capsys: Captured) -> None:
    assert run("stream", "k", *LOCAL, stdin="hello", typed=True) == 0
    assert "Ctrl-D" in capsys.readouterr().err
    assert client.body["input"] == [HELLO]


def test_at_a_terminal_a_conversation_that_waits_is_sent_at_once_and_another_asks_for_more(
    run: Run, client: FakeClient, talk: Path, capsys: Captured
) -> None:
    talk.write_text(json.dumps([HELLO]))
    assert run("stream", "k", *LOCAL, "--conversation", str(talk), stdin="unread", typed=True) == 0
    assert "Ctrl-D" not in capsys.readouterr().err
    assert run("stream", "k", *LOCAL, "--conversation", str(talk), stdin="hello", typed=True) == 0
    assert "Ctrl-D" in capsys.readouterr().err
    assert client.body["input"] == [HELLO, ANSWER, HELLO]


def test_words_leave_standard_input_alone(stream: Callable[..., int], client: FakeClient) -> None:
    assert stream("hello", stdin="not this") == 0
    assert client.body["input"] == [HELLO]


@pytest.mark.parametrize("stdin", ["", "  \n"])
def test_nothing_to_say_is_wrong_usage(stream: Callable[..., int], client: FakeClient, capsys: Captured, stdin: str) -> None:
    assert stream(stdin=stdin) == 2
    assert client.attached_with == []
    assert "there is nothing to say" in capsys.readouterr().err


def test_a_conversation_on_standard_input_is_sent_as_it_is(stream: Callable[..., int], client: FakeClient) -> None:
    body = {"model": "theirs", "input": [HELLO], "tools": [{"type": "x"}]}
    assert stream("--conversation", "-", stdin=json.dumps(body)) == 0
    assert client.body == body | {"model": "m"}  # the flag wins


def test_the_body_s_model_counts_where_no_other_is_named(run: Run, client: FakeClient) -> None:
    body = json.dumps({"model": "theirs", "input": "hello"})
    assert run("stream", "k", "--base-url", "http://[::1]:1/v1", "--conversation", "-", stdin=body) == 0
    assert client.body == {"model": "theirs", "input": [HELLO]}


def test_a_conversation_that_was_piped_in_as_a_message_is_noticed(stream: Callable[..., int], capsys: Captured) -> None:
    assert stream(stdin=json.dumps([HELLO])) == 0
    assert "--conversation -" in capsys.readouterr().err


def test_no_model_is_wrong_usage(run: Run, client: FakeClient, capsys: Captured) -> None:
    assert run("stream", "k", "x", "--base-url", "http://localhost/v1") == 2
    assert "$PIXIR_ACTORS_MODEL" in capsys.readouterr().err


def test_flags_go_into_the_body_and_into_the_settings(stream: Callable[..., int], client: FakeClient) -> None:
    words = (
        "--instructions",
        "Be brief.",
        "--field",
        "temperature=0",
        "--field",
        'reasoning={"effort": "low"}',
        "--field",
        "user=me",
    )
    options = ("--option", "idle_timeout=60", "--option", "transport=auto", "--namespace", "n", "--port", "1234", "--start")
    assert stream("hello", *words, *options) == 0
    assert client.body == {
        "model": "m",
        "input": [HELLO],
        "instructions": "Be brief.",
        "temperature": 0,
        "reasoning": {"effort": "low"},
        "user": "me",
    }
    settings = Settings(idle_timeout=60.0, transport="auto")
    assert client.attached_with == [{"port": 1234, "start": True, "settings": settings, "namespace": "n"}]


@pytest.mark.parametrize("field", ["temperature", "=0"])
def test_a_field_without_a_name_or_a_value_is_wrong_usage(stream: Callable[..., int], field: str) -> None:
    assert stream("x", "--field", field) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--field", "model=canary"), "--field model and --model: allowed is one of them"),
        (("--instructions", "x", "--field", "instructions=canary"), "--field instructions and --instructions: allowed is"),
        (("--field", "input=canary"), "--field input: the message is TEXT or standard input"),
        (("--field", "temperature=NaN"), "--field temperature: allowed is JSON, which has finite numbers only"),
        (("--field", 'metadata={"a": [NaN]}'), "--field metadata: allowed is JSON, which has finite numbers only"),
        (("--field", "temperature=-Infinity"), "--field temperature: allowed is JSON, which has finite numbers only"),
        (("--field", "canary-1=1e999"), "--field: allowed is JSON, which has finite numbers only"),
    ],
)
def test_a_field_that_would_not_count_or_not_as_it_looks_is_wrong_usage(
    stream: Callable[..., int], client: FakeClient, capsys: Captured, words: tuple[str, ...], said: str
) -> None:
    assert stream("x", *words) == 2
    err = capsys.readouterr().err
    assert said in err and "canary" not in err
    assert client.requests == []


def test_a_field_counts_before_what_the_environment_says_of_it(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXIR_ACTORS_MODEL", "usual")
    words = ("--base-url", "http://localhost/v1", "--field", "model=other", "--field", 'user="nan"')
    assert run("stream", "k", "x", *words) == 0
    assert (client.body["model"], client.body["user"]) == ("other", "nan")


# The key.


def header(client: FakeClient) -> str | None:
    return dict(client.requests[-1][1].headers).get("Authorization")


def test_the_key_comes_from_the_environment(run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    assert run("stream", "k", "x", "--model", "m") == 0
    assert client.requests[0][1].url == "https://api.openai.com/v1/responses"
    assert header(client) == "Bearer sk-canary"
    monkeypatch.setenv("MY_KEY", "sk-mine")
    assert run("stream", "k", "x", "--model", "m", "--api-key-env", "MY_KEY") == 0
    assert header(client) == "Bearer sk-mine"


def test_on_loopback_no_key_is_needed(stream: Callable[..., int], client: FakeClient) -> None:
    assert stream("x") == 0
    assert header(client) is None


def test_elsewhere_a_missing_key_is_wrong_usage_and_nothing_is_sent(run: Run, client: FakeClient, capsys: Captured) -> None:
    assert run("stream", "k", "x", "--model", "m", "--base-url", "https://example.com/v1") == 2
    assert client.attached_with == []
    said = capsys.readouterr().err
    assert said.startswith("pixir-actors: no API key: $OPENAI_API_KEY is not set.") and "`pixir-actors simulate`" in said


def test_a_key_with_a_line_end_is_wrong_usage_and_nothing_is_sent(
    stream: Callable[..., int], client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary\n")
    assert stream("x") == 2
    assert client.attached_with == []
    assert "has blanks or line ends" in capsys.readouterr().err


def test_a_url_that_is_not_known_is_told_by_its_path(run: Run, client: FakeClient, capsys: Captured) -> None:
    client.script = failed(Failure.of(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, Delivery.NOT_SENT, status=404))
    assert run("stream", "k", "x", "--model", "m", "--base-url", "http://localhost/v1/responses") == 1
    err = capsys.readouterr().err
    assert "asked for was /v1/responses/responses: a base URL ends in /v1" in err


def test_what_the_error_itself_says_of_the_path_is_not_said_again(run: Run, client: FakeClient, capsys: Captured) -> None:
    advice = asked_for("http://localhost/v1/responses/responses")
    client.script = failed(
        Failure.of(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, Delivery.NOT_SENT, status=404, advice=advice)
    )
    assert run("stream", "k", "x", "--model", "m", "--base-url", "http://localhost/v1/responses") == 1
    err = capsys.readouterr().err
    assert f"to do: {advice}" in err
    assert err.count("asked for was") == 1


def test_a_provider_that_repeats_the_key_is_not_quoted(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    error = {"code": "invalid_api_key", "message": "Incorrect API key: sk-canary"}
    client.script = refused(
        Failure(code=ErrorCode.PROVIDER_HTTP_ERROR, delivery=Delivery.REJECTED, retryable=False, status=401, error=error)
    )
    assert run("stream", "k", "x", "--model", "m", "--debug") == 1
    out, err = capsys.readouterr()
    assert "the provider: 401, invalid_api_key: Incorrect API key: ***" in err
    assert "sk-canary" not in out + err


# What is printed.


def test_evidence_is_one_line_on_standard_error(stream: Callable[..., int], capsys: Captured) -> None:
    assert stream("x", "--evidence") == 0
    assert capsys.readouterr() == ("Seven.\n", "delta: 169 of 412 bytes sent, socket open for 3.2s\n")


def test_json_is_a_line_for_each_event_and_one_for_the_outcome(stream: Callable[..., int], capsys: Captured) -> None:
    assert stream("x", "--json") == 0
    types = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert types[0] == "pixir.metadata" and types[-1] == "pixir.outcome" and "response.completed" in types


@pytest.mark.parametrize("script", [failed(BROKEN, "Sev"), [StreamError(BROKEN)], [*opening(), StreamError(BROKEN)]])
def test_a_failure_says_what_happened_whether_it_ran_and_what_to_do(
    stream: Callable[..., int], client: FakeClient, capsys: Captured, script: list[Any]
) -> None:
    client.script = script
    assert stream("x", "--json") == 1
    out, err = capsys.readouterr()
    assert err.startswith("pixir-actors: websocket_closed (close_code=1011)\n  accepted: it has run")
    assert json.loads(out.splitlines()[-1])["code"] == "websocket_closed"
    assert client.closed == [None]


def test_half_an_answer_ends_its_line_before_the_failure(
    stream: Callable[..., int], client: FakeClient, capsys: Captured
) -> None:
    client.script = failed(BROKEN, "Sev")
    assert stream("x") == 1
    assert capsys.readouterr().out == "Sev\n"


def test_an_incomplete_answer_is_no_failure_and_is_told(
    stream: Callable[..., int], client: FakeClient, capsys: Captured
) -> None:
    client.script = answer("Sev", status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert stream("x") == 0
    assert capsys.readouterr() == ("Sev\n", "pixir-actors: the answer is incomplete: max_output_tokens\n")


def test_a_call_of_a_tool_is_told(stream: Callable[..., int], client: FakeClient, capsys: Captured) -> None:
    client.script = answer(output=[{"type": "function_call", "name": "read_file", "call_id": "c", "arguments": "{}"}])
    assert stream("x") == 0
    out, err = capsys.readouterr()
    assert out == "" and "the model calls read_file" in err


def test_where_no_admin_runs_nothing_is_printed_but_that(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    client.script = [AdminNotRunning("no admin is running")]
    assert run("stream", "k", *LOCAL, "x") == 3
    assert capsys.readouterr() == ("", "pixir-actors: no admin is running\n")


# How it is left early.


@pytest.mark.parametrize(("signal", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_ctrl_c_and_sigterm_cancel_the_request(
    stream: Callable[..., int], client: FakeClient, capsys: Captured, tmp_path: Path, signal: BaseException, code: int
) -> None:
    client.script = [*opening(), signal]
    talk = tmp_path / "talk.json"
    assert stream("x", "--conversation", str(talk)) == code
    assert client.calls[0].cancels == 1
    assert not talk.exists()
    assert capsys.readouterr().err.strip() == "cancelled"


def test_a_reader_that_leaves_cancels_the_request(
    stream: Callable[..., int], client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            if self.getvalue():
                raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    assert stream("x") == 141
    assert client.calls[0].cancels == 1
    assert capsys.readouterr().err == ""


# The conversation's file.


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return tmp_path / "talk.json"


def test_a_conversation_grows_by_what_was_said_and_answered(
    stream: Callable[..., int], client: FakeClient, talk: Path
) -> None:
    assert stream("hello", "--conversation", str(talk)) == 0
    assert json.loads(talk.read_text()) == [HELLO, ANSWER]
    assert stream("--conversation", str(talk), stdin="and now?") == 0
    assert client.body["input"] == [HELLO, ANSWER, {"role": "user", "content": "and now?"}]
    assert len(json.loads(talk.read_text())) == 4


def test_a_conversation_that_waits_for_the_model_needs_no_message(
    stream: Callable[..., int], client: FakeClient, talk: Path
) -> None:
    talk.write_text(json.dumps([HELLO]))
    assert stream("--conversation", str(talk)) == 0
    assert client.body["input"] == [HELLO]
    assert json.loads(talk.read_text()) == [HELLO, ANSWER]


@pytest.mark.parametrize(
    "script",
    [failed(BROKEN, "Sev"), [StreamError(BROKEN)]],
    ids=["in the middle", "at the start"],
)
def test_a_failure_leaves_the_file_as_it_was(
    stream: Callable[..., int], client: FakeClient, talk: Path, script: list[Any]
) -> None:
    talk.write_text("[]")
    client.script = script
    assert stream("hello", "--conversation", str(talk)) == 1
    assert talk.read_text() == "[]"


def test_a_file_that_was_changed_meanwhile_is_told(
    stream: Callable[..., int], client: FakeClient, talk: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = conversation.Conversation.save

    def save(self: conversation.Conversation, items: Any) -> None:
        talk.write_text("[{}]")
        real(self, items)

    monkeypatch.setattr(conversation.Conversation, "save", save)
    assert stream("hello", "--conversation", str(talk)) == 1
    out, err = capsys.readouterr()
    assert out == "Seven.\n" and "changed by somebody else" in err
    assert "send the message again" in err
    assert talk.read_text() == "[{}]"


def test_a_full_disk_is_told_after_the_answer(
    stream: Callable[..., int], talk: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: object, _items: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversation.Conversation, "save", save)
    assert stream("hello", "--conversation", str(talk)) == 1
    out, err = capsys.readouterr()
    assert out == "Seven.\n" and "the answer came, but the file could not be extended: No space left on device" in err
