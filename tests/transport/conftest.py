"""Nothing is left open after any test of `transport/`, and nothing is logged by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pixir_actors.transport.connector import THREAD_NAME
from tests.conftest import until
from tests.transport.peer import Pair, connection, open_descriptors


@pytest.fixture(autouse=True)
def nothing_is_left_or_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(1)
    before = open_descriptors()
    yield
    assert until(lambda: not any(thread.name == THREAD_NAME for thread in threading.enumerate())), "a thread is left"
    assert until(lambda: open_descriptors() <= before), f"left open: {open_descriptors() - before}"
    assert not caplog.records


@pytest.fixture
def connected(nothing_is_left_or_logged: None) -> Iterator[Callable[..., Pair]]:
    """Make connections that end with the test; see `connection`."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(connection(*args, **options))
