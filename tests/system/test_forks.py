"""Processes that begin as plain forks: how they end, and what they cost those that were there before."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pixir_actors.actors.connection import ConnectionActor
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.system.embedded import EmbeddedSystem
from pixir_actors.system.forks import Fork, find_newest_first, make_plainly
from tests.conftest import until, within

ROOT = Path(__file__).parents[2]

ENDINGS = """
import sys
from pixir_actors.system.forks import Fork
def print_it(text):
    sys.stdout.write(text)  # not flushed
for work, arguments in ((print_it, ["printed"]), (sys.exit, []), (sys.exit, [3]), (sys.exit, ["a text"]), (int, ["x"])):
    sys.stdout.write(".")
    child = Fork(work, arguments)
    child.start()
    import os
    print(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))
    assert not child.is_alive()
"""


def test_a_fork_ends_with_its_work_and_says_how_it_went() -> None:
    done = subprocess.run([sys.executable, "-c", ENDINGS], cwd=ROOT, capture_output=True, text=True, timeout=within(20))

    # what is printed before a fork is printed once
    assert done.stdout.split("\n") == [".printed0", ".0", ".3", ".1", ".1", ""]
    assert "ValueError" in done.stderr


LATE = """
import os, threading
from pixir_actors.system.forks import Fork
def leave_a_thread():
    last = threading.Event()
    threading.Thread(target=lambda: last.wait(0.2) or print("done")).start()
child = Fork(leave_a_thread)
assert not child.is_alive()
child.start()
os.waitpid(child.pid, 0)
"""


def test_a_fork_waits_for_its_threads() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=within(20))

    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_fork_lives_until_it_has_ended_also_when_it_is_stopped() -> None:
    ends, end = os.pipe()
    child = Fork(os.read, (ends, 1))
    child.daemon = True
    child.start()
    try:
        assert child.is_alive()
        os.kill(child.pid, signal.SIGSTOP)
        assert child.is_alive()
        os.kill(child.pid, signal.SIGCONT)
        os.write(end, b"x")

        assert until(lambda: not child.is_alive(), 5)

        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, 0)
        child.join(0.5)
    finally:
        os.close(ends)
        os.close(end)
    assert child not in multiprocessing.active_children()


def test_an_actors_child_costs_its_parent_no_descriptor_and_its_siblings_none(
    system: EmbeddedSystem, ask: Callable[..., object]
) -> None:
    parent = ask("pid")
    first = ask("child")
    ask("pid")
    count, inherited = len(os.listdir(f"/proc/{parent}/fd")), len(os.listdir(f"/proc/{first}/fd"))

    children = [ask("child") for _ in range(6)]
    ask("pid")

    assert until(lambda: len(os.listdir(f"/proc/{parent}/fd")) <= count, 5)
    # but for messages that were on their way when it was born
    assert len(os.listdir(f"/proc/{children[-1]}/fd")) <= inherited + 2


class Parent:
    """As much of Thespian's replicator as takes note of a child that is up."""

    def __init__(self) -> None:
        self.ready: list[tuple[int, str]] = []
        self.unknown: list[int] = []
        self._child_procs = [Child(number) for number in range(4)]

    def h_EndpointConnected(self, envelope: SimpleNamespace) -> bool:
        self.unknown.append(envelope.message.childInstance)
        return True

    def _pendingActorReady(self, number: int, sender: str) -> None:
        self.ready.append((number, sender))


class Child:
    def __init__(self, number: int) -> None:
        self.number, self.looked_at, self.childRealAddr = number, 0, ""

    @property
    def childNum(self) -> int:
        self.looked_at += 1
        return self.number


def test_a_child_that_is_up_is_looked_for_among_the_newest() -> None:
    class Searching(Parent):
        """A class to change."""

    find_newest_first(Searching)
    find_newest_first(Searching)
    parent = Searching()

    for number in (3, 2, 9):
        envelope = SimpleNamespace(message=SimpleNamespace(childInstance=number), sender=f"address of {number}")
        assert parent.h_EndpointConnected(envelope)
        looked_at = [child.looked_at for child in parent._child_procs]
        assert looked_at == {3: [0, 0, 0, 1], 2: [0, 0, 1, 2], 9: [1, 1, 2, 3]}[number]

    assert parent.ready == [(3, "address of 3"), (2, "address of 2")]
    assert [child.childRealAddr for child in parent._child_procs] == ["", "", "address of 2", "address of 3"]
    assert parent.unknown == [9]


def test_an_actor_that_says_what_it_takes_is_made_without_a_look_at_its_class() -> None:
    looked: list[type] = []

    class Looking:
        """What Thespian has."""

        def __init__(self, **known: Any) -> None:
            self.known = known

        def create(self, actor: Any) -> Any:
            looked.append(actor)
            return actor(**self.known)

    class Ours(dict[str, Any]):
        takes_capabilities = True

    class Theirs(Ours):
        """Says nothing of itself."""

    manager = ModuleType("manager")
    vars(manager)["withPossibleInitArgs"] = Looking
    make_plainly(manager)
    make_plainly(manager)
    made = [manager.withPossibleInitArgs(capabilities={"a": 1}, requirements=None).create(kind) for kind in (Ours, Theirs)]

    assert made == [{"capabilities": {"a": 1}}, {"capabilities": {"a": 1}, "requirements": None}]
    assert looked == [Theirs]


def test_our_actors_say_so() -> None:
    """And so does the class in whose place a program may put its own: what it says holds for `__init__`."""
    for actor in (ConnectionActor, SupervisorActor):
        assert actor.takes_capabilities
        assert next(iter(inspect.signature(actor).parameters)) == "capabilities"
