"""`python -m benchmarks`: everybody side by side against one loopback server. `--help` says what can be chosen."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import orjson

from benchmarks.cases.registry import CASES
from benchmarks.contest import Contest
from benchmarks.machine import command, describe
from benchmarks.peers.registry import PEERS
from benchmarks.progress import Progress
from benchmarks.results import Results
from benchmarks.scale import SCALES
from benchmarks.table import show


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    results = Results(facts={"command": command(), **describe()})
    scale = "tiny" if options.tiny else "quick" if options.quick else "full"
    rounds = options.rounds or SCALES[scale].rounds
    results.facts |= {"rounds": rounds, "beside it": "as many busy loops as cores" if options.busy else "nothing"}
    progress = Progress()
    contest = Contest(options.case or list(CASES), _present(options.peer, results), rounds, scale, progress.tick)
    with busy() if options.busy else nullcontext():
        try:
            contest.run(results)
        except KeyboardInterrupt:
            results.notes.append("The run was interrupted: what follows is what was measured until then.")
    progress.clear()
    results.facts["seconds"] = round(progress.seconds)
    if options.json:
        options.json.write_bytes(orjson.dumps(results.to_json(), option=orjson.OPT_INDENT_2))
    show(results)
    if options.report:
        # Only here: matplotlib is needed for nothing else.
        from benchmarks.report import write

        print(f"written: {write(results, options.report)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What everybody costs, side by side.")
    often = "how often each peer is measured (default 7, 3 with --quick; in streams and keys at most 5)"
    parser.add_argument("--rounds", type=positive, help=often)
    for name, known in (("--case", CASES), ("--peer", PEERS)):
        what = f"of {', '.join(known)} (default: all)"
        parser.add_argument(name, action="extend", nargs="+", choices=known, metavar="NAME", help=what)
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute and a half")
    parser.add_argument("--tiny", action="store_true", help="next to nothing of everything: shows that it works")
    parser.add_argument("--busy", action="store_true", help="beside as many busy loops as there are cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a report with plots there (Markdown)")
    return parser


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _present(asked: list[str] | None, results: Results) -> list[str]:
    """Return the peers that are installed; note those that are not."""
    wanted = [peer for peer in PEERS if not asked or peer in asked]
    for peer in wanted:
        if PEERS[peer].missing:
            results.notes.append(f"{peer} is left out: {PEERS[peer].distribution} is not installed (extra: bench).")
    return [peer for peer in wanted if not PEERS[peer].missing]


@contextmanager
def busy() -> Iterator[None]:
    """Have every core busy with something else."""
    count = int(describe()["cores"].partition(" ")[0])
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
