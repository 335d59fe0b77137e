"""Admin daemons at places of a test's own, and a simulator."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pixir_actors import Client, Request
from pixir_actors.errors import AdminNotRunning
from pixir_actors.simulator import Reply, Simulator, TurnContext
from pixir_actors.system.launch import AdminOptions, start_detached, stop_admin
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime, find
from tests.conftest import within


def slowly(turn: TurnContext) -> Reply:
    """Answer at once; a text that begins with "slowly" is answered with a hundred deltas, fifty a second."""
    if turn.text.startswith("slowly"):
        return Reply.text("word " * 100, deltas=100).paced(0.02)
    return Reply.text("done", deltas=1)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(slowly) as simulator:
        yield simulator


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Move everything that a user has into the test's own directory, for this process and those it starts."""
    moved = {
        "HOME": str(tmp_path / "home"),
        "PIXIR_ACTORS_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    (tmp_path / "home").mkdir()
    for name in [name for name in os.environ if name.startswith("PIXIR_ACTORS_")]:
        monkeypatch.delenv(name)
    for name, value in moved.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def places(environment: dict[str, str]) -> Iterator[Places]:
    """Where the test's admin lies; one that still runs is ended with the test."""
    found = Places.of(environment)
    yield found
    runtime = find(found)
    if runtime is not None:
        with suppress(AdminNotRunning):
            stop_admin(runtime, timeout=within(20))


@pytest.fixture
def start(places: Places) -> Callable[..., Runtime]:
    """Start a daemon, as `pixir-actors start --detach` does."""

    def started(**options: object) -> Runtime:
        return start_detached(AdminOptions(places=places, **options), timeout=within(30))  # type: ignore[arg-type]

    return started


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def ask(sim: Simulator, *texts: str) -> Request:
    """Return a request whose input is these user messages."""
    items = [{"role": "user", "content": text} for text in texts]
    return Request.responses(model="m", input=items, api_key="k", base_url=sim.base_url)


def continued(sim: Simulator, client: Client, key: str, items: list[dict[str, object]], text: str) -> dict[str, object]:
    """Say one more thing in the conversation, extend `items` by it and by the answer, and return the evidence."""
    items.append({"role": "user", "content": text})
    request = Request.responses(model="m", input=list(items), api_key="k", base_url=sim.base_url)
    with client.stream(key, request) as stream:
        for _ in stream:
            pass
        stream.raise_for_failure()
        items.extend(stream.output)
        return stream.metadata
