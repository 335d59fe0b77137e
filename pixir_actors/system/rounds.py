"""Short rounds of Thespian's loop, and few of them, for an actor that only waits.

In each round the transport asks every message under way and every wakeup how long it may wait, and goes through all of them
again afterwards. While none is under way, there is nothing to wait for but the listener, the actor's watches and the next
wakeup: then one poll is a round. And a wakeup that another has taken the place of need not ring: each time a process wakes
after a while it finds its memory in no cache, which costs more than what it does then.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from thespian.actors import WakeupMessage, WatchMessage
from thespian.system.timing import currentTime
from thespian.system.transport import (
    ReceiveEnvelope,
    Thespian__Run_Expired,
    Thespian__Run_HandlerResult,
    Thespian__Run_Terminated,
    TransmitOnly,
)

from pixir_actors.system.polling import attendant_of, wait


class Note(ReceiveEnvelope):
    """An envelope of what a process tells itself: a wakeup, or that a watch is ready."""

    def identify(self) -> str:
        """Return what Thespian would log, if it logged: it makes this text for each message."""
        return type(self.message).__name__


def shorten(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap a transport's `_runWithExpiry`: a round that only tells an actor of its watches does nothing else.

    As soon as anything comes to the listener, whatever else the rounds are for is left to the original.
    """

    def runs(self: Any, handler: Any) -> Any:
        takes_messages = handler not in (None, TransmitOnly) and not isinstance(handler, TransmitOnly)
        while takes_messages and _only_waits(self):
            delay = self.run_time.view().remainingSeconds()
            if delay == 0:
                return Thespian__Run_Expired()
            ready = _wait(self, delay)
            if ready is None:
                break
            if ready:
                result = Thespian__Run_HandlerResult(handler(Note(self.myAddress, WatchMessage(ready))))
                if not result:
                    return result
                if hasattr(self, "_aborting_run"):
                    return Thespian__Run_Terminated()
        return run(self, handler)

    return runs


def _only_waits(transport: Any) -> bool:
    """Say whether an actor has watches, and no message comes or goes."""
    return bool(
        transport._watches
        and not transport._incomingEnvelopes
        and not transport._incomingSockets
        and not transport._transmitIntents
        and not transport._waitingTransmits
        and not transport._finished_intents
        and not hasattr(transport, "_aborting_run")
    )


def _wait(transport: Any, delay: float | None) -> list[int] | None:
    """Return the watches that are ready within `delay` seconds, or None as soon as there is anything else to do."""
    poll = select.poll()
    try:
        for fd in (transport.socket.fileno(), *transport._watches):
            poll.register(fd, select.POLLIN)
    except ValueError:  # a watch that was closed: the original finds out which
        return None
    found = wait(poll, delay, attendant_of(transport._watches))
    ready = [fd for fd, events in found if events == select.POLLIN and fd in transport._watches]
    return ready if len(ready) == len(found) else None


def replace_wakeups(add: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """Wrap a transport's `addWakeup`: a payload with a true `instead` takes the place of what has the same first item."""

    def adds(self: Any, period: Any, payload: Any) -> None:
        if not getattr(payload, "instead", False):
            add(self, period, payload)
            return
        with self._wakeup_lock:
            self._pendingWakeups = [each for each in self._pendingWakeups if not _takes_the_place_of(payload, each[1])]
        add(self, period, payload)
        # It may have been the one that was waited for.
        self.run_time = self._pendingWakeups[0][0]

    return adds


def _takes_the_place_of(payload: Any, other: Any) -> bool:
    return getattr(other, "instead", False) and other[0] == payload[0]


def realize_wakeups(self: Any) -> bool:
    """Stand in for a transport's `_realizeWakeups`: move what is due to where it is delivered from; say whether anything is.

    As the original, but that it asks the time once, and no text is made of what it finds.
    """
    now = currentTime()
    found = False
    with self._wakeup_lock:
        while self._pendingWakeups and self._pendingWakeups[0][0].view(now).expired():
            timer, payload = self._pendingWakeups.pop(0)
            self._activeWakeups.append(Note(self.myAddress, WakeupMessage(timer.duration, payload)))
            found = True
    return found
