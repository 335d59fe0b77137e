"""A host's own Thespian actor that talks to the supervisor and to a connection itself, with the public messages.

`Scribe` asks the supervisor for a key's connection, submits requests to it, takes the frames as messages, and is told
when the connection ends. Beside it, `Client.over` serves the rest of the host from the same actor system, and reaches the
same connection. `pixir_actors/actors/messages.py` describes each message.

    Scribe                          supervisor            connection
      │  EnsureStarted(notify=True) ──►│                      │
      │◄── Started(address)            │                      │
      │  Submit ─────────────────────────────────────────────►│
      │◄── Accepted ──────────────────────────────────────────│
      │◄── Batch(frames) ─────────────────────────────────────│     at most one that is not acknowledged
      │  BatchAck ───────────────────────────────────────────►│
      │◄── ConnectionDown              │                      │     when its process ends

This actor system is the host's: plain Thespian, which listens on every interface and authenticates nobody. Put it where
only its own programs reach it; `Client.embedded()` makes one that is on loopback and signed. (The file `thespian.log` in the
temporary directory is Thespian's own; THESPLOG_FILE_MAXSIZE=0 in the environment switches it off.)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from _provider import Item, errors_in_one_line, provider
from thespian.actors import ActorSystem, ActorTypeDispatcher

from pixir_actors import Client, Data, Event, Metadata, Request, Settings
from pixir_actors.actors import messages as m
from pixir_actors.actors.supervisor import SupervisorActor

KEY = "scribe"
PATIENCE = 30
"""Seconds to wait for an answer of the actor."""


@dataclass(frozen=True)
class Ask:
    """Have a request answered. Sent to `Scribe`, answered with `Answer`."""

    request: Request


@dataclass(frozen=True)
class Answer:
    """The answer to `Ask`: the output items, and what was sent for them; or nothing, and why."""

    output: list[Item]
    evidence: str


@dataclass(frozen=True)
class Ends:
    """Ask what has become of the connections. Sent to `Scribe`, answered with a list of words."""


class Scribe(ActorTypeDispatcher):  # type: ignore[misc]  # Thespian has no types
    """Answers one `Ask` at a time. Its handlers never wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asker: Any = None
        self.request: Request | None = None
        self.number = 0
        self.evidence: dict[str, Any] = {}
        self.output: list[Item] = []
        self.ends: list[str] = []

    def receiveMsg_Ask(self, ask: Ask, sender: Any) -> None:
        """Ask for the connection each time: that costs a message, and is right also after the last one has ended."""
        self.asker, self.request = sender, ask.request
        self._find()

    def _find(self) -> None:
        self.number += 1
        supervisor = self.createActor(SupervisorActor, globalName=m.SUPERVISOR_NAME)
        self.send(supervisor, m.EnsureStarted.of(self.number, KEY, Settings(), notify=True))

    def receiveMsg_Started(self, started: m.Started, supervisor: Any) -> None:
        """Submit the request. It names no channel, so its frames come as messages."""
        if started.ask_id == self.number and self.request is not None:
            self.send(started.address, m.Submit.of(self.number, KEY, self.request, Settings()))

    def receiveMsg_Batch(self, batch: m.Batch, connection: Any) -> None:
        """Take frames, and have the next ones sent."""
        for request_id, event in batch.events():
            if request_id == self.number:
                self._take(event)
        self.send(connection, m.BatchAck(batch.sequence))

    def _take(self, event: Event | m.Ended) -> None:
        """Take one event; the last one of a request says how it ended."""
        match event:
            case Metadata():
                self.evidence |= event.values
            case Data() if event.type == "response.completed":
                self.output = event.json()["response"]["output"]
            case m.Ended():
                self._end(event)

    def _end(self, ended: m.Ended) -> None:
        if ended.failure is None:
            sent = self.evidence
            how = sent["continuation_reset_reason"] or "delta"
            self._answer(Answer(self.output, f"{sent['wire_bytes']} of {sent['full_bytes']} bytes sent: {how}"))
        elif ended.moved:
            self._find()  # that connection was about to end and has not touched the request: there will be another
        else:
            self._give_up(ended.failure.code)

    def receiveMsg_StartRefused(self, refused: m.StartRefused, supervisor: Any) -> None:
        """There is no connection to be had."""
        self._give_up(refused.failure.code)

    def receiveMsg_Refused(self, refused: m.Refused, connection: Any) -> None:
        """The connection does not take the request."""
        self._give_up(refused.failure.code)

    def receiveMsg_ConnectionDown(self, down: m.ConnectionDown, supervisor: Any) -> None:
        """The connection has ended; what was under way on it gets no answer."""
        self.ends.append("crashed" if down.crashed else "closed")
        self._give_up("connection down")

    def receiveMsg_Ends(self, _: Ends, sender: Any) -> None:
        """Say how connections have ended."""
        self.send(sender, list(self.ends))

    def _give_up(self, reason: str) -> None:
        self._answer(Answer([], f"no answer: {reason}"))

    def _answer(self, answer: Answer) -> None:
        if self.asker is not None:
            self.send(self.asker, answer)
            self.asker = None


@contextmanager
def host_system() -> Iterator[Any]:
    """Yield the host's actor system, on a free port; shut it down at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    system = ActorSystem("multiprocTCPBase", {"Admin Port": port}, transientUnique=True)
    try:
        yield system
    finally:
        system.shutdown()


def main() -> None:
    """Let the actor and a client take turns on one connection."""
    with provider() as there, host_system() as system, Client.over(system) as client:
        scribe = system.createActor(Scribe)
        history: list[Item] = []
        for question in ("Hello from an actor.", "Hello again."):
            history.append({"role": "user", "content": question})
            answer = system.ask(scribe, Ask(there.request(history)), PATIENCE)
            print(f"actor:  {answer.evidence}")
            history += answer.output
        history.append({"role": "user", "content": "Hello from a client."})
        with client.stream(KEY, there.request(history)) as stream:
            for _ in stream:
                pass
            stream.raise_for_failure()
        print(f"client: {stream.metadata['wire_bytes']} of {stream.metadata['full_bytes']} bytes sent, on the same socket")
        client.close(KEY)
        deadline = time.monotonic() + PATIENCE
        while not (ends := system.ask(scribe, Ends(), PATIENCE)) and time.monotonic() < deadline:
            time.sleep(0.01)
        print(f"client: closed the connection; the actor has heard: {', '.join(ends)}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
