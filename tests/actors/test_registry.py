"""The supervisor's memory: who serves which key, and what became of those before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixir_actors.actors import registry as module
from pixir_actors.actors.board import Board
from pixir_actors.actors.registry import Child, Registry
from pixir_actors.core.secret import Secret
from tests.actors.fakes import FACTS, STATUS


@pytest.fixture
def registry() -> Registry:
    return Registry()


def child(name: str, *, id: str | None = None) -> Child:
    return Child(Secret(name), id or f"c-{name}", f"created {name}", 0.0, 0.0)


def test_a_connection_is_found_by_key_id_and_both_addresses(registry: Registry) -> None:
    a, b = child("a"), child("b")
    registry.add(a)
    registry.add(b)
    b.address = "introduced b"

    assert registry.of_key(Secret("a")) is a
    assert registry.of_id("c-b") is b
    assert registry.of_address("created a") is a
    assert registry.of_address("created b") is b
    assert registry.of_address("introduced b") is b
    assert (registry.of_key(Secret("c")), registry.of_id("c"), registry.of_address("c")) == (None, None, None)
    assert registry.of_address(None) is None, "a has not introduced itself"
    assert len(registry) == 2
    assert list(registry) == [a, b]


def test_a_forgotten_one_no_longer_serves_its_key_but_still_counts(registry: Registry) -> None:
    a = child("a")
    registry.add(a)
    registry.forget(a)

    assert registry.of_key(a.key) is None
    assert registry.of_id("c-a") is a
    assert len(registry) == 1
    assert a.leaving
    registry.remove(a)
    assert len(registry) == 0
    assert registry.reason(a.key) is None, "it was let go, it did not crash"


def test_one_that_drains_serves_its_key_to_the_end_and_does_not_crash_then(registry: Registry) -> None:
    a = child("a")
    registry.add(a)
    assert a.crashes
    a.draining = True

    assert registry.of_key(a.key) is a
    assert not a.crashes
    registry.remove(a)
    assert registry.reason(a.key) is None


def test_the_end_of_an_old_one_does_not_touch_its_successor(registry: Registry) -> None:
    old, new = child("a", id="c-old"), child("a", id="c-new")
    registry.add(old)
    registry.forget(old)
    registry.add(new)

    registry.remove(old)

    assert registry.of_key(Secret("a")) is new
    assert registry.of_id("c-old") is None
    assert len(registry) == 1


@pytest.mark.parametrize(
    ("because", "reason"),
    [("crashed", "connection_crashed"), ("evicted", "evicted"), (None, None)],
)
def test_why_a_key_lost_its_connection_is_known_until_one_is_up_that_was_told(
    registry: Registry, because: str | None, reason: str | None
) -> None:
    a = child("a")
    registry.add(a)
    if because != "crashed":
        registry.forget(a, because=because)
    registry.remove(a)

    assert registry.reason(Secret("b")) is None
    assert registry.reason(a.key) == reason
    assert registry.reason(a.key) == reason, "the one that was told may not have come up"
    registry.told(Secret("b"))
    assert registry.reason(a.key) == reason
    registry.told(a.key)
    assert registry.reason(a.key) is None


def test_one_that_was_removed_twice_crashed_once(registry: Registry) -> None:
    a = child("a")
    registry.add(a)
    registry.remove(a)
    registry.told(a.key)
    registry.remove(a)
    assert registry.reason(a.key) is None


def test_reasons_are_remembered_up_to_a_number_the_oldest_going_first(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 2)
    for name in ("a", "b", "a", "c"):
        one = child(name)
        registry.add(one)
        registry.remove(one)

    assert registry.reason(Secret("b")) is None
    assert registry.reason(Secret("a")) == "connection_crashed"
    assert registry.reason(Secret("c")) == "connection_crashed"


def test_a_turn_that_runs_is_not_idle() -> None:
    a = child("a")
    a.facts = FACTS._replace(idle_since=2.0)
    assert a.idle_since() == 2.0

    a.facts = FACTS._replace(idle_since=2.0, running=True)
    assert a.idle_since() is None


def test_one_that_has_not_reported_is_not_idle() -> None:
    assert child("a").idle_since() is None


def test_the_longest_idle_one_is_found_whenever_they_reported(registry: Registry) -> None:
    """An idle connection has nothing to report: since its report it has been idle longer."""
    assert registry.candidates(unless_busy_since=0.0) == []
    old, recent, busy, silent, asked, left = [child(name) for name in ("old", "recent", "busy", "silent", "asked", "left")]
    for one in (recent, old, busy, silent, asked, left):
        one.address, one.slot = one.created_address, Board().take()
        registry.add(one)
    old.facts = FACTS._replace(idle_since=100.0)
    recent.facts = FACTS._replace(idle_since=170.0)
    busy.facts = FACTS._replace(running=True)
    asked.facts = left.facts = FACTS
    asked.evicting = True
    registry.forget(left)

    assert registry.candidates(unless_busy_since=0.0) == [old, recent]
    old.evicting = True
    assert registry.candidates(unless_busy_since=0.0) == [recent]
    recent.busy_at = 180.0
    assert registry.candidates(unless_busy_since=181.0) == [recent]
    assert registry.candidates(unless_busy_since=180.0) == []


def test_a_status_grows_older_between_two_reports() -> None:
    a = child("a")
    assert a.status_at(5.0) is None
    a.label, a.pid, a.facts = "label", 7, FACTS._replace(idle_since=100.0)

    assert a.status_at(103.0) == replace(STATUS, key="label", connection_id="c-a", pid=7, idle_s=3.0)


def test_what_is_on_the_board_is_newer_than_what_was_said() -> None:
    a, board = child("a"), Board()
    a.facts, a.slot, a.address = FACTS, board.take(), "introduced a"
    assert a.look() == FACTS, "nothing is written yet"

    assert a.slot is not None
    a.slot.write(FACTS._replace(state="streaming", running=True))
    assert a.idle_since() is None
    a.slot.clear()
    assert a.idle_since() is None, "what it was last seen to report"


def test_what_one_wrote_down_before_it_introduced_itself_does_not_count(registry: Registry) -> None:
    """It cannot be asked for anything yet, and would be killed for not answering."""
    a, board = child("a"), Board()
    a.slot = board.take()
    assert a.slot is not None
    a.slot.write(FACTS)
    registry.add(a)

    assert a.look() is a.status_at(1.0) is None
    assert registry.candidates(unless_busy_since=1.0) == []
    a.address = "introduced a"
    assert registry.candidates(unless_busy_since=1.0) == [a]


@pytest.mark.parametrize(("idle_since", "asked"), [(180.5, True), (179.5, False)])
def test_one_that_declined_is_asked_again_as_soon_as_it_is_seen_to_be_idle(
    registry: Registry, idle_since: float, asked: bool
) -> None:
    a, board = child("a"), Board()
    a.slot, a.address, a.busy_at = board.take(), "introduced a", 180.0
    assert a.slot is not None
    a.slot.write(FACTS._replace(idle_since=idle_since))
    registry.add(a)

    assert registry.candidates(unless_busy_since=179.9) == [a] * asked


def test_only_those_that_report_by_message_may_be_idle_without_having_said_so(registry: Registry) -> None:
    a, b, c, idle = children = [child(name) for name in ("a", "b", "c", "idle")]
    for one in children:
        one.address = one.created_address
        one.facts = FACTS._replace(running=True)
        registry.add(one)
    a.slot = Board().take()
    b.used_at, c.used_at, idle.used_at = 5.0, 4.0, 6.0
    idle.facts = FACTS

    assert registry.candidates(unless_busy_since=1.0) == [idle, c, b]
    b.slot = Board().take()
    assert registry.candidates(unless_busy_since=1.0) == [idle, c]
