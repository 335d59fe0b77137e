"""What a real actor system logs of a life with everything in it: each documented thing, its number of times, no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import within
from tests.robustness.conftest import ROOT

TOKEN, PROMPT, KEY = "canary-token-5f1d", "canary-prompt-9c2e", "canary-key-77ab"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Run the program once; return what it logged."""
    directory = tmp_path_factory.mktemp("logged")
    path = directory / "log"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "THESPLOG_FILE_MAXSIZE": "0"}
    command = [sys.executable, "-m", "tests.robustness.logging_host", str(path), TOKEN, PROMPT, KEY]
    errors = directory / "stderr"
    with errors.open("wb") as stderr:
        subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            check=False,
            timeout=within(60),
        )
    assert path.exists(), errors.read_text()
    assert "drain ended" in path.read_text(), errors.read_text() + path.read_text()
    yield path.read_text().splitlines()


def test_each_thing_is_logged_as_often_as_it_happened(lines: list[str]) -> None:
    counted: Counter[tuple[str, str, str]] = Counter()
    for line in lines:
        level, name, text = line.split("|", 2)
        if name.startswith("pixir_actors."):
            event = "_".join(word for word in text.split() if "=" not in word)
            counted[level, name.removeprefix("pixir_actors."), event] += 1

    assert counted == {
        ("INFO", "supervisor", "connection_started"): 4,
        ("INFO", "supervisor", "connection_ended"): 3,
        ("WARNING", "supervisor", "connection_ended"): 1,
        ("WARNING", "supervisor", "connection_refused"): 1,
        ("INFO", "supervisor", "drain_begun"): 1,
        ("INFO", "supervisor", "drain_ended"): 1,
        ("INFO", "connection", "socket_opened"): 3,
        ("INFO", "connection", "socket_closed"): 2,
        ("WARNING", "connection", "turn_failed"): 2,
        ("WARNING", "connection", "degraded"): 1,
        ("INFO", "connection", "turn_failed"): 1,
        ("DEBUG", "connection", "turn_ended"): 4,
    }, "\n".join(lines)


def test_no_secret_is_in_what_was_logged(lines: list[str]) -> None:
    text = "\n".join(lines)

    assert [canary for canary in (TOKEN, PROMPT, KEY) if canary in text] == []


def test_a_connection_that_was_killed_is_a_warning(lines: list[str]) -> None:
    [line] = [line for line in lines if line.startswith("WARNING|pixir_actors.supervisor|connection ended")]

    assert "why=crashed" in line
    assert {word.partition("=")[0] for word in line.split() if "=" in word} == {"key", "connection_id", "pid", "why"}


