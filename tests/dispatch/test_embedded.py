"""A link that starts its system, starts it again when it has died, and ends it; the system is a fake."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import InvalidActorAddress

from pixir_actors.dispatch import embedded as module
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.errors import SystemStartFailed
from tests.conftest import until, within


class FakeSystem:
    """An embedded system that lives until it is told otherwise; its actor system names its supervisor after it."""

    started: list[FakeSystem]
    broken = False

    def __init__(self) -> None:
        self.number = len(self.started) + 1
        self.living = True
        self.dies_later = False
        self.closed = 0
        self.started.append(self)

    @classmethod
    def start(cls) -> FakeSystem:
        return cls()

    @property
    def actor_system(self) -> FakeSystem:
        return self

    def createActor(self, kind: Any, globalName: str) -> str:
        if self.dies_later:
            threading.Timer(0.03, self.die).start()
        if self.broken or self.dies_later or not self.living:
            raise InvalidActorAddress("address", "no admin")
        return f"supervisor {self.number}"

    def private(self) -> Any:
        raise AssertionError("nobody asks here")

    def die(self) -> None:
        self.living = False

    def alive(self) -> bool:
        return self.living and not self.closed

    def close(self) -> None:
        self.closed += 1

    def pids(self) -> list[int]:
        return [self.number]


@pytest.fixture
def systems(monkeypatch: pytest.MonkeyPatch) -> list[FakeSystem]:
    class Fresh(FakeSystem):
        started: list[FakeSystem] = []  # noqa: RUF012

    monkeypatch.setattr(module, "EmbeddedSystem", Fresh)
    return Fresh.started


@pytest.fixture
def link(systems: list[FakeSystem]) -> Iterator[EmbeddedLink]:
    link = EmbeddedLink()
    yield link
    link.close()


def test_a_system_is_started_with_the_link_and_ends_with_it(link: EmbeddedLink, systems: list[FakeSystem]) -> None:
    assert link.owns_system
    assert link.supervisor() == "supervisor 1"
    assert link.pids() == [1]

    link.close()

    assert systems[0].closed
    assert len(systems) == 1


def test_a_living_system_is_asked_for_its_supervisor_again(link: EmbeddedLink, systems: list[FakeSystem]) -> None:
    assert link.supervisor(again=True) == "supervisor 1"
    assert len(systems) == 1


def test_a_dead_system_is_replaced_when_its_supervisor_is_doubted(link: EmbeddedLink, systems: list[FakeSystem]) -> None:
    systems[0].die()
    assert link.supervisor() == "supervisor 1", "nobody has doubted it yet"

    assert link.supervisor(again=True) == "supervisor 2"
    assert link.supervisor() == "supervisor 2"
    assert systems[0].closed
    assert link.pids() == [2]


def test_a_system_that_is_seen_to_be_dead_only_after_a_moment_is_replaced(
    link: EmbeddedLink, systems: list[FakeSystem]
) -> None:
    systems[0].dies_later = True

    assert link.supervisor(again=True) == "supervisor 2"


def test_a_system_that_lives_and_has_no_supervisor_is_an_error(
    link: EmbeddedLink, systems: list[FakeSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTICE", 0.03)
    systems[0].broken = True

    with pytest.raises(SystemStartFailed):
        link.supervisor(again=True)
    assert len(systems) == 1


def test_many_who_doubt_at_once_start_one_system(link: EmbeddedLink, systems: list[FakeSystem]) -> None:
    systems[0].die()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(link.supervisor(again=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within(10))

    assert found == ["supervisor 2"] * 8
    assert len(systems) == 2


def test_a_system_that_answers_nothing_is_replaced_once(link: EmbeddedLink, systems: list[FakeSystem]) -> None:
    silent = link.supervisor()

    assert [link.restart(silent), link.restart(silent)] == [True, True], "the second one had asked the first system, too"
    assert len(systems) == 2
    assert systems[0].closed
    assert link.supervisor() == "supervisor 2"


def test_a_system_that_cannot_be_replaced_is_no_success(
    link: EmbeddedLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSystem, "broken", True)

    assert not link.restart(link.supervisor())


def test_a_closed_link_starts_nothing_any_more(link: EmbeddedLink, systems: list[FakeSystem]) -> None:
    link.close()

    with pytest.raises(SystemStartFailed, match="closed"):
        link.supervisor(again=True)
    assert not link.restart(link.supervisor())
    assert len(systems) == 1


def test_a_system_without_a_supervisor_is_ended_again(
    systems: list[FakeSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSystem, "broken", True)
    before = sorted(os.listdir("/proc/self/fd"))

    with pytest.raises(SystemStartFailed):
        EmbeddedLink()

    assert systems[0].closed
    assert until(lambda: sorted(os.listdir("/proc/self/fd")) == before)
