"""Small actors for the tests of the actor system itself. A message is a tuple: a verb and its arguments."""

from __future__ import annotations

import logging
import os
import signal
import socket
from datetime import timedelta
from pathlib import Path

from thespian.actors import Actor, ThespianWatch, WakeupMessage, WatchMessage

from pixir_actors.system.signed import refusals, total_refusals

early = logging.getLogger("pixir_actors.tests.early")
"""Made when this module is imported, as the package's own loggers are."""


class Helper(Actor):
    """Answers what it is asked; everything else it echoes."""

    def receiveMessage(self, message, sender) -> None:
        match message:
            case ("pid",):
                self.send(sender, os.getpid())
            case ("refusals",):
                self.send(sender, refusals())
            case ("total refusals",):
                self.send(sender, total_refusals())
            case ("log", count):
                for number in range(count):
                    logging.getLogger("pixir_actors.tests").info("record %d", number)
                self.send(sender, "logged")
            case ("log early", text, extra):
                early.error(text, extra=extra)
                self.send(sender, "logged")
            case ("log of others", level):
                logging.getLogger("others").log(level, "said by others")
                self.send(sender, "logged")
            case ("raise", text):
                raise ValueError(text)
            case ("variable", name):
                self.send(sender, os.environ.get(name))
            case ("child",):
                self.child = self.createActor(Helper)
                self.send(self.child, ("answer", sender))
            case ("answer", asker):
                self.send(asker, os.getpid())
            case ("child's refusals",):
                self.child = self.createActor(Helper)
                self.send(self.child, ("answer refusals", sender))
            case ("answer refusals", asker):
                self.send(asker, refusals())
            case ("freeze children", count):
                self.frozen = [self.createActor(Helper) for _ in range(count)]
                for child in self.frozen:
                    self.send(child, ("freeze",))
                self.send(sender, "frozen")
            case ("freeze",):
                os.kill(os.getpid(), signal.SIGSTOP)
            case ("tell frozen children",):
                for child in self.frozen:
                    self.send(child, ("echo", "unread"))
                self.send(sender, "told")
            case ("die",):
                os._exit(1)
            case ("print",):
                print("printed by an actor", flush=True)
                self.send(sender, "printed")
            case ("touch", path):
                Path(path).touch()
            case ("exists", path):
                self.send(sender, Path(path).exists())
            case ("echo", echoed):
                self.send(sender, echoed)


class _Newest(tuple):
    instead = True


class Waiter(Actor):
    """Has a watch, which is made ready by each of its wakeups; counts both."""

    def __init__(self) -> None:
        self.wakeups = self.watches = self.replaced = 0

    def receiveMessage(self, message, sender) -> ThespianWatch | None:
        match message:
            case ("begin",):
                self.near, self.far = socket.socketpair()
                self.wakeupAfter(timedelta(milliseconds=10))
            case ("count",):
                self.send(sender, (self.wakeups, self.watches, self.replaced))
            case WakeupMessage(payload=None):
                self.wakeups += 1
                self.far.send(b"x")
                self.wakeupAfter(timedelta(milliseconds=1), payload=_Newest(("replaced", 1)))
                self.wakeupAfter(timedelta(minutes=1), payload=_Newest(("replaced", 2)))
                self.wakeupAfter(timedelta(milliseconds=10))
            case WakeupMessage():
                self.replaced += 1
            case WatchMessage():
                self.watches += len(self.near.recv(1))
        return ThespianWatch([self.near.fileno()]) if hasattr(self, "near") else None
