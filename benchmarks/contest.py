"""The run: case after case, round after round, the peers in turn within each; whoever takes too long is left out."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final, Self, TypeVar

import orjson

from benchmarks.cases.base import Case
from benchmarks.cases.registry import CASES
from benchmarks.peers.registry import PEERS
from benchmarks.results import Results, Sample

T = TypeVar("T")
Tick = Callable[[str], None]
"""Told what is being done, again and again while it is."""

BEGIN_BOUND: Final = 60.0
END_BOUND: Final = 30.0


class Failed(Exception):
    """A peer did not do what it was asked to; the text says why."""


class Participant:
    """One peer's process, or one after another."""

    def __init__(self, command: Sequence[str], said: IO[bytes]) -> None:
        self._command = command
        self._said = said
        self._process = self._started()

    @classmethod
    @contextmanager
    def of(cls, url: str, peer: str, scale: str) -> Iterator[Self]:
        """Start a peer's process; it ends with the block."""
        with cls.running("benchmarks.worker", url, peer, scale) as participant:
            yield participant

    @classmethod
    @contextmanager
    def running(cls, program: str, *arguments: str) -> Iterator[Self]:
        """Start a process of a module that does as `benchmarks.worker` does; it ends with the block."""
        with tempfile.TemporaryFile() as said:
            participant = cls([sys.executable, "-m", program, *arguments], said)
            try:
                yield participant
            finally:
                participant.stop(END_BOUND)

    def restart(self) -> None:
        """Put a new process in the place of the one there was, which ends first."""
        self.stop(END_BOUND)
        self._said.truncate(0)
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        self._said.seek(0)
        # In a session of its own: Ctrl-C is for the contest, which ends it in order.
        return subprocess.Popen(
            self._command, bufsize=0, stdin=pipe, stdout=pipe, stderr=self._said, start_new_session=True
        )

    def post(self, **order: Any) -> None:
        """Tell it to do something.

        Raises:
            Failed: Its process has ended.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(orjson.dumps(order) + b"\n")
        except (BrokenPipeError, ValueError):  # it has ended, or was ended
            raise Failed(f"its process has ended: {self._last_words()}") from None

    def answer(self, seconds: float, tick: Callable[[], None]) -> tuple[list[Sample], list[str]]:
        """Wait until it is done; return what was measured, and what there is to say about that.

        Raises:
            Failed: It was not, or took longer than `seconds`; then its process is ended.
        """
        line = self._line(time.monotonic() + seconds, tick)
        if line is None:
            self.stop(0)
            raise Failed(f"not done within {seconds:.0f} s")
        if not line:
            raise Failed(f"its process has ended: {self._last_words()}")
        answer = orjson.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return [Sample(*sample) for sample in answer["samples"]], answer["notes"]

    def _line(self, deadline: float, tick: Callable[[], None]) -> bytes | None:
        """Return a line, an empty one at the end, None at the deadline."""
        assert self._process.stdout
        fd, line = self._process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if select.select([fd], [], [], min(left, 0.25))[0]:
                data = os.read(fd, 1 << 16)
                if not data:
                    return b""
                line += data
            tick()
        return line

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read()[-300:].decode(errors="replace").strip() or "it said nothing"

    def stop(self, grace: float) -> None:
        """End it, by force after `grace` seconds. Idempotent."""
        assert self._process.stdin and self._process.stdout
        if self._process.stdout.closed:
            return  # it was stopped before: with thousands of keys, somebody else may have its number by now
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Contest:
    """What to run, and whom to tell."""

    cases: Sequence[str]
    peers: Sequence[str]
    rounds: int
    scale: str
    tick: Tick

    def run(self, results: Results) -> None:
        """Run it and add to `results`, also where it is interrupted."""
        with ExitStack() as stack:
            url = stack.enter_context(server())
            present = {peer: stack.enter_context(Participant.of(url, peer, self.scale)) for peer in self.peers}
            for name in self.cases:
                live = {peer: one for peer, one in present.items() if PEERS[peer].plays(name)}
                for peer in _Round(CASES[name], live, results, self.tick).case(self.rounds):
                    present[peer].restart()


class _Round:
    """One case with the peers that are still in it."""

    def __init__(self, case: type[Case], live: dict[str, Participant], results: Results, tick: Tick) -> None:
        self._case = case
        self._live = live
        self._results = results
        self._tick = tick
        self._gone: list[str] = []

    def case(self, rounds: int) -> list[str]:
        """Run all rounds; return the peers that fell out."""
        if not self._case.anew:
            self._begin(list(self._live))
        count = min(rounds, self._case.rounds or rounds)
        for number in range(count):
            for group in self._groups(number):
                self._group(group, number, f"round {number + 1} of {count}")
        self._end(list(self._live))
        return self._gone

    def _groups(self, number: int) -> list[list[str]]:
        """Return who is in a round together; both the groups and the peers in them begin with another one each time."""
        alone = [[peer] for peer in self._live if peer in self._case.alone]
        others = [peer for peer in self._live if peer not in self._case.alone]
        return rotated([*alone, rotated(others, number)], number)

    def _group(self, peers: list[str], number: int, what: str) -> None:
        if self._case.anew:
            for peer in peers:
                self._live[peer].restart()
            self._begin(peers)
        for stage in self._case.stages:
            self._stage([peer for peer in peers if peer in self._live], stage, number, what)
        if self._case.anew:
            self._end(peers)

    def _begin(self, peers: list[str]) -> None:
        for peer in peers:
            self._order(peer, BEGIN_BOUND, "starting", do="begin", case=self._case.name)

    def _end(self, peers: list[str]) -> None:
        for peer in peers:
            if peer in self._live:
                self._order(peer, END_BOUND, "ending", do="end")

    def _stage(self, peers: list[str], stage: str, number: int, what: str) -> None:
        order = {"do": "run", "stage": stage, "number": number}
        if stage not in self._case.at_once:
            for peer in peers:
                self._order(peer, self._case.bound, what, **order)
            return
        posted = [peer for peer in peers if self._post(peer, order)]
        for peer in posted:
            self._take(peer, self._case.bound, f"{what}, all at once", number)

    def _order(self, peer: str, bound: float, what: str, **order: Any) -> None:
        if self._post(peer, order):
            self._take(peer, bound, f"{what}: {peer}", order.get("number", 0))

    def _post(self, peer: str, order: dict[str, Any]) -> bool:
        try:
            self._live[peer].post(**order)
        except Failed as error:
            self._fell_out(peer, error)
            return False
        return True

    def _take(self, peer: str, bound: float, what: str, number: int) -> None:
        said = f"{self._case.name}, {what}"
        try:
            samples, notes = self._live[peer].answer(bound, lambda: self._tick(said))
        except Failed as error:
            self._fell_out(peer, error)
            return
        said_of = (f"{peer}, case {self._case.name}: {note}." for note in notes)
        self._results.notes += [note for note in said_of if note not in self._results.notes]
        for sample in samples:
            self._results.add(self._case.name, peer, number, sample)

    def _fell_out(self, peer: str, error: Failed) -> None:
        self._results.notes.append(f"{peer} fell out of the case {self._case.name}: {error}")
        self._gone.append(peer)
        # What it holds is unknown, and must not be in the way of the others.
        self._live.pop(peer).stop(0)


def rotated(items: list[T], number: int) -> list[T]:
    """Return them beginning with another one for each number."""
    shift = number % len(items) if items else 0
    return items[shift:] + items[:shift]


@contextmanager
def server() -> Iterator[str]:
    """Run the server in its own process and yield its base URL."""
    command, pipe = [sys.executable, "-m", "benchmarks.server"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        assert process.stdin and process.stdout
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the benchmarks' server did not start")
            yield url
        finally:
            process.stdin.close()  # which ends it
