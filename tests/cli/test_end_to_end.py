"""Programs that know nothing of each other, and the command line, go on with one conversation, on one socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pixir_actors.simulator import Reply, Simulator, TurnContext, same_history
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import find
from tests.conftest import until, within

pytestmark = pytest.mark.processes

PROGRAM = """
import json, sys
from pixir_actors import Client, Request

path, base_url, text = sys.argv[1:]
with open(path) as file:
    history = [*json.load(file), {"role": "user", "content": text}]
with Client.attach() as client:
    with client.stream("session-1", Request.responses(model="m", input=history, base_url=base_url)) as stream:
        for event in stream:
            pass
        stream.raise_for_failure()
    with open(path, "w") as file:
        json.dump(history + stream.output, file)
    print(stream.text)
"""
CANARY = "sk-canary-5d41402abc4b"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(lambda turn: Reply.text(f"You said: {turn.text}")) as simulator:
        yield simulator


@pytest.fixture
def cli(home: Path, sim: Simulator) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run a command to its end; an admin that is left at the end is ended."""
    environment = dict(os.environ) | {"PIXIR_ACTORS_BASE_URL": sim.base_url, "PIXIR_ACTORS_MODEL": "m"}

    def run(*words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return execute([sys.executable, "-m", "pixir_actors", *words], environment | more, stdin)

    yield run
    runtime = find(Places.of(os.environ))
    if runtime is not None:
        with suppress(ProcessLookupError):
            os.kill(runtime.pid, signal.SIGKILL)
        until(lambda: not runtime.alive())


def execute(command: list[str], environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=within(40), check=False
    )


def seen_in_proc(name: str) -> list[bytes]:
    """Return a file of every process that may be read."""
    texts = []
    for path in Path("/proc").glob(f"[0-9]*/{name}"):
        with suppress(OSError):
            texts.append(path.read_bytes())
    return texts


def test_three_programs_and_the_command_line_go_on_with_one_conversation(
    cli: Callable[..., subprocess.CompletedProcess[str]], sim: Simulator, tmp_path: Path
) -> None:
    talk = tmp_path / "talk.json"
    talk.write_text("[]")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def attached(text: str) -> str:
        done = execute([sys.executable, str(program), str(talk), sim.base_url, text], dict(os.environ))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def typed(text: str) -> str:
        done = cli("stream", "session-1", text, "--conversation", str(talk))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert cli("start", "--detach").returncode == 0
    for number, say in enumerate((attached, typed, attached, typed, attached)):
        assert say(f"word {number}") == f"You said: word {number}\n"

    assert len(sim.handshakes) == 1
    assert len(sim.requests) == 5
    ids = [turn.response_id for turn in sim.turns]
    assert [request.payload.get("previous_response_id") for request in sim.requests] == [None, *ids[:-1]]
    assert [len(request.payload["input"]) for request in sim.requests] == [1, 1, 1, 1, 1]
    said = json.loads(talk.read_text())
    assert same_history(said, [*sim.turns[-1].seen, *sim.turns[-1].output]) is None
    assert cli("stop").returncode == 0
    sim.wait_for(lambda sim: sim.open_connections == 0, within(20))


def test_status_close_and_stop_tell_scripts_how_it_is(
    cli: Callable[..., subprocess.CompletedProcess[str]], sim: Simulator
) -> None:
    assert [cli(*words).returncode for words in (("status",), ("stop",), ("close", "k"), ("stream", "k", "x"))] == [3] * 4
    started = cli("start", "--detach")
    assert started.returncode == 0 and started.stdout.count("\n") == 1 and started.stderr == ""
    again = cli("start")
    assert again.returncode == 1 and "running already: pid" in again.stderr

    assert cli("stream", "k", "--namespace", "n", stdin="piped\n").stdout == "You said: piped\n"
    assert cli("status", "k").returncode == 4
    shown = json.loads(cli("status", "k", "--namespace", "n", "--json").stdout)
    assert (shown["turns"], shown["state"]) == (1, "idle")
    assert cli("close", "k", "--namespace", "n").returncode == 0
    assert cli("close", "k", "--namespace", "n").returncode == 4
    assert json.loads(cli("status", "--json").stdout)["connections"] == []

    stopped = cli("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert cli("status").returncode == 3


def test_stream_starts_an_admin_where_it_is_asked_to(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = cli("stream", "k", "hello", "--start", "--evidence")
    assert (done.returncode, done.stdout) == (0, "You said: hello\n")
    assert cli("status").returncode == 0
    assert cli("stop").returncode == 0


def test_head_gets_its_line_and_the_request_is_cancelled(
    cli: Callable[..., subprocess.CompletedProcess[str]], home: Path
) -> None:
    def endless(turn: TurnContext) -> Reply:
        return Reply.text("line\n" * 5000, deltas=5000).paced(0.005)

    with Simulator(endless) as sim:
        assert cli("start", "--detach").returncode == 0
        command = f"{sys.executable} -m pixir_actors stream k x --model m --base-url {sim.base_url} | head -1"
        done = execute(["bash", "-o", "pipefail", "-c", command], dict(os.environ))
        assert (done.stdout, done.stderr, done.returncode) == ("line\n", "", 141)
        sim.wait_for(lambda sim: sim.open_connections == 0, within(20))
        assert cli("stop").returncode == 0


def test_sigterm_cancels_the_request_and_says_so(
    cli: Callable[..., subprocess.CompletedProcess[str]], home: Path
) -> None:
    with Simulator(lambda turn: Reply.text("word " * 1000, deltas=1000).paced(0.05)) as sim:
        assert cli("start", "--detach").returncode == 0
        command = [sys.executable, "-m", "pixir_actors", "stream", "k", "x", "--model", "m", "--base-url", sim.base_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.read(4) == b"word"
            process.terminate()
            assert (process.wait(within(20)), process.stderr.read()) == (143, b"\ncancelled\n")
        sim.wait_for(lambda sim: sim.open_connections == 0, within(20))
        assert cli("stop").returncode == 0


def test_the_key_is_in_no_output_no_log_and_no_command_line(
    cli: Callable[..., subprocess.CompletedProcess[str]], sim: Simulator, home: Path
) -> None:
    outputs = [
        cli(*words, OPENAI_API_KEY=CANARY)
        for words in (("start", "--detach", "--log-level", "debug"), ("stream", "k", "hello", "--json", "--debug"))
    ]
    assert sim.handshakes[0].header("Authorization") == f"Bearer {CANARY}"
    of_processes = [*seen_in_proc("cmdline"), *seen_in_proc("environ")]
    outputs += [cli("status", "--json"), cli("stream", "k", "x", "--option", f"api_key={CANARY}"), cli("stop")]
    written = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not [text for done in outputs for text in (done.stdout, done.stderr) if CANARY in text]
    assert not [text for text in [*of_processes, *written] if CANARY.encode() in text]
    log = home / "state" / "pixir_actors" / "admin.log"
    assert "ready" in log.read_text()
