"""Kills: SIGKILL and SIGSTOP of the processes of a system, and of programs that use one, at random moments, under load.

    python -m tests.long.kills --rounds 200 --seed 1

Several systems are treated side by side, for what is stopped has to be waited for. In each round some keys stream, with
requests waiting behind them; a victim is killed, or stopped for a while or for ever. Then: every request has ended, in time,
once, and by an error whose verdict agrees with what the server saw; every key is served again; every process is
accounted for.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pixir_actors import Client, Delivery, ErrorCode, Request, StreamError
from pixir_actors.channel.listener import Listener
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.simulator import Reply, Simulator, TurnContext
from tests.conftest import PR_SET_CHILD_SUBREAPER, children, is_running, until, within
from tests.long.figures import Progress, name_of

ROOT: Final = Path(__file__).parents[2]
LANES: Final = 5
KEYS: Final = 3
PER_KEY: Final = 2
LIMIT: Final = within(45)
"""Seconds within which every request ends, whatever happens to whom; by itself one takes a second or two."""
NEXT: Final = ", the next request"
CLOSE_LIMIT: Final = within(12)
SETTLED: Final = within(10)
"""Seconds in which what was stopped, or has lost its parent, is gone."""
EXPECTED: Final = frozenset(
    {ErrorCode.CONNECTION_LOST, ErrorCode.CONNECTION_UNRESPONSIVE, ErrorCode.WEBSOCKET_START_FAILED}
)


@dataclass
class Asked:
    """One request and how it ended; `error` is None for one that was answered in full."""

    name: str
    seconds: float = 0.0
    error: StreamError | None = None


@dataclass
class Tally:
    """What a run has come to. Written by many threads, under its lock."""

    asked: list[Asked] = field(default_factory=list)
    rounds: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, what: str, seconds: float) -> None:
        """Keep the longest of each kind."""
        with self.lock:
            self.longest[what] = max(seconds, self.longest.get(what, 0.0))

    def ends(self) -> Counter[str]:
        """Count how requests ended."""
        return Counter("answered" if one.error is None else f"{one.error.code}, {one.error.delivery}" for one in self.asked)


class Kills:
    """What all lanes share: the server, the tally, and one plain system with the program that hosts it."""

    def __init__(self, sim: Simulator, seed: int) -> None:
        self.sim = sim
        self.seed = seed
        self.tally = Tally()
        self.progress = Progress()
        self.plain = threading.Lock()

    def violation(self, what: str) -> None:
        with self.tally.lock:
            self.tally.violations.append(what)
        self.progress.say(f"VIOLATION {what}")

    def ask(self, client: Client, key: object, what: str, *, quick: bool = False) -> Asked:
        """Run one request to its end and note how that was."""
        asked = Asked(uuid.uuid4().hex)
        text = "quick" if quick else "go on"
        body = {"model": "m", "input": [{"role": "user", "content": text}], "metadata": {"turn": asked.name}}
        began = time.monotonic()
        try:
            with client.stream(key, Request(self.sim.url, {}, body), degraded_for=None) as stream:
                for _ in stream:
                    pass
                if stream.text != _answer(text):
                    self.violation(f"{what}: an answer that nobody gave")
        except StreamError as error:
            asked.error = error
            if error.code not in EXPECTED:
                self.violation(f"{what}: {error}")
        except Exception as error:
            self.violation(f"{what}: {type(error).__name__}: {error}")
        asked.seconds = time.monotonic() - began
        self.tally.took(what, asked.seconds)
        if asked.seconds > LIMIT:
            self.violation(f"{what}: a request took {asked.seconds:.1f} s and ended with {asked.error}")
        with self.tally.lock:
            self.tally.asked.append(asked)
        return asked

    def judge(self) -> Counter[str]:
        """Compare every verdict with what the server saw; return how often each was how exact."""
        received = Counter(one.payload["metadata"]["turn"] for one in self.sim.requests if "metadata" in one.payload)
        exact: Counter[str] = Counter()
        for one in self.tally.asked:
            times = received[one.name]
            verdict = None if one.error is None else one.error.delivery
            exact[f"{verdict or 'answered'}, {'seen' if times else 'not seen'}"] += 1
            if times > 1:
                self.violation(f"a request was sent {times} times: {one}")
            if verdict in (Delivery.NOT_SENT, Delivery.REJECTED) and times:
                self.violation(f"the server saw a request that was not sent: {one}")
            if verdict in (None, Delivery.ACCEPTED) and not times:
                self.violation(f"the server never saw a request that it accepted: {one}")
        return exact


def _answer(text: str) -> str:
    return "done" if text == "quick" else "word " * 40


def reply(turn: TurnContext) -> Reply:
    """Answer with forty deltas, fifty a second; a text that says "quick" is answered at once."""
    if turn.text == "quick":
        return Reply.text(_answer("quick"), deltas=1)
    return Reply.text(_answer("go on"), deltas=40).paced(0.02)


@dataclass(frozen=True)
class Blow:
    """What is done to whom.

    Attributes:
        victims: Roles in the system; "key" is one of its connections.
        stop: Stop instead of kill: for `seconds`, or for ever.
    """

    victims: tuple[str, ...]
    stop: bool = False
    seconds: float | None = None

    def __str__(self) -> str:
        how = "killed" if not self.stop else "stopped" if self.seconds is None else "stopped for a while"
        return f"{' and '.join(self.victims)} {how}"


VICTIMS: Final[dict[tuple[str, ...], int]] = {
    ("key",): 8,
    ("all keys",): 2,
    ("supervisor",): 5,
    ("admin",): 2,
    ("guardian",): 2,
    ("logger",): 1,
    ("admin", "supervisor"): 2,
}
"""Who is struck, and how often in proportion."""


def any_blow(rng: random.Random) -> Blow:
    victims = rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
    stop = rng.random() < 0.5
    return Blow(victims, stop, rng.choice([None, rng.uniform(0.2, 20)]) if stop else None)


class Lane:
    """One embedded system that is maltreated, round after round."""

    def __init__(self, kills: Kills, number: int) -> None:
        self.kills = kills
        self.rng = random.Random(f"{kills.seed}-{number}")
        self.number = number
        self.client = self.open()
        self.known: set[int] = set()
        self.keys = [("lane", number, key) for key in range(KEYS)]

    def open(self) -> Client:
        """Return a client, and what it needs."""
        return Client.embedded(namespace=f"lane-{self.number}")

    def end(self) -> None:
        """End the client and its system."""
        self.client.close()

    def pids(self) -> list[int]:
        """Return the system's processes, the guardian first."""
        assert isinstance(self.client._link, EmbeddedLink)
        return self.client._link.pids()

    def round(self, blow: Blow) -> None:
        """Deal one blow under load, and see that everything is as it should be afterwards."""
        what = str(blow)
        with self.kills.tally.lock:
            self.kills.tally.rounds[what] += 1
        over = threading.Event()
        with ThreadPoolExecutor(KEYS * PER_KEY) as pool:
            load = [pool.submit(self._load, key, what, over) for key in self.keys for _ in range(PER_KEY)]
            time.sleep(self.rng.uniform(0.0, 1.2))
            self.known |= set(self.pids())
            stopped = self._strike(blow)
            if blow.seconds is not None:
                time.sleep(blow.seconds)
                _signal(stopped, signal.SIGCONT)
            over.set()
            for one in load:
                one.result()
        for key in self.keys:
            asked = self.kills.ask(self.client, key, what + NEXT, quick=True)
            if asked.error is not None:
                self.kills.violation(f"{what}: afterwards a key is not served: {asked.error}")
        self._account(what, stopped if blow.seconds is None else [])

    def _load(self, key: object, what: str, over: threading.Event) -> None:
        """Ask, and ask again, at least once after the blow."""
        last = False
        while not last:
            last = over.is_set()
            self.kills.ask(self.client, key, what, quick=self.rng.random() < 0.2)

    def _strike(self, blow: Blow) -> list[int]:
        """Send the signals; return the pids that are stopped now."""
        pids = [pid for victim in blow.victims for pid in self._find(victim)]
        for victim, pid in zip(blow.victims, pids, strict=False):
            # Of two victims the first one is stopped, so that it is of no help when the second one dies.
            _signal([pid], signal.SIGSTOP if blow.stop or victim != blow.victims[-1] else signal.SIGKILL)
        _signal(pids[len(blow.victims) :], signal.SIGSTOP if blow.stop else signal.SIGKILL)
        return pids

    def _find(self, role: str) -> list[int]:
        guardian, *rest = self.pids() or [0]
        supervisor = next((pid for pid in rest if name_of(pid) == "pixir-superv"), 0)
        connections = children(supervisor) if supervisor else []
        admin = next((pid for pid in rest if supervisor in children(pid)), 0)
        found = {
            "guardian": [guardian],
            "supervisor": [supervisor],
            "admin": [admin],
            "logger": [pid for pid in rest if pid not in (supervisor, admin) and pid not in connections][:1],
            "key": self.rng.sample(connections, min(1, len(connections))),
            "all keys": connections,
        }[role]
        return [pid for pid in found if pid]

    def _account(self, what: str, stopped: list[int]) -> None:
        """Account for all processes there ever were: they belong to the system, or have ended."""
        self.known |= set(self.pids())
        frozen = [pid for pid in stopped if pid in self.pids() and is_running(pid)]
        if frozen or self.rng.random() < 0.05:
            self._replace(what)
        if not until(lambda: not self._orphans(), SETTLED):
            names = [f"{pid} {name_of(pid)}" for pid in self._orphans()]
            self.kills.violation(f"{what}: left behind: {', '.join(names)}")
        connections = len(self._find("all keys"))
        if not until(lambda: len(self._find("all keys")) == len(self.client.status()), SETTLED):
            self.kills.violation(f"{what}: {connections} connections, {len(self.client.status())} known")
        self.known = set(self.pids())

    def _orphans(self) -> set[int]:
        return {pid for pid in self.known - set(self.pids()) if is_running(pid)}

    def _replace(self, what: str) -> None:
        """Close the client, stopped processes and all, and have another."""
        self.close(what)
        self.client = self.open()

    def close(self, what: str = "at the end") -> None:
        pids = self.known | set(self.pids())
        began = time.monotonic()
        self.end()
        took = time.monotonic() - began
        self.kills.tally.took("closing a client", took)
        if took > CLOSE_LIMIT:
            self.kills.violation(f"{what}: closing the client took {took:.1f} s")
        if not until(lambda: not any(map(is_running, pids)), within(2)):
            self.kills.violation(f"{what}: a closed client left {[pid for pid in pids if is_running(pid)]}")


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# Programs


PROGRAM_BLOWS: Final = ("caller killed", "caller stopped", "host killed", "host stopped, then killed")


def program_round(kills: Kills, rng: random.Random, what: str) -> None:
    """Kill or stop a program in the middle of a stream: a caller on a shared plain system, or an embedded host."""
    with kills.tally.lock:
        kills.tally.rounds[what] += 1
    with contextlib.ExitStack() as stack:
        if what.startswith("host"):
            _host_round(kills, rng, what, stack)
        else:
            with kills.plain:
                _caller_round(kills, rng, what, stack)


def _host_round(kills: Kills, rng: random.Random, what: str, stack: contextlib.ExitStack) -> None:
    host = _program(stack, "embedded", kills.sim.url)
    system = [int(pid) for pid in _line(host).split()]
    time.sleep(rng.uniform(0, 0.5))
    if "stopped" in what:
        host.send_signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0, 2))
    host.kill()
    began = time.monotonic()
    if not until(lambda: not any(map(is_running, system)), SETTLED):
        kills.violation(f"{what}: left behind {[pid for pid in system if is_running(pid)]}")
    kills.tally.took("the end of a system whose host was killed", time.monotonic() - began)


def _caller_round(kills: Kills, rng: random.Random, what: str, stack: contextlib.ExitStack) -> None:
    host = _program(stack, "host")
    port = _line(host)
    key = uuid.uuid4().hex
    caller, others = (_program(stack, "caller", port, kills.sim.url, key) for _ in range(2))
    if rng.random() < 0.5:
        _line(caller)  # in the middle of its stream; else somewhere on its way there
    else:
        time.sleep(rng.uniform(0, 1))
    caller.send_signal(signal.SIGKILL if what.endswith("killed") else signal.SIGSTOP)
    began = time.monotonic()
    for other in (others, _program(stack, "caller", port, kills.sim.url, key)):
        ended = other.wait(LIMIT)
        if ended != 0:
            kills.violation(f"{what}: another program on its key ended with {ended}")
    kills.tally.took(what, time.monotonic() - began)  # with the start of a program
    system = {pid for pid in _tree(host.pid) if pid != host.pid}
    assert host.stdin is not None
    host.stdin.close()
    host.wait(within(20))
    if not until(lambda: not any(map(is_running, system)), SETTLED):
        kills.violation(f"{what}: the plain system left {[pid for pid in system if is_running(pid)]}")


def _tree(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in _tree(child))]


def _program(stack: contextlib.ExitStack, *arguments: str) -> subprocess.Popen[str]:
    """Start a program of `tests/robustness/programs.py`; it is killed at the end."""
    command = [sys.executable, "-m", "tests.robustness.programs", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(within(10))
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.readline().strip()
    if not text:
        raise RuntimeError(f"a program ended with {process.wait(within(10))} before it said anything")
    return text


# The run


Deed = Callable[[Lane], None]


def deeds_of(kills: Kills, rounds: int) -> list[Deed]:
    """Return what is done in so many rounds."""
    rng = random.Random(f"{kills.seed}-deeds")
    deeds: list[Deed] = []
    for _ in range(rounds):
        if rng.random() < 0.15:
            deeds.append(_program_deed(kills, rng.choice(PROGRAM_BLOWS)))
        else:
            deeds.append(_system_deed(any_blow(rng)))
    return deeds


def _program_deed(kills: Kills, what: str) -> Deed:
    return lambda lane: program_round(kills, lane.rng, what)


def _system_deed(blow: Blow) -> Deed:
    return lambda lane: lane.round(blow)


def perform(kills: Kills, deeds: list[Deed], lanes: int, lane_class: type[Lane] = Lane) -> None:
    """Perform all deeds, on several systems side by side."""
    left = list(reversed(deeds))

    def work(number: int) -> None:
        lane = lane_class(kills, number)
        while True:
            with kills.tally.lock:
                if not left:
                    break
                deed = left.pop()
            try:
                deed(lane)
            except Exception as error:
                kills.violation(f"a round broke: {type(error).__name__}: {error}")
            done, longest = len(deeds) - len(left), max(kills.tally.longest.values(), default=0.0)
            kills.progress.show(f"round {done} of {len(deeds)}, {len(kills.tally.asked)} requests, longest {longest:.1f} s")
        lane.close()

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(work, range(lanes)))


def kill(
    *,
    rounds: int,
    seed: int,
    lanes: int = LANES,
    deeds: Callable[[Kills, int], list[Deed]] = deeds_of,
    lane_class: type[Lane] = Lane,
) -> Tally:
    """Run some rounds, print the figures, and return what they came to."""
    home = Path(tempfile.gettempdir())
    before = set(home.iterdir())
    with Simulator(reply) as sim:
        kills = Kills(sim, seed)
        perform(kills, deeds(kills, rounds), lanes, lane_class)
        if not until(lambda: sim.open_connections == 0):
            kills.violation(f"{sim.open_connections} sockets are open after the end")
        exact = kills.judge()
    Listener().close()  # the next one of the same user clears away what killed programs left
    left = sorted(path.name for path in set(home.iterdir()) - before)
    if left:
        kills.violation(f"left in the temporary directory: {', '.join(left)}")
    tally = kills.tally
    for what, count in sorted(tally.rounds.items()):
        longest, after = tally.longest.get(what), tally.longest.get(f"{what}{NEXT}")
        kills.progress.say(
            f"{count:4d} x {what:36}"
            + ("" if longest is None else f" a request took at most {longest:4.1f} s")
            + ("" if after is None else f", the next one {after:4.2f} s")
        )
    kills.progress.say(f"requests: {dict(tally.ends().most_common())}\nverdicts: {dict(exact.most_common())}")
    kills.progress.say(
        f"kills, seed {seed}: {tally.rounds.total()} rounds in {kills.progress.seconds:.0f} s, {len(tally.asked)} requests,"
        f" the longest {max(one.seconds for one in tally.asked):.1f} s, closing a client at most"
        f" {tally.longest['closing a client']:.1f} s, {len(tally.violations)} violations"
    )
    return tally


@contextlib.contextmanager
def sandbox() -> Iterator[None]:
    """Have a temporary directory of this run's own, adopt what is orphaned, and leave neither."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    home = tempfile.mkdtemp(prefix="kills-")
    os.environ["TMPDIR"] = tempfile.tempdir = home
    try:
        yield
    finally:
        shutil.rmtree(home, ignore_errors=True)
        for pid in children(os.getpid()):
            _signal([pid], signal.SIGKILL)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--lanes", type=int, default=LANES, help="systems side by side (default: %(default)s)")
    options: Any = parser.parse_args(arguments)
    print(f"kills: {options.rounds} rounds, seed {options.seed}", flush=True)
    with sandbox():
        tally = kill(rounds=options.rounds, seed=options.seed, lanes=options.lanes)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
