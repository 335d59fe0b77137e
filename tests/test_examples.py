"""Every example as its reader runs it: a program of its own, in an empty directory, with its output piped."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pixir_actors.simulator import Simulator
from tests.conftest import children, command, is_running, until, within

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
KEY = "sk-canary-7f3a"
RUN_ALONE = 20.0
"""Seconds that `make run` may take."""

SAYS = {
    "quickstart": ["You said: And the next one?", r"(\d+) of \1 bytes sent: no_previous_response", "bytes sent: delta"],
    "agent_loop": [
        r"sent full   1 of  1 items .* no_previous_response",
        r"sent delta  1 of 13 items",
        r"server │ [2-9] pings came",
        r"sent full  17 of 17 items .* socket 2, 0\.\d\d s old   connection_closed",
        r"socket 2, .* previous_response_not_found, 2 attempts",
        r"StreamError: websocket_(read_failed|closed) \(delivery=accepted, retry_after=",
        r"socket 3, .* websocket_failed",
        r"fix +9 +5 +3 +[\d,]+ +[\d,]+ +\d+%",
        r"notes +2 +1 +1 ",
        "ok  what the model saw is what the caller meant: 11 turns, 0 differences",
        "ok  bytes of all attempts",
        r"ok  left running of \d+ processes and their sockets: nothing",
    ],
    "tool_loop": [r"(?s)\(delta\).*\(delta\).*\(delta\)", "Cairo is the warmest"],
    "many_keys": [r"(?s)(3 turns, 2 as deltas, 1 socket.*){6}", "6 conversations of"],
    "reduce": ["status 200, 11 events: You said: Greet", "cut: websocket_", r"so far: 'You said: .*', \d+ events"],
    "host_app": ["'Hello' was answered with 11 events", "'And good bye' was answered with 11 events", "stopped"],
    "fastapi_stream": [
        "the page is called 'Ask'",
        "'Hello' was answered with 18 events, text/event-stream",
        "left in the middle",
        "the socket of that answer is closed",
        "stopped",
    ],
    "own_actor": [
        "actor:  .* no_previous_response",
        "actor:  .* delta",
        "on the same socket",
        r"the actor has heard: closed\n",  # once, although it asked twice to be told
    ],
    "testing_your_agent": [r"(?s)(ok test_.*){4}"],
}
"""What each example prints, as patterns."""

BEYOND_THE_SIMULATOR = {
    "quickstart": ["bytes sent: delta"],
    "agent_loop": ["sent delta", r"3\. The connection is closed between two turns", "ok  left running"],
    "tool_loop": ["bytes sent"],
    "many_keys": [r"(3 turns, 2 as deltas)"],
    "reduce": ["status 200"],
    "host_app": ["stopped"],
    "fastapi_stream": [r"'Hello' was answered with \d+ events", "stopped"],
    "own_actor": ["actor:  .* delta"],
}
"""What those examples print that ask a provider when there is a key."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory for an example's temporary files; its name is short, as Unix sockets need it."""
    directory = Path(tempfile.mkdtemp(prefix="e"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def start(tmp_path: Path, temporary: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an example; it, and what it has started, must have ended with the test and left no file."""
    started: list[subprocess.Popen[str]] = []
    before = set(children(os.getpid()))

    def start(name: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "THESPLOG_FILE_MAXSIZE": "0"}
        example = subprocess.Popen(
            [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=clean | own | variables,
        )
        started.append(example)
        return example

    yield start
    for example in started:
        with suppress(ProcessLookupError):
            os.kill(example.pid, signal.SIGKILL)
        with example:
            pass
    # This process is the parent of every orphan below it.
    until(lambda: not living(before), 2)
    left = [command(pid) for pid in living(before)]
    assert not left, f"left running: {left}"
    assert os.listdir(tmp_path) == [] and os.listdir(temporary) == []


def living(before: set[int]) -> list[int]:
    """Return the children of this process that live and were not there before."""
    return [pid for pid in set(children(os.getpid())) - before if is_running(pid)]


def finish(example: subprocess.Popen[str]) -> str:
    """Wait for an example to end well, and return what it printed."""
    # With a pipe that some process had inherited and kept, this would wait for that process, too.
    output, errors = example.communicate(timeout=within(40))
    assert example.returncode == 0, output + errors
    assert errors == ""
    return output


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("[a-z]*.py")} == set(SAYS)


@pytest.mark.processes
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_without_a_key_and_leaves_nothing(name: str, start: Callable[..., subprocess.Popen[str]]) -> None:
    began = time.monotonic()
    output = finish(start(name))

    missing = [pattern for pattern in SAYS[name] if not re.search(pattern, output)]
    assert not missing, f"{missing} not in:\n{output}"
    assert "FAILED  " not in output
    assert "\x1b" not in output, "it is coloured though it does not go to a terminal"
    assert time.monotonic() - began < within(RUN_ALONE)


@pytest.mark.processes
@pytest.mark.parametrize("name", BEYOND_THE_SIMULATOR)
def test_with_a_key_an_example_asks_the_provider(name: str, start: Callable[..., subprocess.Popen[str]]) -> None:
    with Simulator(api_key=KEY) as provider:
        output = finish(start(name, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url, OPENAI_MODEL="model-x"))

        assert {turn.model for turn in provider.turns} == {"model-x"}
    missing = [pattern for pattern in BEYOND_THE_SIMULATOR[name] if not re.search(pattern, output)]
    assert not missing, f"{missing} not in:\n{output}"
    assert KEY not in output


@pytest.mark.processes
def test_an_example_with_a_wrong_key_fails_and_does_not_tell_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    with Simulator(api_key="another") as provider:
        example = start("agent_loop", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
        output, errors = example.communicate(timeout=within(40))

    assert example.returncode == 1
    assert "websocket_handshake_failed" in errors
    assert KEY not in output + errors


@pytest.mark.processes
@pytest.mark.parametrize("name", ["tool_loop", "many_keys", "reduce", "own_actor"])
def test_a_provider_that_cannot_be_reached_is_told_in_one_line(
    name: str, start: Callable[..., subprocess.Popen[str]]
) -> None:
    example = start(name, OPENAI_API_KEY=KEY, OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    output, errors = example.communicate(timeout=within(40))

    assert example.returncode == 1
    said = [line for line in errors.splitlines() if not line.startswith("WARNING:pixir_actors.")]  # own_actor shows its log
    assert len(said) == 1 and said[0].startswith("StreamError: websocket_")
    assert KEY not in output + errors


@pytest.mark.processes
@pytest.mark.parametrize("name", ["tool_loop"])
def test_an_example_whose_output_nobody_reads_ends_without_words(
    name: str, start: Callable[..., subprocess.Popen[str]]
) -> None:
    example = start(name)
    assert example.stdout is not None and example.stderr is not None
    example.stdout.close()

    assert example.stderr.read() == ""
    assert example.wait(within(40)) == 1


@pytest.mark.processes
@pytest.mark.parametrize("port", ["abc", "99999", "taken"])
def test_a_port_that_the_host_app_cannot_use_is_told_without_a_traceback(
    port: str, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        example = start("host_app", f"{other.getsockname()[1]}" if port == "taken" else port)
        output, errors = example.communicate(timeout=within(40))

    assert output == "" and example.returncode != 0
    assert "port" in errors.lower() and "Traceback" not in errors


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_host_app_cleanly(number: int, start: Callable[..., subprocess.Popen[str]]) -> None:
    example = start("host_app", "0")
    assert example.stdout is not None
    url = example.stdout.readline().split()[-1]
    with urllib.request.urlopen(f"{url}/?session=a&ask=Hello", timeout=within(20)) as response:
        assert b"response.completed" in response.read()
    example.send_signal(number)

    assert finish(example).endswith("stopped\n")


def test_make_run_would_notice_what_it_leaves_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    running = importlib.import_module("_leftovers").Running
    before = running.now()
    with subprocess.Popen(["sleep", "600"]) as process, open(os.devnull) as _:
        during = running.now()
        left = during.left(before)
        process.kill()

    assert left == "1 processes, 1 descriptors"
    assert during.left(before) == ""


def test_the_readme_shows_the_quickstart_verbatim() -> None:
    first_block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert first_block is not None
    assert first_block[1] == (EXAMPLES / "quickstart.py").read_text()
