"""One conversation at a time: a burst, turns, cold keys, a tool loop, large bodies, a large event."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.asks import AROUND, Ask
from benchmarks.cases.base import Case
from benchmarks.meter import percentile
from benchmarks.results import Sample
from benchmarks.server.loop import stats

TURN = Ask()
"""Twenty events."""


class Burst(Case):
    name = "burst"
    title = "A burst of 2,000 events on a warm connection"

    def measure(self, number: int) -> Iterator[Sample]:
        ask = Ask(deltas=self.scale.burst - AROUND)
        _, record = self.peer.play("burst", [TURN, ask])
        yield Sample("", "event_rate", ask.events / record.seconds)
        self.peer.shut("burst")


class Turns(Case):
    name = "turns"
    title = "Turns of 20 events, one after another, on a warm connection"

    def measure(self, number: int) -> Iterator[Sample]:
        _, *records = self.peer.play("turns", [TURN] * (1 + self.scale.turns))
        first = [record.first_after * 1e3 for record in records]
        yield Sample("", "turn_rate", len(records) / sum(record.seconds for record in records))
        yield Sample("", "first_p50", percentile(first, 50))
        yield Sample("", "first_p99", percentile(first, 99))
        self.peer.shut("turns")


class Cold(Case):
    name = "cold"
    title = "The first turn of a cold key: connection included"

    def measure(self, number: int) -> Iterator[Sample]:
        keys = [f"cold-{number}-{i}" for i in range(self.scale.cold_keys)]
        records = [self.peer.play(key, [TURN])[0] for key in keys]
        yield Sample("", "turn", median(record.seconds for record in records) * 1e3)
        for key in keys:
            self.peer.shut(key)


class Loop(Case):
    name = "loop"
    title = "A tool loop of 40 turns, each with an output of 2 kB"

    def measure(self, number: int) -> Iterator[Sample]:
        length, output = self.scale.loop, self.scale.loop_output
        middle = [Ask(call=n + 1, output_of=n, load=output) for n in range(1, length - 1)]
        asks = [Ask(call=1), *middle, Ask(output_of=length - 1, load=output)]
        began = stats(self.url)
        records = self.peer.play("loop", asks[: length // 2])
        half = stats(self.url)
        records += self.peer.play("loop", asks[length // 2 :])
        ended = stats(self.url)
        yield Sample("", "whole", sum(record.seconds for record in records) * 1e3)
        yield Sample("", "wire", (ended["request_bytes"] - began["request_bytes"]) / 1e3)
        second = ended["request_bytes"] - half["request_bytes"]
        yield Sample("", "growth", second / (half["request_bytes"] - began["request_bytes"]))
        yield Sample("", "continued", 100 * (ended["continued"] - began["continued"]) / (length - 1))
        self.peer.shut("loop")


class Bodies(Case):
    name = "bodies"
    title = "Large conversations: the turn that brings so much new input, and small turns after it"

    def measure(self, number: int) -> Iterator[Sample]:
        for size in self.scale.bodies:
            _, brings, *after = self.peer.play("body", [TURN, Ask(load=size), *[TURN] * self.scale.body_turns])
            yield Sample(written(size), "new", brings.seconds * 1e3)
            yield Sample(written(size), "warm", median(record.seconds for record in after) * 1e3)
            self.peer.shut("body")


class BigEvent(Case):
    name = "event"
    title = "An event of 1 MB, and the four that repeat its text, as providers do"

    def measure(self, number: int) -> Iterator[Sample]:
        _, record = self.peer.play("event", [TURN, Ask(deltas=1, size=self.scale.event)])
        yield Sample("", "turn", record.seconds * 1e3)
        self.peer.shut("event")


def written(size: int) -> str:
    """Return a number of bytes for a person."""
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1_000} kB"
