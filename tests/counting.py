"""Counts what a turn costs, in every process that has a part in it: `python -m tests.counting`; prints JSON.

Functions of Thespian and of sockets are wrapped before an actor system is started: its processes are forks of this one,
and inherit the wrapped ones. Each process counts in memory that all of them share, in a row of its own, so that counting
takes no lock. The server is a process that counts nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import orjson
import thespian.system.transport.TCPTransport as transport
from thespian.actors import ActorSystem

from benchmarks.asks import MODEL, Ask
from benchmarks.contest import server
from pixir_actors import Client, Data, Request

ROW: Final = struct.Struct("=8Q")
MESSAGES, PICKLED, SENDS, RECEIVES, PARSED, WRITTEN, REPORTS = range(7)
ROUTINE: Final = frozenset({"Report"})
"""Messages that are sent by the clock, not by the turn: at most one a second."""
TURNS: Final = 20
BURST: Final = 2000
FIRST: Final = 100_000
BODY: Final = 8_000_000


class Counters:
    """Numbers of all processes, by pid. Untouched pages take no memory."""

    def __init__(self) -> None:
        most = int(Path("/proc/sys/kernel/pid_max").read_text())
        self._shared = mmap.mmap(-1, most * ROW.size)

    def add(self, what: int, amount: int = 1) -> None:
        row = list(self.of(os.getpid()))
        row[what] += amount
        ROW.pack_into(self._shared, os.getpid() * ROW.size, *row)

    def of(self, pid: int) -> tuple[int, ...]:
        return ROW.unpack_from(self._shared, pid * ROW.size)


def wrap(counters: Counters) -> None:
    """Count messages that are pickled, bytes of JSON, and calls of sockets, from now on, here and in forks."""

    def dumps(value: Any, *rest: Any) -> bytes:
        text = pickle.dumps(value, *rest)
        # (address, message), and the acknowledgements of the transport, which are no messages
        message = value[1] if isinstance(value, tuple) and len(value) == 2 else None
        if type(message).__name__ in ROUTINE:
            counters.add(REPORTS)
        elif type(message).__module__ in ("pixir_actors.actors.messages", "pixir_actors.actors.control"):
            counters.add(MESSAGES)
            counters.add(PICKLED, len(text))
        return text

    transport.serializer = SimpleNamespace(dumps=dumps, loads=pickle.loads)
    parse, write = orjson.loads, orjson.dumps

    def loads(text: Any) -> Any:
        counters.add(PARSED, len(text))
        return parse(text)

    def written(*arguments: Any, **named: Any) -> bytes:
        text = write(*arguments, **named)
        counters.add(WRITTEN, len(text))
        return text

    orjson.loads, orjson.dumps = loads, written
    for names, what in ((("send", "sendall", "sendmsg"), SENDS), (("recv", "recv_into", "recvmsg"), RECEIVES)):
        for name in names:
            setattr(socket.socket, name, counted(counters, getattr(socket.socket, name), what))


def counted(counters: Counters, call: Callable[..., Any], what: int) -> Callable[..., Any]:
    def counting(self: socket.socket, *arguments: Any, **named: Any) -> Any:
        counters.add(what)
        return call(self, *arguments, **named)

    return counting


class Conversation:
    """Turns of one key, always with the whole history."""

    def __init__(self, client: Client, url: str, counters: Counters) -> None:
        self._client, self._url, self._counters = client, url + "/responses", counters
        self.history: list[Any] = []

    def turn(self, ask: Ask) -> None:
        self.history += ask.input()
        request = Request(self._url, body={"model": MODEL, "input": self.history})
        with self._client.stream("counted", request) as stream:
            events = sum(isinstance(event, Data) for event in stream)
        stream.raise_for_failure()
        assert events == ask.events
        self.history += stream.output

    def first(self, ask: Ask) -> dict[str, float]:
        """Return what the first turn of the key costs this process: it has no connection yet."""
        return self._count([ask], {"client": os.getpid()})

    def count(self, asks: list[Ask]) -> dict[str, float]:
        """Return what so many turns cost, per turn: of this process, and of the key's connection."""
        [status] = self._client.status("counted")
        return self._count(asks, {"client": os.getpid(), "connection": status.pid})

    def _count(self, asks: list[Ask], pids: dict[str, int]) -> dict[str, float]:
        before = {who: self._counters.of(pid) for who, pid in pids.items()}
        for ask in asks:
            self.turn(ask)
        after = {who: self._counters.of(pid) for who, pid in pids.items()}
        names = {"messages": MESSAGES, "pickled": PICKLED, "sends": SENDS, "receives": RECEIVES}
        names |= {"parsed": PARSED, "written": WRITTEN, "reports": REPORTS}
        return {
            f"{who} {name}": (after[who][at] - before[who][at]) / len(asks) for who in pids for name, at in names.items()
        }

    def copies(self) -> dict[str, float]:
        """Return by how many bodies the memory of this process and of the connection's grew at the most.

        The resident memory counts: a JSON parser reserves a dozen times its text, and uses what it needs of that.
        """
        [status] = self._client.status("counted")
        body = b'{"model":"%s","input":%s}' % (MODEL.encode(), json.dumps(Ask(load=BODY).input()).encode())
        request = Request(self._url, body=body)
        pids = {"client": os.getpid(), "connection": status.pid}
        for pid in pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the highest mark so far
        before = {who: memory(pid, "VmRSS") for who, pid in pids.items()}
        with self._client.stream("counted", request) as stream:
            for _ in stream:
                pass
        return {f"{who} copies": (memory(pid, "VmHWM") - before[who]) / len(body) for who, pid in pids.items()}


def memory(pid: int, name: str) -> int:
    """Return a number of bytes of /proc/<pid>/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    counters = Counters()
    wrap(counters)
    with server() as url:
        system = ActorSystem("multiprocTCPBase", {"Admin Port": free_port()}, transientUnique=True)
        try:
            with Client.over(system) as client:
                conversation = Conversation(client, url, counters)
                found = {
                    "first": conversation.first(Ask(load=FIRST)),
                    "turn": conversation.count([Ask()] * TURNS),
                    "burst": conversation.count([Ask(deltas=BURST)]),
                    "body": conversation.copies(),
                }
        finally:
            system.shutdown()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
