"""The soak in short, and that it sees what grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pixir_actors import Client
from pixir_actors.simulator import Simulator, TurnContext
from tests.long import soak
from tests.long.figures import Cost, cost
from tests.long.soak import Figures, Plan, Soak

REST = Figures(
    turns=0,
    client=Cost(1, 40_000, 41_000, 120, 11),
    supervisor=Cost(1, 18_000, 7_000, 117, 2),
    guardian=Cost(1, 17_000, 7_000, 8, 2),
    others=Cost(2, 35_000, 12_000, 28, 4),
    connections=Cost(50, 900_000, 450_000, 3_650, 100),
    sockets=50,
    wakeups=200,
    most_wakeups=6,
    supervisor_wakeups=1,
)


@pytest.mark.slow
def test_hundreds_of_turns_with_faults_leave_everything_as_it_was() -> None:
    count = soak.soak(turns=600, keys=8, seed=20_260_703, seconds=100)

    assert not count.violations, "\n".join(count.violations)
    assert count.turns == 600
    assert count.faults.total() > 30
    assert count.deltas > 300


def run(turns: int, change: Callable[[Figures, int], Figures] = lambda figures, turns: figures) -> list[str]:
    """Return what a run of so many turns is found to have grown by, whose figures change so."""
    legs = [turns * leg // soak.LEGS for leg in range(1, soak.LEGS + 1)]
    return soak.grown([change(replace(REST, turns=done), done) for done in legs])


def with_more(part: str, **more: int) -> Callable[[Figures, int], Figures]:
    """Change a part of the figures: by so much per 1,000 turns."""

    def change(figures: Figures, turns: int) -> Figures:
        before = getattr(figures, part)
        grown = {name: getattr(before, name) + amount * turns // 1000 for name, amount in more.items()}
        return replace(figures, **{part: replace(before, **grown)})

    return change


def test_what_stays_as_it_is_has_not_grown() -> None:
    assert run(100_000) == []
    assert run(600) == []
    assert run(100_000, with_more("client", anonymous=20)) == [], "an allocator is not exact"


@pytest.mark.parametrize(
    ("part", "more"),
    [
        ("client", {"anonymous": 100}),
        ("supervisor", {"anonymous": 100}),
        ("guardian", {"anonymous": 100}),
        ("connections", {"anonymous": 200}),
        ("connections", {"descriptors": 1}),
        ("client", {"descriptors": 1}),
        ("client", {"threads": 1}),
        ("connections", {"processes": 1}),
    ],
    ids=str,
)
def test_a_leak_of_a_hundred_bytes_in_a_turn_is_found_and_one_of_anything_else(part: str, more: dict[str, int]) -> None:
    [found] = run(100_000, with_more(part, **more))
    assert part in found


def test_timers_that_pile_up_are_found() -> None:
    [found] = run(100_000, lambda figures, turns: replace(figures, most_wakeups=turns // 1000))
    assert "timers" in found


def test_the_judge_sees_a_wrong_history_a_second_run_and_a_run_after_the_end() -> None:
    said = [{"role": "user", "content": "hello"}]
    payload = {"model": "m", "metadata": {"turn": "1"}}
    with Simulator() as sim, Client.local() as client:
        judge = Soak(client, sim, turns=1, keys=1, seed=1, seconds=1)
        plan = judge._plans["1"] = Plan(said, soak.Reply.text("hi"), "hi")

        def runs(seen: Any) -> list[str]:
            judge.count.violations.clear()
            judge.reply(TurnContext(payload=payload, seen=seen, input=seen, connection=0, request_index=0))
            return judge.count.violations

        assert runs(said) == []
        assert "ran 2 times" in runs(said)[0]
        plan.ran = 0
        assert "extra" in runs([*said, *said])[0]
        del judge._plans["1"]
        judge._verdicts["1"] = soak.Delivery.AMBIGUOUS
        assert runs(said) == []
        judge._verdicts["1"] = soak.Delivery.NOT_SENT
        assert "not_sent" in runs(said)[0]


def test_what_has_ended_costs_nothing() -> None:
    assert cost([2**22 + 1]) == Cost()
