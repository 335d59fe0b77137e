"""A connection as its status, in each of its states."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest

from pixir_actors.core import inputs as put
from pixir_actors.core.report import Facts, describe, facts_of
from pixir_actors.core.state import Connection, State
from pixir_actors.errors import ErrorCode
from pixir_actors.settings import Settings
from pixir_actors.status import ConnectionStatus
from tests.core.machine import Machine, completed, created, user

BEARER = "sk-canary-4711"


def status(machine: Machine) -> ConnectionStatus:
    return describe(facts_of(machine.conn), now=machine.now, key="digest", connection_id="c-1", pid=42)


def warm(**options: Any) -> Machine:
    """Return a connection after one turn, half a second later."""
    machine = Machine(**options)
    machine.submit([user("hello")], model="gpt")
    machine.feed(put.Connected(machine.conn.opening))
    machine.feed(put.Sent())
    machine.now += 2.0
    machine.feed(put.Received((created(), completed())))
    machine.now += 0.5
    return machine


def test_one_that_has_done_nothing() -> None:
    machine = Machine(idle_close_after=60.0)
    machine.now += 1.25

    assert status(machine) == ConnectionStatus(
        key="digest",
        connection_id="c-1",
        pid=42,
        state="disconnected",
        model=None,
        host=None,
        queue_length=0,
        age_s=None,
        idle_s=1.25,
        degraded_for_s=0.0,
        next_wakeup_s=58.75,
        turns=0,
        delta_turns=0,
        sockets=0,
        replays=0,
        failures=0,
        wire_bytes=0,
        full_bytes=0,
        last_reset_reason=None,
        last_error=None,
    )


def test_one_that_is_warm() -> None:
    told = status(warm())

    assert (told.state, told.model, told.host) == ("idle", "gpt", "api.example")
    assert (told.age_s, told.idle_s) == (2.5, 0.5)
    assert (told.turns, told.sockets, told.delta_turns) == (1, 1, 0)
    assert told.wire_bytes == told.full_bytes > 0
    assert told.last_reset_reason == "no_previous_response"


def test_an_idle_one_pings_again_and_again() -> None:
    machine = warm()
    machine.conn = dataclasses.replace(machine.conn, limits=Settings(keepalive_interval=7.0))
    assert status(machine).wakeup_every_s == 7.0

    machine.submit([user("hello")])
    assert status(machine).wakeup_every_s is None


def test_of_a_url_only_the_host_is_shown() -> None:
    machine = Machine()
    machine.start([user("hello")], endpoint=f"wss://user:{BEARER}@api.example:8443/v1?token={BEARER}")

    assert status(machine).host == "api.example:8443"
    assert BEARER not in repr(status(machine))


def test_one_that_streams_with_others_waiting() -> None:
    machine = warm()
    machine.submit([user("hello")])
    machine.submit([user("hello")])
    machine.submit([user("hello")])
    machine.now += 1.0

    told = status(machine)

    assert (told.state, told.queue_length, told.idle_s) == ("streaming", 2, 0.0)


def test_one_that_failed_a_moment_ago() -> None:
    machine = warm(degraded_for=5.0)
    machine.submit([user("hello")])
    machine.feed(put.SocketFailed(ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "reset"}))
    machine.now += 1.0

    told = status(machine)

    assert told.state == "degraded"
    assert (told.host, told.age_s, told.model) == (None, None, None)
    assert 0 < told.degraded_for_s <= 4.0
    assert told.next_wakeup_s == told.degraded_for_s
    assert (told.failures, told.last_error) == (1, "websocket_read_failed")


@pytest.mark.parametrize("model", [None, 7, ["gpt"]])
def test_a_model_that_is_no_text_is_not_shown(model: Any) -> None:
    machine = Machine()
    machine.submit([user("hello")], model=model)
    machine.feed(put.Connected(machine.conn.opening))
    machine.feed(put.Received((created(), completed())))

    assert status(machine).model is None


def test_the_host_is_shown_without_path_query_and_key() -> None:
    machine = Machine()
    machine.submit([user(BEARER)], endpoint=f"wss://api.example:8443/v1/{BEARER}?token={BEARER}", key=BEARER)
    machine.feed(put.Connected(machine.conn.opening))

    told = status(machine)

    assert told.host == "api.example:8443"
    assert BEARER not in repr(told)


def test_a_clock_that_stands_a_little_behind_makes_no_negative_times() -> None:
    machine = warm(keepalive_interval=None, idle_close_after=50.0)
    told = describe(facts_of(machine.conn), now=machine.now - 1.0, key="k", connection_id="c", pid=1)

    assert told.idle_s == 0.0


def test_an_alarm_that_has_rung_for_nothing_is_shown_no_more() -> None:
    machine = Machine(connect_timeout=30.0, idle_close_after=1800.0)
    machine.submit([user("hello")])
    machine.feed(put.ConnectFailed(machine.conn.opening, ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, {"status": 404}))
    told = facts_of(machine.conn)

    # That of the attempt to connect is still set; when it rings, it sets the next one, which is no news.
    waits = [describe(told, now=machine.now + s, key="k", connection_id="c", pid=1).next_wakeup_s for s in (0, 29, 31, 90)]
    assert waits == [30.0, 1.0, None, None]


def test_every_state_is_shown_by_its_own_word() -> None:
    fresh = Machine().conn
    shown = [
        describe(facts_of(dataclasses.replace(fresh, state=state)), now=0.0, key="k", connection_id="c", pid=1).state
        for state in State
    ]

    assert shown == ["disconnected", "connecting", "idle", "streaming", "degraded", "retiring", "stopped"]
    assert isinstance(fresh, Connection)


def test_what_was_reported_stays_true_while_nothing_happens() -> None:
    machine = warm(keepalive_interval=10.0, degraded_for=5.0)
    told = facts_of(machine.conn)
    machine.now += 7.0

    later = describe(told, now=machine.now, key="digest", connection_id="c-1", pid=42)

    assert later == status(machine)
    assert (later.age_s, later.idle_s) == (9.5, 7.5)


LATER = [
    # when the alarm was to ring, every how many seconds it does, how long it is until then at 100
    (104.0, None, 4.0),
    (104.0, 25.0, 4.0),
    (100.0, None, 0.0),  # it is about to ring
    (96.0, None, None),  # it has rung, and what is next is not known
    (96.0, 25.0, 21.0),  # a ping was sent since, which is no news
    (31.0, 25.0, 6.0),
    (None, 25.0, None),
]


@pytest.mark.parametrize(("at", "every", "left"), LATER)
def test_deadlines_that_come_again_are_counted_on(at: float | None, every: float | None, left: float | None) -> None:
    told = facts_of(Machine().conn)._replace(alarm_at=at, wakeup_every_s=every)

    assert describe(told, now=100.0, key="k", connection_id="c", pid=1).next_wakeup_s == left


def test_the_degraded_window_ends_without_a_word() -> None:
    told = facts_of(Machine().conn)._replace(degraded_until=100.0)

    waits = [describe(told, now=now, key="k", connection_id="c", pid=1).degraded_for_s for now in (98.5, 100.0, 130.0)]
    assert waits == [1.5, 0.0, 0.0]


def test_a_report_is_nothing_but_json() -> None:
    machine = warm()
    machine.submit([user("hello")])
    told = facts_of(machine.conn)

    *others, statistics = orjson.loads(orjson.dumps(tuple(told)))
    assert Facts._make((*others, tuple(statistics))) == told


def test_the_next_wakeup_of_a_connection_that_rests_is_that_of_its_heartbeat() -> None:
    machine = Machine(attended=True, keepalive_interval=25.0, idle_close_after=1800.0)
    machine.turn([user("one")])
    machine.wait(26.0)  # its alarm is that of its idle close by now
    assert machine.conn.alarm is not None
    assert machine.conn.alarm.at > machine.now + 1000

    told = status(machine)

    assert told.next_wakeup_s == pytest.approx(24.0, abs=0.3)
    assert told.wakeup_every_s == 25.0


def test_and_its_idle_close_where_that_comes_first() -> None:
    machine = Machine(attended=True, keepalive_interval=25.0, idle_close_after=10.0)
    machine.turn([user("one")])

    assert status(machine).next_wakeup_s == pytest.approx(10.0, abs=0.3)
