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


@dataclass(slots=True, eq=False)
class _Waiting:
    """A key that waits for room, and who asked for it."""

    ask: EnsureStarted
    askers: list[tuple[Any, EnsureStarted]]
    since: float

    @property
    def limit(self) -> int:
        """The connections up to which it may start: of those who asked, one is enough."""
        return max(ask.max_connections for _, ask in self.askers)


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
        self.serve()
        return True

    def wait(self, ask: EnsureStarted, asker: Any, now: float) -> None:
        """Have a key wait for the connections that are asked to give way; refuse it if not as many may."""
        self._waiting.append(_Waiting(ask, [(asker, ask)], now))
        self.serve()

    def evict_answered(self, child: Child, *, accepted: bool) -> None:
        """Take note of what a connection answered that was asked to make room."""
        child.evicting = False
        if accepted:
            child.why = "evicted"
            self._registry.forget(child, because="evicted")
        else:
            child.busy_at = time.monotonic()  # it has become so since it reported
        self.serve()

    def serve(self) -> None:
        """Start those for whom there is a place, have one made for the others, and refuse those who will not have one."""
        self._start_those_who_may()
        now = time.monotonic()
        for waiting in [one for one in self._waiting if now - one.since > ROOM_TIMEOUT]:
            if waiting in self._waiting:  # there may be a place since another one was refused
                self._give_up(waiting, ErrorCode.TOO_MANY_CONNECTIONS)
                self._start_those_who_may()
        # Another one may have got the place that was made, or a connection has become busy.
        while not self._make():
            # Who needs most, of those who has waited longest. The others may not need so many.
            short = self._too_many()
            self._give_up(self._waiting[short.index(max(short))], ErrorCode.TOO_MANY_CONNECTIONS)
            self._start_those_who_may()

    def close(self) -> None:
        """Refuse all who wait: the end has come."""
        for waiting in list(self._waiting):
            self._give_up(waiting, ErrorCode.SHUTTING_DOWN)

    def _start_those_who_may(self) -> None:
        while (may := next((one for one in self._waiting if self._registry.serving < one.limit), None)) is not None:
            self._waiting.remove(may)
            # Who may starts it; to the others it is there then.
            for asker, ask in sorted(may.askers, key=lambda one: -one[1].max_connections):
                self._start(ask, asker)

    def _too_many(self) -> list[int]:
        """Return, for each who waits, how many connections have to go."""
        # Each has a limit of its own, and those before it will have a place by then.
        return [self._registry.serving + place - one.limit for place, one in enumerate(self._waiting, 1)]

    def _make(self) -> bool:
        """Ask as many connections to leave as it takes to have a place for each who waits; ask none if not as many may."""
        asked = sum(1 for child in self._registry if child.evicting and not child.leaving)
        missing = max(self._too_many(), default=0) - asked
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
        self._waiting.remove(waiting)
        for asker, ask in waiting.askers:
            limit = ask.max_connections if code is ErrorCode.TOO_MANY_CONNECTIONS else None
            self._refuse(ask, asker, Failure.of(code, Delivery.NOT_SENT, limit=limit))
