"""The page docs/faults.md, made of what the matrix saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.faults.matrix import PHASES, Outcome, Row

Seen = tuple[Row, Outcome | None, Outcome | None]


def table(rows: Iterable[Seen]) -> str:
    """Return the whole page. The rows keep their order within their phase."""
    by_phase: dict[str, list[Seen]] = {phase: [] for phase in PHASES}
    for seen in rows:
        by_phase[seen[0].phase].append(seen)
    lines = [HEAD.strip(), ""]
    for phase, found in by_phase.items():
        if found:
            lines += [f"## {phase[0].upper()}{phase[1:]}", "", f"{PHASES[phase][0].upper()}{PHASES[phase][1:]}.", ""]
            lines += [*_section(found), ""]
    return "\n".join(lines)


def _section(found: list[Seen]) -> Iterator[str]:
    yield "| fault | key | outcome | delivery | sent | within | next turn |"
    yield "|---|---|---|---|---|---|---|"
    for row, cold, continued in found:
        keys = [("both", cold)] if cold == continued else [("cold", cold), ("continued", continued)]
        fault = row.fault
        for key, outcome in keys:
            if outcome is not None:
                yield f"| {fault} | {key} | {' | '.join(_cells(row, outcome))} |"
                fault = ""


def _cells(row: Row, outcome: Outcome) -> list[str]:
    return [outcome.what, outcome.verdict, str(outcome.sent), row.limit, outcome.then]
HEAD = ""
