"""Showing the admin and its connections, once and again."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from pixir_actors.cli import status
from pixir_actors.cli.table import COLUMNS
from pixir_actors.client import Client
from pixir_actors.errors import AdminNotRunning, Delivery, ErrorCode, Failure, StreamError
from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient, connection, runtime

NOT_RUNNING = AdminNotRunning("no admin is running: start it with `pixir-actors start --detach`")


@pytest.fixture
def looks(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `--watch` look as often as there are arguments, each called before its look, and then get a Ctrl-C."""
    monkeypatch.setattr(status, "find", lambda _places: client.admin)

    def script(*before: Callable[[], object]) -> None:
        steps = iter(before)

        def sleep(_seconds: float) -> None:
            step = next(steps, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr(time, "sleep", sleep)

    script()
    return script


def test_the_table_is_printed_whole_in_a_pipe(run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.connections = [connection(last_reset_reason="previous_response_not_found")]
    assert run("status", "--port", "1234") == 0
    out = capsys.readouterr().out
    assert "previous_response_not_found" in out and "WAKES IN" in out and "\x1b" not in out
    assert client.attached_with == [{"port": 1234, "namespace": None}]
    assert client.closed == [None]


def test_on_a_terminal_it_fits(
    run: Run,
    client: FakeClient,
    terminal: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.connections = [connection(last_reset_reason="previous_response_not_found")]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    terminal("stdout")
    assert run("status") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_key_gets_its_details(run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.connections = [connection("k"), connection("other")]
    assert run("status", "k") == 0
    out = capsys.readouterr().out
    assert out.startswith("key           k\n") and "other" not in out


def test_a_key_without_a_connection_has_an_exit_code_of_its_own(
    run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "k") == 4
    assert run("status", "k", "--json") == 4
    assert capsys.readouterr() == ("", "pixir-actors: this key has no connection (namespace: none)\n" * 2)


def test_what_the_table_shows_as_key_is_one_as_well(
    run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.connections, client.texts = [connection("97d0d24dd07f"), connection("other")], False
    assert run("status", "97d0d24dd07f") == 0
    assert capsys.readouterr().out.startswith("key           97d0d24dd07f\n")
    assert run("status", "97d0d24dd07f", "--json") == 0
    assert json.loads(capsys.readouterr().out)["key"] == "97d0d24dd07f"


def test_the_document_is_one(run: Run, client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.connections = [connection("k")]
    assert run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["connections"][0]["saved_bytes"] == 12345
    assert run("status", "k", "--json") == 0
    assert json.loads(capsys.readouterr().out)["key"] == "k"


def test_where_no_admin_runs_the_exit_code_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise NOT_RUNNING

    monkeypatch.setattr(Client, "attach", refuse)
    assert run("status") == 3
    assert run("status", "--watch") == 3
    assert capsys.readouterr().err == f"pixir-actors: {NOT_RUNNING}\n" * 2


def test_watching_in_a_pipe_prints_a_plain_table_for_each_look_and_ctrl_c_is_no_failure(
    run: Run, client: FakeClient, looks: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    looks(lambda: client.connections.append(connection("k")))
    assert run("status", "--watch") == 0
    out, err = capsys.readouterr()
    assert out.count("pid 42") == 2 and out.count("LAST RESET") == 1
    assert "\x1b" not in out and err == ""


def test_watching_as_json_is_a_line_for_each_look(
    run: Run, client: FakeClient, looks: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    looks(lambda: None)
    assert run("status", "--watch", "5", "--json") == 0
    assert [json.loads(line)["admin"]["pid"] for line in capsys.readouterr().out.splitlines()] == [42, 42]


def test_watching_a_key_that_closes_goes_on(
    run: Run, client: FakeClient, looks: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    client.connections = [connection("k")]
    looks(client.connections.clear)
    assert run("status", "--watch", "k") == 0
    out = capsys.readouterr().out
    assert "key           k" in out and "this key has no connection" in out


@pytest.mark.parametrize("words", [("--watch", "k"), ("k", "--watch", "--json")])
def test_watching_a_key_that_never_had_a_connection_ends_at_the_first_look(
    run: Run, client: FakeClient, looks: Callable[..., None], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run("status", *words) == 4
    assert capsys.readouterr() == ("", "pixir-actors: this key has no connection (namespace: none)\n")


def test_the_help_says_what_the_columns_mean(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--help") == 0
    out = capsys.readouterr().out
    assert all(column.title in out for column in COLUMNS if column.title not in ("STATE", "MODEL"))
    assert "--option expose_keys=true" in out and "refusals" in out
    assert "failures   (with KEY) requests that ended without the provider's last event" in out


def test_watching_outlives_the_admin_and_says_what_happens(
    run: Run, client: FakeClient, looks: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def other(**values: object) -> Callable[[], None]:
        return lambda: setattr(client, "admin", runtime(**values))

    looks(
        lambda: client.trouble.append(NOT_RUNNING),
        other(pid=77, system_id="s2"),
        lambda: client.trouble.append(StreamError(Failure.of(ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.NOT_SENT))),
        other(pid=77, system_id="s3"),
    )
    assert run("status", "--watch") == 0
    said = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said[0] == "no admin is running: waiting for one"
    assert said[1].startswith("the admin was restarted at ") and said[1].endswith("pid 42 is now 77")
    assert said[2].startswith("no answer: connection_unresponsive")
    assert said[3].startswith("the admin has started its actor system anew at ")
    assert len(client.attached_with) == 3  # after each trouble again


def test_an_admin_that_has_gone_is_not_asked(
    run: Run, client: FakeClient, looks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(lambda: monkeypatch.setattr(status, "find", lambda _places: None))
    assert run("status", "--watch") == 0
    assert len(client.attached_with) == 2


def test_on_a_terminal_the_screen_is_given_back_with_the_last_picture_below(
    run: Run,
    client: FakeClient,
    looks: Callable[..., None],
    terminal: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.connections = [connection("k")]
    looks(lambda: client.connections.append(replace(connection("late"))))
    terminal("stdout")
    assert run("status", "--watch") == 0
    out = capsys.readouterr().out
    assert "\x1b[?1049h" in out and "Ctrl-C ends this" in out
    after = out.partition("\x1b[?1049l")[2]
    assert "late" in after and "Ctrl-C" not in after


def test_a_reader_that_leaves_is_no_failure_worth_words(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    assert run("status") == 141
    assert capsys.readouterr().err == ""
