"""An actor system that follows a script, in place of Thespian's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any


class Context:
    """What `ActorSystem.private()` gives: `replies` are what comes back, one for each time it waits."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.asked: list[tuple[Any, Any]] = []
        self.entered = self.exited = 0

    def __enter__(self) -> Context:
        self.entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.exited += 1

    def ask(self, address: Any, question: Any, patience: timedelta) -> Any:
        self.asked.append((address, question))
        return self._next(patience)

    def listen(self, patience: timedelta) -> Any:
        return self._next(patience)

    def _next(self, patience: timedelta) -> Any:
        self._system.patience.append(patience.total_seconds())
        item = self._system.replies.pop(0) if self._system.replies else "silence"
        if isinstance(item, Exception):
            raise item
        if callable(item):
            return item()
        if item == "silence":
            self._system.sleep(patience.total_seconds())
            return None
        return item


class System:
    """An actor system of contexts that follow a script.

    Attributes:
        sleep: What they wait with when nothing comes back.
    """

    def __init__(self) -> None:
        self.sleep: Callable[[float], None] = time.sleep
        self.replies: list[Any] = []
        self.patience: list[float] = []
        self.contexts: list[Context] = []
        self.created: list[tuple[Any, Any]] = []
        self.create: Callable[[], Any] = lambda: f"supervisor {len(self.created)}"

    def private(self) -> Context:
        self.contexts.append(Context(self))
        return self.contexts[-1]

    def createActor(self, kind: Any, globalName: str) -> Any:
        self.created.append((kind, globalName))
        return self.create()
