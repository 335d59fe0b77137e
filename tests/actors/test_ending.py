"""The end of all: who is answered when, and what is refused meanwhile."""

from __future__ import annotations

import math

import pytest

from pixir_actors.actors.ending import MAX_DRAIN, STOP_TIMEOUT, Ending, drain_time


def test_nothing_is_refused_before_anybody_asks() -> None:
    ending = Ending()

    assert (ending.refusing, ending.draining, ending.waited_for) == (False, False, False)
    assert ending.answered() == []


def test_after_a_stop_that_was_answered_connections_may_be_started_again() -> None:
    ending = Ending()
    _, delay = ending.asked("asker", 7, within=0.0, now=100.0)
    assert delay == STOP_TIMEOUT
    assert (ending.refusing, ending.draining) == (True, False)

    assert ending.answered() == [("asker", 7)]
    assert (ending.refusing, ending.waited_for) == (False, False)


def test_from_a_drain_there_is_no_way_back() -> None:
    ending = Ending()
    _, delay = ending.asked("asker", 7, within=30.0, now=100.0)
    assert delay == 30.0 + STOP_TIMEOUT
    ending.answered()

    assert (ending.refusing, ending.draining, ending.waited_for) == (True, True, False)
    assert ending.drains_since == 100.0
    ending.asked("asker", 8, within=5.0, now=110.0)
    assert ending.drains_since == 100.0


@pytest.mark.parametrize(
    ("within", "left"), [(0.0, STOP_TIMEOUT), (5.0, 5.0 + STOP_TIMEOUT), (100.0, 20.0 + STOP_TIMEOUT)]
)
def test_a_second_one_may_shorten_the_time_and_not_prolong_it(within: float, left: float) -> None:
    ending = Ending()
    first, _ = ending.asked("asker", 7, within=30.0, now=100.0)
    second, delay = ending.asked("other", 8, within=within, now=110.0)

    assert delay == left
    assert not ending.is_over(first), "its time is that of the second one now"
    assert ending.is_over(second)
    assert ending.answered() == [("asker", 7), ("other", 8)]


def test_one_after_the_answer_has_its_own_time() -> None:
    ending = Ending()
    ending.asked("asker", 7, within=0.0, now=100.0)
    ending.answered()

    assert ending.asked("asker", 8, within=0.0, now=500.0)[1] == STOP_TIMEOUT


@pytest.mark.parametrize(
    ("asked", "given"), [(30.0, 30.0), (0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, MAX_DRAIN), (1e12, MAX_DRAIN)]
)
def test_a_drain_has_a_sensible_length(asked: float, given: float) -> None:
    assert drain_time(asked) == given
