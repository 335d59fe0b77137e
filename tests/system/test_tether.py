"""Everything dies with the guardian, and below the admin with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import is_running, until

CHAIN = """
import os, sys, time
from pixir_actors.system.tether import Tether
private = os.open(os.devnull, os.O_RDONLY)
Tether([private])
print(os.getpid(), flush=True)
for depth in range(5):
    if os.fork():
        break
    if depth == 0:
        try:
            os.fstat(private)
        except OSError:
            reused = os.open("/", os.O_RDONLY)
            assert reused <= private
            while reused < private:
                reused = os.dup(reused)
    os.fstat(private)
    print(os.getpid(), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def chain() -> Iterator[list[int]]:
    """Pids of a guardian and five processes, each the parent of the next."""
    with subprocess.Popen(
        [sys.executable, "-c", CHAIN], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    ) as root:
        assert root.stdout is not None
        yield [int(root.stdout.readline()) for _ in range(6)]
        root.kill()


def test_all_die_with_the_guardian(chain: list[int]) -> None:
    assert all(map(is_running, chain))

    os.kill(chain[0], signal.SIGKILL)

    assert until(lambda: not any(map(is_running, chain)), 2)


def test_those_below_the_admin_die_with_their_parent_even_when_stopped(chain: list[int]) -> None:
    os.kill(chain[5], signal.SIGSTOP)

    os.kill(chain[3], signal.SIGKILL)

    assert until(lambda: not any(map(is_running, chain[3:])), 2)
    assert all(map(is_running, chain[:3]))


def test_the_admin_outlives_its_first_parent(chain: list[int]) -> None:
    os.kill(chain[1], signal.SIGKILL)

    assert until(lambda: not is_running(chain[1]), 2)
    assert all(map(is_running, chain[2:]))


def test_those_that_are_many_need_no_thread_for_it(chain: list[int]) -> None:
    """The guardian has no tether; admin and supervisor have theirs; below them, the kernel does it."""
    assert [len(os.listdir(f"/proc/{pid}/task")) for pid in chain] == [1, 2, 2, 2, 1, 1]
