"""Where the time of a warm turn goes, process by process: `python -m benchmarks.profile`.

CPU by the kernel's clocks over some turns, then system calls, messages and bytes by `strace` over fewer of them. Made to be
run before a change and after it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.asks import AROUND, Ask
from benchmarks.contest import server
from benchmarks.meter import adopt_orphans, below, cpu_of, percentile, switches_of
from benchmarks.peers.base import Peer, Record
from benchmarks.peers.registry import CEILING, FLOOR, OURS, PEERS
from benchmarks.server.loop import stats
from benchmarks.table import number
from benchmarks.tracing import Calls, may_trace, traced

WARM_UP = 20


@dataclass(frozen=True)
class Usage:
    """What a process has used so far.

    Attributes:
        cpu: Seconds of CPU.
        switches: Times that it waited for something.
        preempted: Times that it was made to wait.
    """

    cpu: float
    switches: int
    preempted: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        return cls(cpu_of(pid), *switches_of(pid))


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    adopt_orphans()
    before = set(below(os.getpid()))
    ask = Ask(deltas=max(1, options.events - AROUND))
    with server() as url:
        [server_pid] = set(below(os.getpid())) - before
        peer = PEERS[options.peer].make(url)
        try:
            peer.play("profile", [ask] * WARM_UP)
            names = {pid: role(pid, server_pid) for pid in (os.getpid(), *below(os.getpid())) if pid not in before}
            console = Console()
            if not console.is_terminal:
                console.width = 160
            console.print(_times(peer, ask, options.turns, names, url))
            if (reason := may_trace()) is None:
                console.print(_calls(peer, ask, options.traced, names, url))
            else:
                console.print(f"System calls are not counted: {reason}.")
        finally:
            peer.close()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    known = [peer for peer in PEERS if peer not in (CEILING, FLOOR)]
    parser.add_argument("--peer", choices=known, default=OURS, metavar="NAME", help=f"one of {', '.join(known)}")
    parser.add_argument("--events", type=int, default=20, help="events of a turn (default 20)")
    parser.add_argument("--turns", type=int, default=100, help="turns to measure (default 100)")
    parser.add_argument("--traced", type=int, default=30, help="turns to trace (default 30)")
    return parser.parse_args(arguments)


def role(pid: int, server_pid: int) -> str:
    """Return what a process is, as its name says."""
    if pid == server_pid:
        return "server"
    return "client" if pid == os.getpid() else Path(f"/proc/{pid}/comm").read_text().strip()


def _times(peer: Peer, ask: Ask, turns: int, names: dict[int, str], url: str) -> Table:
    before, served = {pid: Usage.of(pid) for pid in names}, stats(url)
    began = time.perf_counter()
    records = peer.play("profile", [ask] * turns)
    seconds = time.perf_counter() - began
    after, now = {pid: Usage.of(pid) for pid in names}, stats(url)
    sent = (now["request_bytes"] - served["request_bytes"]) / turns
    table = Table(title=f"{turns} warm turns of {ask.events} events: {_summary(records)}; {sent:,.0f} bytes of request")
    for column in ("process", "CPU of a turn, ms", "share", "waits per turn", "preempted per turn"):
        table.add_column(column, justify="left" if column == "process" else "right")
    total = sum(after[pid].cpu - before[pid].cpu for pid in names)
    for pid, name in names.items():
        cpu = after[pid].cpu - before[pid].cpu
        waits = (after[pid].switches - before[pid].switches) / turns
        preempted = (after[pid].preempted - before[pid].preempted) / turns
        table.add_row(name, f"{cpu / turns * 1e3:.3f}", f"{100 * cpu / total:.0f} %", number(waits), number(preempted))
    table.add_section()
    table.add_row("all", f"{total / turns * 1e3:.3f}", f"{100 * total / seconds:.0f} % of a core", "", "")
    return table


def _summary(records: Sequence[Record]) -> str:
    whole, first = ([r.seconds * 1e3 for r in records], [r.first_after * 1e3 for r in records])
    each = f"{median(whole):.2f} ms each at the median, {sum(whole) / len(whole):.2f} on average"
    return f"{each}, first event {median(first):.2f} ms (p99 {percentile(first, 99):.2f})"


def _calls(peer: Peer, ask: Ask, turns: int, names: dict[int, str], url: str) -> Table:
    port = int(url.rpartition(":")[2].partition("/")[0])
    with traced(names, port) as found:
        peer.play("profile", [ask] * turns)
    table = Table(title=f"System calls per turn ({turns} turns of {ask.events} events, traced)")
    columns = ("process", "calls", "per event", "writes to actors", "bytes", "to channel", "bytes", "to provider", "bytes")
    for column in columns:
        table.add_column(column, justify="left" if column == "process" else "right")
    table.add_column("most often")
    for pid, calls in found.items():
        if calls.names:
            table.add_row(names[pid], *_row(calls, turns, ask.events))
    return table


def _row(calls: Calls, turns: int, events: int) -> list[str]:
    total = sum(calls.names.values()) / turns
    cells = [number(total), number(total / events)]
    for target in ("actors", "channel", "provider"):
        cells += [number(calls.sent[target] / turns), number(calls.bytes_sent[target] / turns)]
    return [*cells, ", ".join(f"{name} {number(count / turns)}" for name, count in calls.names.most_common(5))]


if __name__ == "__main__":
    main()
