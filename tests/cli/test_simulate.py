"""The simulator as a command."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from tests.cli.conftest import Run


def test_simulate_hands_its_arguments_to_the_simulator(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", "--list-faults") == 0
    assert "cut_mid_text" in capsys.readouterr().out


def test_its_help_is_the_simulator_s(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", "--help") == 0
    assert "--lifetime" in capsys.readouterr().out


def test_its_help_calls_it_as_it_was_called(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", "--help") == 0
    assert capsys.readouterr().out.startswith("usage: pixir-actors simulate ")


@pytest.mark.parametrize("words", [("--port", "70000"), ("--port", "x"), ("--delay", "-1"), ("--fault", "nonsense")])
def test_a_wrong_argument_is_wrong_usage_and_no_defect(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert run("simulate", *words, "--debug") == 2
    said = capsys.readouterr().err
    assert f"argument {words[0]}: " in said and "defect" not in said


def test_without_the_extra_it_says_what_to_install(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("pixir_actors.simulator"):
            raise ModuleNotFoundError("no", name="websockets")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run("simulate") == 1
    assert "pip install 'pixir_actors[simulator]'" in capsys.readouterr().err
