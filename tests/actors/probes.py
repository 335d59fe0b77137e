"""Actors that misbehave on purpose, or tell what happened to them. A message is a tuple: a verb and its arguments."""

from __future__ import annotations

import os
from typing import Any

from thespian.actors import Actor, ActorExitRequest

from pixir_actors.actors.shell import ShellActor


class Probe(ShellActor):
    """Counts what it handles, raises on demand, and keeps what it returned to Thespian for each kind of message."""

    def __init__(self, capabilities: dict[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(capabilities, **rest)
        self.handled: list[str] = []
        self.rung: list[tuple[str, int]] = []
        self.defects = 0
        self.woken = 0
        self.returned: dict[str, list[int] | None] = {}
        self.asker: Any = None
        self.wanted_busy = False
        self.pipe: tuple[int, int] | None = None

    @property
    def busy(self) -> bool:
        return self.wanted_busy

    def receiveMessage(self, message: Any, sender: Any) -> Any:
        result = super().receiveMessage(message, sender)
        self.returned[type(message).__name__] = None if result is None else list(result.filenos)
        return result

    def handle(self, message: Any, sender: Any) -> None:
        match message:
            case ("raise", text):
                self.handled.append("raise")
                raise ValueError(text)
            case ("count",):
                self.send(sender, (self.handled.count("raise"), self.defects))
            case ("returned",):
                self.send(sender, (self.watch.fileno(), self.returned, self.woken, self.rung))
            case ("wake", delay, name, token):
                self.wake_after(delay, name, token)
            case ("wake instead", name):
                self.wake_instead(0.01, name, 1)
                self.wake_instead(0.02, name, 2)
            case ("child",):
                self.send(self.createActor(Mayfly), "end")
            case ("poison",):
                self.send(self.createActor(Clumsy), "anything")
            case ("pipe",):
                self.pipe = os.pipe()
                self.watch.add(self.pipe[0], self._readable)
                os.write(self.pipe[1], b"x")
            case _:
                self.handled.append(type(message).__name__)

    def rang(self, name: str, token: int) -> None:
        self.rung.append((name, token))

    def defect(self) -> None:
        self.defects += 1

    def exiting(self, sender: Any) -> None:
        if self.pipe is not None:
            for fd in self.pipe:
                os.close(fd)

    def _readable(self, _: bool) -> None:
        assert self.pipe is not None
        os.read(self.pipe[0], 1)
        self.woken += 1


class Mayfly(Actor):
    """Ends with the first message."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if message == "end":
            self.send(self.myAddress, ActorExitRequest())


class Clumsy(Actor):
    """Raises at everything, so that its message comes back as a PoisonMessage."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if message == "anything":
            raise RuntimeError("clumsy")
