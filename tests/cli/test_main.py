"""The command line: what it says, and what it hands on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest

from pixir_actors.cli.main import main
from pixir_actors.version import __version__


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pixir-actors {__version__}\n"


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "simulate" in capsys.readouterr().out


def test_an_unknown_command_is_a_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["conjure"])
    assert ended.value.code == 2


def test_simulate_hands_its_arguments_to_the_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list-faults"]) == 0
    assert "cut_mid_text" in capsys.readouterr().out


def test_the_module_runs_as_a_program_until_it_is_told_to_stop() -> None:
    program = [sys.executable, "-m", "pixir_actors", "simulate"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("ws://127.0.0.1:")
        with pytest.raises(OSError, match=r"HTTP Error|426|400"):
            urlopen(url.replace("ws://", "http://"), timeout=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
