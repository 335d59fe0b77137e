"""A connection's reports to its supervisor: at most one a second, and none on the way of a request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from operator import is_not
from typing import Any, Final

from pixir_actors.actors.control import Begin, Report
from pixir_actors.core.report import describe
from pixir_actors.core.state import Connection
from pixir_actors.status import ConnectionStatus

REPORT_INTERVAL: Final = 1.0
PROMPTLY: Final = 0.05
"""Seconds after which the first report of a busy time is sent: behind the request that began it."""


class Reporter:
    """Says when a report is due, and makes it. Used from the actor's thread only.

    Args:
        begin: Who the connection is.
        send: Sends a report to the supervisor.
        wake_after: Has `due` called after so many seconds.
    """

    def __init__(self, begin: Begin, *, send: Callable[[Any], None], wake_after: Callable[[float], None]) -> None:
        self._begin, self._send, self._wake_after = begin, send, wake_after
        self._reported_at = float("-inf")
        self._waiting = False
        self._known: tuple[object, ...] = ()

    def changed(self, connection: Connection) -> None:
        """Take note of what may be something to report. That a ping went out, or came back, is not: it would double the cost
        of an idle connection."""
        if self._waiting or not self._is_news(connection):
            return
        self._waiting = True
        since = time.monotonic() - self._reported_at
        self._wake_after(max(PROMPTLY, REPORT_INTERVAL - since))

    def _is_news(self, connection: Connection) -> bool:
        # What did not change is the same object: a transition replaces what it changes.
        told = _telling(connection)
        return len(told) != len(self._known) or any(map(is_not, told, self._known))

    def due(self, connection: Connection) -> None:
        """Send the report."""
        self._waiting = False
        self._known = _telling(connection)
        self._reported_at = time.monotonic()
        self._send(Report(self._begin.connection_id, self.status(connection)))

    def status(self, connection: Connection) -> ConnectionStatus:
        """Return the status as of now."""
        return describe(
            connection,
            now=time.monotonic(),
            key=self._begin.label,
            connection_id=self._begin.connection_id,
            pid=os.getpid(),
        )


def _telling(connection: Connection) -> tuple[object, ...]:
    """Return what a status tells of a connection, but for the times."""
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
