"""What a process arranges for itself, tried in processes of their own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pixir_actors.actors import process
from tests.conftest import is_running, until, within

ROOT = Path(__file__).parents[2]
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid() + int(sys.argv[2]))], stdin=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import os, sys, time
from pixir_actors.actors import process
os.write(1, b"%d\\n" % process.die_with_parent(int(sys.argv[1])))
time.sleep(600)
"""


def start(offset: int) -> tuple[subprocess.Popen[str], int, str]:
    """Start a parent whose child arranges to die with it, told a parent's pid that is off by `offset`."""
    command = [sys.executable, "-c", PARENT, CHILD, str(offset)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline()), parent.stdout.readline().strip()


@pytest.mark.parametrize(("offset", "said"), [(0, "1"), (1, "0")])
def test_a_process_dies_with_its_parent_and_knows_whether_that_is_still_there(offset: int, said: str) -> None:
    parent, child, arranged = start(offset)
    try:
        assert arranged == said
        assert is_running(child)
        parent.kill()
        assert until(lambda: not is_running(child), within(2))
    finally:
        os.kill(child, signal.SIGKILL)
        parent.kill()
        with parent:
            pass


def test_a_child_is_killed_also_when_it_is_stopped_and_nobody_else_is() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.kill(child.pid, signal.SIGSTOP)
    assert process.child_lives(child.pid)
    process.kill_child(child.pid)
    assert until(lambda: not process.child_lives(child.pid)), "a zombie does not live"
    process.kill_child(child.pid)
    assert child.wait(within(5)) == -signal.SIGKILL

    assert not process.child_lives(child.pid)
    parent, grandchild, _ = start(0)
    try:
        assert not process.child_lives(grandchild)
        process.kill_child(grandchild)
        assert is_running(grandchild)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        with parent:
            parent.kill()


def run(script: str) -> str:
    command = [sys.executable, "-c", "from pixir_actors.actors import process\n" + script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=within(20)).stdout.strip()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("pixir-abc", "pixir-abc"), ("pixir-0123456789abcdef", "pixir-012345678"), ("pixir-ä", "pixir-?")],
)
def test_a_process_is_shown_by_its_name(name: str, shown: str) -> None:
    assert run(f"process.name_process({name!r})\nprint(open('/proc/self/comm').read())") == shown


def test_the_limit_of_descriptors_is_told_as_it_is() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    script = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\nprint(process.descriptor_limit())"

    assert run(script) == "64"


def test_the_limit_of_descriptors_is_raised_as_far_as_allowed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = process.MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, process.MAX_DESCRIPTORS)
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
print(process.raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0], process.raise_descriptor_limit())
"""
    assert run(script) == f"{most} {most} {most}"


def test_a_process_that_settles_has_its_name_its_descriptors_and_its_parent() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = process.MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, process.MAX_DESCRIPTORS)
    script = f"""
import ctypes, os, resource, signal
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
print(process.settle("pixir-abc", os.getppid()), process.settle("pixir-abc", os.getpid()))
print(open("/proc/self/comm").read().strip(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
ends_by = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(ends_by), 0, 0, 0)  # PR_GET_PDEATHSIG
print(signal.Signals(ends_by.value).name)
"""
    assert run(script).splitlines() == ["True False", f"pixir-abc {most}", "SIGKILL"]
