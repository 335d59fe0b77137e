"""The help, and complaints about a wrong command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pixir_actors.cli import catalog
from pixir_actors.cli.options import Command
from tests.cli.conftest import Run

OURS = [command for command in catalog.COMMANDS if command is not catalog.SIMULATE]


@pytest.mark.parametrize("command", OURS, ids=lambda command: command.name)
def test_the_help_of_a_command_is_complete(run: Run, capsys: pytest.CaptureFixture[str], command: Command) -> None:
    assert run(command.name, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in command.options:
        assert option.flag in text
        assert all(f"${variable}" in text for variable in option.sources)
        if option.default not in (None, False):
            assert f"default: {option.default}" in text
    for example in command.examples:
        assert " ".join(example.split()) in text
    for code, meaning in command.codes:
        assert f"{code} {meaning}" in text
    assert "--api-key " not in text


def test_the_help_of_all_lists_every_command_and_every_exit_code(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"    {command.name} " in text for command in catalog.COMMANDS)
    for code in (0, 1, 2, 3, 4, 5, 130, 141, 143):
        assert f"\n    {code:<4} " in text


@pytest.mark.parametrize(
    "words",
    [
        ("stream", "k", "--api-key", "canary"),
        ("stream", "k", "--api-key=canary"),
        ("stream", "k", "x", "--apikey=canary"),
        ("status", "k", "canary"),
        ("status", "--port", "canary"),
        ("status", "--jso=canary"),
        ("status", "--json=canary"),
        ("stream", "k", "x", "--model", "m", "--base-url", "http://localhost", "--option", "api_key=canary"),
        ("stream", "k", "x", "--model", "m", "--base-url", "http://localhost", "--option", "canary=1"),
        ("stream", "k", "x", "--model", "m", "--api-key-env", "canary-1"),
        ("stream", "k", "x", "--model", "m", "--api-key-env", "canary"),
        ("canary-1",),
        ("--debug", "canary"),
        ("--canary=canary",),
    ],
)
def test_a_complaint_does_not_repeat_a_value(run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "canary" not in err.replace("--canary", "")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [command for command in OURS if command.settings], ids=lambda command: command.name)
def test_help_speaks_of_no_flag_that_the_command_lacks(
    run: Run, capsys: pytest.CaptureFixture[str], command: Command
) -> None:
    assert run(command.name, "--help") == 0
    text = capsys.readouterr().out
    assert "$PIXIR_ACTORS_<FIELD>" in text
    assert ("--option" in text) is any(option.flag == "--option" for option in command.options)


def test_the_help_of_stream_says_how_words_make_key_and_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stream", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "one word, quote it if it has blanks" in text and "its words joined by blanks" in text


def test_what_may_be_missing_is_not_asked_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stream") == 2
    assert capsys.readouterr().err.endswith("the following arguments are required: KEY\n")


def test_a_command_in_the_wrong_place_is_told_what_there_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--debug", "frob") == 2
    assert "invalid choice (choose from 'start', 'stop'," in capsys.readouterr().err


def test_a_key_on_the_command_line_is_refused_with_the_reason(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stream", "k", "--api-key", "canary") == 2
    assert "could read it in `ps`" in capsys.readouterr().err


def test_help_loads_no_command() -> None:
    program = "import sys; from pixir_actors.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    program += "print([m for m in sys.modules if m in ('rich.live', 'pixir_actors.cli.stream', 'pixir_actors.cli.doctor')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "[]"
