"""Several askers of one supervisor at once: for room, for a start, for the end of all, for news of an end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import ActorExitRequest

from pixir_actors.actors import connection as connection_module
from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.actors import reporter
from pixir_actors.actors import supervisor as module
from pixir_actors.errors import Delivery, ErrorCode
from tests.actors.fakes import Courier, Dialer, Room, key
from tests.actors.test_supervisor import Desk


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


def received(room: Room, courier: Any, kind: type) -> list[Any]:
    """Return what another requester was sent of that kind."""
    return [message for message in room.received(courier) if isinstance(message, kind)]


# Room and starting


def test_several_who_ask_for_one_new_key_have_one_connection_make_room_and_share_the_new_one(
    desk: Desk, room: Room
) -> None:
    courier = room.system.createActor(Courier)
    for number, name in enumerate("ab", start=1):
        desk.run(desk.start(name), number)
        desk.reported(name, "idle")
    leaves, stays = desk.child("a"), desk.child("b")
    desk.ticking, desk.mute = False, True  # all ask before the first that is to leave has answered

    asks = [desk.question("c", max_connections=2) for _ in range(3)]
    room.tell(desk.address, *asks[:2])
    room.tell(courier, ("send", desk.address, asks[2]))

    assert len(desk.of_kind(c.Evict)) == 1
    desk.mute = False
    room.tell(leaves.address, c.Evict())
    answers = [room.wait_for(m.Started, ask_id=ask.ask_id) for ask in asks[:2]]
    answers += received(room, courier, m.Started)
    new = desk.child("c")
    assert answers == [m.Started(ask.ask_id, new.connection_id, new.address) for ask in asks]
    assert len(desk.connections) == 3
    assert desk.child("b") is stays
    assert not stays.evicting


@pytest.mark.parametrize(
    ("stop", "code"),
    [(m.CloseConnection(9, key("a")), ErrorCode.CANCELLED), (m.StopAll(9), ErrorCode.SHUTTING_DOWN)],
    ids=["closed", "all stopped"],
)
def test_those_who_wait_for_a_start_that_is_stopped_are_refused_with_its_reason(
    desk: Desk, room: Room, stop: Any, code: ErrorCode
) -> None:
    courier = room.system.createActor(Courier)
    desk.ticking, desk.mute = False, True
    asks = [desk.question("a") for _ in range(3)]
    room.tell(desk.address, *asks[:2])
    room.tell(courier, ("send", desk.address, asks[2]))
    child = desk.child("a")

    room.tell(desk.address, stop)

    refusals = [room.wait_for(m.StartRefused, ask_id=ask.ask_id) for ask in asks[:2]]
    refusals += received(room, courier, m.StartRefused)
    assert [refusal.ask_id for refusal in refusals] == [ask.ask_id for ask in asks]
    assert {(refusal.failure.code, refusal.failure.delivery) for refusal in refusals} == {(code, Delivery.NOT_SENT)}
    room.tell(desk.address, c.Began(child.connection_id, 1))
    assert not room.has(m.Started), "it comes up too late"
    assert received(room, courier, m.Started) == []


@pytest.mark.parametrize("fails", ["it says so", "in time"])
def test_why_a_key_starts_cold_is_told_until_a_connection_is_up_that_knows(
    desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    room.tell(desk.start("a").address, ActorExitRequest())
    desk.mute = True
    if fails == "in time":
        monkeypatch.setattr(module, "START_TIMEOUT", 0.03)
    room.tell(desk.address, desk.question("a"))
    if fails == "it says so":
        room.tell(desk.address, c.StartFailed(desk.child("a").connection_id, "no_watch"))
    assert room.wait_for(m.StartRefused).failure.code is ErrorCode.WEBSOCKET_START_FAILED

    desk.mute = False
    desk.start("a")
    assert desk.registry.reason(key("a")) is None
    room.ask(desk.address, m.CloseConnection(1, key("a")))
    desk.start("a")

    reasons = [begin.reset_reason for begin in desk.of_kind(c.Begin)]
    assert reasons == [None, "connection_crashed", "connection_crashed", None]


# The end


def test_a_connection_that_is_closed_lingers_and_with_all_the_others_it_does_not(desk: Desk, room: Room) -> None:
    desk.start("a")
    room.ask(desk.address, m.CloseConnection(1, key("a")))
    assert desk.of_kind(c.StopConnection) == [c.StopConnection(ErrorCode.CANCELLED, linger=True)]
    room.run(lambda: len(desk.registry) == 0)

    desk.told.clear()
    desk.start("a")
    desk.start("b")
    room.ask(desk.address, m.StopAll(2))
    assert desk.of_kind(c.StopConnection) == [c.StopConnection(ErrorCode.SHUTTING_DOWN, linger=False)] * 2


def test_two_who_stop_all_at_once_are_both_answered_when_all_has_ended(desk: Desk, room: Room) -> None:
    courier = room.system.createActor(Courier)
    desk.start("a")
    desk.ticking, desk.mute = False, True
    room.tell(desk.address, m.StopAll(8))
    room.tell(courier, ("send", desk.address, m.StopAll(9)))
    assert not room.has(m.ConnectionClosed)

    room.tell(desk.connections[0].myAddress, ActorExitRequest())

    assert room.wait_for(m.ConnectionClosed) == m.ConnectionClosed(8, existed=True)
    assert received(room, courier, m.ConnectionClosed) == [m.ConnectionClosed(9, existed=True)]
    assert not room.has(m.ConnectionClosed)


def test_the_deadline_of_an_earlier_stop_does_not_end_a_later_one(desk: Desk, room: Room) -> None:
    desk.ticking = False
    assert room.ask(desk.address, m.StopAll(8)) == m.ConnectionClosed(8, existed=True)
    desk.start("a")
    desk.mute = True
    room.tell(desk.address, m.StopAll(9))
    earlier, later = [wakeup for wakeup in desk.wakeups if wakeup[0] == module._STOPPED]

    desk.ring(*earlier)
    assert not room.has(m.ConnectionClosed)

    desk.ring(*later)
    assert room.wait_for(m.ConnectionClosed) == m.ConnectionClosed(9, existed=True)


def test_of_many_who_want_to_hear_of_an_end_the_latest_do(
    desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WATCHERS", 3)
    started = desk.start("a")
    couriers = [room.system.createActor(Courier) for _ in range(5)]
    for courier in couriers:
        room.tell(courier, ("send", desk.address, desk.question("a", notify=True)))

    room.tell(started.address, ActorExitRequest())

    told = [received(room, courier, m.ConnectionDown) for courier in couriers]
    down = m.ConnectionDown(started.connection_id, True)
    assert told == [[], [], [down], [down], [down]]
