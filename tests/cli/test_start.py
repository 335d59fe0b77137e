"""Starting the admin: what it is started with, and what is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixir_actors.admin import daemon
from pixir_actors.cli import start
from pixir_actors.errors import AdminAlreadyRunning
from pixir_actors.system.cookie import ensure_cookie, proof, system_key
from pixir_actors.system.launch import AdminOptions
from pixir_actors.system.places import Places
from pixir_actors.version import __version__
from tests.cli.conftest import Run
from tests.cli.fakes import runtime


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[AdminOptions]:
    """What admins were started with; none of them runs."""
    options: list[AdminOptions] = []

    def run_admin(given: AdminOptions, *, ready: Callable[[Any], None]) -> int:
        options.append(given)
        ready(runtime(log=None))
        return 0

    def start_detached(given: AdminOptions, *, complain: Callable[[str], None]) -> Any:
        options.append(given)
        return runtime()

    monkeypatch.setattr(daemon, "run_admin", run_admin)
    monkeypatch.setattr(start, "start_detached", start_detached)
    return options


def test_in_the_foreground_one_line_says_that_it_is_ready(
    run: Run, started: list[AdminOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("start") == 0
    said = "the admin is running: pid 42, port 1900, log: stderr; Ctrl-C ends it\n"
    assert capsys.readouterr() == (said, "")
    assert started[0].log_file is None


def test_detached_it_logs_to_a_file_and_the_line_names_it(
    run: Run, started: list[AdminOptions], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("start", "--detach") == 0
    assert capsys.readouterr().out.endswith("log: /var/log/admin.log; `pixir-actors stop` ends it\n")
    assert started[0].log_file == home / "state" / "pixir_actors" / "admin.log"


def test_one_at_a_port_of_its_own_is_ended_by_that_port(
    run: Run, started: list[AdminOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("start", "--detach", "--port", "1900") == 0
    assert capsys.readouterr().out.endswith("; `pixir-actors stop --port 1900` ends it\n")


def test_its_help_says_that_a_port_makes_one_more(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("start", "--help") == 0
    assert "another admin, beside the one without a port" in " ".join(capsys.readouterr().out.split())


def test_on_a_terminal_the_wait_is_shown(
    run: Run, started: list[AdminOptions], terminal: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal("stderr")
    assert run("start", "--detach") == 0
    assert "starting the admin" in capsys.readouterr().err


def test_it_is_started_as_flags_environment_and_file_say(
    run: Run, started: list[AdminOptions], config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config("port = 1234\n[start]\ndrain_timeout = 5\nlog_level = 'debug'")
    monkeypatch.setenv("PIXIR_ACTORS_LOG_LEVEL", "warning")
    assert run("start", "--log-format", "json", "--log-file", "x.log") == 0
    (options,) = started
    assert (options.port, options.places.port, options.drain_timeout) == (1234, 1234, 5.0)
    assert (options.log_level, options.log_format) == ("WARNING", "json")
    assert options.log_file == Path("x.log").absolute()


@pytest.mark.parametrize("words", [("start",), ("start", "--detach")])
def test_no_directory_is_made_for_a_log_file_that_was_named(
    run: Run, started: list[AdminOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(*words, "--log-file", str(tmp_path / "nope" / "x.log")) == 2
    assert capsys.readouterr() == ("", f"pixir-actors: the log file's directory does not exist: {tmp_path / 'nope'}\n")
    assert not started and not (tmp_path / "nope").exists()


def test_a_second_one_says_where_the_first_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **_more: Any) -> None:
        raise AdminAlreadyRunning("an admin is running already: pid 42, port 1900")

    monkeypatch.setattr(daemon, "run_admin", refuse)
    assert run("start") == 1
    assert capsys.readouterr() == ("", "pixir-actors: an admin is running already: pid 42, port 1900\n")


def refused(*_: Any, **_more: Any) -> None:
    raise AdminAlreadyRunning("an admin is running already: pid 42, port 1900")


@pytest.mark.parametrize("words", [("start",), ("start", "--detach")])
def test_beside_one_that_has_another_cookie_or_version_it_says_how_that_is_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(daemon, "run_admin", refused)
    monkeypatch.setattr(start, "start_detached", refused)
    cookie = ensure_cookie(Places.of(os.environ).cookie_file)
    fits = runtime(version=__version__, proof=proof(system_key(cookie, "s1")))
    for running, reason in (
        (fits, None),
        (replace(fits, version="0.0.9"), "runs pixir_actors 0.0.9"),
        (replace(fits, proof="another"), "is not that of the admin"),
    ):
        monkeypatch.setattr(start, "find", lambda _places, running=running: running)
        assert run(*words) == 1
        said = capsys.readouterr().err
        assert said.startswith("pixir-actors: an admin is running already: pid 42, port 1900")
        assert ("`pixir-actors stop`, then" in said) is (reason is not None)
        assert (reason or "") in said
