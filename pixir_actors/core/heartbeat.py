"""The pings and pongs of a connection between turns, for which nobody has to ask the machine.

A connection that is left alone wakes for nothing else, and its process finds its memory in no cache then: what a ping costs
is what is touched for it. So whoever waits for the connection may see to its heartbeat alone (`Connection.attended`). The
machine sets no alarm for pings between turns then, and catches up with its next input (`caught_up`). The rules are the same:
`deadlines.next_ping`, and a pong, or any frame, within `pong_timeout`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pixir_actors.core.deadlines import after, next_ping, rests
from pixir_actors.core.state import Connection, evolve


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What was last heard of a socket, and what is due on it.

    Attributes:
        last_seen: When a frame came last.
        pong_due: When the socket is taken for dead if none comes; None: no pong is waited for.
        interval: Seconds of silence behind which a ping is sent.
        pong_timeout: Seconds for which its pong is waited for, None: not at all.
    """

    last_seen: float
    pong_due: float | None
    interval: float
    pong_timeout: float | None

    @property
    def due(self) -> float:
        """When the next ping is due, or else the pong."""
        return next_ping(self.last_seen, self.interval) if self.pong_due is None else self.pong_due

    def pinged(self, now: float) -> Heartbeat:
        """Return what follows from a ping."""
        pong_due = after(now, self.pong_timeout)
        # Without a pong timeout the next ping is due an interval from now, as if something had been heard.
        return replace(self, pong_due=pong_due, last_seen=now if pong_due is None else self.last_seen)

    def heard(self, now: float) -> Heartbeat:
        """Return what follows from a frame, whichever it was."""
        return replace(self, pong_due=None, last_seen=now)


def heartbeat(conn: Connection) -> Heartbeat | None:
    """Return what there is to see to, None where the machine does it, or there is nothing."""
    if not rests(conn):
        return None
    assert conn.socket is not None and conn.limits.keepalive_interval is not None
    return Heartbeat(conn.socket.last_seen, conn.socket.pong_due, conn.limits.keepalive_interval, conn.limits.pong_timeout)


def caught_up(conn: Connection, beat: Heartbeat) -> Connection:
    """Return a connection that rests with what has happened on its socket meanwhile."""
    assert conn.socket is not None
    socket = evolve(conn.socket, last_seen=beat.last_seen, pong_due=beat.pong_due)
    return evolve(conn, socket=socket)
