"""How log records travel from a process to the log director, so that logging can never hold up the service.

To Thespian a record is a message as any other: to a logger process that is stuck, each would wait for five minutes,
and with enough of them the sender does nothing but wait. Here a record waits for a second at most, few are under way at
once, and what does not fit is dropped and counted; the next record that gets through says how many.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from thespian.actors import ActorAddress
from thespian.system.addressManager import ActorLocalAddress
from thespian.system.messages.multiproc import EndpointConnected
from thespian.system.timing import ExpirationTimer
from thespian.system.transport import SendStatus, TransmitIntent
from thespian.system.transport.asyncTransportBase import MAX_PENDING_TRANSMITS

from pixir_actors.system.records import is_wanted, portable

GIVE_UP: Final = timedelta(seconds=1)
"""How long a record may wait for the log director."""
MOST_UNDER_WAY: Final = max(1, min(50, MAX_PENDING_TRANSMITS // 2))
"""Records that a process may have on the way. The rest of what Thespian allows stays free for messages."""
DROPPED: Final = "dropped"
"""The field that says how many records were lost before this one."""
LOGGER_INSTANCE: Final = -1
"""The number under which Thespian's admin knows its logger."""


class Flow:
    """The records that one process has under way. Belongs to the transport of that process, and to its main thread."""

    def __init__(self, send: Callable[[TransmitIntent], None]) -> None:
        self._send = send
        self._under_way = 0
        self._dropped = 0
        self._heard = True

    def take(self, intent: TransmitIntent) -> None:
        """Send a record, or drop it. Raises nothing, whatever is in the record."""
        most = MOST_UNDER_WAY if self._heard else 1  # where nobody has answered, one is enough to find out
        if not is_wanted(intent.message):
            intent.tx_done(SendStatus.Sent)
        # Thespian's transports belong to the main thread.
        elif self._under_way >= most or threading.current_thread() is not threading.main_thread():
            self._dropped += 1
            intent.tx_done(SendStatus.Failed)
        else:
            self._start(intent)

    def _start(self, intent: TransmitIntent) -> None:
        record = portable(intent.message)
        lost, self._dropped = self._dropped + dropped_before(record), 0
        if lost:
            setattr(record, DROPPED, lost)
        intent.changeMessage(record)
        intent._quitTime = ExpirationTimer(GIVE_UP)

        def done(result: Any, _: TransmitIntent) -> None:
            self._under_way -= 1
            self._heard = bool(result)
            if not result:
                self._dropped += lost + 1
            elif self._dropped and not self._under_way:
                self._start(TransmitIntent(intent.targetAddr, _notice()))

        intent.addCallback(done, done)
        self._under_way += 1
        try:
            self._send(intent)
        except Exception:  # the caller is somebody who logs: he cannot do anything about it
            intent.tx_done(SendStatus.Failed)


def dropped_before(record: logging.LogRecord) -> int:
    """Return how many records a record says were lost before it."""
    count = getattr(record, DROPPED, 0)
    return count if isinstance(count, int) else 0


def _notice() -> logging.LogRecord:
    """Return a record that says what was lost at the end of a burst, when no other follows."""
    text = "log records were dropped: they came faster than they could be written"
    return logging.LogRecord("pixir_actors.system.forwarding", logging.WARNING, __file__, 0, text, (), None)


def bound_records(schedule: Callable[..., None]) -> Callable[..., None]:
    """Wrap a transport's `scheduleTransmit` so that log records are bounded, and a logger's restart is no admin's start.

    When the admin has started a new logger, Thespian reports to whoever started the admin, at an address that may be an
    actor's by now.
    """

    def scheduled(self: Any, manager: Any, intent: Any = None, **options: Any) -> None:
        message = getattr(intent, "message", None)
        if isinstance(message, logging.LogRecord):
            if not hasattr(self, "_record_flow"):
                self._record_flow = Flow(lambda record: schedule(self, manager, record))
            self._record_flow.take(intent)
        elif isinstance(message, EndpointConnected) and getattr(self, "_loggers", 0) > 1:
            intent.tx_done(SendStatus.Sent)
        else:
            schedule(self, manager, intent, **options)

    return scheduled


def keep_loggers_place(prepare: Callable[..., Any], address: type[Any]) -> Callable[..., Any]:
    """Wrap a transport's `prepEndpoint` so that each logger of an admin gets the same port.

    Should the logger die, Thespian's admin starts another one. Actors know the first one's address only.

    Args:
        prepare: The transport's own.
        address: Class of the transport's addresses.
    """

    def prepared(self: Any, child: Any, capabilities: Any) -> Any:
        endpoint = prepare(self, child, capabilities)
        details = child.addressDetails
        if not isinstance(details, ActorLocalAddress) or details.addressInstanceNum != LOGGER_INSTANCE:
            return endpoint
        if not hasattr(self, "_loggers_place"):
            # Bound, never listening: the logger can take the port, and nobody else is given it.
            self._loggers_place, self._loggers = socket.socket(), 0
            self._loggers_place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._loggers_place.bind(address().bindname)
        self._loggers += 1
        instance, _, *rest = endpoint.args
        place = ActorAddress(address(None, self._loggers_place.getsockname()[1]))
        return type(endpoint)(instance, place, *rest)

    return prepared


def outlive_loggers(admin: Any) -> None:
    """Have Thespian's admin go on when its logger dies: by itself it would die, too, over a misspelt attribute.

    It would also answer nobody until the next logger reports, and for ever should that one die before; but it knows
    where that one will be.

    Args:
        admin: The class, as it is in the process that forks the admin. Changing it twice changes nothing.
    """
    if hasattr(admin, "logDefs"):
        return
    admin.logDefs = property(lambda self: self.logdefs)
    child_died = admin.childDied

    def died(self: Any) -> Any:
        known = self.asLogger
        result = child_died(self)
        if self.asLogger is None:
            self.asLogger = known
        return result

    admin.childDied = died
