"""The heart beats while the supervisor answers, and says once when it does not."""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest

from pixir_actors.actors.messages import GetSystem, StopAll
from pixir_actors.admin import heart
from pixir_actors.admin.heart import MISSES, Heart
from pixir_actors.errors import SystemStartFailed
from tests.conftest import within


class Link:
    """Answers questions from a script: True, False for silence, or an exception to raise."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, float]] = []
        self.looked_up: list[bool] = []

    def number(self) -> int:
        return 1

    def supervisor(self, *, again: bool = False) -> str:
        self.looked_up.append(again)
        return "supervisor"

    def ask(self, address: Any, question: Any, *, timeout: float, give_up: Any = None) -> Any:
        self.asked.append((question, timeout))
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return "yes" if answer else None


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "BEAT_EVERY", 0.001)


def run(link: Link, beats: int) -> list[str]:
    """Run a heart until it has said as much, and return what it said."""
    said: queue.Queue[str] = queue.Queue()
    beating = Heart(link, beat=lambda: said.put("beat"), stuck=lambda: said.put("stuck"))  # type: ignore[arg-type]
    beating.start()
    words = [said.get(timeout=within(10)) for _ in range(beats)]
    beating.stop()
    return words


def test_it_beats_with_each_answer() -> None:
    link = Link()

    assert run(link, 3) == ["beat"] * 3
    assert isinstance(link.asked[0][0], GetSystem)


def test_a_supervisor_that_answers_nothing_is_stuck_after_a_few_misses() -> None:
    link = Link(True, *[False] * MISSES)

    assert run(link, 2) == ["beat", "stuck"]
    assert len(link.asked) == 1 + MISSES


def test_a_system_that_cannot_be_asked_counts_as_a_miss() -> None:
    assert run(Link(*[SystemStartFailed("gone")] * MISSES), 1) == ["stuck"]


def test_an_answer_forgives_the_misses_before_it() -> None:
    link = Link(*[False] * (MISSES - 1), True, *[False] * (MISSES - 1), True)

    assert run(link, 2) == ["beat", "beat"]


def test_each_beat_asks_the_admin_as_well() -> None:
    link = Link(True, False, True)

    assert run(link, 2) == ["beat", "beat"]
    assert link.looked_up[:3] == [True] * 3


def test_a_question_without_an_answer_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "BEAT_EVERY", 0.2)
    began: list[float] = []

    class Silent(Link):
        def ask(self, *_: Any, **__: Any) -> None:
            began.append(time.monotonic())
            time.sleep(0.3)

    assert run(Silent(), 1) == ["stuck"]
    assert began[-1] - began[0] < (MISSES - 1) * 0.45


def test_draining_asks_the_supervisor_to_stop_within_the_time() -> None:
    link = Link(True)
    still = Heart(link, beat=lambda: None, stuck=lambda: None)  # type: ignore[arg-type]

    assert still.drain(7.0)
    ((question, timeout),) = link.asked
    assert question == StopAll(1, 7.0)
    assert timeout > 7.0


@pytest.mark.parametrize("answer", [False, SystemStartFailed("gone")])
def test_a_drain_that_nobody_answers_says_so(answer: object) -> None:
    still = Heart(Link(answer), beat=lambda: None, stuck=lambda: None)  # type: ignore[arg-type]

    assert not still.drain(0.1)
