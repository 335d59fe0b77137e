"""The number that somebody below the actors counts, and they tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixir_actors.actors import refusals


@pytest.fixture(autouse=True)
def nobody_counts_afterwards() -> Iterator[None]:
    yield
    refusals.counted_by(None)


def test_where_nobody_counts_none_were_refused() -> None:
    assert refusals.total() == 0


def test_it_is_asked_anew_each_time() -> None:
    numbers = iter([3, 5])
    refusals.counted_by(lambda: next(numbers))

    assert [refusals.total(), refusals.total()] == [3, 5]
