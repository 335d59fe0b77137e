"""Spoiled frames, events and answers, a million or more: only the documented errors come of them, and nothing hangs.

    python -m tests.long.fuzz --inputs 1000000 --seed 7

An input is known by the run's seed and its number, and `--first NUMBER --inputs 1` makes it again. With `--engine atheris`
(from PyPI, where it has a wheel), what the package's branches do decides what is spoiled next.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING, Final

from tests.long.figures import Progress

if TYPE_CHECKING:
    from tests.long.targets import Target

HANG_AFTER: Final = 5.0
"""Seconds that one input may take on a quiet machine; the slowest takes hundredths."""
SHOWN_BYTES: Final = 4000


class Hang(BaseException):
    """An input took too long. Not an `Exception`, so that no code under test can take it for one of its own."""


@dataclass
class Report:
    """What came of a run."""

    inputs: int = 0
    seconds: float = 0.0
    bytes: int = 0
    slowest: float = 0.0
    slowest_number: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the figures as text."""
        for name in dict.fromkeys(target for target, _ in self.outcomes):
            ends = {outcome: count for (target, outcome), count in self.outcomes.items() if target == name}
            common = ", ".join(f"{outcome} {count}" for outcome, count in Counter(ends).most_common(6))
            yield f"{name:8} {sum(ends.values()):9,} inputs, {len(ends)} outcomes: {common}"
        rate = self.inputs / max(self.seconds, 1e-9)
        yield (
            f"{self.inputs:,} inputs, {self.bytes / 1e6:,.0f} MB, in {self.seconds:.1f} s: {rate:,.0f} inputs/s; "
            f"the slowest, {self.slowest_number}, took {self.slowest * 1000:.0f} ms; {len(self.failures)} failures"
        )


def fuzz(
    *, inputs: int, seed: int, seconds: float = float("inf"), first: int = 0, progress: Progress | None = None
) -> Report:
    """Check that many inputs, or as many as there is time for; runs in the main thread, whose alarm it takes.

    The inputs follow from `seed` and `first` alone. It ends early at the third failure.
    """
    targets: list[Target] = import_module("tests.long.targets").TARGETS
    shares = [target.share for target in targets]
    report, began = Report(), time.monotonic()
    with _watchdog() as rewind:
        for number in range(first, first + inputs):
            rng = Random(seed << 40 | number)
            target = rng.choices(targets, shares)[0]
            data = target.make(rng)
            rewind()
            before = time.monotonic()
            try:
                outcome = target.check(data, rng)
            except (Exception, Hang) as error:
                outcome = "failed"
                report.failures.append(_described(target, number, seed, data, error))
            took = time.monotonic() - before
            report.outcomes[target.name, outcome] += 1
            report.inputs, report.bytes = report.inputs + 1, report.bytes + len(data)
            if took > report.slowest:
                report.slowest, report.slowest_number = took, number
            if len(report.failures) == 3 or before - began > seconds:
                break
            if progress is not None and number % 1000 == 0:
                progress.show(f"{report.inputs:,} inputs, {len(report.failures)} failures")
    report.seconds = time.monotonic() - began
    return report


@contextmanager
def _watchdog() -> Iterator[Callable[[], object]]:
    """Give a function that begins the time of the next input; the alarm is given back as it was."""

    def ring(*_: object) -> None:
        raise Hang(f"no end within {limit:g} s")

    limit = HANG_AFTER * float(os.environ.get("PIXIR_TEST_TIME_FACTOR", "1"))
    handler, began = signal.signal(signal.SIGALRM, ring), time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, limit)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001))


def _described(target: Target, number: int, seed: int, data: bytes, error: BaseException) -> str:
    trace = "".join(traceback.format_exception(error, limit=-6))
    shown = base64.b64encode(data).decode()
    shown = shown if len(shown) <= SHOWN_BYTES else f"{shown[:SHOWN_BYTES]}... ({len(data)} bytes)"
    return f"input {number} of seed {seed}, for {target.name}:\n{shown}\n{trace}"


def _with_atheris(*, inputs: int, seed: int, seconds: float) -> None:
    """Let atheris choose; never returns. The first byte of an input chooses the target."""
    import atheris

    with atheris.instrument_imports(include=["pixir_actors"]):
        targets: list[Target] = import_module("tests.long.targets").TARGETS

    def one(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)].check(data[1:], Random(len(data)))

    def spoil(data: bytes, most: int, chance: int) -> bytes:
        rng = Random(chance)
        if not data[1:] or rng.random() < 0.1:
            data = bytes([rng.randrange(len(targets))])
        elif rng.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        target = targets[data[0] % len(targets)]
        return (data[:1] + target.spoil(data[1:] or rng.choice(target.seeds), target.seeds, rng))[:most]

    limits = [f"-runs={inputs}", f"-seed={seed}", f"-max_total_time={int(min(seconds, 1e6))}", f"-timeout={HANG_AFTER:g}"]
    told = ["-max_len=65536", "-print_final_stats=1", f"-artifact_prefix={tempfile.gettempdir()}/"]
    atheris.Setup([sys.argv[0], *limits, *told], one, custom_mutator=spoil)
    atheris.Fuzz()


def main() -> int:
    """Run the command line; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=1200.0, help="end after so many (default: %(default)g)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: %(default)s)")
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    options = parser.parse_args()
    print(f"fuzz: {options.inputs:,} inputs, seed {options.seed}, engine {options.engine}", flush=True)
    if options.engine == "atheris":
        _with_atheris(inputs=options.inputs, seed=options.seed, seconds=options.seconds)
    progress = Progress()
    report = fuzz(
        inputs=options.inputs, seed=options.seed, seconds=options.seconds, first=options.first, progress=progress
    )
    for text in (*report.failures, *report.lines()):
        progress.say(text)
    return 1 if report.failures or (report.inputs < options.inputs and options.seconds == float("inf")) else 0


if __name__ == "__main__":
    sys.exit(main())
