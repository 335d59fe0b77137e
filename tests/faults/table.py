"""The page docs/faults.md, made of what the matrix saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.faults.matrix import PHASES
from tests.faults.row import Outcome, Row

HEAD = """
# Faults, and what comes of them

Each row is one fault at one point of a request, played against the simulator by `tests/faults/`: on a key that has nothing
to continue yet (*cold*), and on one whose last response can be continued (*continued*); *both* where that changes nothing.
The tests compare what was seen with what the promises of this package demand, and this page with what was seen.
`make faults` writes it anew.

* **outcome**: the error's code, with its status or close code; *final* is not retryable, *again in* is the provider's own
  `retry_after`. Or the request was *answered*, or *recovered* (it took more than one attempt, of which its caller saw one),
  as a *delta* or in *full* with the reset reason. *left*: its caller ended it, and gets no error.
* **delivery**: the verdict, see the README.
* **sent**: how many requests the server received for it: two only where it had refused the first, or where the caller had
  asked for `retry_ambiguous`.
* **within**: the option that bounds it; *at once*: no limit is waited for.
* **next turn**: how the key's next turn goes out. *window*: until its end the key answers `websocket_degraded`, not sent.
"""

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
