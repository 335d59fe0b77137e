"""The same log in the simple base: records go to the program's own logging, which nobody here configures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import ActorExitRequest, ChildActorExited

from pixir_actors.actors import connection as connection_module
from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.actors import reporter
from pixir_actors.actors import supervisor as module
from pixir_actors.client import Client
from pixir_actors.request import Request
from tests.actors.fakes import REFUSED, URL, Dialer, Room, completed, created, key
from tests.actors.test_supervisor import QUIET, Desk

CANARY = "canary-4711"


@pytest.fixture
def desk(room: Room, dialer: Dialer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Desk]:
    caplog.set_level(logging.DEBUG, "pixir_actors")
    monkeypatch.setattr(module, "RETIRE_GRACE", 0.0)
    monkeypatch.setattr(reporter, "REPORT_INTERVAL", 0.0)
    monkeypatch.setattr(reporter, "PROMPTLY", 0.0)
    monkeypatch.setattr(connection_module, "LINGER", 0.02)
    desk = Desk(room, dialer)
    yield desk
    for one in desk.connections:
        if not one.ended:
            room.tell(one.myAddress, ActorExitRequest())
    room.tell(desk.address, ActorExitRequest())


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[Any]:
    """Return the records of an event."""
    return [record for record in caplog.records if getattr(record, "event", None) == event]


def why(caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Return why the one connection ended that did, and how seriously that is taken."""
    [record] = logged(caplog, "connection_ended")
    return record.why, record.levelname


def test_a_connection_s_start_and_end_are_told_by_its_label(
    desk: Desk, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    started = desk.start(CANARY)
    room.ask(desk.address, m.CloseConnection(1, key(CANARY)))
    room.run(lambda: len(desk.registry) == 0)

    [record] = logged(caplog, "connection_started")
    assert (record.name, record.levelname) == ("pixir_actors.supervisor", "INFO")
    assert record.connection_id == started.connection_id
    assert record.key == desk.question(CANARY).label
    assert why(caplog) == ("closed", "INFO")
    assert CANARY not in caplog.text


def test_a_crash_is_a_warning(desk: Desk, room: Room, caplog: pytest.LogCaptureFixture) -> None:
    started = desk.start("a")
    room.tell(started.address, ActorExitRequest())
    room.run(lambda: len(desk.registry) == 0)

    assert why(caplog) == ("crashed", "WARNING")


def test_one_that_retires_and_one_that_makes_room_say_so(desk: Desk, room: Room, caplog: pytest.LogCaptureFixture) -> None:
    desk.run(desk.start("a"), 1, idle_close_after=0.01)
    room.run(lambda: len(desk.registry) == 0)
    assert why(caplog) == ("retired", "INFO")
    caplog.clear()
    desk.run(desk.start("b", max_connections=1), 2)
    desk.reported("b", "idle")
    desk.start("c", max_connections=1)
    room.run(lambda: len(desk.registry) == 1)

    assert why(caplog) == ("evicted", "INFO")


def test_a_killed_one_is_told_once_as_such(
    desk: Desk, room: Room, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run(desk.start("a"), 1)
    desk.reported("a", "idle")
    killed: list[int] = []
    desk.child("a").pid, desk.supervisors[0].in_process = 1, False
    monkeypatch.setattr(module.process, "kill_child", killed.append)
    monkeypatch.setattr(module.process, "child_lives", lambda pid: pid not in killed)
    desk.mute = True
    room.tell(desk.address, m.Suspect(1, desk.child("a").connection_id))
    room.wait_for(m.Examined)
    room.tell(desk.address, ChildActorExited(desk.address))

    assert why(caplog) == ("killed", "WARNING")


def test_one_that_does_not_come_up_says_why(desk: Desk, room: Room, caplog: pytest.LogCaptureFixture) -> None:
    desk.mute = True
    room.tell(desk.address, desk.question("a"))
    room.tell(desk.address, c.StartFailed(desk.child("a").connection_id, "no_watch"))
    room.tell(desk.connections[0].myAddress, ActorExitRequest())

    assert why(caplog) == ("start_failed_no_watch", "WARNING")
    assert logged(caplog, "connection_started") == []


def test_a_refusal_for_want_of_room_is_told_and_one_at_the_end_is_not(
    desk: Desk, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    desk.begin(desk.start("a", max_connections=1), 1)
    desk.reported("a", "streaming")
    desk.refused("b", max_connections=1)
    [record] = logged(caplog, "connection_refused")
    assert (record.levelname, record.code, record.limit) == ("WARNING", "too_many_connections", 1)
    room.ask(desk.address, m.StopAll(9, within=0.001))
    desk.refused("b")

    assert len(logged(caplog, "connection_refused")) == 1


def test_a_drain_is_told_when_it_begins_and_when_it_ends(desk: Desk, room: Room, caplog: pytest.LogCaptureFixture) -> None:
    transport = desk.begin(desk.start("a"), 1)
    room.tell(desk.address, m.StopAll(9, within=1000.0), m.StopAll(10, within=500.0))
    assert [(one.within_s, one.connections) for one in logged(caplog, "drain_begun")] == [(1000.0, 1)]
    assert logged(caplog, "drain_ended") == []
    transport.push(created("resp_1"), completed("resp_1"))
    room.wait_for(m.ConnectionClosed)

    [record] = logged(caplog, "drain_ended")
    assert (record.levelname, record.left) == ("INFO", 0)
    assert record.seconds >= 0
    assert why(caplog) == ("drained", "INFO")


def test_a_stop_is_no_drain(desk: Desk, room: Room, caplog: pytest.LogCaptureFixture) -> None:
    desk.start("a")
    room.ask(desk.address, m.StopAll(9))

    assert why(caplog) == ("shutting_down", "INFO")
    assert logged(caplog, "drain_begun") == logged(caplog, "drain_ended") == []


def test_of_a_connection_every_thing_is_told_once(
    desk: Desk, room: Room, dialer: Dialer, caplog: pytest.LogCaptureFixture
) -> None:
    started = desk.start("a")
    desk.run(started, 1)
    dialer.outcomes.append(REFUSED)
    other = desk.start("b")
    room.tell(other.address, m.Submit.of(2, "b", Request(URL, {}, {"input": "x"}), QUIET))
    room.failure(2)
    room.ask(desk.address, m.CloseConnection(1, key("a")))
    room.run(lambda: len(desk.registry) == 1)

    counted = Counter(record.event for record in caplog.records if record.name == "pixir_actors.connection")  # type: ignore[attr-defined]
    assert counted == {"socket_opened": 1, "turn_ended": 1, "socket_closed": 1, "turn_failed": 1, "degraded": 1}
    assert {record.key for record in caplog.records} == {desk.question(name).label for name in "ab"}  # type: ignore[attr-defined]


def test_nothing_is_configured_and_nothing_shows_by_itself(
    dialer: Dialer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection_module.ConnectionActor, "connect", staticmethod(dialer))
    names = (None, "pixir_actors", "pixir_actors.supervisor", "pixir_actors.connection")
    loggers = [logging.getLogger(name) for name in names]

    def configured() -> list[Any]:
        return [(one.level, list(one.handlers), list(one.filters), one.propagate, one.disabled) for one in loggers]

    before = configured()
    with Client.local() as client:
        client.system()
        assert client.status() == []
    assert configured() == before
    assert capfd.readouterr() == ("", "")
