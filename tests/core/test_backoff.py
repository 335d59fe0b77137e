"""The degraded window.

Covers C11 (its end), C48 (the window; exponential by design section 6), C55 and X2 (None opens none), P5.
"""

from __future__ import annotations

import pytest

from pixir_actors.core.backoff import CLOSED, Backoff


def windows(failures: int, *, first: float | None = 5.0, most: float = 60.0, jitter: float = 0.0) -> list[float]:
    """Return the length of each window, the next failure coming right when the last window ends."""
    backoff, now, lengths = CLOSED, -50.0, []
    for _ in range(failures):
        backoff = backoff.fail(now=now, jitter=jitter, first=first, most=most)
        lengths.append(backoff.remaining(now))
        now += lengths[-1]
    return lengths


def test_the_window_doubles_up_to_the_ceiling() -> None:
    assert windows(6) == [5, 10, 20, 40, 60, 60]


def test_jitter_shortens_the_window_by_up_to_a_quarter() -> None:
    assert windows(2, jitter=0.5) == [4.375, 8.75]
    assert 3.75 < windows(1, jitter=0.999)[0] < 5


def test_a_first_window_above_the_ceiling_is_kept_and_does_not_grow() -> None:
    assert windows(3, first=90) == [90, 90, 90]


def test_no_first_window_opens_none_however_often_it_fails() -> None:
    assert windows(3, first=None) == [0, 0, 0]


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(failures=5000).fail(now=0.0, jitter=0.0, first=5.0, most=60.0)

    assert backoff == Backoff(5001, 60.0)


@pytest.mark.parametrize(("now", "remaining"), [(9.0, 1.0), (10.0, 0.0), (11.0, 0.0)])
def test_what_remains_is_never_negative_and_none_at_the_very_end(now: float, remaining: float) -> None:
    assert Backoff(1, 10.0).remaining(now) == remaining


def test_a_window_that_ends_at_zero_or_below_is_a_window() -> None:
    assert Backoff(1, 0.0).remaining(-2.0) == 2.0  # P5: 0 is no sentinel
    assert CLOSED.remaining(-2.0) == 0.0
