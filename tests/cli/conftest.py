"""Commands to try: each test has places of its own, and an admin that is not there."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixir_actors.cli.main import main
from pixir_actors.client import Client
from tests.cli.fakes import FakeClient

ROOT = Path(__file__).parents[2]
Run = Callable[..., int]


class Typed(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


def own_environment(home: Path) -> dict[str, str]:
    """Return an environment without anybody's settings, whose files lie in `home`."""
    unwanted = ("PIXIR_ACTORS_", "OPENAI_", "XDG_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    places = {
        "HOME": home,
        "PIXIR_ACTORS_RUNTIME_DIR": home / "run",
        "XDG_CONFIG_HOME": home / "config",
        "XDG_STATE_HOME": home / "state",
    }
    return kept | {name: str(path) for name, path in places.items()} | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which everything lies that the command line reads and writes."""
    wanted = own_environment(tmp_path)
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def config(home: Path) -> Callable[[str], Path]:
    """Write the config file."""

    def write(text: str) -> Path:
        path = home / "config" / "pixir_actors" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client that every command gets."""
    fake = FakeClient()

    def attach(port: int | None = None, **more: Any) -> FakeClient:
        fake.attached_with.append({"port": port, **more})
        return fake

    monkeypatch.setattr(Client, "attach", attach)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with a text on its standard input; an exit is an exit code."""

    def run(*words: str, stdin: str = "", typed: bool = False) -> int:
        monkeypatch.setattr(sys, "stdin", Typed(stdin) if typed else io.StringIO(stdin))
        try:
            return main(words)
        except SystemExit as ended:
            return int(ended.code or 0)

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that standard streams are terminals."""

    def pretend(*names: str) -> None:
        for name in names:
            monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)

    return pretend
