"""What a connection reports of itself, and what that says at any later moment."""

from __future__ import annotations

from typing import NamedTuple

from pixir_actors.core.continuation import Anchor
from pixir_actors.core.fingerprint import host
from pixir_actors.core.heartbeat import heartbeat
from pixir_actors.core.state import Connection, State, Statistics
from pixir_actors.status import ConnectionStatus


class Facts(NamedTuple):
    """A connection as its operators may see it, with moments in place of times: so that it stays true while nothing happens.

    All of it is JSON. Moments are monotonic seconds, which on one host mean the same in every process.

    Attributes:
        state: One of `core.state.State`.
        model: Of the newest response that can be continued.
        host: Host and port of the open socket.
        queue_length: Requests that wait.
        running: Whether a turn runs.
        draining: Whether it ends with that turn.
        opened_at: When the socket was opened.
        idle_since: When the last turn ended.
        degraded_until: When the degraded window ends.
        alarm_at: The next deadline; it may have passed, as that of a ping that was sent since.
        wakeup_every_s: Seconds between deadlines while nothing happens.
        statistics: The values of `core.state.Statistics`, in order.
    """

    state: str
    model: str | None
    host: str | None
    queue_length: int
    running: bool
    draining: bool
    opened_at: float | None
    idle_since: float
    degraded_until: float | None
    alarm_at: float | None
    wakeup_every_s: float | None
    statistics: tuple[int | str | None, ...]


def facts_of(connection: Connection) -> Facts:
    """Return what a connection reports."""
    anchor, socket = connection.continuation, connection.socket
    model = anchor.model if isinstance(anchor, Anchor) else None
    return Facts(
        connection.state.value,
        model if isinstance(model, str) else None,
        None if socket is None else host(socket.endpoint),
        len(connection.queue),
        connection.turn is not None,
        connection.drained_by is not None,
        None if socket is None else socket.opened_at,
        connection.idle_since,
        connection.backoff.until,
        _next_deadline(connection),
        connection.limits.keepalive_interval if connection.state is State.IDLE else None,
        tuple(vars(connection.statistics).values()),
    )


def _next_deadline(connection: Connection) -> float | None:
    alarm, beat = connection.alarm, heartbeat(connection)
    if alarm is None:
        return None if beat is None else beat.due
    return alarm.at if beat is None else min(alarm.at, beat.due)


def describe(facts: Facts, *, now: float, key: str, connection_id: str, pid: int) -> ConnectionStatus:
    """Return what was reported as a status at `now`, which may be later; `key` is what may be shown of the key."""
    degraded_for = 0.0 if facts.degraded_until is None else max(0.0, facts.degraded_until - now)
    return ConnectionStatus(
        key=key,
        connection_id=connection_id,
        pid=pid,
        state=facts.state,
        model=facts.model,
        host=facts.host,
        queue_length=facts.queue_length,
        age_s=None if facts.opened_at is None else round(now - facts.opened_at, 3),
        idle_s=0.0 if facts.running else round(max(0.0, now - facts.idle_since), 3),
        degraded_for_s=round(degraded_for, 3),
        next_wakeup_s=_until_wakeup(facts, now),
        wakeup_every_s=facts.wakeup_every_s,
        **dict(zip(_STATISTICS, facts.statistics, strict=True)),  # type: ignore[arg-type]  # its fields have these types
    )


_STATISTICS = tuple(vars(Statistics()))


def _until_wakeup(facts: Facts, now: float) -> float | None:
    if facts.alarm_at is None:
        return None
    left = facts.alarm_at - now
    if left >= 0:
        return round(left, 3)
    # It has rung since, and what it found to do was no news: a ping sets the next deadline, of others nothing is known.
    return round(left % facts.wakeup_every_s, 3) if facts.wakeup_every_s else None
