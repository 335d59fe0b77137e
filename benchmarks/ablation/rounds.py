"""The run: round after round, change after change, without it and with it in turn, each in a process of its own.

What a machine does changes within a second. So both sides of a change stand side by side, and a round consists of many short
parts, which they do in turn; a round's value is the median of its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.ablation.cases import FEW, PROBES
from benchmarks.ablation.changes import NOISE, Change
from benchmarks.contest import BEGIN_BOUND, END_BOUND, Failed, Participant, Tick, rotated
from benchmarks.results import Results, Sample

WITH: Final = "with"
WITHOUT: Final = "without"
SIDES: Final = (WITHOUT, WITH)


@dataclass
class Measured:
    """What a run has measured.

    Attributes:
        values: By change, in place of a case, then case, in place of a variant, and metric; the peers are the two sides.
        profiles: Microseconds in a function itself, each time that what is profiled was done: by change, function and
            "self"; likewise. A function in which a round has not seen the process has no value of that round. Besides, by
            change and "": for how many microseconds one "look" stands, and what the "cpu" clock says of all.
    """

    values: Results = field(default_factory=Results)
    profiles: Results = field(default_factory=Results)


@dataclass
class Rounds:
    """What to run, and whom to tell.

    Attributes:
        amounts: One of `cases.AMOUNTS`.
        profiles: Whether there are profiles, too.
    """

    url: str
    changes: Sequence[Change]
    amounts: str
    profiles: bool
    tick: Tick

    def run(self, rounds: int, measured: Measured) -> None:
        """Run it and add to `measured`, also where it is interrupted."""
        for number in range(rounds):
            for change in self.changes:
                for case in change.measured:
                    if number >= (PROBES[case].rounds or rounds):
                        continue
                    # What comes second meets a warmer machine: each side does so in every other round.
                    sides = rotated(list(SIDES), number)
                    said = f"{change.name}, round {number + 1} of {rounds}: {case}"
                    try:
                        for group in [[side] for side in sides] if PROBES[case].apart else [sides]:
                            self._group(change, case, group, number, said, measured)
                    except Failed as error:
                        measured.values.notes.append(f"{said}: {error}")

    def _group(self, change: Change, case: str, sides: list[str], number: int, said: str, measured: Measured) -> None:
        """Run one round of a case, for both sides at once or for one of them."""
        probe = PROBES[case]
        with ExitStack() as stack:
            there = {side: stack.enter_context(self._participant(change, case, side)) for side in sides}

            def all_do(order: str, bound: float, **rest: Any) -> None:
                for side in sides:
                    there[side].post(do=order, **rest)
                for side in sides:
                    there[side].answer(bound, lambda: self.tick(said))

            def measure(side: str, stage: str, number: int) -> list[Sample]:
                there[side].post(do="run", stage=stage, number=number)
                return there[side].answer(probe.bound, lambda: self.tick(f"{said}, {side}"))[0]

            all_do("begin", BEGIN_BOUND, case=case)
            samples: dict[str, list[Sample]] = {side: [] for side in sides}
            for part in range(probe.parts):
                for side in rotated(sides, part):
                    samples[side] += measure(side, "measure", part)
            profiled = None if change.profiled is None or not self.profiles or number >= FEW else change.profiled
            for side in sides:
                for sample in middles(samples[side], case):
                    if sample.metric in change.measured[case]:
                        measured.values.add(change.name, side, number, sample)
                if profiled is not None and profiled[0] == case:
                    for sample in measure(side, profiled[1], number):
                        measured.profiles.add(change.name, side, number, sample)
            all_do("end", END_BOUND)

    def _participant(self, change: Change, case: str, side: str) -> AbstractContextManager[Participant]:
        off = change if side == WITHOUT else NOISE
        return Participant.running("benchmarks.ablation.worker", self.url, case, self.amounts, off.name)


def middles(samples: Iterable[Sample], case: str) -> Iterator[Sample]:
    """Yield the median of each metric, with the case as its variant."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        found.setdefault(sample.metric, []).append(sample.value)
    yield from (Sample(case, metric, median(values)) for metric, values in found.items())
