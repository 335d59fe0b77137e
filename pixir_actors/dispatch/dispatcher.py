"""Which connection serves a key, as far as this process knows; what it does not know the supervisor is asked."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from pixir_actors.actors import messages as m
from pixir_actors.dispatch.link import Link
from pixir_actors.errors import (
    Delivery,
    ErrorCode,
    Failure,
    PixirError,
    StreamError,
    SystemStartFailed,
    exception_from,
)

ENSURE_TIMEOUT: Final = 12.0
"""Seconds for the supervisor to answer; starting a connection may take it ten."""
SUPERVISOR_PATIENCE: Final = 3.0
"""Seconds without an answer after which the supervisor is looked up anew."""
STATUS_TIMEOUT: Final = 5.0
LEAST_REMEMBERED: Final = 256
"""Keys whose connections are remembered without a look at which of them have ended."""
RECENTLY: Final = 60.0
"""Seconds for which a connection that has no channel, or none yet, is remembered all the same."""
CLOSED_ADVICE: Final = "this client is closed: make another one"
EXAMINE_TIMEOUT: Final = 8.0
"""Seconds for the supervisor to find out whether a connection lives; it asks that for about four."""


def client_closed(delivery: Delivery) -> StreamError:
    """Return the error for what is asked of a closed client; the code alone might be an actor system's."""
    return StreamError(Failure.of(ErrorCode.SHUTTING_DOWN, delivery, advice=CLOSED_ADVICE))


@dataclass(frozen=True, slots=True)
class Connection:
    """A key's connection, as the supervisor named it."""

    connection_id: str
    address: Any
    met_at: float = field(default_factory=time.monotonic, compare=False)


class Dispatcher:
    """Connections by key, over one link. Thread-safe if the link is."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.closing = False
        self._known: dict[str, Connection] = {}
        self._most = LEAST_REMEMBERED
        self._lock = threading.Lock()

    def connection(self, ask: m.EnsureStarted, *, fresh: bool = False) -> Connection:
        """Return the key's connection, from memory while its channel is up, else from the supervisor.

        Raises:
            StreamError: The supervisor refuses, or does not answer.
        """
        known = self.known(ask)
        if known is not None and not fresh:
            return known
        answer = self._ask_supervisor(ask, timeout=ENSURE_TIMEOUT, restart=True)
        if isinstance(answer, m.StartRefused):
            raise exception_from(answer.failure)
        if not isinstance(answer, m.Started):
            raise self._unresponsive(Delivery.NOT_SENT)
        found = Connection(answer.connection_id, answer.address)
        self.link.met(found.connection_id, found.address)
        with self._lock:
            self._known[ask.key.reveal()] = found
            self._forget_ended()
        return found

    def known(self, ask: m.EnsureStarted) -> Connection | None:
        """Return the key's connection, if this process remembers it and its channel is up. Asks nobody.

        Raises:
            StreamError: The client has been closed.
        """
        self.check_open()
        with self._lock:
            known = self._known.get(ask.key.reveal())
        return known if known is not None and self.link.connected(known.connection_id) else None

    def forget(self, key: str) -> None:
        """Ask the supervisor when the key is next used: its connection is ending, though its channel may still be up."""
        with self._lock:
            self._known.pop(key, None)

    def ended(self, connection: Connection) -> bool | None:
        """Have the supervisor examine a connection that did not answer, and kill it if it is stuck.

        Returns:
            Whether its process has ended; None when the supervisor does not answer either.
        """
        suspect = m.Suspect(self.link.number(), connection.connection_id)
        try:
            answer = self._ask_supervisor(suspect, timeout=EXAMINE_TIMEOUT)
        except PixirError:  # there is no system any more to ask
            answer = None
        return None if answer is None else bool(answer.ended)

    def ask_supervisor(self, question: Any) -> Any:
        """Return the supervisor's answer.

        Raises:
            StreamError: `connection_unresponsive`.
        """
        self.check_open()
        answer = self._ask_supervisor(question, timeout=STATUS_TIMEOUT)
        if answer is None:
            raise self._unresponsive(Delivery.NOT_SENT)
        return answer

    def check_open(self) -> None:
        """Raise if the client has been closed."""
        if self.closing:
            raise client_closed(Delivery.NOT_SENT)

    def _ask_supervisor(self, question: Any, *, timeout: float, restart: bool = False) -> Any | None:
        """Ask, and ask again where it may be answered; `restart` says that a system which answers nothing may be ended."""
        supervisor = answer = None
        try:
            supervisor = self.link.supervisor()
            answer = self.link.ask(supervisor, question, timeout=min(timeout, SUPERVISOR_PATIENCE))
            if answer is None:
                # It may have been killed: by its name the system finds it, or starts another. The question can be repeated.
                supervisor = self.link.supervisor(again=True)
                answer = self.link.ask(supervisor, question, timeout=timeout)
        except SystemStartFailed:
            answer = None
        if answer is None and restart and not self.closing and not self._lives(supervisor) and self.link.restart(supervisor):
            answer = self.link.ask(self.link.supervisor(), question, timeout=timeout)
        return answer

    def _lives(self, supervisor: Any) -> bool:
        """Say whether the supervisor answers what it can answer at once: then the question was one that takes its time."""
        if supervisor is None:
            return False
        return self.link.ask(supervisor, m.GetStatus(self.link.number()), timeout=SUPERVISOR_PATIENCE) is not None

    def _unresponsive(self, delivery: Delivery) -> StreamError:
        if self.closing:
            return client_closed(delivery)
        return StreamError(Failure.of(ErrorCode.CONNECTION_UNRESPONSIVE, delivery))

    def _forget_ended(self) -> None:
        """Keep the memory about as small as the set of live channels. Under the lock, when something new is learnt."""
        if len(self._known) <= self._most:
            return
        # A channel is opened by the first request, which may be on its way.
        recent = time.monotonic() - RECENTLY
        self._known = {
            key: one for key, one in self._known.items() if one.met_at >= recent or self.link.connected(one.connection_id)
        }
        self._most = max(LEAST_REMEMBERED, 2 * len(self._known))  # so that each one that is learnt costs the same
