"""`python -m benchmarks.server`: prints its URL, serves until its standard input ends."""

from __future__ import annotations

import gc
import resource
import sys
from contextlib import closing

from benchmarks.server.loop import Server


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # nothing here is in a cycle, and a collection would be taken for somebody's delay
    with closing(Server()) as server:
        print(server.url, flush=True)
        server.run(sys.stdin.fileno())


if __name__ == "__main__":
    main()
