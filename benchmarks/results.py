"""What was measured: values by case, variant, metric, peer and round; spreads and ratios of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple


class Sample(NamedTuple):
    """One value of one round."""

    variant: str
    metric: str
    value: float


@dataclass(frozen=True)
class Metric:
    """What a value means.

    Attributes:
        unit: As it stands in a table.
        more: Whether more is better.
        compare: Whether a ratio between two peers says anything.
    """

    title: str
    unit: str
    more: bool = False
    compare: bool = True


METRICS: Final = {
    "event_rate": Metric("events", "events/s", more=True),
    "turn_rate": Metric("turns", "turns/s", more=True),
    "first_p50": Metric("first event, p50", "ms"),
    "first_p99": Metric("first event, p99", "ms"),
    "turn": Metric("a turn", "ms"),
    "turn_again": Metric("a turn of the key that was used last", "ms"),
    "new": Metric("a turn that brings it", "ms"),
    "warm": Metric("a turn after it", "ms"),
    "whole": Metric("the whole loop", "ms"),
    "wire": Metric("requests on the wire", "kB"),
    "growth": Metric("its second half / its first", "times the bytes", compare=False),
    "continued": Metric("turns that went out as a delta", "%", more=True, compare=False),
    "delay_p50": Metric("delay, p50", "ms"),
    "delay_p99": Metric("delay, p99", "ms"),
    "cpu": Metric("CPU of client and actors", "% of a core"),
    "server_late": Metric("the server's own lateness, p99", "ms", compare=False),
    "server_cpu": Metric("the server's CPU", "% of a core", compare=False),
    "cpu_turn": Metric("CPU of a turn", "ms"),
    "pss": Metric("memory per key (PSS)", "MB", compare=False),
    "start": Metric("to start them", "s"),
    "idle_first": Metric("CPU of the first 26 s", "% of a core", compare=False),
    "idle_cpu": Metric("CPU", "% of a core", compare=False),
    "shut_down": Metric("to shut them down", "s"),
    "left": Metric("processes left then", "processes", compare=False),
}

Place = tuple[str, str, str]
"""Case, variant, metric."""


class Spread(NamedTuple):
    """The middle of some values, and their range."""

    middle: float
    least: float
    most: float
    size: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread, None of nothing."""
        listed = list(values)
        return cls(median(listed), min(listed), max(listed), len(listed)) if listed else None


@dataclass
class Results:
    """All that a run has measured.

    Attributes:
        notes: What a reader has to know: who was left out, what went wrong.
        facts: About the run: command, machine, versions, seconds.
    """

    values: dict[Place, dict[str, dict[int, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, case: str, peer: str, round_number: int, sample: Sample) -> None:
        place = (case, sample.variant, sample.metric)
        self.values.setdefault(place, {}).setdefault(peer, {})[round_number] = sample.value

    def places(self, case: str) -> list[Place]:
        """Return what was measured in a case, in the order in which it first was."""
        return [place for place in self.values if place[0] == case]

    def spread(self, place: Place, peer: str) -> Spread | None:
        return Spread.of(self.values.get(place, {}).get(peer, {}).values())

    def ratio(self, place: Place, peer: str, other: str) -> Spread | None:
        """Return one peer's values over another's, of the same round each."""
        measured = self.values.get(place, {})
        return _paired(measured.get(peer, {}), measured.get(other, {}), _over)

    def growth(self, place: Place, base: str, peer: str, *, difference: bool = False) -> Spread | None:
        """Return a peer's values over, or less, its own in the variant `base`."""
        theirs = self.values.get((place[0], base, place[2]), {}).get(peer, {})
        return _paired(self.values.get(place, {}).get(peer, {}), theirs, _less if difference else _over)

    def to_json(self) -> dict[str, Any]:
        listed = [
            dict(zip(("case", "variant", "metric"), place, strict=True))
            | {"peer": peer, "unit": METRICS[place[2]].unit, "values": {str(at): value for at, value in found.items()}}
            for place, peers in self.values.items()
            for peer, found in peers.items()
        ]
        return {"facts": self.facts, "notes": self.notes, "results": listed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Results:
        results = cls(notes=list(data["notes"]), facts=dict(data["facts"]))
        for entry in data["results"]:
            place = (entry["case"], entry["variant"], entry["metric"])
            found = {int(at): float(value) for at, value in entry["values"].items()}
            results.values.setdefault(place, {})[entry["peer"]] = found
        return results


def _over(one: float, other: float) -> float | None:
    return one / other if other else None


def _less(one: float, other: float) -> float | None:
    return one - other


def _paired(
    these: Mapping[int, float], those: Mapping[int, float], how: Callable[[float, float], float | None]
) -> Spread | None:
    compared = (how(value, those[at]) for at, value in these.items() if at in those)
    return Spread.of(value for value in compared if value is not None)
