"""One `receiveMessage` for all actors: nothing escapes, the watch is always returned, timers carry tokens.

Thespian delivers a message again when its handler raises (a request would be sent twice), replaces the watch list after
every message (one forgotten return and the socket sleeps), and cannot cancel a wakeup. What follows from that stands here
once.
"""

from __future__ import annotations

import logging
import time
import traceback
from datetime import timedelta
from typing import Any, Final

from thespian.actors import Actor, ActorExitRequest, ThespianWatch, WakeupMessage, WatchMessage

from pixir_actors.actors.watch import Attended, Watch

logger: Final = logging.getLogger(__name__)

LINGER: Final = 0.02
"""Seconds for which an actor that has something running reads its sockets before it looks for messages again."""
PAUSE: Final = 0.002
"""Seconds for which it does so after that has ended: what is asked for next often comes at once."""
_POLL: Final = "poll"
_BUSY_POLL: Final = 0.002
_IDLE_POLL: Final = 0.05


class _Instead(tuple[str, int]):
    """The payload of a wakeup that takes another's place; `system.rounds` knows it by its attribute."""

    __slots__ = ()
    instead = True


class ShellActor(Actor):
    """Base of the actors. A subclass implements `handle`, `rang`, `defect` and `exiting`.

    Under `multiprocTCPBase` the watch is Thespian's; under `simpleSystemBase`, which has none and ignores what a handler
    returns, the actor polls itself with wakeups, so that events still arrive one by one.
    """

    takes_capabilities = False
    """A class that says so itself takes that and nothing else: `system.forks` need not look for what to say to a new one."""

    def __init__(self, capabilities: dict[str, Any] | None = None, **_: Any) -> None:
        super().__init__()
        known = capabilities or {}
        self.in_process = known.get("Thespian ActorSystem Name") == "simpleSystem"
        self.can_watch = self.in_process or bool(known.get("Thespian Watch Supported"))
        self.watch = Watch()
        self._watched = self.watch.fileno()
        self.ended = False
        self._poll = 0  # token of the newest poll
        self._polls_at: float | None = None  # how soon it comes

    # What a subclass implements.

    def handle(self, message: Any, sender: Any) -> None:
        """Handle a message of ours."""

    def rang(self, name: str, token: int) -> None:
        """Handle a wakeup asked for with `wake_after`; stale ones are the subclass's to ignore by their token."""

    def defect(self) -> None:
        """Leave a safe state behind after a handler raised; must not raise itself."""

    def exiting(self, sender: Any) -> None:
        """Let go of everything: the process ends after this.

        Args:
            sender: Who wants it to. A signal is turned by Thespian into a request of the actor to itself.
        """

    # What it uses.

    def wake_after(self, delay: float, name: str, token: int = 0) -> None:
        """Have `rang(name, token)` called after `delay` seconds. Cannot be taken back."""
        self.wakeupAfter(timedelta(seconds=delay), payload=(name, token))

    def wake_instead(self, delay: float, name: str, token: int = 0) -> None:
        """As `wake_after`, in place of what was asked for here under this name before.

        In a host's own actor system that rings as well, and is stale.
        """
        self.wakeupAfter(timedelta(seconds=delay), payload=_Instead((name, token)))

    def attend(self, attendant: Any) -> bool:
        """Have somebody see to what comes while this actor waits, as `system.polling` says; not before its first message.

        False where Thespian's own loop waits, which asks nobody.
        """
        if not getattr(getattr(self._myRef, "transport", None), "attends", False):
            return False
        self._watched = Attended(self.watch.fileno())
        self._watched.attendant = attendant
        return True

    def release(self, address: Any) -> None:
        """Let Thespian forget the address of an actor that this one created, and whose end it has reported.

        By itself it keeps the address of every actor that was ever created ("it never shrinks", says its source).
        """
        details: Any = getattr(address, "addressDetails", None)
        managed = getattr(getattr(details, "addressManager", None), "_managed", None)
        if isinstance(managed, list):
            managed[details.addressInstanceNum] = None

    def end(self) -> None:
        """End this actor after the current message."""
        self.send(self.myAddress, ActorExitRequest())

    @property
    def busy(self) -> bool:
        """Whether events are expected soon; governs how often an actor without a watch polls."""
        return False

    def receiveMessage(self, message: Any, sender: Any) -> ThespianWatch | None:
        """Take one message from Thespian; raises nothing."""
        try:
            self._sort(message, sender)
        except Exception as error:
            self._log_defect(error, message)
            self._recover()
        if self.ended or not self.can_watch:
            return None
        if self.in_process:
            self._poll_later()
            return None
        return ThespianWatch([self._watched])

    def _sort(self, message: Any, sender: Any) -> None:
        if self.ended:
            return
        match message:
            case WatchMessage():
                self._dispatch()
            case WakeupMessage(payload=(str(name), int(token))):
                if name == _POLL:
                    if token == self._poll:
                        self._polls_at = None
                        self.watch.dispatch()
                else:
                    self.rang(name, token)
            case ActorExitRequest():
                self._exit(sender)
            case _:
                self.handle(message, sender)

    def _dispatch(self) -> None:
        """Handle what is ready, and go on with what comes at once while events are expected: another round of Thespian's
        loop costs more than most of them do. Messages and wakeups wait meanwhile, for milliseconds.
        """
        was_busy = self.busy
        self.watch.dispatch()
        if self.in_process or not (was_busy or self.busy):
            return
        now = busy_at = time.monotonic()
        give_up = now + LINGER
        while not self.ended and now < (until := give_up if self.busy else min(give_up, busy_at + PAUSE)):
            self.watch.dispatch(until - now)
            now = time.monotonic()
            if self.busy:
                busy_at = now

    def _exit(self, sender: Any) -> None:
        self.ended = True
        try:
            self.exiting(sender)
        finally:
            # A process of its own takes its descriptors with it, and Thespian watches them until then.
            if self.in_process:
                self.watch.close()

    def _poll_later(self) -> None:
        wanted = _BUSY_POLL if self.busy else _IDLE_POLL
        if len(self.watch) and (self._polls_at is None or wanted < self._polls_at):
            self._poll += 1
            self._polls_at = wanted
            self.wake_after(wanted, _POLL, self._poll)

    def _recover(self) -> None:
        try:
            self.defect()
        except Exception as error:
            self._log_defect(error, None)

    def _log_defect(self, error: Exception, message: Any) -> None:
        # Texts of exceptions may quote what was being handled, so only the place is logged.
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
        logger.error("defect %s handling %s at %s", type(error).__name__, type(message).__name__, where)
