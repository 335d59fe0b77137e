"""Sees to a connection's heartbeat while its process waits, past Thespian and past the machine.

Both would be asked twice for each ping, and a process that wakes after a while pays for all that it touches. What is to be
done is `core.heartbeat`'s to say; what is not a ping and not a pong is left to the actor, which is told in its usual way.
Called by what waits in the process's transport (`system.polling.wait`), in the actor's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from pixir_actors.actors.watch import Watch
from pixir_actors.actors.wire import Wire
from pixir_actors.core import inputs
from pixir_actors.core.deadlines import rests
from pixir_actors.core.heartbeat import Heartbeat, caught_up, heartbeat
from pixir_actors.core.state import Connection


class Pulse:
    """The heartbeat of one connection.

    Args:
        watch: What the actor waits with.
        wire: Its socket.
        feed: Takes inputs for the machine. Only called in a round of the watch.
    """

    def __init__(self, watch: Watch, wire: Wire, feed: Callable[[list[inputs.Input]], None]) -> None:
        self.watch = watch.fileno()
        self._watch, self._wire, self._feed = watch, wire, feed
        self._beat: Heartbeat | None = None
        self._changed = False  # it is not what the machine knows
        self._left = False  # the machine is about to be told

    def begin(self, conn: Connection) -> None:
        """See to a connection from here on, if it rests."""
        self._beat, self._changed, self._left = heartbeat(conn), False, False

    def end(self, conn: Connection) -> Connection:
        """Leave it to the machine again; return it with what has happened meanwhile."""
        beat, self._beat = self._beat, None
        return conn if beat is None or not self._changed or not rests(conn) else caught_up(conn, beat)

    @property
    def due(self) -> float | None:
        """When `rang` is to be called (monotonic seconds); None: not at all."""
        return None if self._beat is None or self._left else self._beat.due

    def rang(self) -> None:
        """Do what is due: send a ping, or have the machine told that no pong has come."""
        try:
            self._do_what_is_due()
        except Exception as error:
            self._raise_later(error)

    def ready(self) -> bool:
        """Take what came from the provider, if there is nothing else and it is only a sign of life.

        Returns:
            Whether that is so. If not, the actor finds all of it in the next round of its watch, which is at once.
        """
        try:
            return self._hear()
        except Exception as error:
            self._raise_later(error)
            return False

    def _do_what_is_due(self) -> None:
        beat = self._beat
        if beat is None:
            return
        if beat.pong_due is not None:
            self._left = True
            self._watch.again(partial(self._feed, [inputs.Silent()]))
        elif self._wire.ping_at_rest():
            self._beat, self._changed = beat.pinged(time.monotonic()), True
        else:
            self._left = True

    def _hear(self) -> bool:
        beat = self._beat
        if beat is None:
            return False
        heard = self._wire.hear_at_rest()
        if heard:
            self._beat, self._changed = beat.heard(time.monotonic()), True
        return heard is not None

    def _raise_later(self, error: Exception) -> None:
        """Have a defect raised in the watch's next round, where the actor recovers; here it would end the process."""
        self._left = True
        self._watch.again(partial(self._raise, error))

    def _raise(self, error: Exception) -> None:
        # Once: where the actor has recovered from it meanwhile, it has begun anew.
        if self._left:
            self._left = False
            raise error
