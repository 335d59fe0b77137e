"""The machine at random: at least 100,000 transitions under its invariants, and every one of its cells walked.

The invariants stand in `world.py` (`World._check`, `_perform`, `_told`, `_written`, `check_liveness`). Two walks use it: a
long one by seed, which is cheap, and one by hypothesis, which finds the shortest way to what is broken. Covers rules 1 to 7
of lifecycle's docstring, X20, P6 and, through the oracle, C44 to C46: what the model sees is what the caller meant.

To play a seed again: `World(Random(seed))`, then `step()` as often as printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from pixir_actors.core import text
from pixir_actors.core.lifecycle import RULES
from tests.core.world import HAPPENINGS, World

TRANSITIONS = 100_000
WRITTEN = {
    "delta": 800,
    "cut": 500,
    "empty delta": 30,
    "warm-up": 100,
    "over http": 300,
    "fallback": 100,
    "fallback after an attempt": 5,
    "dead socket replaced": 10,
    "retried": 10,
    "after previous_response_not_found": 50,
    "after websocket_connection_limit_reached": 50,
    "after unauthorized": 20,
}
"""How often a walk has to have done what."""
STEPS = 400
"""Steps of one world; a connection that has stopped is soon left for another."""


def live(seed: int) -> World:
    """Live one life, and return the world at its end."""
    world, after_the_end, step = World(Random(seed)), 0, 0
    try:
        while step < STEPS and after_the_end < 10:
            world.step()
            step += 1
            after_the_end += world.stopped
    except Exception as error:
        error.add_note(f"seed {seed}, step {step + 1}: {world.conn}")
        raise
    return world


@pytest.mark.timeout(300)
def test_a_hundred_thousand_random_transitions_keep_every_invariant_and_reach_every_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text, "_LARGE", 1)  # every delta goes out as it stands in its body, where that is known
    missing = {(state, kind, target) for (state, kind), rule in RULES.items() for target in rule.targets}
    sends: Counter[str] = Counter()
    transitions = seed = 0
    # The rarest cells are reached a few times in so many; a walk that misses one goes on for a while.
    while transitions < TRANSITIONS or (missing and transitions < 3 * TRANSITIONS):
        world = live(seed)
        missing -= set(world.seen)
        sends += world.sends
        transitions += world.count
        seed += 1

    print(f"{transitions} transitions in {seed} lives; written: {dict(sends)}")
    assert sorted(map(str, missing)) == []
    assert {name for name, least in WRITTEN.items() if sends[name] < least} == set(), sends


class Lifecycle(RuleBasedStateMachine):
    """The same world, its happenings drawn by hypothesis: a failing example is as short as can be."""

    transitions = 0

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @rule(happening=st.sampled_from(list(HAPPENINGS)), seed=st.integers(0, 2**16), pause=st.sampled_from([0.0, 0.3, 2.0]))
    def happen(self, happening: Callable[[World], Any], seed: int, pause: float) -> None:
        if self.world is None:
            self.world = World(Random(seed))
        self.world.rng.seed(seed)
        self.world.now += pause
        happening(self.world)

    def teardown(self) -> None:
        if self.world is not None:
            self.world.check_liveness()
            Lifecycle.transitions += self.world.count


@pytest.mark.timeout(300)
def test_what_hypothesis_can_think_of_keeps_every_invariant() -> None:
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=150,
            stateful_step_count=50,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{Lifecycle.transitions} transitions")
