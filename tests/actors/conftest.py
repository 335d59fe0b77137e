"""Fakes that are closed with their test, and one multi-process system for the tests that need processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixir_actors.actors.watch import Watch
from pixir_actors.system.embedded import EmbeddedSystem
from tests.actors.fakes import Dialer, Room
from tests.conftest import within


@pytest.fixture
def dialer() -> Iterator[Dialer]:
    dialer = Dialer()
    yield dialer
    dialer.close()


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.close()


@pytest.fixture(scope="package")
def processes() -> Iterator[EmbeddedSystem]:
    """A system on multiprocTCPBase."""
    with EmbeddedSystem.start(start_timeout=within(20)) as running:
        yield running
