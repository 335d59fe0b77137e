"""What each change is worth: rows for a terminal and for Markdown. Pure, but for what prints and writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import markdown
from benchmarks.ablation.cases import FEW, METRICS, PROBES
from benchmarks.ablation.changes import NOISE, Change
from benchmarks.ablation.rounds import SIDES, WITH, WITHOUT, Measured
from benchmarks.results import Place
from benchmarks.table import PIPE_WIDTH, number, ranged

MOST: Final = 6
"""Functions of a profile that are shown."""
SURELY: Final = 3.0
"""By how many standard deviations of counting they differ at least: of a hundred functions, hardly one does so by chance."""
HEAD: Final = ("case", "what", WITHOUT, WITH, f"{WITHOUT} / {WITH}", "less with it in")
PROFILE_HEAD: Final = ("function", f"{WITHOUT}, µs", f"{WITH}, µs", "difference")

METHOD: Final = f"""\
Each change is switched off alone: what stood there before is put back in the program and in its actor system before they
begin. Then the same is measured without the change and with it, against the benchmarks' server. Each round of a change has
new processes for both sides. They do short parts of it by turns, or with many keys one side after the other; a round's value
is the median of its parts. In the tables are medians over the rounds. `{WITHOUT} / {WITH}` is the median of the ratios of
the rounds, with the least and the most of them: what is above 1, the change saves. `{NOISE.name}` is no change: its ratios
are noise, and a change whose ratios say no more than they do saves nothing that can be told from it. Changes overlap: what
two of them save, none of them saves alone. Of memory, of turns among 350 keys and of profiles there are {FEW} rounds at the
most.

Where a profile can tell, the functions follow in which a process differs most: microseconds in the function itself, and in
what it calls that is not Python, for each turn (or ping) of the case. `py-spy` has looked some hundred times a second, and
stopped the process for that. What differs by less than {SURELY:g} standard deviations of counting is not shown, nor is where
the process waits, or wakes another one that may take its core. The last row is all of the process by the kernel's clock,
before anybody looked.
"""


class Difference(NamedTuple):
    """A function whose time differs: microseconds without a change, and with it.

    Attributes:
        deviation: Standard deviation of what it differs by, since it was seen so many times only.
    """

    function: str
    without: float
    with_it: float
    deviation: float

    @property
    def added(self) -> float:
        return self.with_it - self.without


def rows(measured: Measured, change: Change) -> Iterator[Sequence[str]]:
    """Yield a row for each metric of a change, as `HEAD` says."""
    results = measured.values
    for place in ((change.name, case, name) for case, names in change.measured.items() for name in names):
        if place not in results.values:
            continue
        _, case, name = place
        metric, ratio = METRICS[name], results.ratio(place, WITHOUT, WITH)
        sides = [number(spread.middle) if (spread := results.spread(place, side)) else "" for side in SIDES]
        told = "" if ratio is None else ranged(ratio, "x")
        yield PROBES[case].title, f"{metric.title}, {metric.unit}", *sides, told, less_in(measured, place)


def less_in(measured: Measured, place: Place) -> str:
    """Say in how many rounds there was less of it with the change."""
    values = measured.values.values[place]
    pairs = [(values[WITH][at], value) for at, value in values.get(WITHOUT, {}).items() if at in values.get(WITH, {})]
    return f"{sum(with_it < without for with_it, without in pairs)} of {len(pairs)}"


def differences(measured: Measured, change: Change) -> list[Difference]:
    """Return the functions of a change's profiles that differ most, the one that differs most first."""
    places = [place for place in measured.profiles.places(change.name) if place[2] == "self"]
    found = [_difference(measured, place) for place in places]
    return sorted((one for one in found if abs(one.added) > SURELY * one.deviation), key=lambda one: -abs(one.added))[:MOST]


def _difference(measured: Measured, place: Place) -> Difference:
    (without, one), (with_it, other) = (_counted(measured, place, side) for side in SIDES)
    return Difference(place[1], without, with_it, math.sqrt(one + other))


def _counted(measured: Measured, place: Place, side: str) -> tuple[float, float]:
    """Return the mean over the rounds, in microseconds, and its variance: of a number of looks it is that number."""
    looks = measured.profiles.values[place[0], "", "look"][side]
    # A round that has not seen the process in a function has no value, and counts as nothing.
    seen = measured.profiles.values[place].get(side, {})
    variance = sum(value * looks[at] for at, value in seen.items())
    return sum(seen.values()) / len(looks), variance / len(looks) ** 2


def profile_rows(measured: Measured, change: Change) -> Iterator[Sequence[str]]:
    """Yield a row for each function that differs, and one for all, as `PROFILE_HEAD` says; nothing without a profile."""
    place = (change.name, "", "cpu")
    without, with_it = (measured.profiles.spread(place, side) for side in SIDES)
    if without is None or with_it is None:
        return
    for one in differences(measured, change):
        yield one.function, number(one.without), number(one.with_it), f"{one.added:+,.0f} ± {one.deviation:,.0f}"
    added = with_it.middle - without.middle
    yield "all, by the kernel's clock", number(without.middle), number(with_it.middle), f"{added:+,.0f}"


def profile_title(change: Change) -> str:
    """Say what was profiled."""
    assert change.profiled is not None
    case, process = change.profiled
    return f"The {process}'s process. {PROBES[case].title}"


def _begun(measured: Measured, changes: Sequence[Change]) -> list[Change]:
    """Leave out those that an interrupted run has not come to."""
    return [change for change in changes if measured.values.places(change.name)]


def show(measured: Measured, changes: Sequence[Change], console: Console | None = None) -> None:
    """Print everything."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    for change in _begun(measured, changes):
        title = f"{change.name}: {change.what}"
        console.print(_table(title, HEAD, list(rows(measured, change)), left=2))
        if functions := list(profile_rows(measured, change)):
            console.print(_table(profile_title(change), PROFILE_HEAD, functions, left=1))
    for note in measured.values.notes:
        console.print(note, highlight=False, soft_wrap=True)


def _table(title: str, head: Sequence[str], listed: Sequence[Sequence[str]], *, left: int) -> Table:
    table = Table(title=title, min_width=min(len(title) + 2, PIPE_WIDTH // 2))
    for at, column in enumerate(head):
        table.add_column(column, justify="left" if at < left else "right")
    for row in listed:
        table.add_row(*row)
    return table


def write(measured: Measured, changes: Sequence[Change], path: Path) -> None:
    """Write it in Markdown."""
    path.write_text("\n".join(_lines(measured, changes)) + "\n")


def _lines(measured: Measured, changes: Sequence[Change]) -> Iterator[str]:
    facts = measured.values.facts
    yield "# What each change is worth\n"
    yield f"Made by `{facts['command']}`. Make it anew with `make ablation ARGS='--to docs/ablation.md'`.\n"
    yield from markdown.table(["machine", ""], ([name, str(value)] for name, value in facts.items() if name != "command"))
    yield METHOD
    for change in _begun(measured, changes):
        yield f"## {change.name}\n"
        yield f"{change.what[:1].upper()}{change.what[1:]}.\n"
        yield from markdown.table(HEAD, rows(measured, change))
        if functions := list(profile_rows(measured, change)):
            yield f"{profile_title(change)}:\n"
            yield from markdown.table(PROFILE_HEAD, functions)
    if measured.values.notes:
        yield from ("## Notes\n", *(f"- {note}" for note in measured.values.notes))
