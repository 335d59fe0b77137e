"""The end of all connections: who waits for it, until when, and whether new ones are refused until the supervisor ends."""

from __future__ import annotations

from math import inf
from typing import Any, Final

STOP_TIMEOUT: Final = 2.0
"""Seconds that connections have to end, beyond those for which they may drain."""
MAX_DRAIN: Final = 7 * 24 * 3600.0


class Ending:
    """What has been asked for with `StopAll`. Used from the supervisor's thread only; times are monotonic seconds."""

    def __init__(self) -> None:
        self._askers: list[tuple[Any, int]] = []
        self._by = inf
        self._newest = 0
        self.drains_since: float | None = None

    @property
    def draining(self) -> bool:
        """Whether a drain has begun: there is no way back from it."""
        return self.drains_since is not None

    @property
    def refusing(self) -> bool:
        """Whether no connection is started now."""
        return self.waited_for or self.draining

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for the end of all connections."""
        return bool(self._askers)

    def asked(self, asker: Any, ask_id: int, *, within: float, now: float) -> tuple[int, float]:
        """Take in a `StopAll`; return the token and the delay of the wakeup at which it is answered at the latest.

        One that is asked for later never prolongs an earlier one.

        Args:
            asker: Who asked.
            ask_id: For the answer.
            within: Seconds for which turns may go on; 0 is no drain.
            now: The time.
        """
        self._askers.append((asker, ask_id))
        self._by = min(self._by, now + within + STOP_TIMEOUT)
        self._newest += 1
        if within and self.drains_since is None:
            self.drains_since = now
        return self._newest, max(0.0, self._by - now)

    def is_over(self, token: int) -> bool:
        """Say whether the time of all who asked has passed with the wakeup of that token."""
        return token == self._newest

    def answered(self) -> list[tuple[Any, int]]:
        """Return those who are to be answered now, as (asker, ask id); nobody waits then."""
        askers, self._askers = self._askers, []
        self._by = inf
        return askers


def drain_time(within: float) -> float:
    """Return for how many seconds to drain: 0 for nonsense, and at the most a week."""
    return min(within, MAX_DRAIN) if within > 0 else 0.0
