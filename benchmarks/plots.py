"""Plots of results, one file each. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.registry import CEILING, OURS, PEERS
from benchmarks.results import METRICS, Place, Results
from benchmarks.table import peers_of

_PALETTE: Final = ("#1b6ca8", "#5aa9e6", "#c44536", "#8d99ae", "#e09f3e", "#6a994e", "#7b2d8b", "#444444", "#b8b8b8")
COLOURS: Final = dict(zip(PEERS, _PALETTE, strict=True))
"""The same colour for a peer in all plots."""
_GROUP: Final = 0.8
"""Share of the axis that a group of bars takes."""


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw what was measured, as PNG files; return those that were made."""
    directory.mkdir(parents=True, exist_ok=True)
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    made = []
    for name, plot in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
        if plot(results, axes):
            path = directory / f"{name}.png"
            # Without a date in it, the same numbers make the same file.
            figure.savefig(path, dpi=120, metadata={"Software": None})
            made.append(path)
        pyplot.close(figure)
    return made


def _bars(places: Sequence[Place], title: str, labels: Sequence[str]) -> Callable[[Results, Any], bool]:
    """Return a plot of bars, a group for each place, with the range of the rounds."""

    def plot(results: Results, axes: Any) -> bool:
        peers = [peer for peer in peers_of(results, places[0][0]) if peer != CEILING]
        if not peers:
            return False
        for at, peer in enumerate(peers):
            found = [(x, spread) for x, place in enumerate(places) if (spread := results.spread(place, peer))]
            width = _GROUP / len(peers)
            heights = [spread.middle for _, spread in found]
            errors = [[s.middle - s.least for _, s in found], [s.most - s.middle for _, s in found]]
            where = [x + (at - (len(peers) - 1) / 2) * width for x, _ in found]
            axes.bar(where, heights, width, yerr=errors, label=peer, color=COLOURS[peer], error_kw={"elinewidth": 0.8})
        axes.set_xticks(range(len(places)), labels)
        _finish(axes, title, METRICS[places[0][2]].unit)
        return True

    return plot


def _lines(case: str, metric: str, title: str, *, per: Callable[[str], float]) -> Callable[[Results, Any], bool]:
    """Return a plot of lines over the variants of a case, both axes logarithmic."""

    def plot(results: Results, axes: Any) -> bool:
        places = [place for place in results.places(case) if place[2] == metric]
        peers = peers_of(results, case)
        if not peers:
            return False
        for peer in peers:
            points = list(_points(results, places, peer, per))
            if points:
                x, middle, least, most = zip(*points, strict=True)
                axes.plot(x, middle, marker="o", label=peer, color=COLOURS[peer], linewidth=2.5 if peer == OURS else 1.2)
                axes.fill_between(x, least, most, color=COLOURS[peer], alpha=0.12)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([per(place[1]) for place in places], [place[1] for place in places])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        _finish(axes, title, METRICS[metric].unit)
        return True

    return plot


def _points(
    results: Results, places: Sequence[Place], peer: str, per: Callable[[str], float]
) -> Iterator[tuple[float, float, float, float]]:
    for place in places:
        spread = results.spread(place, peer)
        if spread is not None and spread.middle > 0:
            yield per(place[1]), spread.middle, spread.least, spread.most


def _finish(axes: Any, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def count(variant: str) -> float:
    """Return the number that a variant's name begins with, in bytes where it is a size."""
    figure, _, unit = variant.partition(" ")
    return float(figure.replace(",", "")) * {"kB": 1e3, "MB": 1e6}.get(unit, 1)


PLOTS: Final = {
    "burst": _bars([("burst", "", "event_rate")], "Burst of 2,000 events (more is better)", [""]),
    "turns": _bars([("turns", "", "turn_rate")], "Turns of 20 events (more is better)", [""]),
    "first": _bars(
        [("turns", "", "first_p50"), ("turns", "", "first_p99")],
        "First event of a warm turn (less is better)",
        ["p50", "p99"],
    ),
    "loop": _bars([("loop", "", "wire")], "A tool loop of 40 turns: bytes of its requests (less is better)", [""]),
    "bodies": _lines("bodies", "warm", "A small turn in a large conversation (less is better)", per=count),
    "bodies-new": _lines("bodies", "new", "A turn that brings so much new input (less is better)", per=count),
    "delays": _lines("streams", "delay_p99", "Delay of an event, p99, streams of 100 events/s (less is better)", per=count),
    "keys": _lines("keys", "turn", "A turn of 20 events, of so many warm keys (less is better)", per=count),
}
