"""Who has to give a sign of life, without actors and processes."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.actors.messages import Examined
from pixir_actors.actors.registry import Child, Registry
from pixir_actors.actors.vigil import SILENCE, Vigil
from pixir_actors.core.secret import Secret
from tests.actors.fakes import FACTS


class Watchman:
    """A vigil over one connection, and what it wanted done."""

    def __init__(self) -> None:
        self.asked: list[Child] = []
        self.told: list[tuple[Any, Examined]] = []
        self.killed: list[Child] = []
        registry = Registry()
        self.vigil = Vigil(
            registry,
            ask=self.asked.append,
            tell=lambda asker, examined: self.told.append((asker, examined)),
            kill=self.killed.append,
        )
        self.child = Child(Secret("a"), "c-a", "created", 0.0, 0.0)
        registry.add(self.child)

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.vigil.tick()


@pytest.fixture
def watchman() -> Watchman:
    return Watchman()


def test_one_of_whom_nothing_is_wanted_may_be_silent(watchman: Watchman) -> None:
    watchman.ticks(SILENCE + 3)

    assert watchman.killed == []


def test_one_that_is_suspected_is_asked_once_and_all_askers_hear_that_it_lives(watchman: Watchman) -> None:
    watchman.vigil.suspect(watchman.child, "first", 1)
    watchman.ticks(1)
    watchman.vigil.suspect(watchman.child, "second", 2)
    assert watchman.asked == [watchman.child]

    watchman.vigil.lives(watchman.child)
    watchman.ticks(SILENCE + 3)

    assert watchman.told == [("first", Examined(1, False)), ("second", Examined(2, False))]
    assert watchman.killed == []


def test_one_that_stays_silent_is_killed_and_all_askers_hear_of_its_end(watchman: Watchman) -> None:
    watchman.vigil.suspect(watchman.child, "first", 1)
    watchman.ticks(SILENCE)
    assert watchman.killed == []
    watchman.ticks(1)
    assert watchman.killed == [watchman.child]
    assert watchman.told == [], "it has not ended yet"

    watchman.vigil.ended(watchman.child)
    assert watchman.told == [("first", Examined(1, True))]


def test_of_one_that_is_to_leave_only_its_end_counts(watchman: Watchman) -> None:
    watchman.child.leaving, watchman.child.silent = True, 0
    for _ in range(SILENCE + 1):
        watchman.vigil.lives(watchman.child)
        watchman.ticks(1)

    assert watchman.killed == [watchman.child]


@pytest.mark.parametrize("heard", [True, False])
def test_one_that_is_to_drain_shows_that_it_has_heard(watchman: Watchman, heard: bool) -> None:
    watchman.child.draining, watchman.child.silent = True, 0
    watchman.child.facts = FACTS._replace(draining=heard)
    watchman.ticks(SILENCE + 1)

    assert watchman.killed == ([] if heard else [watchman.child])


def test_one_that_has_heard_that_it_is_to_drain_may_be_stuck_later(watchman: Watchman) -> None:
    """What it wrote down then stands there still."""
    watchman.child.draining, watchman.child.silent = True, 0
    watchman.child.facts = FACTS._replace(draining=True)
    watchman.ticks(2)
    assert watchman.child.silent is None

    watchman.vigil.suspect(watchman.child, "asker", 1)
    watchman.ticks(SILENCE + 1)

    assert watchman.killed == [watchman.child]
    assert watchman.told == []
