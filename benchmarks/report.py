"""docs/performance.md: `python -m benchmarks --report FILE`, or from saved values: `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from benchmarks.cases.many import WIDTH, Idle, Keys
from benchmarks.cases.registry import CASES
from benchmarks.markdown import table
from benchmarks.peers.registry import OURS
from benchmarks.plots import draw
from benchmarks.results import Results
from benchmarks.scale import SCALES
from benchmarks.table import ceiling, cell, label, peers_of, target_rows

PLOTS_OF: Final = {
    "burst": ("burst",),
    "turns": ("turns", "first"),
    "loop": ("loop",),
    "bodies": ("bodies", "bodies-new"),
    "streams": ("delays",),
    "keys": ("keys",),
}

METHOD: Final = f"""\
Everybody talks to the same server, a process of its own on the loopback interface: one epoll loop that answers with frames
encoded beforehand, in one write where the case does not ask for a rate. Each peer runs in a process of its own. The peers
take their turns within each round, and each round begins with another one, so that a busy moment of the machine hits all of
them; warm-ups are not measured. Every peer looks at the type of each event and at the text of each delta, and a turn in
which a delta is missing is an error.

- `{OURS}`: `Client.embedded()`, always given the whole history: two process boundaries, held attempts and proofs included.
  `{OURS} async`: the same with `AsyncClient`.
- `websocket-client`: with its defaults, the continuation written by hand. `full replay`: the same without a continuation.
- `openai`: `client.responses.connect()`, the continuation written by hand.
- `openai-agents`: `OpenAIResponsesWSModel`, given the response to continue from.
- `pydantic-ai`: `OpenAIResponsesModel` with `openai_transport="websocket"`, which continues by itself.
- `server's ceiling`: a bare socket that looks for the end of the answer alone.
- `bare processes`: one for each key, as with `{OURS}`, but there is nothing in it: a fork that hands bytes to and fro, and
  pings. What it takes is what a process per key costs, whatever is done there.

In the tables, the first number is the median of the rounds. The second is `{OURS}` / that peer: the median of the ratios of
the rounds, with the least and the most of them; where a ratio would say nothing, it is the least and the most of the values.
CPU and memory are those of the peer's process and all below it. A target is reached if the median is within it; where rounds
differ about that, it is said.

Warm keys are set up anew in each of {Keys.rounds} rounds, by new processes: one key, then 100, then 1,000 in all, {WIDTH} of
them started at once; turns and memory after each of these steps; then they are shut down. `{OURS}` goes through all of that
alone, and so do bare processes, in one round before all others and in the next after them: nobody else has keys meanwhile.
The others are set up one after another.

Every turn of warm keys that is measured is the second one of its conversation, so that the history is the same whatever the
number of keys.

- *A turn*, which the target is about: of a key taken at random that has not been used since its first turn. One key alone is
  used again and again: it starts its conversation over, on the connection that there is, and has its first turn unmeasured.
- *A turn of the key that was used last*: with many keys the same that one key alone does, for comparison.

Keys that nobody uses are another 1,000 of each peer. Each peer's are opened, and measured at once for the
{SCALES["full"].idle:.0f} s that follow, more than the interval of pings: a process's first ping meets memory that it still
shares. All of them are there then for {Idle.rounds} rounds of {SCALES["full"].idle:.0f} s, everybody's at the same time, the
first of which begins {SCALES["full"].settle:.0f} s later: channels that nobody uses are closed after a minute. The target is
about these rounds, since a connection may be idle for half an hour.
"""


def write(results: Results, path: Path, busy: Results | None = None) -> Path:
    """Write the report to `path`, and its plots to a directory beside it.

    Args:
        busy: Another run, of a busy machine, whose ratios stand beside.
    """
    plots = draw(results, path.parent / path.stem)
    path.write_text("\n".join(_lines(results, {plot.stem: f"{path.stem}/{plot.name}" for plot in plots}, busy)) + "\n")
    return path


def _lines(results: Results, plots: dict[str, str], busy: Results | None) -> Iterator[str]:
    yield "# What it costs\n"
    yield f"Made by `{results.facts['command']}`. Make it anew with `make bench-report`.\n"
    yield from _facts(results)
    yield from ("## Targets\n", *_targets(results, busy))
    yield from ("## How it is measured\n", METHOD, *ceiling(results), "")
    for case in CASES:
        if results.places(case):
            yield f"## {CASES[case].title}\n"
            yield from (f"![{name}]({plots[name]})\n" for name in PLOTS_OF.get(case, ()) if name in plots)
            yield from _case(results, case)
    if busy is not None:
        yield from _busy(busy)
    if results.notes:
        yield from ("## Notes\n", *(f"- {note}" for note in results.notes))


def _facts(results: Results) -> Iterator[str]:
    yield from table(["machine", ""], ([name, str(value)] for name, value in results.facts.items() if name != "command"))


def _targets(results: Results, busy: Results | None) -> Iterator[str]:
    head = ["case", "what", "target", "measured", ""]
    rows: Iterator[Sequence[str]] = target_rows(results)
    if busy is None:
        yield from table(head, rows)
        return
    others = {row[:3]: row[3:] for row in map(tuple, target_rows(busy))}
    beside = ((*row, *others.get(tuple(row[:3]), ("", "not measured"))) for row in rows)
    yield from table([*head, "on a busy machine", ""], beside)


def _case(results: Results, case: str) -> Iterator[str]:
    peers = peers_of(results, case)
    rows = (
        [label(place), *("<br>".join(filter(None, cell(results, place, peer))) for peer in peers)]
        for place in results.places(case)
    )
    yield from table(["", *peers], rows)


def _busy(busy: Results) -> Iterator[str]:
    yield "## The same on a busy machine\n"
    yield f"Made by `{busy.facts['command']}`.\n"
    yield from _facts(busy)
    for case in CASES:
        if busy.places(case):
            yield f"### {CASES[case].title}\n"
            yield from _case(busy, case)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Write the report from saved values.")
    parser.add_argument("values", type=Path, help="what `python -m benchmarks --json FILE` has written")
    parser.add_argument("--busy", type=Path, metavar="FILE", help="values of a busy machine, to stand beside")
    parser.add_argument("--to", type=Path, default=Path("docs/performance.md"), metavar="FILE")
    options = parser.parse_args()
    busy = _read(options.busy) if options.busy else None
    print(f"written: {write(_read(options.values), options.to, busy)}")


def _read(path: Path) -> Results:
    return Results.from_json(orjson.loads(path.read_bytes()))


if __name__ == "__main__":
    main()
