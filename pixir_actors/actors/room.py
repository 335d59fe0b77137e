"""A place for a new key where all are taken: who waits for one, and which connections give way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pixir_actors.actors.messages import EnsureStarted
from pixir_actors.actors.registry import Child, Registry
from pixir_actors.errors import Delivery, ErrorCode, Failure

ROOM_TIMEOUT: Final = 10.0
"""Seconds that a new key may wait for room."""
BUSY_FOR: Final = 1.0
"""Seconds for which a connection that declined to make room is not asked again."""


@dataclass(slots=True)
class _Waiting:
    """An `EnsureStarted` that waits for room."""

    ask: EnsureStarted
    askers: list[tuple[Any, EnsureStarted]]
    since: float


class Room:
    """Those who wait for a place. Used from the supervisor's thread only.

    Args:
        registry: Who has the places.
        start: Called with (ask, asker) as soon as there is a place.
        refuse: Called with (ask, asker, failure) when there will be none.
        evict: Asks a connection to make room.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        start: Callable[[EnsureStarted, Any], None],
        refuse: Callable[[EnsureStarted, Any, Failure], None],
        evict: Callable[[Child], None],
    ) -> None:
        self._registry = registry
        self._start, self._refuse, self._evict = start, refuse, evict
        self._waiting: list[_Waiting] = []

    def __len__(self) -> int:
        """Return the number of keys that wait."""
        return len(self._waiting)

    def joined(self, ask: EnsureStarted, asker: Any) -> bool:
        """Have the asker wait with those who wait for the same key; False if nobody does."""
        waiting = next((one for one in self._waiting if one.ask.key == ask.key), None)
        if waiting is None:
            return False
        waiting.askers.append((asker, ask))
        return True

    def wait(self, ask: EnsureStarted, asker: Any, now: float) -> bool:
        """Have a key wait for the connections that are asked to give way; False if not as many may."""
        self._waiting.append(_Waiting(ask, [(asker, ask)], now))
        if self._make():
            return True
        self._waiting.pop()
        return False

    def evict_answered(self, child: Child, *, accepted: bool) -> None:
        """Take note of what a connection answered that was asked to make room."""
        child.evicting = False
        if accepted:
            child.why = "evicted"
            self._registry.forget(child, because="evicted")
            self.serve()
            return
        # It has become busy since it reported; ask the next one, or give up on who waits longest.
        child.busy_at = time.monotonic()
        while not self._make():
            self._give_up(self._waiting.pop(0), ErrorCode.TOO_MANY_CONNECTIONS)

    def serve(self) -> None:
        """Start those for whom there is a place, and refuse those who have waited too long for one."""
        now = time.monotonic()
        while self._waiting and self._registry.serving < self._waiting[0].ask.max_connections:
            for asker, ask in self._waiting.pop(0).askers:
                self._start(ask, asker)
        for waiting in [one for one in self._waiting if now - one.since > ROOM_TIMEOUT]:
            self._waiting.remove(waiting)
            self._give_up(waiting, ErrorCode.TOO_MANY_CONNECTIONS)

    def close(self) -> None:
        """Refuse all who wait: the end has come."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._give_up(one, ErrorCode.SHUTTING_DOWN)

    def _make(self) -> bool:
        """Ask as many connections to leave as it takes to have a place for each who waits; ask none if not as many may."""
        # Who waits has a limit of its own, and those before it will have a place by then.
        serving = self._registry.serving
        too_many = [serving + place - one.ask.max_connections for place, one in enumerate(self._waiting, 1)]
        asked = sum(1 for child in self._registry if child.evicting and not child.leaving)
        missing = max(too_many, default=0) - asked
        if missing <= 0:
            return True
        candidates = self._registry.candidates(unless_busy_since=time.monotonic() - BUSY_FOR)
        if len(candidates) < missing:
            return False
        for child in candidates[:missing]:
            child.evicting, child.silent = True, 0
            self._evict(child)
        return True

    def _give_up(self, waiting: _Waiting, code: ErrorCode) -> None:
        for asker, ask in waiting.askers:
            limit = ask.max_connections if code is ErrorCode.TOO_MANY_CONNECTIONS else None
            self._refuse(ask, asker, Failure.of(code, Delivery.NOT_SENT, limit=limit))
