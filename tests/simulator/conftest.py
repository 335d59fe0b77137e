"""Nothing is left open after any test of the simulator."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import until


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = _descriptors()
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "simulator"], "a thread is left"
    assert until(lambda: _descriptors() <= before, 1), f"left open: {_descriptors() - before}"


def _descriptors() -> set[str]:
    """Return the open sockets and pipes of this process."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(("socket:", "pipe:")):
            found.add(target)
    return found
