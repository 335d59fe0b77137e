"""What is known about processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pixir_actors.system import processes
from tests.conftest import is_running, until

SLEEPING_TREE = """
import os, sys
from pixir_actors.system import processes
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(write, b"grandchild")
    sys.stdin.read()
    os._exit(0)
os.read(read, 10)
print("ready", flush=True)
sys.stdin.read()
"""

ORPHAN = """
import os, sys
from pixir_actors.system import processes
assert processes.adopt_orphans()
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.read(read, 1)
        os._exit(7)
    os._exit(0)
os.wait()
assert len(processes.living_children(os.getpid())) == 1
os.write(write, b"x")
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""

BEREAVED = """
import os, sys, time
from pixir_actors.system import processes
parent = os.fork()
if parent == 0:
    me = os.getpid()
    if os.fork() == 0:
        processes.die_with_parent(me)
        print(os.getpid(), flush=True)
        time.sleep(1000)
    time.sleep(1000)
sys.stdin.read()
os.kill(parent, 9)
os.wait()
"""


def python(script: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_descendants_are_found_at_any_depth_nearest_first() -> None:
    with python(SLEEPING_TREE) as root:
        assert root.stdout is not None
        root.stdout.readline()

        child, grandchild = processes.descendants(root.pid)
        assert processes.living_children(root.pid) == [child]
        assert processes.living_children(child) == [grandchild]


def test_a_process_that_waits_to_be_collected_is_no_descendant() -> None:
    with python("") as child:
        assert until(lambda: not is_running(child.pid))
        assert Path(f"/proc/{child.pid}").exists()
        assert child.pid not in processes.descendants(os.getpid())


def test_a_start_time_stays_and_differs_between_processes_until_the_process_has_ended() -> None:
    with python("input()") as child:
        born = processes.start_time(child.pid)
        assert born == processes.start_time(child.pid)
        assert born is not None
        assert born >= (processes.start_time(os.getpid()) or 0) > 0

        child.kill()
        assert until(lambda: not is_running(child.pid))
        assert processes.start_time(child.pid) is None
    assert processes.start_time(child.pid) is None


def test_orphans_become_children_of_the_process_that_adopts_them() -> None:
    with python(ORPHAN) as adopter:
        assert adopter.stdout is not None
        assert adopter.stdout.read() == "7\n"


def test_a_process_dies_with_its_parent_when_it_asked_for_it() -> None:
    with python(BEREAVED) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        assert is_running(pid)
        host.communicate("")

        assert until(lambda: not is_running(pid))


def test_a_process_whose_parent_is_gone_already_dies_at_once() -> None:
    with python("import os; from pixir_actors.system import processes; processes.die_with_parent(1 << 30)") as orphan:
        assert orphan.wait() == 1


def test_a_name_is_cut_to_what_the_kernel_keeps() -> None:
    script = (
        "from pixir_actors.system import processes; processes.set_process_name('a-name-of-many-words');"
        "print(open('/proc/self/comm').read().strip())"
    )
    with python(script) as named:
        assert named.stdout is not None
        assert named.stdout.read() == "a-name-of-many-\n"


def test_killing_what_is_gone_does_nothing() -> None:
    with python("") as child:
        pass

    processes.kill(child.pid)


def test_a_process_and_its_forks_leave_no_memory_in_a_core_dump() -> None:
    script = """
import os, resource
from pathlib import Path
from pixir_actors.system import processes
processes.no_core_dumps()
if os.fork():
    os.wait()
print(resource.getrlimit(resource.RLIMIT_CORE), int(Path("/proc/self/coredump_filter").read_text(), 16), flush=True)
"""
    with python(script) as process:
        assert process.communicate()[0] == "(0, 0) 0\n" * 2
