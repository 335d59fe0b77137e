"""Many conversations: streams at once, and warm keys."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from statistics import median
from typing import ClassVar

from benchmarks.asks import Ask
from benchmarks.cases.base import Case
from benchmarks.cases.flow import TURN
from benchmarks.meter import Cpu, available_memory, below, percentile, pss_of
from benchmarks.peers.base import Peer, Record
from benchmarks.results import Sample
from benchmarks.scale import Scale
from benchmarks.server.loop import stats

WIDTH = 8
"""Keys that are opened at once."""
SPARED = 0.9
"""Share of the free memory that keys may take."""


class Streams(Case):
    name = "streams"
    title = "Streams at once, 100 events/s each"
    rounds: ClassVar[int | None] = 5

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        super().__init__(peer, url, scale)
        self._open = 0

    def measure(self, number: int) -> Iterator[Sample]:
        for count in self.scale.streams:
            keys = [f"stream-{i}" for i in range(count)]
            self.peer.together(keys[self._open :], TURN, WIDTH)
            self._open = max(self._open, count)
            yield from self._run(keys)

    def _run(self, keys: list[str]) -> Iterator[Sample]:
        ask = Ask(deltas=max(2, round(self.scale.stream_rate * self.scale.stream_seconds)), rate=self.scale.stream_rate)
        before = stats(self.url)
        cpu, began = Cpu([os.getpid(), *below(os.getpid())]), time.monotonic()
        records = self.peer.together(keys, ask, len(keys))
        percent, seconds = cpu.percent(), time.monotonic() - began
        after = stats(self.url)
        variant = counted(len(keys), "stream")
        delays = [delay * 1e3 for record in records for delay in record.delays]
        yield Sample(variant, "event_rate", sum(map(rate, records)))
        yield Sample(variant, "delay_p50", percentile(delays, 50))
        yield Sample(variant, "delay_p99", percentile(delays, 99))
        yield Sample(variant, "cpu", percent)
        yield Sample(variant, "server_late", after["late_p99_ms"])
        yield Sample(variant, "server_cpu", 100 * (after["cpu_s"] - before["cpu_s"]) / seconds)


class Keys(Case):
    """One set-up; what repeats are the passes over its keys."""

    name = "keys"
    title = "Warm keys"
    rounds: ClassVar[int | None] = 1
    bound: ClassVar[float] = 150.0
    stages: ClassVar[tuple[str, ...]] = ("measure", "idle", "shut")
    at_once: ClassVar[frozenset[str]] = frozenset({"idle"})

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        super().__init__(peer, url, scale)
        self._without = pss_of(self._processes())
        self._keys: list[str] = []
        self._started = 0.0

    @property
    def _variant(self) -> str:
        return counted(len(self._keys), "key")

    @staticmethod
    def _processes() -> list[int]:
        return [os.getpid(), *below(os.getpid())]

    def measure(self, number: int) -> Iterator[Sample]:
        per_key = 0.0
        for count in self.scale.keys:
            if (count - len(self._keys)) * per_key * 1e6 > available_memory() * SPARED:
                self.notes.append(f"{counted(count, 'key')} would need more memory than there is")
                break
            self._grow(count)
            yield Sample(self._variant, "start", self._started)
            for index in range(self.scale.key_passes):
                yield from self._pass(index)
            per_key = (pss_of(self._processes()) - self._without) / count
            yield Sample(self._variant, "pss", per_key)

    def _grow(self, count: int) -> None:
        new = [f"key-{i}" for i in range(len(self._keys), count)]
        began = time.monotonic()
        self.peer.together(new, TURN, WIDTH)
        self._started += time.monotonic() - began
        self._keys += new

    def _pass(self, index: int) -> Iterator[Sample]:
        chosen = random.Random(index).choices(self._keys, k=self.scale.key_turns)
        cpu = Cpu(self._processes())
        records = [self.peer.play(key, [TURN])[0] for key in chosen]
        spent = cpu.seconds()
        yield Sample(self._variant, "turn", median(record.seconds for record in records) * 1e3, index)
        yield Sample(self._variant, "cpu_turn", spent / len(records) * 1e3, index)

    def idle(self, number: int) -> Iterator[Sample]:
        """Measure what the keys cost while nobody uses them."""
        cpu = Cpu(self._processes())
        self.peer.idle(self.scale.idle)
        yield Sample(self._variant, "idle_cpu", cpu.percent())

    def shut(self, number: int) -> Iterator[Sample]:
        """Measure how they end."""
        began = time.monotonic()
        self.peer.close()
        while (left := below(os.getpid())) and time.monotonic() - began < self.bound / 3:
            time.sleep(0.02)
        yield Sample(self._variant, "shut_down", time.monotonic() - began)
        yield Sample(self._variant, "left", len(left))


def counted(count: int, what: str) -> str:
    """Return "1 key", "1,000 keys"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def rate(record: Record) -> float:
    """Return the deltas per second of one stream, from its request to its end."""
    return record.ask.deltas / record.seconds
