"""What `pixir-actors status` shows, as lines of text: no terminal, clock or admin in here.

A terminal that is too narrow gets the more important columns; texts are shortened before a column is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from pixir_actors.cli.terminal import count, duration, printable, share, size
from pixir_actors.status import ConnectionStatus, SystemStatus
from pixir_actors.system.runtime import Runtime

GAP: Final = 2
STYLES: Final = {
    "streaming": "bold green",
    "connecting": "cyan",
    "idle": "green",
    "degraded": "bold red",
    "disconnected": "dim",
    "retiring": "dim",
    "stopped": "dim",
}
ORDER: Final = {state: number for number, state in enumerate(("streaming", "connecting", "degraded", "idle"))}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Admin, actor system and connections at one moment."""

    runtime: Runtime
    system: SystemStatus
    connections: Sequence[ConnectionStatus]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        title: Its head.
        cell: What stands in it.
        right: Numbers stand to the right.
        least: Cells it may be shortened to; 0: it is never shortened.
    """

    title: str
    cell: Callable[[ConnectionStatus], str]
    right: bool = True
    least: int = 0


COLUMNS: Final = (
    Column("KEY", lambda c: printable(c.key), right=False, least=12),
    Column("STATE", lambda c: c.state, right=False),
    Column("MODEL", lambda c: printable(c.model or "-"), right=False, least=8),
    Column("AGE", lambda c: duration(c.age_s)),
    Column("TURNS", lambda c: f"{c.turns}"),
    Column("DELTA", lambda c: share(c.delta_turns, c.turns)),
    Column("SAVED", lambda c: size(c.saved_bytes)),
    Column("QUEUE", lambda c: f"{c.queue_length}"),
    Column("LAST RESET", lambda c: c.last_reset_reason or "-", right=False, least=12),
    Column("WAKES IN", lambda c: duration(c.next_wakeup_s)),
)
IMPORTANCE: Final = ("KEY", "STATE", "TURNS", "DELTA", "SAVED", "MODEL", "AGE", "LAST RESET", "QUEUE", "WAKES IN")
"""The columns from the most important to the first that is left out."""


def overview(snapshot: Snapshot, *, width: int | None = None, height: int | None = None) -> list[Text]:
    """Return the head line and the table.

    Args:
        snapshot: What to show.
        width: Cells of the terminal; None for a pipe, where nothing is left out.
        height: Lines of the terminal, where what does not fit is counted instead; None: all.
    """
    lines = head(snapshot, width=width)
    rows = sorted(snapshot.connections, key=_rank)
    if not rows:
        return [*lines, Text(), Text("no connections yet: `pixir-actors stream KEY TEXT --model MODEL` opens one")]
    room = len(rows) if height is None else max(1, height - len(lines) - 3)
    shown = rows[:room]
    lines += [Text(), *_table(shown, width)]
    if len(shown) < len(rows):
        lines.append(Text(f"and {count(len(rows) - len(shown), 'more connection')}", style="dim"))
    return lines


def head(snapshot: Snapshot, *, width: int | None = None) -> list[Text]:
    """Return what there is to say of the admin and its actor system, in as few lines as the width allows."""
    runtime, system = snapshot.runtime, snapshot.system
    facts = [
        Text(f"pid {runtime.pid}", style="bold"),
        Text(f"port {runtime.port}"),
        Text(f"version {runtime.version}"),
        Text(f"up {duration(system.uptime_s)}"),
        Text(count(system.connections, "connection")),
        Text(count(system.refusals, "refusal"), style="bold red" if system.refusals else ""),
    ]
    if system.draining:
        facts.append(Text("draining", style="bold yellow"))
    return _wrapped(facts, width)


def _wrapped(facts: Iterable[Text], width: int | None) -> list[Text]:
    lines = [Text()]
    for fact in facts:
        if lines[-1] and width is not None and lines[-1].cell_len + GAP + fact.cell_len > width:
            lines.append(Text())
        lines[-1].append_text(Text(" " * GAP if lines[-1] else "")).append_text(fact)
    return lines


def _rank(connection: ConnectionStatus) -> tuple[int, float, str]:
    """What runs first, then what has failed, then what was used last."""
    return ORDER.get(connection.state, len(ORDER)), connection.idle_s, connection.key


def _table(rows: Sequence[ConnectionStatus], width: int | None) -> list[Text]:
    cells = {column.title: [column.cell(row) for row in rows] for column in COLUMNS}
    widths = fit({title: max(map(cell_len, [title, *texts])) for title, texts in cells.items()}, width)
    columns = [column for column in COLUMNS if column.title in widths]
    lines = [Text(_line(_cell(column, column.title, widths) for column in columns), style="bold")]
    for number, row in enumerate(rows):
        line = Text()
        for column in columns:
            style = STYLES.get(row.state, "") if column.title == "STATE" else ""
            line.append(" " * GAP if line else "").append(_cell(column, cells[column.title][number], widths), style=style)
        line.rstrip()
        lines.append(line)
    return lines


def _line(cells: Iterable[str]) -> str:
    return (" " * GAP).join(cells).rstrip()


def fit(widths: dict[str, int], width: int | None) -> dict[str, int]:
    """Return the widths of the columns that are shown: texts are shortened first, then columns left out.

    Args:
        widths: What each column would take.
        width: What there is; None: enough.
    """
    if width is None:
        return widths
    for kept in range(len(IMPORTANCE), 1, -1):
        chosen = {title: wanted for title, wanted in widths.items() if title in IMPORTANCE[:kept]}
        excess = sum(chosen.values()) + GAP * (len(chosen) - 1) - width
        for column in COLUMNS:
            if excess > 0 and column.title in chosen and column.least:
                less = min(excess, max(0, chosen[column.title] - column.least))
                chosen[column.title] -= less
                excess -= less
        if excess <= 0:
            return chosen
    return {title: widths[title] for title in IMPORTANCE[:2]}


def _cell(column: Column, text: str, widths: dict[str, int]) -> str:
    width = widths[column.title]
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    padding = " " * (width - cell_len(text))
    return padding + text if column.right else text + padding


def details(connection: ConnectionStatus, *, typed: str | None = None) -> list[Text]:
    """Return all about one connection, a line for each fact; `typed` is the key that was asked for, if it is known."""
    shown = connection.key if typed in (None, connection.key) else f"{typed} (digest {connection.key})"
    if typed is not None and connection.key == repr(typed):  # of a connection with `expose_keys`
        shown = typed
    facts = [
        ("key", printable(shown)),
        ("state", connection.state),
        ("process", f"{connection.pid}"),
        ("model", printable(connection.model or "-")),
        ("host", printable(connection.host or "-")),
        ("age", duration(connection.age_s)),
        ("idle for", duration(connection.idle_s)),
        ("degraded for", duration(connection.degraded_for_s) if connection.degraded_for_s else "-"),
        ("wakes in", duration(connection.next_wakeup_s)),
        ("queue", f"{connection.queue_length}"),
        ("turns", f"{connection.turns}, {share(connection.delta_turns, connection.turns)} as a delta"),
        ("sent", f"{size(connection.wire_bytes)} of {size(connection.full_bytes)}, {size(connection.saved_bytes)} saved"),
        ("last reset", connection.last_reset_reason or "-"),
        ("sockets", f"{connection.sockets}, {count(connection.replays, 'replay')}"),
        ("failures", f"{connection.failures}, last: {connection.last_error or '-'}"),
    ]
    styles = {"state": STYLES.get(connection.state, "")}
    return [Text.assemble((f"{name:14}", "bold"), (value, styles.get(name, ""))) for name, value in facts]


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return everything as one JSON object."""
    runtime = asdict(snapshot.runtime)
    return {
        # `proof` gives nothing away, and is of no use to anybody but a client.
        "admin": {name: value for name, value in runtime.items() if name != "proof"},
        "system": asdict(snapshot.system),
        "connections": [connection_json(connection) for connection in sorted(snapshot.connections, key=_rank)],
    }


def connection_json(connection: ConnectionStatus) -> dict[str, Any]:
    """Return all fields of a connection."""
    return {**asdict(connection), "saved_bytes": connection.saved_bytes}
