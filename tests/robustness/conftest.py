"""A client, a simulator that takes its time, and the processes behind them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixir_actors import Client, Request
from pixir_actors.simulator import Reply, Simulator, TurnContext
from tests.conftest import within

ROOT = Path(__file__).parents[2]


def slowly(turn: TurnContext) -> Reply:
    """Answer with a hundred deltas, fifty a second; a text that begins with "quick" is answered at once."""
    if turn.text.startswith("quick"):
        return Reply.text("done", deltas=1)
    return Reply.text("word " * 100, deltas=100).paced(0.02)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(slowly) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client.embedded(namespace=uuid.uuid4().hex) as embedded:
        yield embedded


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def ask(sim: Simulator, *texts: str) -> Request:
    """Return a request whose input is these user messages."""
    items = [{"role": "user", "content": text} for text in texts]
    return Request.responses(model="m", input=items, api_key="k", base_url=sim.base_url)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `tests/robustness/programs.py` as programs of their own; they are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.robustness.programs", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(within(10))
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line a program prints."""
    assert process.stdout is not None
    text = process.stdout.readline().strip()
    assert text, f"the program ended with {process.wait(within(10))}"
    return text
