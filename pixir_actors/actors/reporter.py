"""A connection's reports to its supervisor: on the board that both see, or as messages, at most one a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import is_not
from typing import Final

from pixir_actors.actors.board import Slot
from pixir_actors.core.report import Facts, facts_of
from pixir_actors.core.state import Connection

REPORT_INTERVAL: Final = 1.0
PROMPTLY: Final = 0.05
"""Seconds after which the first message of a busy time is sent: behind the request that began it."""


class Reporter:
    """Says what there is to report, and when. Used from the actor's thread only.

    Args:
        slot: Where reports are written; None: they are messages.
        send: Sends one to the supervisor.
        wake_after: Has `due` called after so many seconds.
    """

    def __init__(
        self, slot: Slot | None, *, send: Callable[[Facts], None], wake_after: Callable[[float], None]
    ) -> None:
        self._slot, self._send, self._wake_after = slot, send, wake_after
        self._reported_at = float("-inf")
        self._waiting = False
        self._known: tuple[object, ...] = ()

    def changed(self, connection: Connection) -> None:
        """Take note of what may be something to report. That a ping went out, or came back, is not: it would add to the cost
        of an idle connection."""
        if self._waiting or not self._is_news(connection):
            return
        if self._slot is not None:
            self._known = _telling(connection)
            self._slot.write(facts_of(connection))
            return
        self._waiting = True
        since = time.monotonic() - self._reported_at
        self._wake_after(max(PROMPTLY, REPORT_INTERVAL - since))

    def _is_news(self, connection: Connection) -> bool:
        # What did not change is the same object: a transition replaces what it changes.
        told = _telling(connection)
        return len(told) != len(self._known) or any(map(is_not, told, self._known))

    def due(self, connection: Connection) -> None:
        """Send the message."""
        self._waiting = False
        self._known = _telling(connection)
        self._reported_at = time.monotonic()
        self._send(facts_of(connection))


def _telling(connection: Connection) -> tuple[object, ...]:
    """Return what a report tells of a connection, but for the moments."""
    socket = connection.socket
    return (
        connection.state,
        connection.statistics,
        connection.queue,
        connection.continuation,
        connection.backoff,
        connection.drained_by,  # no part of the status: the report is the sign of life that its supervisor waits for
        None if socket is None else socket.endpoint,
    )
