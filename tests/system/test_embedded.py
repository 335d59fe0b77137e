"""An embedded system lives exactly as long as its program, and inherits nothing from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system import embedded
from pixir_actors.system.embedded import EmbeddedSystem
from tests.conftest import children, is_running, until, within
from tests.system.actors import Helper
from tests.system.conftest import ROOT, listeners, numbers

CANARY = "sk-canary-4711"
GONE_WITHIN = 2.0


def all_gone(pids: list[int]) -> bool:
    return until(lambda: not any(map(is_running, pids)), GONE_WITHIN)


def start(**options: object) -> EmbeddedSystem:
    return EmbeddedSystem.start(start_timeout=within(20), **options)  # type: ignore[arg-type]


def test_a_system_starts_answers_and_leaves_nothing() -> None:
    system = start()
    helper = system.actor_system.createActor(Helper)
    assert system.actor_system.ask(helper, ("echo", "hello"), within(10)) == "hello"
    pids, ports = system.pids(), listeners(system.pids())
    assert len(pids) == 4  # guardian, admin, logger, helper
    assert all(map(is_running, pids))
    assert system.alive()

    system.close()

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not system.alive()
    assert system.pids() == []
    assert not set(ports) & set(listeners([os.getpid()]))
    system.close()
    with pytest.raises(SystemStartFailed, match="closed"):
        _ = system.actor_system


def test_no_descriptor_and_no_thread_is_left_in_the_host() -> None:
    start().close()  # what is imported and opened once
    descriptors, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()

    with start() as system, system.actor_system.private() as endpoint:
        endpoint.ask(system.actor_system.createActor(Helper), ("pid",), within(10))

    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads


def test_two_systems_live_side_by_side_and_apart() -> None:
    with start() as one, start() as two:
        first, second = (system.actor_system.createActor(Helper) for system in (one, two))
        assert one.port != two.port
        assert not set(one.pids()) & set(two.pids())
        assert one.actor_system.ask(first, ("echo", 1), within(10)) == 1
        assert two.actor_system.ask(second, ("echo", 2), within(10)) == 2

        one.close()

        assert two.actor_system.ask(second, ("echo", 3), within(10)) == 3


def test_a_system_starts_from_any_thread() -> None:
    answers: list[object] = []

    def run() -> None:
        with start() as system:
            helper = system.actor_system.createActor(Helper)
            answers.append(system.actor_system.ask(helper, ("echo", "threaded"), within(10)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(within(20))

    assert answers == ["threaded"]


def test_actors_come_from_the_hosts_path_relative_entries_included(run_host, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_actors.py").write_text("from tests.system.actors import Helper as Mine\n")
    host = run_host("""
sys.path.append("mine")
with EmbeddedSystem.start() as system:
    ready(system.actor_system.ask(system.actor_system.createActor("my_actors.Mine"), ("echo", "mine"), 20))
""")

    assert host.stdout is not None
    assert host.stdout.read() == "mine\n"


def test_import_paths_come_before_the_hosts_own(tmp_path: Path) -> None:
    (tmp_path / "first_found.py").write_text("from tests.system.actors import Helper as Found\n")

    with start(import_paths=[tmp_path]) as system:
        found = system.actor_system.createActor("first_found.Found")
        assert system.actor_system.ask(found, ("echo", "found"), within(10)) == "found"


def test_killing_the_host_ends_everything(run_host) -> None:
    host = run_host("""
system = EmbeddedSystem.start()
helper, _ = helper_of(system)
assert system.actor_system.ask(helper, ("child",), 20)
ready(*system.pids())
time.sleep(1000)
""")
    pids = numbers(host)
    assert len(pids) == 5  # guardian, admin, logger, helper, its child
    assert all(map(is_running, pids))

    host.kill()

    assert all_gone(pids)


def test_a_fork_of_the_host_neither_keeps_the_system_alive_nor_may_use_it(run_host) -> None:
    host = run_host("""
import select
system = EmbeddedSystem.start()
helper_of(system)
hold, release = os.pipe()
fork = os.fork()
if fork == 0:
    os.close(release)
    try:
        system.actor_system
    except Exception as error:
        assert "belongs to process" in str(error), error
        system.close()
        assert not system.alive() and system.pids() == []
        ready(os.getpid(), *sorted(os.listdir("/proc/self/fd"), key=int))
    os.setsid()
    time.sleep(1000)
ready(*system.pids())
sys.stdin.readline()
ready(*[system.actor_system.ask(helper_of(system)[0], ("echo", 5), 20)])
time.sleep(1000)
""")
    pids, (fork, *descriptors) = sorted((numbers(host), numbers(host)), key=len)
    try:
        # standard input, output, error, the pipe of the script, and the directory it listed
        assert len(descriptors) == 5
        assert host.stdin is not None
        print("go", file=host.stdin, flush=True)
        assert numbers(host) == [5]

        host.kill()

        assert all_gone(pids)
        assert is_running(fork)
    finally:
        os.kill(fork, signal.SIGKILL)


def test_a_stranger_that_holds_the_lifeline_does_not_keep_the_system_alive(run_host) -> None:
    """A fork made behind Python's back, in a C library, closes nothing."""
    host = run_host("""
import ctypes
system = EmbeddedSystem.start()
fork = ctypes.CDLL(None).fork()
if fork == 0:
    ctypes.CDLL(None).sleep(1000)
ready(fork, *system.pids())
time.sleep(1000)
""")
    fork, *pids = numbers(host)
    try:
        host.kill()
        assert all_gone(pids)
        assert is_running(fork)
    finally:
        os.kill(fork, signal.SIGKILL)


def test_closing_does_not_wait_for_strangers_that_hold_the_lifeline(run_host) -> None:
    host = run_host("""
import ctypes
system = EmbeddedSystem.start()
fork = ctypes.CDLL(None).fork()
if fork == 0:
    ctypes.CDLL(None).sleep(1000)
started = time.monotonic()
system.close()
os.kill(fork, 9)
ready(time.monotonic() - started < 2)
""")

    assert host.stdout is not None
    assert host.stdout.read() == "True\n"


def test_the_exit_of_the_program_closes_the_system(run_host) -> None:
    host = run_host("""
import atexit
atexit.register(lambda: ready(*(pid for pid in pids if os.path.exists(f"/proc/{pid}"))))
system = EmbeddedSystem.start()
pids = system.pids()
ready(*pids)
""")
    assert len(numbers(host)) == 3

    assert numbers(host) == []
    assert host.wait(within(10)) == 0


def test_a_pipe_behind_the_program_ends_with_it(tmp_path: Path) -> None:
    script = """
import os, sys
from pixir_actors.system.embedded import EmbeddedSystem
from tests.system.actors import Helper
system = EmbeddedSystem.start()
print(*system.pids(), flush=True)
assert system.actor_system.ask(system.actor_system.createActor(Helper), ("print",), 20) == "printed"
os._exit(0)
"""
    piped = f"{sys.executable} -c '{script}' 2>&1 | cat"

    ran = subprocess.run(
        ["sh", "-c", piped], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=within(10), check=True
    )

    pids = [int(pid) for pid in ran.stdout.split()]
    assert len(pids) == 3
    assert all_gone(pids)


def test_a_host_that_restored_sigpipe_survives_a_dead_guardian(run_host) -> None:
    host = run_host("""
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
system = EmbeddedSystem.start()
guardian = system.pids()[0]
os.kill(guardian, 9)
while system.alive():
    time.sleep(0.01)
ready(system.pids())
system.close()
ready("survived")
""")

    assert host.stdout is not None
    assert host.stdout.read().split() == ["[]", "survived"]


def test_nothing_of_the_hosts_environment_is_inherited_but_what_is_listed(run_host) -> None:
    host = run_host(
        """
system = EmbeddedSystem.start()
helper, _ = helper_of(system)
ready(*system.pids())
ready(*[system.actor_system.ask(helper, ("variable", name), 20) for name in ("OPENAI_API_KEY", "LC_CANARY", "HOME")])
sys.stdin.read()
""",
        OPENAI_API_KEY=CANARY,
        THESPIAN_BASE_IPADDR="192.0.2.1",
        LC_CANARY="kept",
        HOME="/nowhere",
    )
    pids = numbers(host)

    assert host.stdout is not None
    assert host.stdout.readline() == "None kept /nowhere\n"
    for pid in pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert CANARY.encode() not in environment
        assert b"192.0.2.1" not in environment
        assert b"LC_CANARY=kept" in environment


def test_no_descriptor_of_the_host_is_inherited() -> None:
    with open(ROOT / "setup.cfg") as held, start() as system:
        os.set_inheritable(held.fileno(), True)
        system.actor_system.ask(system.actor_system.createActor(Helper), ("pid",), within(10))
        for pid in system.pids():
            opened = {int(fd.name): os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
            assert [opened[fd] for fd in (0, 1, 2)] == ["/dev/null"] * 3
            assert not any("setup.cfg" in target or target.startswith("/dev/pts") for target in opened.values())
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            assert os.getsid(pid) != os.getsid(0)


def test_frozen_actors_do_not_freeze_who_tells_them_something() -> None:
    """Thespian's own limit is 20 messages on the way, to all others together."""
    with start() as system, system.actor_system.private() as endpoint:
        parent = system.actor_system.createActor(Helper)
        assert endpoint.ask(parent, ("freeze children", 25), within(10)) == "frozen"
        assert until(lambda: len(stopped(system.pids())) == 25)

        assert endpoint.ask(parent, ("tell frozen children",), within(5)) == "told"
        assert endpoint.ask(parent, ("echo", "free"), within(5)) == "free"


def stopped(pids: list[int]) -> list[int]:
    return [pid for pid in pids if "State:\tT" in Path(f"/proc/{pid}/status").read_text()]


def test_starting_fails_with_the_guardians_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "BOOTSTRAP", "raise LookupError('no such thing')")

    with pytest.raises(SystemStartFailed, match="ended before it reported: LookupError: no such thing"):
        start()


def test_starting_fails_with_the_systems_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = "from pixir_actors.system import signed; signed.SEAM += ('renamed',); main(config)"
    monkeypatch.setattr(embedded, "BOOTSTRAP", embedded.BOOTSTRAP.replace("main(config)", renamed))

    with pytest.raises(SystemStartFailed, match=r"could not be started: SystemStartFailed: .*renamed"):
        start()


def test_starting_fails_when_its_time_is_over_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "BOOTSTRAP", "import os, time; os.setpgid; time.sleep(1000)")
    monkeypatch.setattr(embedded, "KILLED_WITHIN", 0.1)
    before = set(children(os.getpid()))

    started = time.monotonic()
    with pytest.raises(SystemStartFailed, match="not ready in time"):
        EmbeddedSystem.start(start_timeout=0.2)

    assert time.monotonic() - started < within(3)
    # Of this process only: others may run tests of their own.
    assert not [pid for pid in set(children(os.getpid())) - before if is_running(pid)]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("executable", "", "needs a Python interpreter"),
        ("executable", "/nonexistent/python", "cannot start /nonexistent/python: No such file"),
        ("platform", "darwin", "needs Linux"),
        ("frozen", True, "needs a Python interpreter"),
    ],
)
def test_starting_fails_where_there_is_no_interpreter(name, value, words, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)

    with pytest.raises(SystemStartFailed, match=words):
        start()


def test_a_system_shows_where_it_is_and_whether_it_runs() -> None:
    with start() as system:
        assert repr(system) == f"<EmbeddedSystem port={system.port} running>"

    assert repr(system) == f"<EmbeddedSystem port={system.port} ended>"
