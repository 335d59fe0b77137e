"""Who waits for a place, without actors: who is asked to leave, who gets the place, who gets none."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.actors import messages as m
from pixir_actors.actors import room as module
from pixir_actors.actors.board import Board
from pixir_actors.actors.registry import Child, Registry
from pixir_actors.actors.room import Room
from pixir_actors.errors import ErrorCode, Failure
from pixir_actors.settings import Settings
from tests.actors.fakes import FACTS


class House:
    """A room, and what it wanted done."""

    def __init__(self, *idle_s: float) -> None:
        self.registry = Registry()
        self.started: list[tuple[str, Any]] = []
        self.refused: list[tuple[Any, Failure]] = []
        self.evicted: list[Child] = []
        self.room = Room(self.registry, start=self._start, refuse=self._refuse, evict=self.evicted.append)
        self.children = [self.add(f"c-{number}", idle) for number, idle in enumerate(idle_s)]

    def add(self, name: str, idle_s: float | None = None) -> Child:
        child = Child(question(name).key, name, f"created {name}", 0.0, 0.0, address=f"address {name}")
        if idle_s is not None:
            child.facts = FACTS._replace(idle_since=1e12 - idle_s)
        self.registry.add(child)
        return child

    def wait(self, name: str, asker: Any, *, now: float = 1e12, limit: int = 1) -> bool:
        """Wait, or be refused at once; say which."""
        ask, refused = question(name, limit), len(self.refused)
        if not self.room.joined(ask, asker):
            self.room.wait(ask, asker, now)
        return len(self.refused) == refused

    def _start(self, ask: m.EnsureStarted, asker: Any) -> None:
        self.started.append((ask.label, asker))
        self.add(f"for {asker}")

    def _refuse(self, ask: m.EnsureStarted, asker: Any, failure: Failure) -> None:
        self.refused.append((asker, failure))


def question(name: str, limit: int = 1) -> m.EnsureStarted:
    return m.EnsureStarted.of(1, name, Settings(max_connections=limit, expose_keys=True))


@pytest.fixture(autouse=True)
def it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of the house are from now: what they say of idleness is what counts."""
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)


def test_the_longest_idle_one_is_asked_once_and_its_place_given_to_all_who_wait_for_the_key() -> None:
    house = House(1.0, 5.0, 3.0)
    assert house.wait("new", "first", limit=3)
    assert house.wait("new", "second", limit=3)
    assert house.evicted == [house.children[1]]
    assert len(house.room) == 1

    house.room.evict_answered(house.children[1], accepted=True)

    assert house.started == [("'new'", "first"), ("'new'", "second")]
    assert len(house.room) == 0
    assert house.children[1].leaving
    assert house.children[1].why == "evicted"
    assert house.registry.reason(house.children[1].key) == "evicted"


def test_each_key_that_waits_has_one_asked() -> None:
    house = House(1.0, 5.0)
    assert house.wait("new", "first", limit=2)
    assert house.wait("newer", "second", limit=2)
    assert house.evicted == [house.children[1], house.children[0]]
    assert not house.wait("newest", "third", limit=2), "nobody is left who could go"


def test_a_lower_limit_has_as_many_asked_as_are_too_many() -> None:
    """Limits may differ from request to request, and from program to program."""
    house = House(1.0, 5.0, 3.0, 4.0, 2.0)
    assert house.wait("new", "first", limit=3)
    assert house.evicted == [house.children[number] for number in (1, 3, 2)]

    for child in list(house.evicted):
        assert house.started == []
        house.room.evict_answered(child, accepted=True)

    assert house.started == [("'new'", "first")]
    assert house.registry.serving == 3


def test_who_waits_with_a_limit_of_its_own_counts_on_no_place_of_those_before_it() -> None:
    house = House(1.0, 5.0, 3.0, 4.0)
    assert house.wait("new", "first", limit=4)
    assert house.wait("newer", "second", limit=3)
    assert house.evicted == [house.children[number] for number in (1, 3, 2)]
    assert house.wait("newest", "third", limit=6)
    assert house.started == [("'newest'", "third")], "there is place"
    assert len(house.evicted) == 4, "and one more has to go"


def test_none_is_asked_where_not_as_many_may_be_as_would_have_to() -> None:
    house = House(1.0, 5.0)
    busy = house.add("busy")
    busy.facts, busy.slot = FACTS._replace(running=True), Board().take()

    assert not house.wait("new", "first", limit=1)
    assert house.evicted == []
    assert len(house.room) == 0
    assert house.wait("new", "first", limit=2)
    assert len(house.evicted) == 2


def test_whoever_is_asked_was_heard_of_just_now() -> None:
    """Its silence counts from there."""
    house = House(1.0)
    house.children[0].silent = 2
    house.wait("new", "first")

    assert house.children[0].evicting
    assert house.children[0].silent == 0


def test_if_it_turns_out_that_there_is_no_place_those_for_whom_there_is_one_wait_on() -> None:
    house = House(1.0, 5.0, 3.0)
    house.wait("new", "first", limit=1)
    house.wait("newer", "second", limit=3)
    house.room.evict_answered(house.children[1], accepted=False)

    assert [asker for asker, _ in house.refused] == ["first"]
    house.room.evict_answered(house.children[0], accepted=True)
    assert house.started == [("'newer'", "second")]


def test_whoever_is_overtaken_by_others_has_more_make_room() -> None:
    house = House(*map(float, range(10)))
    assert house.wait("new", "first", limit=5)
    assert len(house.evicted) == 6
    for number, child in enumerate(house.evicted):  # it grows meanwhile
        if number < 6:
            house.add(f"started meanwhile {number}", 0.0)
        house.room.evict_answered(child, accepted=True)

    assert house.started == [("'new'", "first")]
    assert house.refused == []


def test_who_needs_most_is_given_up_not_who_waits_longest() -> None:
    house = House(1.0)
    for number in range(9):
        busy = house.add(f"busy {number}")
        busy.facts, busy.slot = FACTS._replace(running=True), Board().take()
    assert house.wait("new", "first", limit=10)
    assert not house.wait("newer", "second", limit=3)
    assert [asker for asker, _ in house.refused] == ["second"]

    house.room.evict_answered(house.children[0], accepted=True)
    assert house.started == [("'new'", "first")]


def test_all_for_whom_there_will_be_no_place_are_told_at_once() -> None:
    house = House(1.0, 5.0)
    assert house.wait("new", "first", limit=2)
    assert house.wait("newer", "second", limit=2)
    for number in range(3):
        busy = house.add(f"overtaking {number}")
        busy.facts, busy.slot = FACTS._replace(running=True), Board().take()
    house.room.serve()

    assert [asker for asker, _ in house.refused] == ["second", "first"]


def test_who_has_waited_too_long_gets_the_place_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(1.0, 5.0)
    house.wait("new", "first", limit=2)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12 + module.ROOM_TIMEOUT + 1)
    house.room.evict_answered(house.children[1], accepted=True)

    assert house.started == [("'new'", "first")]
    assert house.refused == []


def test_a_higher_limit_counts_behind_those_who_wait_as_well() -> None:
    house = House(1.0, 5.0)
    house.wait("new", "first", limit=2)
    house.wait("newer", "second", limit=2)
    house.wait("newer", "third", limit=100)

    assert house.started == [("'newer'", "third"), ("'newer'", "second")]
    assert len(house.room) == 1


def test_of_those_who_ask_for_one_key_the_highest_limit_counts() -> None:
    house = House(1.0, 5.0)
    house.wait("new", "first", limit=1)
    assert len(house.evicted) == 2
    house.wait("new", "second", limit=3)

    assert house.started == [("'new'", "second"), ("'new'", "first")]
    assert len(house.room) == 0


def test_if_one_stays_the_next_is_asked_and_in_the_end_who_waits_longest_is_refused() -> None:
    house = House(1.0, 5.0)
    house.wait("new", "first", limit=2)
    house.room.evict_answered(house.children[1], accepted=False)
    assert house.evicted == [house.children[1], house.children[0]]
    house.room.evict_answered(house.children[0], accepted=False)

    [(asker, failure)] = house.refused
    assert asker == "first"
    assert (failure.code, failure.details) == (ErrorCode.TOO_MANY_CONNECTIONS, {"limit": 2})
    assert len(house.room) == 0


def test_who_waits_too_long_is_refused_and_the_others_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(1.0, 5.0)
    house.wait("new", "first", now=1e12 - module.ROOM_TIMEOUT - 1, limit=2)
    house.wait("newer", "second", now=1e12 - module.ROOM_TIMEOUT + 1, limit=2)
    house.room.serve()

    assert [asker for asker, _ in house.refused] == ["first"]
    assert len(house.room) == 1


def test_at_the_end_all_are_refused() -> None:
    house = House(1.0)
    house.wait("new", "first")
    house.wait("new", "second")
    house.room.close()

    assert [(asker, failure.code) for asker, failure in house.refused] == [
        ("first", ErrorCode.SHUTTING_DOWN),
        ("second", ErrorCode.SHUTTING_DOWN),
    ]
    assert [failure.details for _, failure in house.refused] == [{}, {}]
    assert len(house.room) == 0
