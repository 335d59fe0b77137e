"""One peer in a process of its own: `python -m benchmarks.worker URL PEER SCALE`, driven by `contest`.

A line of JSON comes in for each thing to do and one goes out when it is done; it ends when its standard input does. So no
peer's imports, threads or garbage are in the way of another's, and what a peer costs is what this process and those below
it cost.
"""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from benchmarks.asks import Ask
from benchmarks.cases.base import Case
from benchmarks.cases.registry import CASES
from benchmarks.meter import adopt_orphans
from benchmarks.peers.base import Peer
from benchmarks.peers.registry import PEERS
from benchmarks.results import Sample
from benchmarks.scale import SCALES, Scale

WARM_UP = (Ask(), Ask(deltas=300), Ask(call=1), Ask(output_of=1), Ask(deltas=3, rate=100))
"""Unmeasured, at the start of each case: what a library imports, compiles or caches at its first use is done then."""


class Worker:
    """What stands in this process: a peer, and the case it is in.

    Args:
        url: The server's.
        make: Makes the peer, given that.
        scale: How much of a case is run.
        cases: Those that there are, by name.
    """

    def __init__(
        self, url: str, make: Callable[[str], Peer], scale: Scale, cases: Mapping[str, type[Case]] = CASES
    ) -> None:
        self._url = url
        self._make = make
        self._scale = scale
        self._cases = cases
        self._peer: Peer | None = None
        self._case: Case | None = None

    def begin(self, case: str) -> list[Sample]:
        self._peer = self._make(self._url)
        self._peer.play("warm-up", [ask for ask in WARM_UP if self._peer.counts or not ask.rate])
        self._peer.shut("warm-up")
        self._case = self._cases[case](self._peer, self._url, self._scale)
        return []

    def run(self, stage: str, number: int) -> list[Sample]:
        return list(getattr(self._case, stage)(number))

    def end(self) -> list[Sample]:
        peer, self._peer, self._case = self._peer, None, None
        if peer is not None:
            peer.close()
        return []

    def do(self, order: dict[str, Any]) -> bytes:
        """Do what `order` says and return the line that answers it."""
        try:
            samples: list[Sample] = getattr(self, order.pop("do"))(**order)
        except Exception as error:
            return orjson.dumps({"error": f"{type(error).__name__}: {error}"[:500], "trace": traceback.format_exc()[-3000:]})
        notes: list[str] = []
        if self._case is not None:
            notes, self._case.notes = self._case.notes, []
        return orjson.dumps({"samples": [list(sample) for sample in samples], "notes": notes})


def serve(worker: Worker) -> None:
    """Do what comes in until nothing does any more."""
    adopt_orphans()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Whatever a library prints is not an answer.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        for line in sys.stdin.buffer:
            answers.write(worker.do(orjson.loads(line)) + b"\n")
    finally:
        worker.end()


def main() -> None:
    url, peer, scale = sys.argv[1:4]
    serve(Worker(url, PEERS[peer].make, SCALES[scale]))


if __name__ == "__main__":
    main()
