"""Plain websocket-client against pixir_actors, side by side: `python -m benchmarks [--rounds N]`.

Both talk to the same loopback server, in turn within each round, so that a busy moment of the machine hits both. Plain
websocket-client runs with its defaults, in this process, with a delta written by hand; pixir_actors runs embedded: two
process boundaries, held attempts and proofs included. Both read the type of every event, as any caller must to see the
end. What counts is the ratio within a round; the table gives its median and its range.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import orjson
import websocket
from rich.console import Console
from rich.table import Table

from pixir_actors import Client, Data, Request

MODEL: Final = "bench"
TERMINAL: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})
BURST_DELTAS: Final = 2000
TURN_DELTAS: Final = 15
"""With the events around them, about 20 events."""
TURNS: Final = 50

Turn = Callable[[int], int]
"""Ask for so many deltas on a warm connection; returns the events that came."""


def user(deltas: int) -> dict[str, Any]:
    """Return the message that the server answers with so many deltas."""
    return {"type": "message", "role": "user", "content": str(deltas)}


class Plain:
    """What one writes by hand: one socket, one delta per turn."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, timeout=60)
        self._newest: str | None = None

    def turn(self, deltas: int) -> int:
        body: dict[str, Any] = {"type": "response.create", "model": MODEL, "store": False, "input": [user(deltas)]}
        if self._newest is not None:
            body["previous_response_id"] = self._newest
        self._socket.send(orjson.dumps(body).decode())
        count = 1
        while (event := orjson.loads(self._socket.recv()))["type"] not in TERMINAL:
            count += 1
        self._newest = completed(event)["id"]
        return count

    def close(self) -> None:
        self._socket.close()


class Actors:
    """The same conversation through a connection actor, which is always given the whole history."""

    def __init__(self, client: Client, key: str, url: str) -> None:
        self._client, self._key, self._url = client, key, url
        self._history: list[Any] = []

    def turn(self, deltas: int) -> int:
        self._history.append(user(deltas))
        request = Request(self._url, body={"model": MODEL, "input": self._history})
        with self._client.stream(self._key, request) as stream:
            types = [event.type for event in stream if isinstance(event, Data)]
        stream.raise_for_failure()
        self._history += stream.output
        return len(types)

    def close(self) -> None:
        self._client.close(self._key)


def completed(event: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a terminal event.

    Raises:
        RuntimeError: The response is not complete, so there is nothing to measure.
    """
    if event["type"] != "response.completed":
        raise RuntimeError(f"the server answered {event['type']}")
    response: dict[str, Any] = event["response"]
    return response


@dataclass
class Contest:
    """One measurement, repeated: rates per second, one of each side per round."""

    name: str
    unit: str
    rate: Callable[[Turn], float]
    plain: list[float] = field(default_factory=list)
    actors: list[float] = field(default_factory=list)

    def row(self) -> list[str]:
        ratios = [ours / theirs for ours, theirs in zip(self.actors, self.plain, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rates = [f"{median(rates):,.0f} {self.unit}" for rates in (self.plain, self.actors)]
        return [self.name, *rates, f"{median(ratios):.2f}", spread]


def burst(turn: Turn) -> float:
    """Return events per second of one long stream."""
    started = time.perf_counter()
    events = turn(BURST_DELTAS)
    return events / (time.perf_counter() - started)


def turns(turn: Turn) -> float:
    """Return turns per second, one after another."""
    started = time.perf_counter()
    for _ in range(TURNS):
        turn(TURN_DELTAS)
    return TURNS / (time.perf_counter() - started)


def play(contest: Contest, client: Client, url: str, number: int) -> None:
    """Measure both sides once, each on a fresh conversation that is warm; who goes first alternates."""
    with closing(Plain(url)) as plain, closing(Actors(client, f"{contest.name}-{number}", url)) as actors:
        sides: list[tuple[Turn, list[float]]] = [(plain.turn, contest.plain), (actors.turn, contest.actors)]
        for turn, rates in sides if number % 2 else reversed(sides):
            turn(TURN_DELTAS)
            rates.append(contest.rate(turn))


@contextmanager
def server() -> Iterator[str]:
    """Run the server in its own process and yield its URL."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the benchmark's server did not start")
            yield url
        finally:
            process.stdin.close()  # which ends it


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast events arrive, as ratios.")
    parser.add_argument("--rounds", type=int, default=7, help="how often each side is measured (default 7)")
    rounds = max(1, parser.parse_args().rounds)
    contests = [
        Contest(f"burst of {BURST_DELTAS} deltas", "events/s", burst),
        Contest(f"turns of {TURN_DELTAS} deltas", "turns/s", turns),
    ]
    with ExitStack() as stack:
        url = stack.enter_context(server())
        client = stack.enter_context(Client.embedded())
        for number in range(rounds):
            for contest in contests:
                play(contest, client, url, number)
    show(contests, rounds)


def show(contests: list[Contest], rounds: int) -> None:
    table = Table(title=f"medians of {rounds} interleaved rounds; ratio: pixir_actors / websocket-client")
    for column in ("", "websocket-client", "pixir_actors", "ratio", "range"):
        table.add_column(column, justify="left" if not column else "right")
    for contest in contests:
        table.add_row(*contest.row())
    Console().print(table)


if __name__ == "__main__":
    main()
