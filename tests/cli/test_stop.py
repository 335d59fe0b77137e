"""Ending the admin: what is waited for, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors.cli import stop
from pixir_actors.client import Client
from pixir_actors.errors import AdminMismatch, Delivery, ErrorCode, Failure, StreamError
from pixir_actors.system.runtime import Runtime
from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient, connection, runtime


class FakeAdmin:
    """An admin that ends after some ticks, or never."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = runtime()
        self.timeouts: list[float] = []
        self.ticks = 1
        self.ends = True

    def find(self, _places: object) -> Runtime | None:
        return self.runtime

    def stop(self, _runtime: Runtime, *, timeout: float, progress: Callable[[], None]) -> bool:
        self.timeouts.append(timeout)
        for _ in range(self.ticks):
            progress()
        return self.ends


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> FakeAdmin:
    fake = FakeAdmin()
    monkeypatch.setattr(stop, "find", fake.find)
    monkeypatch.setattr(stop, "stop_admin", fake.stop)
    monkeypatch.setattr(stop, "LOOK_EVERY", 0.0)
    return fake


def test_where_none_runs_the_exit_code_says_so(run: Run, admin: FakeAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    admin.runtime = None
    assert run("stop") == 3
    assert capsys.readouterr() == ("", "pixir-actors: no admin is running\n")


def test_in_a_pipe_only_the_end_is_told_and_nobody_attaches(
    run: Run, admin: FakeAdmin, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("stop", "--timeout", "7") == 0
    assert admin.timeouts == [7.0]
    assert client.attached_with == []
    assert capsys.readouterr() == ("", "the admin (pid 42) has ended\n")


def test_on_a_terminal_it_says_what_it_waits_for(
    run: Run, admin: FakeAdmin, client: FakeClient, terminal: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    client.connections = [connection("a", state="streaming"), connection("b"), connection("c", state="connecting")]
    terminal("stderr")
    assert run("stop") == 0
    assert "waiting for 2 running turns" in capsys.readouterr().err
    assert client.closed == [None]


def test_what_cannot_be_asked_any_more_is_stopped_all_the_same(
    run: Run, admin: FakeAdmin, client: FakeClient, terminal: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    client.trouble.append(StreamError(Failure.of(ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)))
    terminal("stderr")
    assert run("stop") == 0
    assert "closing its connections" in capsys.readouterr().err


def test_one_that_cannot_be_attached_to_is_stopped_all_the_same(
    run: Run, admin: FakeAdmin, terminal: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **_more: Any) -> None:
        raise AdminMismatch("another version")

    monkeypatch.setattr(Client, "attach", refuse)
    terminal("stderr")
    assert run("stop") == 0


def test_one_that_does_not_end_in_time_is_a_failure_that_says_what_to_do(
    run: Run, admin: FakeAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.ends = False
    assert run("stop", "--timeout", "0.5") == 1
    assert "(pid 42) still runs after 0.5 s" in capsys.readouterr().err


def test_one_that_was_stopped_by_a_signal_is_no_wait_worth(
    run: Run, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.ends = False
    monkeypatch.setattr(stop, "is_stopped", lambda pid: pid == 42)
    assert run("stop", "--timeout", "0.5") == 1
    said = capsys.readouterr().err
    assert "(pid 42) was stopped by a signal" in said
    assert "`kill -CONT 42`" in said
