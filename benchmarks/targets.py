"""What `design.md` section 7 and issue 5 ask for, and whether it is reached. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.peers.registry import OURS, PLAIN, SDK
from benchmarks.results import METRICS, Place, Results, Spread


@dataclass(frozen=True)
class Target:
    """A limit for one thing that is measured of pixir_actors.

    Attributes:
        limit: The least allowed, or with `at_most` the most.
        peer: It is a ratio to this peer.
        base: It is a ratio to this variant, or with `difference` a difference.
    """

    place: Place
    limit: float
    at_most: bool = False
    peer: str | None = None
    base: str | None = None
    difference: bool = False

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        if self.peer is not None:
            return f"{sign} {self.limit:g}x {self.peer}"
        unit = METRICS[self.place[2]].unit
        if self.base is None:
            return f"{sign} {self.limit:g} {unit}"
        if self.difference:
            return f"{sign} {self.limit:g} {unit} more than {self.base}"
        return f"{sign} {self.limit:g}x {self.base}"

    def measured(self, results: Results) -> Spread | None:
        """Return what is held against the limit, None if it was not measured."""
        if self.peer is not None:
            return results.ratio(self.place, OURS, self.peer)
        if self.base is not None:
            return results.growth(self.place, self.base, OURS, difference=self.difference)
        return results.spread(self.place, OURS)

    def verdict(self, found: Spread) -> str:
        """Say whether the middle of what was measured is within the limit, and whether some rounds differ."""
        ends = [self._allows(found.least), self._allows(found.most)]
        if self._allows(found.middle):
            return "reached" if all(ends) else "reached, not in every round"
        return "not reached, but in some rounds" if any(ends) else "not reached"

    def _allows(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


TARGETS: Final = (
    Target(("burst", "", "event_rate"), 3, peer=PLAIN),
    Target(("burst", "", "event_rate"), 7, peer=SDK),
    Target(("turns", "", "turn_rate"), 1.2, peer=PLAIN),
    Target(("turns", "", "turn_rate"), 5, peer=SDK),
    Target(("turns", "", "first_p50"), 0.5, at_most=True, peer=SDK),
    Target(("turns", "", "first_p99"), 1, at_most=True, peer=SDK),
    Target(("loop", "", "growth"), 1.2, at_most=True),
    Target(("bodies", "1 MB", "new"), 3, at_most=True, base="1 kB", difference=True),
    Target(("bodies", "1 MB", "warm"), 3, at_most=True, base="1 kB", difference=True),
    Target(("streams", "50 streams", "event_rate"), 4750),  # kept up with: 95 % of what was asked for, its start included
    Target(("streams", "50 streams", "delay_p99"), 30, at_most=True),
    Target(("keys", "1,000 keys", "turn"), 1.5, at_most=True, base="1 key"),
    Target(("keys", "1,000 keys", "pss"), 5, at_most=True),
    Target(("idle", "1,000 keys", "idle_cpu"), 2, at_most=True),
    Target(("keys", "1,000 keys", "start"), 60, at_most=True),
    Target(("keys", "1,000 keys", "shut_down"), 10, at_most=True),
    Target(("keys", "1,000 keys", "left"), 0, at_most=True),
)


def targets_of(place: Place) -> list[Target]:
    """Return the targets for one thing."""
    return [target for target in TARGETS if target.place == place]
