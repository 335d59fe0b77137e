"""A soak: thousands of turns over some keys, with faults, in one run; what it holds is measured before and after.

    python -m tests.long.soak --turns 100000 --keys 50 --seed 1 --seconds 900

The simulator judges every request that runs: the model sees what the caller meant, and no request runs twice. Between two
legs of the run everything rests and is measured: memory, descriptors, processes, threads, timers. After the warm-up they
have to stay where they were; memory may grow by less than a leak of a hundred bytes per turn would make it grow.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from thespian.system.messages.status import Thespian_StatusReq

from pixir_actors import Client, Data, Delivery, ErrorCode, Request, Stream, StreamError
from pixir_actors.actors import messages as m
from pixir_actors.core.key import Key
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext, same_history
from tests.conftest import children, until, within
from tests.long.figures import Cost, Progress, cost, name_of

Item = dict[str, Any]

WORKERS: Final = 8
LEGS: Final = 25
WARM_UP_LEGS: Final = 10
BYTES_PER_TURN: Final = 50
"""Growth of memory that is put down to the allocator: so much per turn, and besides that `SLACK_KIB` for each process of
the system and `CLIENT_SLACK_KIB` for the client's, which is the simulator's, too."""
SLACK_KIB: Final = 128
CLIENT_SLACK_KIB: Final = 1536
RESTLESS_KIB: Final = 16 * 1024
"""What is allowed besides in a run of less than `RESTLESS_TURNS`, in which memory does not come to rest."""
RESTLESS_TURNS: Final = 10_000
WAKEUPS: Final = 16
"""Timers that one connection may have pending: a few deadlines, a report, a sweep, and what has not come due yet."""
OPTIONS: Final[dict[str, Any]] = {
    "degraded_for": None,
    "first_event_timeout": within(30),
    "idle_timeout": within(30),
    "timeout": within(60),
    "max_buffered_bytes": 256 * 1024,
}
FAILING: Final[tuple[Callable[[], Any], ...]] = (
    FAULTS["cut_before_first_event"],
    FAULTS["cut_within_event"],
    FAULTS["cut_mid_text"],
    FAULTS["abort_tcp"],
    FAULTS["close_with"],
    FAULTS["invalid_json"],
    FAULTS["oversized_frame_header"],
    FAULTS["masked_frame"],
)
HARMLESS: Final[tuple[Callable[[], Any], ...]] = (
    FAULTS["coalesce"],
    FAULTS["fragment"],
    FAULTS["unknown_events"],
    FAULTS["split_every_byte"],
    FAULTS["ping_demand_pong"],
    lambda: FAULTS["trailing_partial"](0.01),
)
UNSETTLING: Final[tuple[Callable[[], Any], ...]] = (
    FAULTS["cut_after_terminal"],
    FAULTS["second_terminal"],
    lambda: FAULTS["event_while_idle"](0.01),
    lambda: FAULTS["close_with"](1001, "", "after_terminal"),
)
"""The turn itself completes; the next one may find its socket closed, be sent before that is known, or meet what comes late
of this one: it fails then (`out_of_step`), and never hears that in its own answer."""
ANYWHERE: Final[tuple[Callable[[], Any], ...]] = (
    FAULTS["not_found"],
    lambda: FAULTS["not_found"]("flat"),
    FAULTS["evict"],
    FAULTS["connection_limit"],
    lambda: FAULTS["refuse_upgrade"](503),
)
"""Armed for whichever turn comes next; but for a refused upgrade none is seen by a caller."""


@dataclass
class Plan:
    """One turn as its caller means it, and as the server is to play it."""

    meant: list[Item]
    reply: Reply
    text: str
    may_fail: bool = False
    pause: float = 0.0
    leave: bool = False
    ran: int = 0


@dataclass
class Count:
    """What a run has come to."""

    turns: int = 0
    deltas: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Conversation:
    """One key: a short history, begun anew after a few turns."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.history: list[Item] = []
        self.left = 0
        self.shaky = False
        self.fresh = True
        self.last_fault = "none"
        self.connection: int | None = None


class Soak:
    """The run. Worker threads play turns, each on keys of its own; the simulator's thread judges."""

    def __init__(self, client: Client, sim: Simulator, *, turns: int, keys: int, seed: int, seconds: float) -> None:
        self.client, self.sim = client, sim
        self.count = Count()
        self._turns, self._seed = turns, seed
        self._deadline = time.monotonic() + seconds
        self._talks = [Conversation(("soak", number)) for number in range(keys)]
        self._plans: dict[str, Plan] = {}
        self._verdicts: OrderedDict[str, Delivery] = OrderedDict()
        self._lock = threading.Lock()
        self._slow = threading.Lock()
        self._names = 0
        self.progress = Progress()

    # The server's side

    def reply(self, turn: TurnContext) -> Reply:
        """Judge a request that is about to run, and play its turn. Runs in the simulator's thread."""
        name = turn.payload["metadata"]["turn"]
        plan = self._plans.get(name)
        if plan is None:
            if self._verdicts.get(name) in (Delivery.NOT_SENT, Delivery.REJECTED):
                self.violation(f"turn {name} ran after its caller had been told {self._verdicts[name]}")
            return Reply.text("too late")
        plan.ran += 1
        if plan.ran > 1:
            self.violation(f"turn {name} ran {plan.ran} times")
        difference = same_history(plan.meant, turn.seen)
        if difference is not None:
            self.violation(f"turn {name}: {difference}")
        return plan.reply

    # The callers' side

    def run(self) -> list[Figures]:
        """Play all turns in legs; return the figures after each."""
        workers = min(WORKERS, len(self._talks))
        share = -(-self._turns // (LEGS * workers))
        rngs = [random.Random(f"{self._seed}-{worker}") for worker in range(workers)]
        figures = []
        with ThreadPoolExecutor(workers) as pool:
            for leg in range(LEGS):
                list(pool.map(lambda n: self._work(self._talks[n::workers], rngs[n], share), range(workers)))
                figures.append(self._measure())
                rate = self.count.turns / self.progress.seconds
                self.progress.say(f"leg {leg + 1} of {LEGS}, {rate:.0f} turns/s\n{figures[-1]}")
                if time.monotonic() > self._deadline:
                    self.violation(f"out of time after {self.count.turns} turns")
                    break
        return figures

    def _work(self, talks: list[Conversation], rng: random.Random, turns: int) -> None:
        for _ in range(turns):
            if time.monotonic() > self._deadline:
                return
            talk = rng.choice(talks)
            guest = rng.random() < 0.001
            if guest:
                talk = Conversation(("guest", rng.getrandbits(64)))
                talk.fresh = False
            self._turn(talk, rng)
            if guest:
                self.client.close(talk.key)

    def _turn(self, talk: Conversation, rng: random.Random) -> None:
        plan = self._plan(talk, rng)
        with self._lock:
            self._names += 1
            name = str(self._names)
        self._plans[name] = plan
        body = {"model": "m", "input": plan.meant, "metadata": {"turn": name}}
        request = Request(self.sim.url, {"Authorization": "Bearer k"}, body)
        failed = self._play(talk, request, plan, name)
        with self._lock:
            self.count.turns += 1
            if self.count.turns % 100 == 0:
                done, rate = self.count.turns, self.count.turns / self.progress.seconds
                self.progress.show(f"{done} turns, {rate:.0f}/s, {self.count.failures.total()} failed as they had to")
        self._ended(name, plan, failed)

    def _plan(self, talk: Conversation, rng: random.Random) -> Plan:
        if talk.left == 0:
            talk.history, talk.left = [], rng.randint(2, 8)
        talk.left -= 1
        talk.history = [*talk.history, {"role": "user", "content": f"say {rng.getrandbits(32)}"}]
        text = f"answer {rng.getrandbits(64)} " * rng.randint(1, 5)
        plan = Plan(talk.history, Reply.text(text, deltas=rng.randint(1, 20)), text, may_fail=talk.shaky)
        talk.shaky = False
        self._disturb(talk, plan, rng)
        return plan

    def _disturb(self, talk: Conversation, plan: Plan, rng: random.Random) -> None:
        """Now and then something goes wrong; what needs the most memory happens to every key, and at once."""
        chance = rng.random()
        if talk.fresh:
            talk.fresh, talk.last_fault = False, self._slow_consumer(plan)
            return
        kinds: list[tuple[float, Callable[[], str]]] = [
            (0.03, lambda: self._with_fault(plan, rng.choice(FAILING), may_fail=True)),
            (0.04, lambda: self._with_fault(plan, rng.choice(HARMLESS))),
            (0.02, lambda: self._unsettled(talk, plan, rng.choice(UNSETTLING))),
            (0.02, lambda: self._armed(rng.choice(ANYWHERE))),
            (0.01, lambda: self._closed_while_idle(talk, plan)),
            (0.01, lambda: self._provider_fails(plan, rng)),
            (0.01, lambda: self._leaves(plan)),
            (0.0005, lambda: self._slow_consumer(plan)),
        ]
        for share, disturbance in kinds:
            chance -= share
            if chance < 0:
                what = talk.last_fault = disturbance()
                with self._lock:
                    self.count.faults[what] += 1
                return

    def _with_fault(self, plan: Plan, make: Callable[[], Any], *, may_fail: bool = False) -> str:
        fault = make()
        plan.reply, plan.may_fail = plan.reply.with_faults(fault), plan.may_fail or may_fail
        return str(fault.name)

    def _unsettled(self, talk: Conversation, plan: Plan, make: Callable[[], Any]) -> str:
        talk.shaky = True
        return self._with_fault(plan, make)

    def _armed(self, make: Callable[[], Any]) -> str:
        fault = make()
        if len(self.sim.armed) < 3:  # a refused upgrade waits for one that is needed
            self.sim.inject(fault)
        return str(fault.name)

    def _closed_while_idle(self, talk: Conversation, plan: Plan) -> str:
        if talk.connection is not None:
            try:
                self.sim.close_connection(connection=talk.connection)
            except LookupError:
                return "closed already"
            plan.may_fail = True  # the request may cross the close
        return "closed while idle"

    def _provider_fails(self, plan: Plan, rng: random.Random) -> str:
        plan.may_fail = True
        status = rng.choice([400, 429, 503])
        plan.reply = Reply.error(status, "some_error", "No.", after=rng.choice(["nothing", "output"]))
        return f"error {status}"

    def _leaves(self, plan: Plan) -> str:
        plan.leave = True
        return "left early"

    def _slow_consumer(self, plan: Plan) -> str:
        plan.text = "x" * (1024 * 1024)
        plan.reply, plan.pause, plan.may_fail = Reply.text(plan.text, deltas=200), 0.25, True
        return "slow consumer"

    def _play(self, talk: Conversation, request: Request, plan: Plan, name: str) -> StreamError | None:
        """Run a turn and take its answer into the history; what had to fail is returned."""
        stream: Stream | None = None
        try:
            with (
                self._slow if plan.pause else contextlib.nullcontext(),  # one at a time: they need much memory
                self.client.stream(talk.key, request, **OPTIONS) as stream,
            ):
                for event in stream:
                    if plan.leave and isinstance(event, Data):
                        talk.left = 0
                        return None
                    if plan.pause and isinstance(event, Data):
                        time.sleep(plan.pause)
                        plan.pause = 0.0
                stream.raise_for_failure()
        except StreamError as error:
            talk.left = 0
            self._failed(error, plan, name, talk.last_fault)
            if stream is not None and plan.reply.rejection is None and not plan.text.startswith(stream.text):
                self.violation(f"turn {name}: before it failed the caller heard something else: {error}")
            return error
        talk.connection = self._connection_of(name)
        self.count.deltas += bool(stream.metadata["used_previous_response_id"])
        if stream.text != plan.text:
            self.violation(f"turn {name}: the caller heard something else; the latest fault was {talk.last_fault}")
        talk.history = [*talk.history, *stream.output]
        return None

    def _connection_of(self, name: str) -> int | None:
        for received in reversed(self.sim.requests[-4 * WORKERS :]):
            if received.payload["metadata"]["turn"] == name:
                return received.connection
        return None

    def _failed(self, error: StreamError, plan: Plan, name: str, fault: str) -> None:
        with self._lock:
            self.count.failures["out_of_step" if error.details.get("reason") == "out_of_step" else error.code.value] += 1
        # An upgrade is refused to whoever needs one, and two limits may hit the same turn, which is replayed for one only.
        refused = error.code is ErrorCode.WEBSOCKET_HANDSHAKE_FAILED
        limited = error.details.get("provider_code") == "websocket_connection_limit_reached"
        if not plan.may_fail and not refused and not limited:
            self.violation(f"turn {name} failed unprovoked: {error}; the latest fault was {fault}")
        if error.delivery in (Delivery.NOT_SENT, Delivery.REJECTED) and plan.ran and not self._said_no(plan):
            self.violation(f"turn {name} ran, its caller was told {error.delivery}: {error}")

    def _said_no(self, plan: Plan) -> bool:
        return plan.reply.rejection is not None and plan.reply.rejection.after == "nothing"

    def _ended(self, name: str, plan: Plan, failed: StreamError | None) -> None:
        if failed is not None:
            self._verdicts[name] = failed.delivery
            if len(self._verdicts) > 1000:
                self._verdicts.popitem(last=False)
        del self._plans[name]

    def violation(self, what: str) -> None:
        with self._lock:
            self.count.violations.append(what)
        self.progress.say(f"VIOLATION {what}")

    # Measuring

    def _measure(self) -> Figures:
        """Measure when everything rests."""
        sim, link = self.sim, self.client._link
        assert isinstance(link, EmbeddedLink)
        until(lambda: all(turn.status != "in_progress" for turn in sim.turns[-2 * WORKERS :]))
        supervisor = next(pid for pid in link.pids() if name_of(pid) == "pixir-superv")
        # The process of a key that was closed stays a moment, to send back who comes.
        until(lambda: len(children(supervisor)) <= len(self._talks))
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        guardian, *rest = link.pids()
        connections = [pid for pid in children(supervisor) if pid in rest]
        others = [pid for pid in rest if pid != supervisor and pid not in connections]
        wakeups = [self._wakeups(talk) for talk in self._talks]
        return Figures(
            turns=self.count.turns,
            client=cost([os.getpid()]),
            supervisor=cost([supervisor]),
            guardian=cost([guardian]),
            others=cost(others),
            connections=cost(connections),
            sockets=sim.open_connections,
            wakeups=sum(wakeups),
            most_wakeups=max(wakeups),
            supervisor_wakeups=self._pending(link, link.supervisor()),
        )

    def _wakeups(self, talk: Conversation) -> int:
        link = self.client._link
        assert isinstance(link, EmbeddedLink)
        key = m.EnsureStarted.of(link.number(), talk.key, self.client.settings, namespace=self.client.namespace).key
        found = link.ask(link.supervisor(), m.FindConnection(link.number(), key), timeout=within(5))
        return 0 if found is None or found.address is None else self._pending(link, found.address)

    def _pending(self, link: EmbeddedLink, address: Any) -> int:
        """Return how many wakeups Thespian holds for an actor."""
        with link._system.private() as context:
            status = context.ask(address, Thespian_StatusReq(), timedelta(seconds=within(5)))
        return 0 if status is None else len(status.pendingWakeups)


@dataclass(frozen=True)
class Figures:
    """What everything holds at one moment of rest. The client's process is the simulator's, too."""

    turns: int
    client: Cost
    supervisor: Cost
    guardian: Cost
    others: Cost
    connections: Cost
    sockets: int
    wakeups: int
    most_wakeups: int
    supervisor_wakeups: int

    def __str__(self) -> str:
        return (
            f"after {self.turns} turns, {self.sockets} sockets\n"
            f"    client, simulator  {self.client}\n"
            f"    guardian           {self.guardian}\n"
            f"    admin, logger      {self.others}\n"
            f"    supervisor         {self.supervisor} {self.supervisor_wakeups} timers\n"
            f"    connections        {self.connections} {self.wakeups} timers, at most {self.most_wakeups} in one"
        )


PARTS: Final = ("client", "guardian", "others", "supervisor", "connections")


def grown(figures: list[Figures]) -> list[str]:
    """Return what has not stayed flat since the warm-up; memory is compared by medians, of three measurements each."""
    after_warm_up = figures[WARM_UP_LEGS:]
    if len(after_warm_up) < 6:
        return ["too few measurements to compare"]
    first, last = after_warm_up[:3], after_warm_up[-3:]
    turns = statistics.median(f.turns for f in last) - statistics.median(f.turns for f in first)
    found = []
    for part in PARTS:
        before, after = ([getattr(f, part) for f in some] for some in (first, last))
        growth = statistics.median(c.anonymous for c in after) - statistics.median(c.anonymous for c in before)
        slack = CLIENT_SLACK_KIB if part == "client" else SLACK_KIB * max(4, after[-1].processes)
        slack += RESTLESS_KIB if turns < RESTLESS_TURNS else 0
        if growth > slack + turns * BYTES_PER_TURN / 1024:
            found.append(f"{part}: memory grew by {growth:.0f} KiB in {turns:.0f} turns")
        for name, allowed in (("processes", 0), ("descriptors", 12), ("threads", 2)):
            more = min(getattr(c, name) for c in after) - max(getattr(c, name) for c in before)
            if more > allowed:
                found.append(f"{part}: {more} more {name}")
    if min(f.most_wakeups for f in last) > WAKEUPS or min(f.supervisor_wakeups for f in last) > WAKEUPS:
        found.append(f"timers pile up: {last[-1].most_wakeups} in one connection")
    return found


def soak(*, turns: int, keys: int, seed: int, seconds: float) -> Count:
    """Run a soak, print its figures, and return what it came to."""
    runs: list[Soak] = []
    with (
        Simulator(lambda turn: runs[0].reply(turn), keep=200) as sim,
        Client.embedded(namespace=f"soak-{seed}") as client,
    ):
        run = Soak(client, sim, turns=turns, keys=keys, seed=seed, seconds=seconds)
        runs.append(run)
        figures = run.run()
        took = run.progress.seconds
        if sim.overlaps:
            run.violation(f"{len(sim.overlaps)} requests were sent before the one before them had ended")
    count = run.count
    for what in grown(figures):
        run.violation(what)
    warm = figures[min(WARM_UP_LEGS, len(figures) - 1)]
    print(f"\nafter the warm-up:\n{warm}\nat the end:\n{figures[-1]}")
    print(f"faults: {dict(count.faults.most_common())}\nfailures: {dict(count.failures.most_common())}")
    print(
        f"soak, seed {seed}: {count.turns} turns over {keys} keys in {took:.0f} s, {count.turns / took:.0f} turns/s,"
        f" {count.deltas} deltas, {count.failures.total()} failures, {len(count.violations)} violations"
    )
    return count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=1200.0, help="give up after so many (default: %(default)g)")
    options = parser.parse_args()
    print(f"soak: {options.turns} turns over {options.keys} keys, seed {options.seed}", flush=True)
    count = soak(turns=options.turns, keys=options.keys, seed=options.seed, seconds=options.seconds)
    return 1 if count.violations else 0


if __name__ == "__main__":
    sys.exit(main())
