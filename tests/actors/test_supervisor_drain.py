"""A drain: what runs may end, all else is refused, and the answer comes when the last connection has gone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import ActorExitRequest

from pixir_actors.actors import connection as connection_module
from pixir_actors.actors import control as c
from pixir_actors.actors import ending as ending_module
from pixir_actors.actors import messages as m
from pixir_actors.actors import refusals, reporter
from pixir_actors.actors import supervisor as module
from pixir_actors.actors.vigil import SILENCE
from pixir_actors.core import actions as do
from pixir_actors.errors import Delivery, ErrorCode
from pixir_actors.version import __version__
from tests.actors.fakes import Dialer, FakeTransport, Room, completed, created, delta, key, submit
from tests.actors.test_supervisor import HASTE, QUIET, Desk
from tests.conftest import within

LONG = 1000.0 * HASTE
"""Seconds of a drain that no test waits for."""


@pytest.fixture
def desk(room: Room, dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(reporter, "REPORT_INTERVAL", 0.0)
    monkeypatch.setattr(reporter, "PROMPTLY", 0.0)
    monkeypatch.setattr(connection_module, "LINGER", 0.02)
    desk = Desk(room, dialer)
    yield desk
    for one in desk.connections:
        if not one.ended:
            room.tell(one.myAddress, ActorExitRequest())
    room.tell(desk.address, ActorExitRequest())


def streaming(desk: Desk, name: str, request_id: int) -> tuple[m.Started, FakeTransport]:
    """Return a connection in the middle of a turn, and its socket."""
    started = desk.start(name)
    transport = desk.begin(started, request_id)
    transport.push(created(f"resp_{request_id}"), delta("x"))
    desk.room.run(lambda: "DATA" in desk.room.types(request_id))
    return started, transport


def system(desk: Desk) -> m.SystemStatus:
    report = desk.room.ask(desk.address, m.GetSystem(1))
    assert isinstance(report, m.SystemReport)
    return report.system


def test_a_running_turn_ends_and_then_the_answer_comes(desk: Desk, room: Room, dialer: Dialer) -> None:
    desk.run(desk.start("idle"), 1)
    idle = dialer.transport
    started, transport = streaming(desk, "busy", 2)
    room.tell(started.address, submit(3, settings=QUIET))
    room.tell(desk.address, m.StopAll(9, within=LONG))

    assert (room.failure(3).code, room.failure(3).delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)
    assert (idle.closed, idle.close_code) == (True, 1000)
    room.run(lambda: len(desk.registry) == 1)
    assert not room.has(m.ConnectionClosed)
    assert not room.ends(2)
    transport.push(completed("resp_2"))
    assert room.finished(2)

    assert room.wait_for(m.ConnectionClosed) == m.ConnectionClosed(9, existed=True)
    assert (transport.closed, transport.close_code) == (True, 1000)
    assert all(one.ended for one in desk.connections)


def test_new_keys_and_new_requests_are_refused_while_it_drains_and_after(desk: Desk, room: Room) -> None:
    started, transport = streaming(desk, "busy", 1)
    room.tell(desk.address, m.StopAll(9, within=LONG))
    room.tell(started.address, submit(2, settings=QUIET))

    assert (room.failure(2).code, room.failure(2).delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)
    for name in ("busy", "new"):
        refused = desk.refused(name)
        assert (refused.code, refused.delivery, refused.retryable) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT, False)
    transport.push(completed("resp_1"))
    room.wait_for(m.ConnectionClosed)
    assert desk.refused("new").code is ErrorCode.SHUTTING_DOWN
    assert room.ask(desk.address, m.StopAll(10, within=LONG)) == m.ConnectionClosed(10, existed=True)


def test_who_waits_for_room_is_refused_at_once(desk: Desk, room: Room) -> None:
    desk.run(desk.start("a", max_connections=1), 1)
    desk.reported("a", "idle")
    desk.mute = True
    room.tell(desk.address, desk.question("b", max_connections=1))
    room.tell(desk.address, m.StopAll(9, within=LONG))

    assert room.wait_for(m.StartRefused).failure.code is ErrorCode.SHUTTING_DOWN


def test_a_turn_that_takes_too_long_fails_with_its_verdict(desk: Desk, room: Room) -> None:
    streaming(desk, "busy", 1)
    unanswered = desk.start("sent")
    desk.begin(unanswered, 2)
    desk.ticking = False
    room.tell(desk.address, m.StopAll(9, within=0.05))

    assert (room.failure(1).code, room.failure(1).delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.ACCEPTED)
    assert (room.failure(2).code, room.failure(2).delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.AMBIGUOUS)
    room.wait_for(m.ConnectionClosed)
    assert len(desk.registry) == 0


def test_status_goes_on_while_it_drains(desk: Desk, room: Room) -> None:
    started, _ = streaming(desk, "busy", 1)
    desk.reported("busy", "streaming")
    assert (system(desk).draining, system(desk).connections) == (False, 1)
    room.tell(desk.address, m.StopAll(9, within=LONG))

    assert (system(desk).draining, system(desk).connections) == (True, 1)
    assert set(desk.status()) == {started.connection_id}
    assert room.ask(desk.address, m.FindConnection(2, key("busy"))).address == started.address


def test_a_stop_while_it_drains_ends_at_once(desk: Desk, room: Room) -> None:
    streaming(desk, "busy", 1)
    room.tell(desk.address, m.StopAll(9, within=LONG))
    room.tell(desk.address, m.StopAll(10))

    assert (room.failure(1).code, room.failure(1).delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.ACCEPTED)
    assert {room.wait_for(m.ConnectionClosed).ask_id for _ in range(2)} == {9, 10}
    assert len(desk.registry) == 0
    assert system(desk).draining


def test_what_a_slow_caller_has_not_read_yet_is_not_lost(desk: Desk, room: Room) -> None:
    """A connection ends when the last of it has been taken."""
    started, transport = streaming(desk, "busy", 1)
    room.acknowledge = False
    transport.push(delta("y"))
    room.run(lambda: desk.connections[0]._outbox.all_taken() is False)
    room.tell(desk.address, m.StopAll(9, within=LONG))
    transport.push(completed("resp_1"))
    room.run(lambda: transport.closed)
    assert len(desk.registry) == 1
    assert not room.ends(1)

    room.acknowledge = True
    room.tell(started.address, m.BatchAck(room.batches[-1].sequence))

    assert room.finished(1)
    room.wait_for(m.ConnectionClosed)


def test_a_slow_caller_does_not_hold_it_up_for_longer_than_it_may_take(desk: Desk, room: Room) -> None:
    _, transport = streaming(desk, "busy", 1)
    room.acknowledge = False
    transport.push(delta("y"), completed("resp_1"))
    desk.ticking = False
    room.run(lambda: not desk.connections[0]._outbox.all_taken())
    room.tell(desk.address, m.StopAll(9, within=0.05))

    room.wait_for(m.ConnectionClosed)


def test_one_that_starts_is_stopped_and_who_asked_for_it_refused(desk: Desk, room: Room) -> None:
    desk.mute = True
    room.tell(desk.address, desk.question("a"))
    room.tell(desk.address, m.StopAll(9, within=LONG))

    assert room.wait_for(m.StartRefused).failure.code is ErrorCode.SHUTTING_DOWN
    assert [kind for _, kind in desk.received] == [c.Begin, c.StopConnection]


@pytest.fixture
def killed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a connection "a" in the middle of a turn, which the supervisor takes for a process of its own: its pid is 1."""
    killed: list[int] = []
    streaming(desk, "a", 1)
    desk.reported("a", "streaming")
    desk.child("a").pid = 1
    desk.supervisors[0].in_process, desk.supervisors[0]._descriptors = False, 1000
    monkeypatch.setattr(module.process, "kill_child", killed.append)
    monkeypatch.setattr(module.process, "child_lives", lambda pid: pid not in killed)
    return killed


def test_one_that_gives_no_sign_of_life_is_killed_long_before_the_time_has_passed(
    desk: Desk, room: Room, killed: list[int]
) -> None:
    desk.mute = True
    room.tell(desk.address, m.StopAll(9, within=LONG))

    room.wait_for(m.ConnectionClosed)
    assert killed == [1]
    assert desk.registry.reason(key("a")) is None, "it was told to end"


def test_one_that_runs_and_says_so_is_not_killed(desk: Desk, room: Room, killed: list[int]) -> None:
    room.tell(desk.address, m.StopAll(9, within=LONG))
    room.run(lambda: desk.child("a").silent is None)
    for _ in range(SILENCE + 2):
        desk.ring(module._TICK)
    assert room.ask(desk.address, m.Suspect(1, desk.child("a").connection_id)) == m.Examined(1, ended=False)

    assert killed == []


def test_when_the_time_has_passed_what_is_left_is_killed_and_the_answer_comes(
    desk: Desk, room: Room, killed: list[int]
) -> None:
    desk.ticking = False
    room.tell(desk.address, m.StopAll(9, within=LONG))
    [(name, token)] = [wakeup for wakeup in desk.wakeups if wakeup[0] == module._STOPPED]
    desk.ring(name, token - 1)
    assert not room.has(m.ConnectionClosed)
    desk.ring(name, token)

    assert room.wait_for(m.ConnectionClosed) == m.ConnectionClosed(9, existed=True)
    assert killed == [1]


def test_its_end_while_it_drains_is_no_crash(desk: Desk, room: Room) -> None:
    started = desk.start("a", notify=True)
    transport = desk.begin(started, 1)
    room.tell(desk.address, m.StopAll(9, within=LONG))
    transport.push(created("resp_1"), completed("resp_1"))

    assert room.wait_for(m.ConnectionDown) == m.ConnectionDown(started.connection_id, crashed=False)


def test_one_that_breaks_while_it_drains_ends(desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError

    _, transport = streaming(desk, "a", 1)
    room.tell(desk.address, m.StopAll(9, within=LONG))
    monkeypatch.setitem(connection_module._PERFORM, do.Deliver, breaks)
    transport.push(delta("y"))

    assert room.failure(1).code is ErrorCode.INTERNAL_ERROR
    room.wait_for(m.ConnectionClosed)


@pytest.mark.parametrize("nonsense", [-1.0, math.nan])
def test_nonsense_is_no_drain(desk: Desk, room: Room, nonsense: float) -> None:
    streaming(desk, "a", 1)
    room.ask(desk.address, m.StopAll(9, within=nonsense))

    assert not system(desk).draining
    desk.start("b")


def test_a_drain_without_end_has_one(desk: Desk, room: Room) -> None:
    _, transport = streaming(desk, "a", 1)
    room.tell(desk.address, m.StopAll(9, within=math.inf))
    assert desk.of_kind(c.DrainConnection) == [c.DrainConnection(ending_module.MAX_DRAIN)]
    transport.push(completed("resp_1"))

    room.wait_for(m.ConnectionClosed)


# The system as a whole


def test_the_system_says_how_it_is_without_asking_a_connection(desk: Desk, room: Room) -> None:
    desk.start("a")
    desk.start("b")
    desk.received.clear()
    refusals.counted_by(lambda: 7)
    try:
        told = system(desk)
    finally:
        refusals.counted_by(None)

    assert (told.pid, told.version, told.connections, told.refusals) == (os.getpid(), __version__, 2, 7)
    assert told.max_descriptors > 0
    assert 0 <= told.uptime_s <= within(60)
    assert not told.draining
    assert desk.received == []
    room.ask(desk.address, m.CloseConnection(1, key("a")))
    assert system(desk).connections == 1


def test_the_system_grows_older(desk: Desk, room: Room) -> None:
    before = system(desk).uptime_s
    assert room.run(lambda: system(desk).uptime_s > before)
