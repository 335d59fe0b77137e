"""The counterpart of the benchmarks, in a process of its own: `python -m benchmarks.server`.

It prints its URL and serves until its standard input ends. A user message that is a number gets an answer of so many
text deltas, all in one write: so it is the client that is measured, not the server's many small sends.
"""

from __future__ import annotations

import sys

from pixir_actors.simulator import Simulator
from pixir_actors.simulator.faults import coalesce
from pixir_actors.simulator.script import Reply, TurnContext


def deltas(turn: TurnContext) -> Reply:
    """Answer as many deltas as the last message says."""
    count = int(turn.text)
    return Reply.text("words " * count, deltas=count).with_faults(coalesce())


def main() -> None:
    with Simulator(deltas) as simulator:
        print(simulator.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
