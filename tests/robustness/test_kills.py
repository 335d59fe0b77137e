"""`kill -9` of each process in turn, in the middle of a stream: an end with a name, within its limit, and a way on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from pixir_actors import Client, Data, Delivery, ErrorCode, Metadata, StreamError
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.simulator import Simulator
from tests.conftest import is_running, until, within
from tests.robustness.conftest import ask, line, parent_of


def connection_pid(client: Client, key: str) -> int:
    return client.status(key)[0].pid


def pids(client: Client) -> list[int]:
    assert isinstance(client._link, EmbeddedLink)
    return client._link.pids()


def killed_mid_stream(client: Client, sim: Simulator, key: str, victim: Callable[[], int]) -> tuple[StreamError, float]:
    """Kill `victim` when the stream has begun; return how the stream ended and after how many seconds."""
    with client.stream(key, ask(sim, "go on")) as stream:
        next(event for event in stream if isinstance(event, Data))
        os.kill(victim(), signal.SIGKILL)
        killed_at = time.monotonic()
        with pytest.raises(StreamError) as ended:
            for _ in stream:
                pass
    return ended.value, time.monotonic() - killed_at


def test_a_killed_connection_costs_its_key_one_turn(client: Client, sim: Simulator, key: str) -> None:
    ended, after = killed_mid_stream(client, sim, key, lambda: connection_pid(client, key))
    assert (ended.code, ended.delivery, ended.retryable) == (ErrorCode.CONNECTION_LOST, Delivery.ACCEPTED, True)
    assert after < within(2)
    with client.stream(key, ask(sim, "quick")) as stream:
        first = next(event for event in stream if isinstance(event, Metadata))
        assert first.values["continuation_reset_reason"] == "connection_crashed"
        assert stream.text or [*stream]
    client.respond(key, ask(sim, "quick"))


def test_a_connection_that_is_terminated_reads_as_one_that_was_killed_and_not_as_an_orderly_end(
    client: Client, sim: Simulator, key: str
) -> None:
    with client.stream(key, ask(sim, "go on")) as running, client.stream(key, ask(sim, "quick")) as waiting:
        next(event for event in running if isinstance(event, Data))
        os.kill(connection_pid(client, key), signal.SIGTERM)
        ends = []
        for stream in (running, waiting):
            with pytest.raises(StreamError) as ended:
                list(stream)
            ends.append((ended.value.code, ended.value.delivery, ended.value.retryable))
    assert ends == [
        (ErrorCode.CONNECTION_LOST, Delivery.ACCEPTED, True),
        (ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, True),
    ]
    with client.stream(key, ask(sim, "quick")) as stream:
        list(stream)
        assert stream.metadata["continuation_reset_reason"] == "connection_crashed"


def test_other_keys_do_not_notice_a_killed_connection(client: Client, sim: Simulator, key: str) -> None:
    texts: list[str] = []

    def other() -> None:
        with client.stream(("other", key), ask(sim, "go on")) as stream:
            for _ in stream:
                pass
            texts.append(stream.text)

    thread = threading.Thread(target=other)
    thread.start()
    killed_mid_stream(client, sim, key, lambda: connection_pid(client, key))
    thread.join(within(30))
    assert texts == ["word " * 100]


def test_a_killed_connection_takes_the_requests_that_wait_with_it_unsent(
    client: Client, sim: Simulator, key: str
) -> None:
    with client.stream(key, ask(sim, "go on")) as running:
        next(event for event in running if isinstance(event, Data))
        with client.stream(key, ask(sim, "quick")) as waiting:
            os.kill(connection_pid(client, key), signal.SIGKILL)
            for stream, verdict in ((running, Delivery.ACCEPTED), (waiting, Delivery.NOT_SENT)):
                with pytest.raises(StreamError) as ended:
                    for _ in stream:
                        pass
                assert (ended.value.code, ended.value.delivery) == (ErrorCode.CONNECTION_LOST, verdict)


def test_a_connection_killed_between_turns_is_replaced_before_anything_is_sent(
    client: Client, sim: Simulator, key: str
) -> None:
    client.respond(key, ask(sim, "quick"))
    pid = connection_pid(client, key)
    os.kill(pid, signal.SIGKILL)
    with client.stream(key, ask(sim, "quick", "quick")) as stream:
        for _ in stream:
            pass
        assert stream.metadata["continuation_reset_reason"] == "connection_crashed"
    assert len(sim.requests) == 2


def test_after_a_killed_supervisor_nothing_is_orphaned_and_service_goes_on(
    client: Client, sim: Simulator, key: str
) -> None:
    client.respond(("idle", key), ask(sim, "quick"))
    idle = connection_pid(client, ("idle", key))
    ended, after = killed_mid_stream(client, sim, key, lambda: parent_of(connection_pid(client, key)))
    assert (ended.code, ended.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.ACCEPTED)
    assert after < within(2)
    assert until(lambda: not is_running(idle), 2), "a connection outlived its supervisor"
    assert client.respond(key, ask(sim, "quick"))["status"] == "completed"


@pytest.mark.parametrize("victim", ["guardian", "admin"])
def test_after_the_death_of_the_system_the_next_request_starts_another(sim: Simulator, key: str, victim: str) -> None:
    with Client.embedded() as client:
        client.respond("warm", ask(sim, "quick"))
        before = pids(client)
        supervisor = parent_of(connection_pid(client, "warm"))
        pid = before[0] if victim == "guardian" else parent_of(supervisor)
        assert pid in before
        ended, after = killed_mid_stream(client, sim, key, lambda: pid)
        assert (ended.code, ended.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.ACCEPTED)
        assert after < within(2)
        assert client.respond(key, ask(sim, "quick"))["status"] == "completed"
        assert until(lambda: not any(map(is_running, before)), 2), "a process outlived its system"
    assert until(lambda: sim.open_connections == 0)


def test_when_the_host_is_killed_its_system_is_gone_within_two_seconds(
    sim: Simulator, program: Callable[..., subprocess.Popen[str]]
) -> None:
    host = program("embedded", sim.url)
    system = [int(pid) for pid in line(host).split()]
    assert len(system) >= 5, "guardian, admin, logger, supervisor and a connection were expected"
    host.kill()
    assert until(lambda: not any(map(is_running, system)), 2)
    sim.wait_for(lambda seen: seen.open_connections == 0, timeout=within(1))


def test_a_killed_caller_frees_its_key_and_its_socket_within_a_second(
    sim: Simulator, key: str, program: Callable[..., subprocess.Popen[str]]
) -> None:
    host = program("host")
    port = line(host)
    caller = program("caller", port, sim.url, key)
    assert line(caller) == "reading"
    caller.kill()
    caller.wait(within(5))  # a zombie counts as alive where the follower clears away what the dead have left
    sim.wait_for(lambda seen: len(seen.closes) == 1, timeout=within(1))
    follower = program("caller", port, sim.url, key)
    assert line(follower) == "reading"
    assert follower.wait(within(30)) == 0, "the key was not free for the next caller"
    assert len(sim.handshakes) == 2
    assert host.stdin is not None
    host.stdin.close()
    host.wait(within(15))
