"""What is measured of our own program, with a change and without it. All of it is better when it is less.

Each case stands in a process of its own with an actor system of its own, and runs once. A stage that is named as a process
profiles that one, while what the case is about is done again and again.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.ablation.sampling import sampled
from benchmarks.asks import AROUND, Ask
from benchmarks.cases.base import Case
from benchmarks.cases.flow import TURN
from benchmarks.cases.many import WIDTH, milliseconds, processes
from benchmarks.meter import Cpu, below, pss_of, switches_of
from benchmarks.peers.base import Peer
from benchmarks.peers.ours import SETTINGS
from benchmarks.results import Metric, Sample
from benchmarks.scale import Scale
from benchmarks.server.loop import stats
from pixir_actors import Settings

METRICS: Final = {
    "turn": Metric("a turn", "ms"),
    "burst": Metric("a burst of 2,000 events", "ms"),
    "cpu_connection": Metric("CPU of its connection", "ms"),
    "cpu_client": Metric("CPU of its client", "ms"),
    "cpu_all": Metric("CPU of all processes", "ms"),
    "new": Metric("a turn that brings 1 MB", "ms"),
    "more": Metric("what that takes more than 1 kB", "ms"),
    "behind": Metric("a turn behind 1 MB", "ms"),
    "pss": Metric("memory per key (PSS)", "MB"),
    "start": Metric("to start a key", "ms"),
    "cpu_ping": Metric("CPU of a ping", "ms"),
    "wakes_ping": Metric("wakeups of a ping", "times"),
}
SETTLE: Final = 20
"""Turns of a new connection that are not measured."""
LAP: Final = 50
"""Turns of a conversation that is profiled."""
INTERVAL: Final = 0.02
"""Seconds between two pings."""
PONG_TIMEOUT: Final = 0.3
FEW: Final = 3
"""Rounds of what hardly differs from one to the next, or takes long."""
APART: Final = 1.1
"""Seconds between two turns of a key that is profiled among others: a report by message comes once a second at the most."""


@dataclass(frozen=True)
class Amounts(Scale):
    """How much of each case is run.

    Attributes:
        settling: Seconds that come before a profile, twice.
        sampling: Seconds of a profile.
    """

    bursts: int = 2
    load: int = 1_000_000
    memory_keys: int = 60
    few_keys: int = 200
    many_keys: int = 350
    idle: float = 0.5
    settling: float = 0.5
    sampling: float = 2.5


AMOUNTS: Final = {
    "full": Amounts(),
    "quick": Amounts(turns=50, bursts=1, memory_keys=40, few_keys=60, many_keys=320, key_turns=50, sampling=2.0),
    "tiny": Amounts(
        burst=40, turns=3, bursts=1, body_turns=1, load=100_000, memory_keys=2, few_keys=2, many_keys=3, key_turns=2,
        idle=0.1, settling=0.05, sampling=0.2,
    ),
}  # fmt: skip


class Probe(Case):
    """A case of our own, with the settings of its program."""

    settings: ClassVar[Settings] = SETTINGS
    parts: ClassVar[int] = 1
    """How often a round measures it; by turns with the other side."""
    apart: ClassVar[bool] = False
    """Whether the other side is there only before or afterwards."""
    rate: ClassVar[int] = 200
    """Looks per second of its profiles."""
    bound: ClassVar[float] = 120.0
    scale: Amounts

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        if not isinstance(scale, Amounts):
            raise TypeError(f"{type(self).__name__} takes Amounts")
        super().__init__(peer, url, scale)
        self._connections: dict[str, int] = {}

    @abstractmethod
    def lap(self) -> int:
        """Do what is profiled; return how often."""

    def settle(self, seconds: float) -> int:
        """Come to where what is profiled can be done; return the pid of a connection that does it."""
        pid = self.opened(self.name)
        self.laps(seconds)
        return pid

    def opened(self, key: str, *, settle: int = 0) -> int:
        """Return the pid of a key's connection: it is opened, with a turn and `settle` more, or starts over."""
        if key in self._connections:
            self.peer.start_over(key)
            self.peer.play(key, [TURN])
        else:
            before = set(below(os.getpid()))
            self.peer.play(key, [TURN] * (1 + settle))
            # An earlier one may be on its way out; a new one is this.
            [self._connections[key]] = set(below(os.getpid())) - before
        return self._connections[key]

    def shut(self, key: str) -> None:
        """End a key's connection."""
        del self._connections[key]
        self.peer.shut(key)

    def laps(self, seconds: float) -> int:
        """Do what is profiled for so many seconds; return how often it was done."""
        until, count = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            count += self.lap()
        return count

    # Stages

    def connection(self, number: int) -> Iterator[Sample]:
        """Profile the connection."""
        yield from self._profile(self.settle(self.scale.settling))

    def client(self, number: int) -> Iterator[Sample]:
        """Profile the client's process: this one."""
        self.settle(self.scale.settling)
        yield from self._profile(os.getpid())

    def supervisor(self, number: int) -> Iterator[Sample]:
        """Profile the supervisor."""
        self.settle(self.scale.settling)
        yield from self._profile(next(pid for pid in below(os.getpid()) if named(pid) == "pixir-superv"))

    def _profile(self, pid: int) -> Iterator[Sample]:
        cpu = Cpu([pid])
        count = self.laps(self.scale.settling)
        yield Sample("", "cpu", cpu.seconds() / count * 1e6)
        looks, each = sampled(pid, self.rate, partial(self.laps, self.scale.sampling))
        yield Sample("", "look", each * 1e6)
        for function, count in looks.items():
            yield Sample(function, "self", count * each * 1e6)


def named(pid: int) -> str:
    """Return the name that a process has given itself."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


class Warm(Probe):
    name = "warm"
    title = "Turns of 20 events on a warm connection, in a conversation of 100"
    parts = 8

    def measure(self, number: int) -> Iterator[Sample]:
        connection = self.opened("warm", settle=SETTLE)
        cpu, own = Cpu([connection]), Cpu([os.getpid()])
        records = self.peer.play("warm", [TURN] * self.scale.turns)
        yield Sample("", "cpu_connection", cpu.seconds() / len(records) * 1e3)
        yield Sample("", "cpu_client", own.seconds() / len(records) * 1e3)
        yield Sample("", "turn", milliseconds(records))
        burst = Ask(deltas=self.scale.burst - AROUND)
        yield Sample("", "burst", milliseconds(self.peer.play("warm", [burst] * self.scale.bursts)))

    def lap(self) -> int:
        self.peer.start_over("warm")
        return len(self.peer.play("warm", [TURN] * LAP))


class Body(Probe):
    """Each turn that brings much is the second one of its connection: it meets memory that nobody has touched.

    Where it is profiled, it is the same connection again and again, whose memory is there.
    """

    name = "body"
    title = "A turn that brings 1 MB of new input, and small turns behind it"
    parts = 12

    def measure(self, number: int) -> Iterator[Sample]:
        connection = self.opened("body")
        small = self.peer.play("body", [Ask(load=1000)])
        cpu = Cpu([connection])
        large = self.peer.play("body", [Ask(load=self.scale.load)])
        yield Sample("", "cpu_connection", cpu.seconds() * 1e3)
        yield Sample("", "new", milliseconds(large))
        yield Sample("", "more", milliseconds(large) - milliseconds(small))
        yield Sample("", "behind", milliseconds(self.peer.play("body", [TURN] * self.scale.body_turns)))
        self.shut("body")

    def lap(self) -> int:
        self.peer.start_over("body")
        return len(self.peer.play("body", [Ask(load=self.scale.load)]))


class Idle(Probe):
    """Pings that come soon behind one another: what one costs while its process finds its memory in the caches."""

    name = "idle"
    title = "A ping and its pong, while nothing else happens"
    settings = Settings(max_connections=2000, keepalive_interval=INTERVAL, pong_timeout=PONG_TIMEOUT)
    parts = 4
    rate = 400

    def measure(self, number: int) -> Iterator[Sample]:
        connection = self.opened("idle")
        if number == 0:
            # Alarms that ring although a pong came are among what is measured.
            self.peer.idle(2 * PONG_TIMEOUT)
        cpu, waits, pings = Cpu([connection]), switches_of(connection)[0], self._pings()
        self.peer.idle(self.scale.idle)
        count = max(1, self._pings() - pings)
        yield Sample("", "cpu_ping", cpu.seconds() / count * 1e3)
        yield Sample("", "wakes_ping", (switches_of(connection)[0] - waits) / count)

    def _pings(self) -> int:
        return int(stats(self.url)["pings"])

    def lap(self) -> int:
        pings = self._pings()
        self.peer.idle(0.2)
        return self._pings() - pings


class Keys(Probe):
    """Turns of the keys that came last, each one's second, one key after another."""

    name = "keys"
    title = "Turns among 200 keys, one after another"
    apart = True

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        super().__init__(peer, url, scale)
        self._keys = [f"key-{i}" for i in range(self.count)]

    @property
    def count(self) -> int:
        """Keys that there are."""
        return self.scale.few_keys

    def measure(self, number: int) -> Iterator[Sample]:
        self.peer.together(self._keys, TURN, WIDTH)
        cpu = Cpu(processes())
        records = [self.peer.play(key, [TURN])[0] for key in self._keys[-self.scale.key_turns :]]
        yield Sample("", "cpu_all", cpu.seconds() / len(records) * 1e3)
        yield Sample("", "turn", milliseconds(records))

    def settle(self, seconds: float) -> int:
        self.lap()  # they were started by `measure`
        return 0

    def lap(self) -> int:
        ends = time.monotonic() + APART
        for key in self._keys:
            self.peer.play(key, [TURN])
        self.peer.idle(max(0.0, ends - time.monotonic()))
        return len(self._keys)


class Many(Keys):
    name = "many"
    rounds = FEW
    title = "Turns of the 90 keys that came last of 350"

    @property
    def count(self) -> int:
        return self.scale.many_keys


class Memory(Keys):
    name = "memory"
    rounds = FEW
    title = "60 keys, which had a turn each"

    @property
    def count(self) -> int:
        return self.scale.memory_keys

    def measure(self, number: int) -> Iterator[Sample]:
        without = self._memory()
        began = time.monotonic()
        self.peer.together(self._keys, TURN, WIDTH)
        yield Sample("", "start", (time.monotonic() - began) / self.count * 1e3)
        yield Sample("", "pss", (self._memory() - without) / self.count)

    @staticmethod
    def _memory() -> float:
        return pss_of(processes())


PROBES: Final[dict[str, type[Probe]]] = {probe.name: probe for probe in (Warm, Body, Idle, Keys, Many, Memory)}
