"""Many conversations: streams at once, and warm keys."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from itertools import cycle, islice
from statistics import median
from typing import ClassVar

from benchmarks.asks import Ask
from benchmarks.cases.base import Case
from benchmarks.cases.flow import TURN
from benchmarks.meter import Cpu, available_memory, below, percentile, pss_of
from benchmarks.peers.base import Peer, Record
from benchmarks.peers.registry import FLOOR, OURS
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
        cpu, began = Cpu(processes()), time.monotonic()
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
    """Each round sets everything up. Ours is alone, and so are bare processes: pings of others' keys would drive
    theirs out of the caches. What keys cost that nobody uses is another case.

    Whatever the count, each turn that is measured is the second one of its conversation.
    """

    name = "keys"
    title = "Warm keys"
    rounds: ClassVar[int | None] = 5
    bound: ClassVar[float] = 150.0
    stages: ClassVar[tuple[str, ...]] = ("measure", "shut")
    anew: ClassVar[bool] = True
    alone: ClassVar[frozenset[str]] = frozenset({OURS, FLOOR})

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        super().__init__(peer, url, scale)
        self._without = pss_of(processes())
        self._keys: list[str] = []
        self._started = 0.0

    @property
    def _variant(self) -> str:
        return counted(len(self._keys), "key")

    def measure(self, number: int) -> Iterator[Sample]:
        per_key = 0.0
        for count in self.scale.keys:
            if not fit(count - len(self._keys), per_key):
                self.notes.append(f"{counted(count, 'key')} would need more memory than there is")
                break
            new = self._grow(count)
            yield Sample(self._variant, "start", self._started)
            chosen = random.Random(number).sample(new, min(len(new), self.scale.key_turns))
            if count > 1:
                yield from self._turns(chosen)
            yield from self._turns_again(chosen)
            per_key = (pss_of(processes()) - self._without) / count
            yield Sample(self._variant, "pss", per_key)

    def _grow(self, count: int) -> list[str]:
        """Start keys until there are so many; return the new ones, which have had one turn each."""
        new = [f"key-{i}" for i in range(len(self._keys), count)]
        began = time.monotonic()
        self.peer.together(new, TURN, WIDTH)
        self._started += time.monotonic() - began
        self._keys += new
        return new

    def _turns(self, keys: list[str]) -> Iterator[Sample]:
        """Measure a turn of each of these keys, which nobody has used since their first turn."""
        cpu = Cpu(processes())
        records = [self.peer.play(key, [TURN])[0] for key in keys]
        yield from self._turn(records, cpu.seconds())

    def _turns_again(self, keys: list[str]) -> Iterator[Sample]:
        """Measure turns of keys that have been used just before. One key alone always has: these are its turns."""
        single = len(self._keys) == 1
        clocks = processes() if single else []  # to read a thousand clocks before a turn would be in its way
        records, spent = [], 0.0
        for key in islice(cycle(keys), self.scale.key_turns):
            self.peer.start_over(key)
            self.peer.play(key, [TURN])
            cpu = Cpu(clocks)
            records += self.peer.play(key, [TURN])
            spent += cpu.seconds()
        if single:
            yield from self._turn(records, spent)
        else:
            yield Sample(self._variant, "turn_again", milliseconds(records))

    def _turn(self, records: list[Record], spent: float) -> Iterator[Sample]:
        yield Sample(self._variant, "turn", milliseconds(records))
        yield Sample(self._variant, "cpu_turn", spent / len(records) * 1e3)

    def shut(self, number: int) -> Iterator[Sample]:
        """Measure how they end."""
        began = time.monotonic()
        self.peer.close()
        while (left := below(os.getpid())) and time.monotonic() - began < self.bound / 3:
            time.sleep(0.02)
        yield Sample(self._variant, "shut_down", time.monotonic() - began)
        yield Sample(self._variant, "left", len(left))


class Idle(Case):
    """What keys cost that nobody has used for a while, round after round of the same ones; everybody's at the same time."""

    name = "idle"
    title = "Keys that nobody uses"
    rounds: ClassVar[int | None] = 5
    bound: ClassVar[float] = 150.0
    stages: ClassVar[tuple[str, ...]] = ("open", "settle", "measure")
    at_once: ClassVar[frozenset[str]] = frozenset({"settle", "measure"})
    FEW: ClassVar[int] = 20
    """Keys by which it is found out whether there is memory for all."""

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        super().__init__(peer, url, scale)
        self._count = 0

    def open(self, number: int) -> Iterator[Sample]:
        """Open the keys, before the first round, and measure what they cost as soon as nobody uses them."""
        if number > 0:
            return
        count = self.scale.keys[-1]
        keys, few = [f"key-{i}" for i in range(count)], min(self.FEW, count)
        without = pss_of(processes())
        self.peer.together(keys[:few], TURN, WIDTH)
        if not fit(count - few, (pss_of(processes()) - without) / few):
            self.notes.append(f"{counted(count, 'key')} would need more memory than there is")
            return
        self.peer.together(keys[few:], TURN, WIDTH)
        self._count = count
        cpu = Cpu(processes())
        self.peer.idle(self.scale.idle)
        yield Sample(counted(count, "key"), "idle_first", cpu.percent())

    def settle(self, number: int) -> Iterator[Sample]:
        """Let time pass until what follows from their turns is over."""
        if number == 0:
            self.peer.idle(self.scale.settle)
        yield from ()

    def measure(self, number: int) -> Iterator[Sample]:
        cpu = Cpu(processes())
        self.peer.idle(self.scale.idle)
        if self._count:
            yield Sample(counted(self._count, "key"), "idle_cpu", cpu.percent())


def processes() -> list[int]:
    """Return the pids of a peer's processes: this one, and all below."""
    return [os.getpid(), *below(os.getpid())]


def fit(count: int, per_key: float) -> bool:
    """Say whether there is memory for so many keys more, of so many MB each (what was measured may be below nothing)."""
    return count * max(per_key, 0.0) * 1e6 <= available_memory() * SPARED


def counted(count: int, what: str) -> str:
    """Return "1 key", "1,000 keys"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def milliseconds(records: list[Record]) -> float:
    """Return the median duration of turns."""
    return median(record.seconds for record in records) * 1e3


def rate(record: Record) -> float:
    """Return the deltas per second of one stream, from its request to its end."""
    return record.ask.deltas / record.seconds
