"""The admin daemon as a whole: what clients see of it while its processes are killed, frozen and drained."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixir_actors import AdminNotRunning, Client, Data, StreamError
from pixir_actors.errors import AdminAlreadyRunning, AdminMismatch, ErrorCode, SystemStartFailed
from pixir_actors.simulator import Simulator
from pixir_actors.system.launch import AdminOptions, start_detached, stop_admin
from pixir_actors.system.places import Places
from pixir_actors.system.processes import descendants
from pixir_actors.system.runtime import Runtime, find
from tests.admin.conftest import ask, continued
from tests.conftest import is_running, until, within

pytestmark = pytest.mark.processes
Start = Callable[..., Runtime]


def named(runtime: Runtime, name: str) -> list[int]:
    """Return the daemon's processes with that name, as `ps -o comm` shows it."""
    return [pid for pid in descendants(runtime.pid) if comm(pid) == name]


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_conversation_goes_on_from_client_to_client_over_one_socket(sim: Simulator, start: Start, key: str) -> None:
    start()
    items: list[dict[str, object]] = []
    evidence = []
    for text in ("one", "two", "three"):
        with Client.attach() as client:
            evidence.append(continued(sim, client, key, items, text))

    assert [each["continuation_attempted"] for each in evidence] == [False, True, True]
    assert len(sim.handshakes) == 1


def test_nobody_is_there_without_a_daemon_and_attaching_starts_none(places: Places) -> None:
    with pytest.raises(AdminNotRunning, match="pixir-actors start"):
        Client.attach()

    assert find(places) is None
    assert not places.cookie_file.exists()


def test_attaching_starts_a_daemon_when_asked_to(sim: Simulator, places: Places, key: str) -> None:
    with Client.attach(start=True) as client:
        client.respond(key, ask(sim, "hello"))
        first = find(places)
    with Client.attach(start=True) as client:
        assert client.status(key)

    assert first is not None and first == find(places)
    assert first.pid not in descendants(os.getpid()) or os.getppid() != first.pid


def test_of_eight_that_start_one_at_once_all_attach_to_the_same(places: Places) -> None:
    script = "from pixir_actors import Client\nwith Client.attach(start=True) as c: c.status(); print(c.admin.pid)"
    programs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    printed = [program.communicate(timeout=within(60))[0].strip() for program in programs]

    runtime = find(places)
    assert runtime is not None
    assert printed == [str(runtime.pid)] * 8


def test_a_second_start_says_where_the_first_one_is(start: Start) -> None:
    runtime = start()
    with pytest.raises(AdminAlreadyRunning, match=f"pid {runtime.pid}, port {runtime.port}"):
        start()


def test_two_daemons_at_two_ports_know_nothing_of_each_other(environment: dict[str, str], start: Start, free: int) -> None:
    start()
    second = start_detached(AdminOptions(places=Places.of(environment, port=free), port=free), timeout=within(30))
    try:
        with Client.attach(free) as client:
            assert client.admin.pid == second.pid
    finally:
        assert stop_admin(second, timeout=within(20))
    with pytest.raises(AdminNotRunning, match=r"one runs at port \d+: name that port|start --detach --port"):
        Client.attach(free)


@pytest.fixture
def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_taken_port_is_named(start: Start, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemStartFailed, match=f"port {port} .*in use"):
            start_detached(AdminOptions(places=Places.of(environment, port=port), port=port), timeout=within(30))


# --- ending -----------------------------------------------------------------------------------------------------------


def test_stopping_lets_a_running_turn_finish_and_leaves_nothing(
    sim: Simulator, start: Start, places: Places, key: str
) -> None:
    runtime = start()
    everyone = [runtime.pid, *descendants(runtime.pid)]
    with Client.attach() as client, client.stream(key, ask(sim, "slowly, please")) as stream:
        next(event for event in stream if isinstance(event, Data))
        stopping = threading.Thread(target=stop_admin, args=(runtime,), kwargs={"timeout": within(30)})
        stopping.start()
        for _ in stream:
            pass
        stopping.join()

        assert stream.text == "word " * 100
    assert find(places) is None
    assert not places.runtime_file.exists()
    assert until(lambda: not any(map(is_running, everyone)))


def test_what_comes_while_it_drains_is_told_so(sim: Simulator, start: Start, key: str) -> None:
    runtime = start()
    with Client.attach() as client, client.stream(key, ask(sim, "slowly, please")) as stream:
        next(event for event in stream if isinstance(event, Data))
        os.kill(runtime.pid, signal.SIGTERM)
        assert until(lambda: client.system().draining)
        with pytest.raises(StreamError) as refused:
            client.respond("another key", ask(sim, "hello"))
        for _ in stream:
            pass

    assert refused.value.code is ErrorCode.SHUTTING_DOWN
    assert until(lambda: not is_running(runtime.pid), 20)


def test_a_turn_that_is_too_long_ends_with_the_drain(sim: Simulator, start: Start, key: str) -> None:
    runtime = start(drain_timeout=0.2)
    with Client.attach() as client, client.stream(key, ask(sim, "slowly, please")) as stream:
        next(event for event in stream if isinstance(event, Data))
        os.kill(runtime.pid, signal.SIGTERM)
        with pytest.raises(StreamError) as ended:
            for _ in stream:
                pass

    assert ended.value.code is ErrorCode.SHUTTING_DOWN
    assert ended.value.delivery == "accepted"
    assert until(lambda: not is_running(runtime.pid), 20)


def test_a_second_signal_ends_it_at_once(sim: Simulator, start: Start, key: str) -> None:
    runtime = start(drain_timeout=600)
    with Client.attach() as client, client.stream(key, ask(sim, "slowly, please")) as stream:
        next(event for event in stream if isinstance(event, Data))
        os.kill(runtime.pid, signal.SIGTERM)
        assert until(lambda: client.system().draining)
        os.kill(runtime.pid, signal.SIGTERM)
        with pytest.raises(StreamError):
            for _ in stream:
                pass
    assert until(lambda: not is_running(runtime.pid), 20)


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pixir-guardian", "pixir-admin", "pixir-superv"])
def test_a_killed_process_of_the_system_costs_its_turn_and_no_more(
    sim: Simulator, start: Start, places: Places, key: str, name: str
) -> None:
    runtime = start()
    with Client.attach() as client:
        with client.stream(key, ask(sim, "slowly, please")) as stream:
            next(event for event in stream if isinstance(event, Data))
            before = descendants(runtime.pid)
            began = time.monotonic()
            for pid in named(runtime, name):
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(StreamError) as lost:
                for _ in stream:
                    pass
        assert lost.value.code is ErrorCode.CONNECTION_LOST
        assert time.monotonic() - began < within(5)
        assert client.respond(key, ask(sim, "hello"))
        assert client.admin.pid == runtime.pid

    assert until(lambda: not any(map(is_running, set(before) - set(descendants(runtime.pid)))))


def test_a_killed_daemon_takes_everything_with_it_and_can_be_started_at_once(
    sim: Simulator, start: Start, key: str
) -> None:
    runtime = start()
    everyone = descendants(runtime.pid)
    with Client.attach() as client, client.stream(key, ask(sim, "slowly, please")) as stream:
        next(event for event in stream if isinstance(event, Data))
        os.kill(runtime.pid, signal.SIGKILL)
        with pytest.raises(StreamError) as lost:
            for _ in stream:
                pass
        with pytest.raises(AdminNotRunning, match="pixir-actors start"):
            client.respond(key, ask(sim, "hello"))

        assert lost.value.code is ErrorCode.CONNECTION_LOST
        assert until(lambda: not any(map(is_running, everyone)))
        again = start()
        assert again.system_id != runtime.system_id
        assert client.respond(key, ask(sim, "hello"))


def test_a_client_that_may_start_a_daemon_starts_another_when_it_was_killed(
    sim: Simulator, places: Places, key: str
) -> None:
    with Client.attach(start=True) as client:
        first = client.admin.pid
        os.kill(first, signal.SIGKILL)

        assert until(lambda: not is_running(first))
        assert client.respond(key, ask(sim, "hello"))
        assert client.admin.pid != first


# --- who may come in --------------------------------------------------------------------------------------------------


def test_another_cookie_is_told_so(start: Start, places: Places) -> None:
    start()
    places.cookie_file.unlink()
    places.cookie_file.write_bytes(b"c" * 64)
    places.cookie_file.chmod(0o600)

    with pytest.raises(AdminMismatch, match=r"cookie .* is not that of the admin"):
        Client.attach()


def test_another_version_is_told_so(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    monkeypatch.setattr("pixir_actors.system.fit.__version__", "9.9.9")

    with pytest.raises(AdminMismatch, match=r"this program has 9\.9\.9"):
        Client.attach()


def test_a_forked_process_makes_a_client_of_its_own(sim: Simulator, start: Start, key: str) -> None:
    start()
    script = """
import os, sys
from pixir_actors import Client, PixirError, Request
client = Client.attach()
request = Request.responses(model="m", input="hello", api_key="k", base_url=sys.argv[1])
client.respond(sys.argv[2], request)
if os.fork() == 0:
    try:
        client.respond(sys.argv[2], request)
    except PixirError as error:
        print(error, flush=True)
    with Client.attach() as own:
        print(own.respond(sys.argv[2], request)["status"], flush=True)
    os._exit(0)
os.wait()
print(client.respond(sys.argv[2], request)["status"], flush=True)
client.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, sim.base_url, key], capture_output=True, text=True, timeout=within(60), check=False
    )

    assert ran.returncode == 0, ran.stderr
    refused, *rest = ran.stdout.splitlines()
    assert "make a new client after the fork" in refused
    assert rest == ["completed", "completed"]


def test_it_inherits_nothing_of_its_starter(places: Places) -> None:
    script = (
        "from pixir_actors import Client\n"
        "with Client.attach(start=True) as client: print(client.admin.pid, flush=True)"
    )
    canary = "canary-7c1e"
    read, write = os.pipe()
    os.set_inheritable(write, True)
    # The shell waits for the pipe's end: whoever inherited it would keep it open.
    ran = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" | cat', sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        timeout=within(60),
        pass_fds=[write],
        env={**os.environ, "TOKEN": canary},
        check=True,
    )
    os.close(write)
    pid = int(ran.stdout)

    for each in [pid, *descendants(pid)]:
        assert canary.encode() not in Path(f"/proc/{each}/environ").read_bytes()
        assert os.readlink(f"/proc/{each}/cwd") == "/"
        assert os.getsid(each) != os.getsid(0)
        assert {os.readlink(f"/proc/{each}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    assert os.read(read, 1) == b""
    os.close(read)


# --- limits -------------------------------------------------------------------------------------------------------------


def test_it_refuses_new_keys_before_it_runs_out_of_descriptors(sim: Simulator, places: Places) -> None:
    script = """
import sys
from pixir_actors import Client, Request, StreamError
def ask(client, key):
    return client.respond(key, Request.responses(model="m", input="hello", api_key="k", base_url=sys.argv[1]))
with Client.attach(start=True) as client:
    for number in range(200):
        try:
            ask(client, f"key-{number}")
        except StreamError as error:
            print(number, error.code, error.delivery, error.details.get("reason"))
            break
    print(ask(client, "key-0")["status"], client.status("key-0")[0].turns)
"""
    ran = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 256; exec "$0" -c "$1" "$2"', sys.executable, script, sim.base_url],
        capture_output=True,
        text=True,
        timeout=within(60),
        check=True,
    )

    refused, old = ran.stdout.splitlines()
    number, *why = refused.split()
    assert int(number) > 10
    assert why == ["too_many_connections", "not_sent", "descriptors"]
    assert old == "completed 2"


def test_workers_that_are_forked_first_attach_each_for_itself(sim: Simulator, start: Start, key: str) -> None:
    start()
    script = """
import multiprocessing, sys
from pixir_actors import Client, Request
client = Client.attach()  # the master's own, as in an application that is loaded before its workers
def work(number):
    with Client.attach() as own:
        request = Request.responses(model="m", input="hello", api_key="k", base_url=sys.argv[1])
        return own.respond(f"{sys.argv[2]}-{number % 2}", request)["status"]
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(*pool.map(work, range(6)))
    print(len(client.status()))
    client.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, sim.base_url, key], capture_output=True, text=True, timeout=within(60), check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["completed " * 5 + "completed", "2"]
