"""Time: the one alarm, keepalive and the pauses between turns.

Covers C49, C55 (None switches off), C56 to C59 with design section 6, T17, T18, X10 (the request's own `timeout` spans
replays), X12, X13, X14, X15, P6. How a connection ends: test_lifecycle_end.py.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.heartbeat import caught_up, heartbeat
from pixir_actors.core.state import State
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import NOT_FOUND, RATE_LIMITS, Machine, assistant, completed, created, delta, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason


def warm(**options: object) -> Machine:
    machine = Machine(**options)  # type: ignore[arg-type]
    machine.turn(FIRST, "resp_1", [SAID])
    return machine


def pings(machine: Machine) -> int:
    return len(machine.find(act.Ping))


# The alarm


def test_from_birth_on_the_idle_limit_runs() -> None:  # C50 fixed
    machine = Machine(idle_close_after=100.0)
    assert machine.last == [act.SetAlarm(1, 100.0)]
    machine.ring()

    assert machine.last[0] == act.AskRetire()


def test_a_stale_alarm_does_nothing() -> None:  # X12, X13, P6
    machine = warm()
    stale = machine.conn.alarm
    assert stale is not None
    machine.submit(SECOND)
    machine.ring()
    before = machine.conn
    assert before.alarm is not None
    machine.now += 1000

    assert machine.feed(put.AlarmRang(stale.token)) == []
    assert machine.conn == before


def test_an_alarm_that_rings_early_is_set_again_and_does_nothing_else() -> None:
    machine = Machine()
    machine.submit(FIRST, connect_timeout=30)
    machine.now += 10
    assert machine.conn.alarm is not None
    machine.feed(put.AlarmRang(machine.conn.alarm.token))

    assert [type(action) for action in machine.last] == [act.SetAlarm]
    assert machine.find(act.SetAlarm)[-1].delay == pytest.approx(20)


def test_a_stream_does_not_set_an_alarm_for_every_event() -> None:
    machine = warm()
    machine.start(SECOND)
    before = len(machine.find(act.SetAlarm))
    for _ in range(100):
        machine.now += 0.1
        machine.receive(delta("o"))

    assert len(machine.find(act.SetAlarm)) - before <= 1


def test_a_late_idle_alarm_during_a_stream_does_not_close_it() -> None:  # C58 fixed, X13
    machine = warm(idle_close_after=50.0, first_event_timeout=None)
    machine.start(SECOND)
    machine.wait(60)
    machine.receive(completed("resp_2"))
    assert machine.conn.state is State.IDLE
    machine.wait(49)
    assert not machine.find(act.AskRetire)
    machine.wait(2)

    assert len(machine.find(act.AskRetire)) == 1


# Keepalive


def test_a_ping_goes_out_after_each_interval_of_silence() -> None:  # T17, C56 fixed, X14
    machine = warm(keepalive_interval=10.0, pong_timeout=None)
    machine.wait(35)
    assert pings(machine) == 3
    machine.turn(SECOND)

    assert machine.wire["previous_response_id"] == "resp_1"


def test_any_frame_is_a_pong_and_the_interval_starts_anew() -> None:
    machine = warm(keepalive_interval=10.0, pong_timeout=4.0)
    for count in range(3):
        machine.wait(9.8)
        assert pings(machine) == count
        machine.wait(0.3)
        assert pings(machine) == count + 1
        machine.receive(*[RATE_LIMITS] * (count % 2))

    assert machine.conn.state is State.IDLE


def test_connections_ping_together_and_none_later_than_it_should() -> None:
    """Fifty that were last used in the same five seconds ping at fifty moments, unless they agree on some."""
    draw, moments = random.Random(7), set()
    for _ in range(50):
        machine = warm(keepalive_interval=100.0, pong_timeout=None)
        machine.wait(draw.uniform(0, 5))
        machine.receive(RATE_LIMITS)
        seen = machine.now
        machine.wait(98.9)
        assert pings(machine) == 0
        alarm = machine.conn.alarm
        assert alarm is not None
        machine.wait(100.0 - 98.9)
        assert pings(machine) == 1
        assert seen + 99.0 <= alarm.at <= seen + 100.0
        moments.add(round(alarm.at, 3))

    assert len(moments) <= 7


def test_an_idle_connection_wakes_to_ping_and_for_nothing_else() -> None:
    """A thousand of them wake from time to time, and each time find their memory in no cache."""
    machine = warm(keepalive_interval=10.0, pong_timeout=4.0)
    for count in range(1, 6):
        due = machine.conn.alarm
        assert due is not None
        machine.wait(due.at - machine.now)
        assert pings(machine) == count
        machine.wait(0.1)
        machine.receive()

    assert pings(machine) == 5


def test_between_turns_a_missing_pong_closes_the_socket_without_a_window() -> None:  # T18, C56, W21 fixed
    machine = warm(keepalive_interval=10.0, pong_timeout=4.0)
    machine.wait(13.9)
    assert machine.conn.state is State.IDLE
    machine.wait(0.2)
    assert machine.find(act.CloseSocket)
    assert machine.conn.state is State.DISCONNECTED
    assert machine.conn.backoff.failures == 0
    second = machine.turn(SECOND)

    assert machine.reason(second) == R.KEEPALIVE_FAILED
    assert machine.evidence(second)["used_previous_response_id"] is False


def attended(**options: object) -> Machine:
    machine = Machine(attended=True, keepalive_interval=10.0, pong_timeout=4.0, **options)  # type: ignore[arg-type]
    machine.turn(FIRST, "resp_1", [SAID])
    return machine


def test_where_somebody_sees_to_pings_between_turns_it_sends_none() -> None:
    machine = attended(idle_close_after=300.0)
    machine.wait(299.0)
    assert pings(machine) == 0
    assert machine.conn.state is State.IDLE


def test_during_a_turn_they_are_its_own_again() -> None:
    machine = attended()
    machine.start(SECOND)
    machine.receive(created("resp_2"))
    machine.wait(10.0)

    assert pings(machine) == 1
    machine.wait(4.1)
    assert machine.conn.state is not State.STREAMING, "no pong came"


def test_a_heartbeat_that_has_stopped_closes_the_socket_as_a_missing_pong_does() -> None:
    machine = attended()
    beat = heartbeat(machine.conn)
    assert beat is not None
    machine.now = beat.due
    machine.conn = caught_up(machine.conn, beat.pinged(machine.now))
    machine.feed(put.Silent())
    assert not machine.last, "the pong is not due"
    machine.now += 4.0
    machine.feed(put.Silent())

    assert machine.did(act.CloseSocket)
    assert machine.conn.state is State.DISCONNECTED
    assert machine.reason(machine.turn(SECOND)) == R.KEEPALIVE_FAILED


def test_during_a_stream_a_missing_pong_fails_it() -> None:
    machine = warm(keepalive_interval=10.0, pong_timeout=4.0)
    second = machine.start(SECOND)
    machine.receive(created(), delta("o"))
    machine.wait(14.1)

    failure = machine.failure(second)
    assert (failure.code, failure.delivery) == (E.WEBSOCKET_READ_FAILED, D.ACCEPTED)
    assert failure.details == {"reason": "pong_timeout"}
    assert machine.conn.state is State.DEGRADED
    machine.wait(10)
    assert machine.reason(machine.turn(SECOND)) == R.KEEPALIVE_FAILED


def test_pongs_keep_the_socket_but_are_no_progress() -> None:  # W13 fixed
    machine = warm(keepalive_interval=10.0, pong_timeout=4.0, idle_timeout=60.0)
    second = machine.start(SECOND)
    machine.receive(created())
    for _ in range(6):
        machine.wait(10)
        machine.receive()

    assert machine.failure(second).code is E.STREAM_IDLE_TIMEOUT


def test_private_events_are_no_progress_either() -> None:
    machine = warm(first_event_timeout=60.0)
    second = machine.start(SECOND)
    for _ in range(7):
        machine.wait(9)
        machine.receive(RATE_LIMITS)

    assert machine.failure(second).code is E.FIRST_EVENT_TIMEOUT
    assert machine.failure(second).delivery is D.AMBIGUOUS


def test_there_is_one_chain_of_pings_whatever_happens() -> None:  # C57, C49 fixed, X12
    machine = warm(keepalive_interval=10.0, pong_timeout=None)
    for _ in range(5):
        machine.start(SECOND)
        machine.wait(25)
        machine.receive(completed("resp_1", SAID))
        machine.start(SECOND, endpoint="wss://other/")
        machine.socket_failed()
        machine.wait(60)
        machine.turn(FIRST, "resp_1", [SAID])
    before = pings(machine)
    machine.wait(100)

    assert pings(machine) - before == 10


def test_without_an_interval_there_are_no_pings() -> None:  # C55, X15
    machine = warm(keepalive_interval=None)
    machine.wait(1e6)

    assert pings(machine) == 0


# The request's own limits


@pytest.mark.parametrize("name", ["timeout", "queue_timeout"])
def test_a_request_that_waited_too_long_fails_unsent(name: str) -> None:
    machine = Machine()
    machine.start(FIRST, first_event_timeout=None)
    limits: dict[str, Any] = {name: 8.0}
    second = machine.submit(SECOND, **limits)
    machine.wait(7.9)
    assert machine.answer(second) is None
    machine.wait(0.2)

    failure = machine.failure(second)
    code = E.QUEUE_TIMEOUT if name == "queue_timeout" else E.REQUEST_TIMEOUT
    assert (failure.code, failure.delivery, failure.details) == (code, D.NOT_SENT, {"limit_s": 8.0})
    assert machine.conn.state is State.STREAMING


def test_the_whole_requests_limit_spans_waiting_opening_and_replays() -> None:  # C39, X10
    machine = warm()
    second = machine.submit(SECOND, timeout=10.0, received_at=machine.now - 3)
    machine.sent()
    machine.wait(4)
    machine.receive(NOT_FOUND)
    machine.sent()
    machine.wait(2)
    machine.receive(created())
    machine.wait(0.9)
    assert machine.answer(second) is None
    machine.wait(0.2)

    failure = machine.failure(second)
    assert (failure.code, failure.delivery, failure.details) == (E.REQUEST_TIMEOUT, D.ACCEPTED, {"limit_s": 10.0})
    assert machine.conn.backoff.failures == 0
    assert machine.reason(machine.turn(SECOND)) == R.CANCELLED


def test_each_request_brings_its_own_limits() -> None:  # C12
    machine = Machine()
    first = machine.start(FIRST, idle_timeout=5.0)
    second = machine.submit(FIRST, first_event_timeout=7.0, degraded_for=None)
    machine.receive(created(), completed())
    machine.sent()
    machine.wait(6.9)
    assert machine.answer(second) is None
    machine.wait(0.2)

    assert machine.answer(first) == act.Finish(first)
    assert machine.failure(second).code is E.FIRST_EVENT_TIMEOUT
    assert machine.conn.state is State.DISCONNECTED


# The age of a socket


def test_between_turns_an_old_socket_is_closed_politely() -> None:
    machine = warm(max_connection_age=100.0)
    machine.wait(100.1)
    assert machine.find(act.CloseSocket) == [act.CloseSocket(1000)]
    assert machine.conn.state is State.DISCONNECTED

    assert machine.reason(machine.turn(SECOND)) == R.MAX_AGE


def test_a_stream_on_an_old_socket_ends_first() -> None:
    machine = warm(max_connection_age=100.0)
    second = machine.start(SECOND)
    machine.wait(150)
    machine.receive(completed("resp_2"))
    assert machine.answer(second) == act.Finish(second)
    machine.wait(0.1)

    assert machine.find(act.CloseSocket) == [act.CloseSocket(1000)]


def test_the_next_in_the_queue_gets_a_fresh_socket_when_the_old_one_is_old() -> None:
    machine = warm(max_connection_age=100.0)
    machine.start(SECOND)
    third = machine.submit(FIRST)
    machine.wait(150)
    machine.receive(completed("resp_2"))
    machine.connected()
    machine.receive(created(), delta("o"))

    assert machine.reason(third) == R.MAX_AGE


AGES = [("auto", 0.0, 3300.0), ("auto", 0.5, 3135.0), (100.0, 0.999, 90.01), (None, 0.0, None)]


@pytest.mark.parametrize(("setting", "jitter", "age"), AGES)
def test_a_sockets_age_is_limited_by_host_and_lot(setting: object, jitter: float, age: float | None) -> None:
    machine = Machine()
    machine.start(FIRST, max_connection_age=setting, jitter=jitter)
    socket = machine.conn.socket
    assert socket is not None

    assert socket.retire_at == (None if age is None else pytest.approx(1000 + age))


# What is stale does not act


def test_only_the_current_opening_attempt_counts() -> None:
    machine = Machine()
    machine.submit(FIRST)
    stale = machine.conn.opening
    machine.cancel("r1")
    second = machine.submit(FIRST)
    before = machine.conn

    assert machine.feed(put.Connected(stale)) == []
    assert machine.feed(put.ConnectFailed(stale, E.WEBSOCKET_CONNECT_FAILED)) == []
    assert machine.conn == before
    machine.connected()
    assert machine.conn.state is State.STREAMING
    assert machine.answer(second) is None


def test_a_second_sent_does_not_start_the_clock_anew() -> None:
    machine = Machine()
    first = machine.start(FIRST, first_event_timeout=10.0)
    machine.wait(9)
    machine.sent()
    machine.wait(1.1)

    assert machine.failure(first).code is E.FIRST_EVENT_TIMEOUT
