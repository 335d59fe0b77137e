"""When something is due on a connection if nothing else happens before: a function of the connection alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pixir_actors.core.state import Connection, Phase, Purpose, Socket, State, Turn, Via
from pixir_actors.settings import Settings

RETIRE_ANSWER_TIMEOUT: Final = 5.0
"""Seconds a supervisor may take to answer; a connection that gets no answer goes on serving."""
WARM_UP_TIMEOUT: Final = 5.0
"""Seconds without an event after which a warm-up's terminal event is not waited for: some servers send none."""
PING_SLOTS: Final = 100
"""The part of `keepalive_interval`, a hundredth, by which a ping may be early, so that connections ping together."""
ANSWERING: Final = (Phase.WAITING, Phase.FLOWING)
"""The phases in which it is the provider's to say something."""
PAUSES: Final = (State.IDLE, State.DISCONNECTED, State.DEGRADED)
"""The states between turns, in which the idle limit runs."""


def deadlines(conn: Connection) -> Iterator[float]:
    """Yield every moment at which something is to be done if nothing else happens before.

    But for pings and pongs of a connection that rests, to which somebody else sees.
    """
    for request in conn.queue:
        yield from _present(after(request.received_at, request.limits.queue_timeout))
        yield from _present(after(request.received_at, request.limits.timeout))
    if conn.turn is not None:
        yield from _present(after(conn.turn.request.received_at, conn.turn.request.limits.timeout))
        yield from _present(phase_deadline(conn.turn))
    if conn.socket is not None and conn.socket.via is Via.WEBSOCKET and not rests(conn):
        yield from _present(_ping_deadline(conn.socket, conn.limits))
    if conn.state is State.IDLE and conn.socket is not None:
        yield from _present(conn.socket.retire_at)
    if conn.state in PAUSES:
        yield from _present(after(conn.idle_since, conn.limits.idle_close_after))
    if conn.state is State.DEGRADED:
        yield from _present(conn.backoff.until)
    if conn.state is State.RETIRING:
        yield conn.retiring_since + RETIRE_ANSWER_TIMEOUT
    yield from _present(conn.drained_by)


def _present(moment: float | None) -> tuple[float, ...]:
    return () if moment is None else (moment,)


def after(moment: float, seconds: float | None) -> float | None:
    """Return the moment so many seconds later; None where there is no limit."""
    return None if seconds is None else moment + seconds


def phase_deadline(turn: Turn) -> float | None:
    """Return when the phase that a turn is in has lasted too long."""
    limits = turn.request.limits
    seconds = {
        Phase.OPENING: limits.connect_timeout,
        Phase.SENDING: limits.send_timeout,
        Phase.WAITING: limits.first_event_timeout,
        Phase.FLOWING: limits.idle_timeout,
    }[turn.phase]
    if turn.request.purpose is Purpose.PREFILL and turn.phase in ANSWERING:
        seconds = WARM_UP_TIMEOUT if seconds is None else min(seconds, WARM_UP_TIMEOUT)
    return after(turn.phase_since, seconds)


def _ping_deadline(socket: Socket, limits: Settings) -> float | None:
    if socket.pong_due is not None:
        return socket.pong_due
    return None if limits.keepalive_interval is None else next_ping(socket.last_seen, limits.keepalive_interval)


def rests(conn: Connection) -> bool:
    """Say whether nothing but pings and pongs is expected on the socket, and somebody else sees to them (`heartbeat`)."""
    if not conn.attended or conn.state is not State.IDLE or conn.limits.keepalive_interval is None:
        return False
    return conn.socket is not None and conn.socket.via is Via.WEBSOCKET


def next_ping(last_seen: float, interval: float) -> float:
    """Return when silence has lasted long enough for a ping: a little early, at a moment that all of a host's share.

    One behind another they find in the caches what the one before has brought there, which is most of what a ping costs.
    """
    latest = last_seen + interval
    return latest - latest % (interval / PING_SLOTS)
