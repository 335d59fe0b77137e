"""One side of one change in a process of its own: `python -m benchmarks.ablation.worker URL CASE AMOUNTS CHANGE`.

Driven as `benchmarks.worker` is. The change is switched off before anything of the program runs, for as long as the process
lives.
"""

from __future__ import annotations

import sys
from functools import partial

from benchmarks.ablation.cases import AMOUNTS, PROBES
from benchmarks.ablation.changes import known
from benchmarks.peers.ours import Actors
from benchmarks.worker import Worker, serve


def main() -> None:
    url, case, amounts, change = sys.argv[1:5]
    make = partial(Actors, settings=PROBES[case].settings)
    with known(change).off():
        serve(Worker(url, make, AMOUNTS[amounts], PROBES))


if __name__ == "__main__":
    main()
