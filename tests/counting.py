"""Counts what a turn costs, in both processes that have a part in it: `python -m tests.counting embedded`; prints JSON.

With `over` in place of `embedded`, on a host's own actor system, plain Thespian; pings are not counted there. The server is
a process that counts nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from thespian.actors import ActorSystem

from benchmarks.asks import MODEL, Ask
from benchmarks.contest import server
from pixir_actors import Client, Data, Request
from pixir_actors.simulator import Reply, Simulator
from tests.conftest import until, within
from tests.counters import Counters, wrap, wrap_guardians

TURNS: Final = 20
BURST: Final = 2000
FIRST: Final = 100_000
BODY: Final = 8_000_000
APART: Final = 20
"""Events that come one by one."""
PINGS: Final = 20
KEEPALIVE: Final = 0.1
"""Seconds between two of them."""
PONG_TIMEOUT: Final = within(0.95)
"""Seconds after which a connection would miss a pong: an alarm that rings although it came counts with later pings."""
SETTLED: Final = PONG_TIMEOUT + 1.1
"""Seconds behind a turn after which its last report has been sent, and pings cost what they always do."""

Found = dict[str, float]


class Conversation:
    """Turns of one key, always with the whole history."""

    def __init__(self, client: Client, url: str, counters: Counters, key: str = "counted", **options: Any) -> None:
        self._client, self._url, self._counters = client, url + "/responses", counters
        self._key, self._options = key, options
        self.history: list[Any] = []

    @property
    def pid(self) -> int:
        """The process of the key's connection."""
        [status] = self._client.status(self._key)
        assert status.pid is not None
        return status.pid

    def turn(self, ask: Ask) -> None:
        self.history += ask.input()
        request = Request(self._url, body={"model": MODEL, "input": self.history})
        with self._client.stream(self._key, request, **self._options) as stream:
            events = sum(isinstance(event, Data) for event in stream)
        stream.raise_for_failure()
        assert events == ask.events
        self.history += stream.output

    def first(self, ask: Ask) -> Found:
        """Return what the first turn of the key costs this process: it has no connection yet."""
        with self._counting({"client": os.getpid()}) as found:
            self.turn(ask)
        return found

    def count(self, asks: list[Ask]) -> Found:
        """Return what so many turns cost, per turn: of this process, and of the key's connection."""
        with self._counting({"client": os.getpid(), "connection": self.pid}, len(asks)) as found:
            for ask in asks:
                self.turn(ask)
        return found

    def idle(self) -> Found:
        """Return what a ping and its pong cost while nothing else happens; the key had its turn before."""
        pid = self.pid

        def sent() -> int:
            return self._counters.of(pid)["sends"]

        before, woken = sent(), wakeups(pid)
        with self._counting({"client": os.getpid(), "connection": pid}, PINGS) as found:
            assert until(lambda: sent() >= before + PINGS, 60)
            found["connection wakeups"] = (wakeups(pid) - woken) / PINGS
        return found

    def one_by_one(self, sim: Simulator, released: threading.Event) -> Found:
        """Return what it costs per event when each is sent as soon as the one before was received.

        One that is held back for the next never comes, until the stream is released.
        """
        request = Request(self._url, body={"model": MODEL, "input": "as they come"})
        with self._client.stream(self._key, request, **self._options) as stream:
            events = (event.json() for event in stream if isinstance(event, Data))
            while next(events)["type"] != "response.output_item.done":
                pass
            with self._counting({"client": os.getpid(), "connection": self.pid}, APART) as found:
                for number in range(APART):
                    sim.push({"type": "response.output_text.delta", "output_index": 0, "delta": f"{number}"})
                    assert next(events)["delta"] == f"{number}"
            released.set()
            assert [event["type"] for event in events] == ["response.completed"]
        return found

    @contextmanager
    def _counting(self, pids: Mapping[str, int], times: int = 1) -> Iterator[Found]:
        """Yield what is filled, as the block ends, with how often each thing happened in it, divided by `times`."""
        found: Found = {}
        before = {who: self._counters.of(pid) for who, pid in pids.items()}
        yield found
        for who, pid in pids.items():
            after = self._counters.of(pid)
            found |= {f"{who} {name}": (after[name] - count) / times for name, count in before[who].items()}

    def copies(self) -> Found:
        """Return by how many bodies the memory of this process and of the connection's grew at the most.

        The resident memory counts: a JSON parser reserves a dozen times its text, and uses what it needs of that.
        """
        body = b'{"model":"%s","input":%s}' % (MODEL.encode(), json.dumps(Ask(load=BODY).input()).encode())
        request = Request(self._url, body=body)
        pids = {"client": os.getpid(), "connection": self.pid}
        for pid in pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the highest mark so far
        before = {who: memory(pid, "VmRSS") for who, pid in pids.items()}
        with self._client.stream(self._key, request) as stream:
            for _ in stream:
                pass
        return {f"{who} copies": (memory(pid, "VmHWM") - before[who]) / len(body) for who, pid in pids.items()}


def memory(pid: int, name: str) -> int:
    """Return a number of bytes of /proc/<pid>/status."""
    return 1024 * int(_status(f"/proc/{pid}/status", name).split()[0])


def wakeups(pid: int) -> int:
    """Return how often the threads of a process have waited for something."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int(_status(f"{thread}/status", "voluntary_ctxt_switches")) for thread in threads)


def _status(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(name + ":"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def over() -> Iterator[Client]:
    system = ActorSystem("multiprocTCPBase", {"Admin Port": free_port()}, transientUnique=True)
    try:
        with Client.over(system) as client:
            yield client
    finally:
        system.shutdown()


def counted(client: Client, url: str, counters: Counters) -> dict[str, Found]:
    conversation = Conversation(client, url, counters)
    return {
        "first": conversation.first(Ask(load=FIRST)),
        "turn": conversation.count([Ask()] * TURNS),
        "burst": conversation.count([Ask(deltas=BURST)]),
        "body": conversation.copies(),
        "event": counted_events(client, counters),
    }


def counted_events(client: Client, counters: Counters) -> Found:
    """Return what events cost that come one by one; the server is in this process, so that not all of it counts."""
    released = threading.Event()
    late = threading.Timer(within(10), released.set)
    late.start()
    try:
        with Simulator([Reply.text("warm"), Reply.text("x").held(released, "terminal")]) as sim:
            conversation = Conversation(client, sim.base_url, counters, "events")
            client.respond("events", Request(sim.base_url + "/responses", body={"model": MODEL, "input": "warm"}))
            found = conversation.one_by_one(sim, released)
    finally:
        released.set()
        late.cancel()
    return {name: count for name, count in found.items() if "connection" in name or name == "client deliveries"}


def main() -> None:
    bases = {"embedded": Client.embedded, "over": over}
    with tempfile.NamedTemporaryFile() as file, server() as url:
        counters = Counters(file.name)
        wrap(counters)
        wrap_guardians(counters)
        with bases[sys.argv[1]]() as client:
            idle = Conversation(client, url, counters, "idle", keepalive_interval=KEEPALIVE, pong_timeout=PONG_TIMEOUT)
            idle.turn(Ask())
            settled = time.monotonic() + SETTLED
            found = counted(client, url, counters)
            if sys.argv[1] == "embedded":
                time.sleep(max(0.0, settled - time.monotonic()))
                found["ping"] = idle.idle()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
