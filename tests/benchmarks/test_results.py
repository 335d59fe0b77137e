from __future__ import annotations

import orjson
import pytest

from benchmarks.meter import percentile
from benchmarks.peers.registry import OURS, PLAIN
from benchmarks.results import METRICS, Results, Sample, Spread
from benchmarks.targets import TARGETS, Target

PLACE = ("turns", "", "turn_rate")


def measured(**peers: list[float]) -> Results:
    results = Results()
    for peer, values in peers.items():
        for number, value in enumerate(values):
            results.add("turns", peer, number, Sample("", "turn_rate", value))
    return results


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([5, 1, 2]) == (2, 1, 5, 3)
    assert Spread.of([]) is None


def test_ratios_are_those_within_a_round_not_of_the_medians() -> None:
    results = measured(a=[10, 40, 60], b=[1, 2, 30])

    assert results.ratio(PLACE, "a", "b") == (10, 2, 20, 3)


def test_a_round_that_one_of_the_two_has_missed_is_left_out() -> None:
    results = measured(a=[10, 40, 60])
    results.add("turns", "b", 1, Sample("", "turn_rate", 4))

    assert results.ratio(PLACE, "a", "b") == (10, 10, 10, 1)
    assert results.ratio(PLACE, "a", "c") is None


def test_nothing_is_divided_by_zero() -> None:
    assert measured(a=[1], b=[0]).ratio(PLACE, "a", "b") is None


def test_a_variant_is_compared_with_another_one_of_the_same_peer() -> None:
    results = Results()
    for size, value in (("1 kB", 2.0), ("1 MB", 7.0)):
        results.add("bodies", "a", 0, Sample(size, "new", value))

    place = ("bodies", "1 MB", "new")
    assert results.growth(place, "1 kB", "a") == (3.5, 3.5, 3.5, 1)
    assert results.growth(place, "1 kB", "a", difference=True) == (5, 5, 5, 1)
    assert results.growth(place, "10 kB", "a") is None


def test_results_come_back_from_json_as_they_were() -> None:
    results = measured(a=[1.5, 2], b=[3])
    results.notes.append("a note")
    results.facts["cores"] = "2"

    again = Results.from_json(orjson.loads(orjson.dumps(results.to_json())))

    assert again == results


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1), (0, 1)])
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(percent: int, expected: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_a_percentile_of_few_values_is_one_of_them() -> None:
    assert percentile([3, 1], 50) == 1
    assert percentile([3, 1], 99) == 3
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_target_is_held_against_the_middle_of_what_was_measured() -> None:
    results = measured(**{OURS: [10, 30, 20], PLAIN: [10, 10, 10]})
    found = Target(PLACE, 2, peer=PLAIN).measured(results)

    assert found == (2, 1, 3, 3)
    assert Target(PLACE, 25).measured(results) == (20, 10, 30, 3)


@pytest.mark.parametrize(
    ("limit", "at_least", "at_most"),
    [
        (1, "reached", "not reached, but in some rounds"),
        (2, "reached, not in every round", "reached, not in every round"),
        (3, "not reached, but in some rounds", "reached"),
        (0.9, "reached", "not reached"),
        (3.1, "not reached", "reached"),
    ],
)
def test_it_is_said_where_rounds_differ_about_a_target(limit: float, at_least: str, at_most: str) -> None:
    found = Spread(middle=2, least=1, most=3, size=5)

    assert Target(PLACE, limit, peer=PLAIN).verdict(found) == at_least
    assert Target(PLACE, limit, at_most=True, peer=PLAIN).verdict(found) == at_most


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target(PLACE, 3, peer=PLAIN), "≥ 3x websocket-client"),
        (Target(("keys", "1,000 keys", "turn"), 1.5, at_most=True, base="1 key"), "≤ 1.5x 1 key"),
        (Target(("bodies", "1 MB", "new"), 3, at_most=True, base="1 kB", difference=True), "≤ 3 ms more than 1 kB"),
        (Target(("keys", "1,000 keys", "pss"), 5, at_most=True), "≤ 5 MB"),
    ],
)
def test_a_target_says_what_it_asks_for(target: Target, text: str) -> None:
    assert str(target) == text


def test_every_target_is_of_a_metric_that_there_is() -> None:
    assert {target.place[2] for target in TARGETS} <= set(METRICS)
