"""Results as tables: for a terminal, and as cells for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.cases.registry import CASES
from benchmarks.peers.registry import CEILING, OURS, PEERS
from benchmarks.results import METRICS, Place, Results, Spread
from benchmarks.targets import TARGETS, Target, targets_of

PIPE_WIDTH: Final = 190


def number(value: float) -> str:
    """Return a number with about three digits that matter."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def ratio(spread: Spread | None) -> str:
    """Return a ratio and its range."""
    if spread is None:
        return ""
    return ranged(spread, "x")


def ranged(spread: Spread, unit: str = "") -> str:
    """Return a median and its range, where there is one."""
    return " ".join(filter(None, (number(spread.middle) + unit, bounds(spread))))


def bounds(spread: Spread) -> str:
    """Return a range in parentheses, nothing where there is none."""
    return "" if spread.size == 1 else f"({number(spread.least)}..{number(spread.most)})"


def label(place: Place) -> str:
    """Return what a row is about."""
    metric = METRICS[place[2]]
    direction = "more is better" if metric.more else "less is better"
    return f"{place[1] + ': ' if place[1] else ''}{metric.title}, {metric.unit} ({direction})"


def cell(results: Results, place: Place, peer: str) -> tuple[str, str]:
    """Return a peer's median, and how ours compares with it, or the range where that says nothing."""
    spread = results.spread(place, peer)
    if spread is None:
        return "", ""
    if not METRICS[place[2]].compare:
        return number(spread.middle), bounds(spread)
    return number(spread.middle), "" if peer == OURS else ratio(results.ratio(place, OURS, peer))


def verdict(results: Results, target: Target) -> tuple[str, str]:
    """Return what was measured of a target, and whether it is reached, or "not measured"."""
    found = target.measured(results)
    if found is None:
        return "", "not measured"
    return ranged(found), target.verdict(found)


def peers_of(results: Results, case: str) -> list[str]:
    """Return who took part in a case, in the order of the columns."""
    there = {peer for place in results.places(case) for peer in results.values[place]}
    return [peer for peer in PEERS if peer in there]


def show(results: Results, console: Console | None = None) -> None:
    """Print everything."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    for case in CASES:
        if results.places(case):
            console.print(_case_table(results, case))
    if any(target_rows(results)):
        console.print(_target_table(results))
    for line in (*ceiling(results), *results.notes):
        console.print(line, highlight=False, soft_wrap=True)


def _case_table(results: Results, case: str) -> Table:
    caption = f"median; below it {OURS} / that peer: median (least..most)"
    table = Table(title=CASES[case].title, caption=caption, show_lines=True)
    table.add_column("")
    peers = peers_of(results, case)
    for peer in peers:
        table.add_column(peer, justify="right")
    table.add_column("target")
    for place in results.places(case):
        cells = ["\n".join(filter(None, cell(results, place, peer))) for peer in peers]
        table.add_row(label(place), *cells, "\n".join(_against(results, place)))
    return table


def _against(results: Results, place: Place) -> Iterator[str]:
    for target in targets_of(place):
        yield f"{target}: {verdict(results, target)[1]}"


def _target_table(results: Results) -> Table:
    table = Table(title="Targets")
    for column in ("case", "what", "target", "measured", ""):
        table.add_column(column)
    for row in target_rows(results):
        table.add_row(*row)
    return table


def target_rows(results: Results) -> Iterator[Sequence[str]]:
    """Yield one row per target of the cases that were run: case, what, target, measured, verdict."""
    for target in TARGETS:
        case, variant, metric = target.place
        if not results.places(case):
            continue
        what = f"{variant + ': ' if variant else ''}{METRICS[metric].title}"
        yield case, what, str(target), *verdict(results, target)


def ceiling(results: Results) -> Iterator[str]:
    """Yield a sentence about the server where its own ceiling was measured."""
    for place in (("burst", "", "event_rate"), ("turns", "", "turn_rate")):
        most, peers = results.spread(place, CEILING), results.values.get(place, {})
        others = [spread.middle for peer in peers if peer != CEILING and (spread := results.spread(place, peer))]
        if most and others:
            given = f"{number(most.middle)} {METRICS[place[2]].unit}"
            share = 100 * max(others) / most.middle
            yield f"The server gave a reader that does nothing {given}; the fastest peer took {share:.0f} % of that."
