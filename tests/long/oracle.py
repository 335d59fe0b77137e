"""The oracle at scale: `python -m tests.long.oracle [--conversations N] [--seed S] [--threads T]`.

Random conversations with random faults, over the WebSocket, over HTTP, or either way as the server lets them, each turn
compared: what the model saw is what the caller meant, no request ran twice, every request ended once. Prints figures and
the seed of every difference; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from pixir_actors import Client
from tests.scenarios.conversations import CONVERSATIONS, Scene
from tests.scenarios.tally import Tally

PROGRESS = 10.0


def main() -> int:
    """Play the scenes; return 0 if there was no difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.oracle", description=__doc__)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first scene; the next ones count up")
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed - (-options.conversations // CONVERSATIONS))
    total, began = Tally(), time.monotonic()
    shown = began
    with Client.embedded() as client, ThreadPoolExecutor(options.threads) as pool:
        for tally in pool.map(lambda seed: Scene(seed, client).run(), seeds):
            total.add(tally)
            if time.monotonic() - shown > PROGRESS:
                shown = time.monotonic()
                print(f"{shown - began:6.0f} s  {total}", flush=True)
    print(f"oracle, seeds {seeds.start} to {seeds.stop - 1}, {time.monotonic() - began:.0f} s: {total}")
    for difference in total.differences:
        print(difference, file=sys.stderr)
    return 1 if total.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
