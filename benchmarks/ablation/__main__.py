"""`python -m benchmarks.ablation`: what each change for speed is worth, with it and without, and where the time went.

Ratios of the two sides, which run one right after the other; never a time by itself. `--help` says what can be chosen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.__main__ import positive
from benchmarks.ablation.changes import CHANGES, NOISE, known
from benchmarks.ablation.report import show, write
from benchmarks.ablation.rounds import Measured, Rounds
from benchmarks.ablation.sampling import may_sample
from benchmarks.contest import server
from benchmarks.machine import command, describe
from benchmarks.progress import Progress

WHAT: Final = "What each change for speed is worth: with it and without."
ROUNDS: Final = {"full": 5, "quick": 2, "tiny": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = [name for name in (*CHANGES, NOISE.name) if not options.change or name in options.change]
    amounts = "tiny" if options.tiny else "quick" if options.quick else "full"
    rounds = options.rounds or ROUNDS[amounts]
    changes, measured = list(map(known, names)), Measured()
    measured.values.facts = {"command": command("benchmarks.ablation"), **describe(), "rounds": rounds}
    progress = Progress()
    reason = None if options.no_profile else may_sample()
    if reason is not None:
        measured.values.notes.append(f"There are no profiles: {reason}.")
    with server() as url:
        try:
            run = Rounds(url, changes, amounts, not options.no_profile and reason is None, progress.tick)
            run.run(rounds, measured)
        except KeyboardInterrupt:
            measured.values.notes.append("The run was interrupted: this is what was measured until then.")
    progress.clear()
    measured.values.facts["seconds"] = round(progress.seconds)
    if options.to is None:
        show(measured, changes)
    else:
        write(measured, changes, options.to)
        print(f"written: {options.to}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=WHAT)
    all_names = ", ".join((*CHANGES, NOISE.name))
    parser.add_argument(
        "--change", action="extend", nargs="+", choices=(*CHANGES, NOISE.name), metavar="NAME",
        help=f"of {all_names} (default: all; {NOISE.name} shows the noise)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive, help="how often each side is measured (default 5, 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--tiny", action="store_true", help="next to nothing of everything: shows that it works")
    parser.add_argument("--no-profile", action="store_true", help="no profiles: half the time")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write a report there (Markdown)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
