"""What is seen to without the machine between turns is what the machine would have done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixir_actors.core import actions as act
from pixir_actors.core.heartbeat import Heartbeat, caught_up, heartbeat
from pixir_actors.core.state import State
from tests.core.machine import Machine, assistant, user

INTERVAL, TIMEOUT = 10.0, 4.0


def resting(**options: object) -> Machine:
    machine = Machine(**{"attended": True, "keepalive_interval": INTERVAL, "pong_timeout": TIMEOUT} | options)  # type: ignore[arg-type]
    machine.turn([user("one")], "resp_1", [assistant("ok")])
    return machine


def beat_of(machine: Machine) -> Heartbeat:
    beat = heartbeat(machine.conn)
    assert beat is not None
    return beat


def test_a_connection_that_rests_has_a_heartbeat() -> None:
    machine = resting()

    assert beat_of(machine) == Heartbeat(machine.now, None, INTERVAL, TIMEOUT)


@pytest.mark.parametrize("options", [{"attended": False}, {"keepalive_interval": None}], ids=str)
def test_where_the_machine_pings_or_nobody_does_there_is_none(options: dict[str, object]) -> None:
    assert heartbeat(resting(**options).conn) is None


def test_while_a_turn_runs_there_is_none() -> None:
    machine = resting()
    machine.start([user("two")])

    assert machine.conn.state is State.STREAMING
    assert heartbeat(machine.conn) is None


def test_a_pong_that_the_machine_waits_for_goes_on_being_waited_for() -> None:
    machine = resting()
    assert machine.conn.socket is not None
    waiting = replace(machine.conn, socket=replace(machine.conn.socket, pong_due=77.0))

    beat = heartbeat(waiting)

    assert beat is not None
    assert beat.due == 77.0


def test_without_a_pong_timeout_a_ping_counts_as_if_something_had_been_heard() -> None:
    beat = Heartbeat(100.0, None, INTERVAL, None).pinged(110.0)

    assert beat == Heartbeat(110.0, None, INTERVAL, None)
    assert beat.due == pytest.approx(120.0, abs=0.11)


def test_the_machine_catches_up_with_what_was_heard_and_nothing_else_changes() -> None:
    machine = resting()
    beat = beat_of(machine).pinged(1010.0)

    after = caught_up(machine.conn, beat)

    assert after.socket == replace(machine.conn.socket, pong_due=1014.0)  # type: ignore[type-var]
    assert replace(after, socket=machine.conn.socket) == machine.conn
    assert caught_up(after, beat.heard(1011.0)).socket == replace(machine.conn.socket, last_seen=1011.0)  # type: ignore[type-var]


@given(st.lists(st.none() | st.floats(0.0, TIMEOUT - 0.1), max_size=8))
def test_pings_go_out_and_a_socket_is_given_up_just_when_the_machine_would(pongs: list[float | None]) -> None:
    """Each answer comes so many seconds behind its ping, or not at all."""
    machine = resting(attended=False)
    beat, now = beat_of(resting()), machine.now
    for pong in pongs:
        alarm = machine.conn.alarm
        assert alarm is not None
        machine.wait(alarm.at - machine.now)
        assert machine.did(act.Ping)
        now = beat.due
        assert machine.now == pytest.approx(now, abs=0.01)
        beat = beat.pinged(now)
        if pong is None:
            machine.wait(beat.due - machine.now + 0.001)
            assert machine.conn.socket is None
            return
        machine.wait(pong)
        machine.receive()
        beat = beat.heard(now + pong)
        assert machine.conn.socket is not None
        assert machine.conn.socket.last_seen == pytest.approx(beat.last_seen, abs=0.01)
        assert machine.conn.socket.pong_due is None
