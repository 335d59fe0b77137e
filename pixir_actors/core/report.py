"""A connection as its status: what operators and programs may see of it."""

from __future__ import annotations

from dataclasses import asdict

from pixir_actors.core.continuation import Anchor
from pixir_actors.core.fingerprint import host
from pixir_actors.core.state import Connection, State
from pixir_actors.status import ConnectionStatus


def describe(connection: Connection, *, now: float, key: str, connection_id: str, pid: int) -> ConnectionStatus:
    """Return the status at `now`; `key` is what may be shown of the key."""
    anchor, socket, alarm = connection.continuation, connection.socket, connection.alarm
    model = anchor.model if isinstance(anchor, Anchor) else None
    return ConnectionStatus(
        key=key,
        connection_id=connection_id,
        pid=pid,
        state=connection.state.value,
        model=model if isinstance(model, str) else None,
        host=None if socket is None else host(socket.endpoint),
        queue_length=len(connection.queue),
        age_s=None if socket is None else round(now - socket.opened_at, 3),
        idle_s=0.0 if connection.turn is not None else round(max(0.0, now - connection.idle_since), 3),
        degraded_for_s=round(connection.backoff.remaining(now), 3),
        next_wakeup_s=None if alarm is None else round(max(0.0, alarm.at - now), 3),
        wakeup_every_s=connection.limits.keepalive_interval if connection.state is State.IDLE else None,
        **asdict(connection.statistics),
    )
