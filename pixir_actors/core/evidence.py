"""What a caller is told of how its request went out: the metadata of each attempt."""

from __future__ import annotations

from typing import Any, Final

from pixir_actors.core.continuation import Anchor, Plan
from pixir_actors.core.state import Connection, Via

FALLBACK_MESSAGE: Final = "the WebSocket could not be used; the request went over HTTP"


def evidence(conn: Connection, decided: Plan, attempts: int, *, now: float) -> dict[str, Any]:
    """Return what really goes over the wire, in the reference's words (C32, S8) and ours.

    Args:
        conn: With a turn and a socket.
        decided: What the attempt sends.
        attempts: How many there are with it.
        now: Monotonic seconds.
    """
    assert conn.socket is not None and conn.turn is not None
    turn, request = conn.turn, conn.turn.request
    fallback: dict[str, Any] = {}
    if turn.fallback_reason is not None:
        fallback = {"fallback_reason": turn.fallback_reason, "fallback_message": FALLBACK_MESSAGE}
    return fallback | {
        "transport_preference": "websocket" if turn.via is Via.WEBSOCKET else request.limits.transport,
        "active_transport": turn.via.value,
        "continuation_attempted": decided.attempted,
        "continuation_reset_reason": decided.reset_reason,
        "used_previous_response_id": decided.uses_previous_id,
        "websocket_key": request.key,
        "websocket_stored_previous_response_id": stored_id(conn),
        "delivery_attempts": attempts,
        "wire_bytes": len(decided.wire),
        "full_bytes": len(request.body),
        "connection_age_ms": _ms(now - conn.socket.opened_at),
        "queue_wait_ms": _ms(turn.started_at - request.received_at),
    }


def stored_id(conn: Connection) -> str | None:
    """Return the id that a continuation would go on from."""
    return conn.continuation.response_id if isinstance(conn.continuation, Anchor) else None


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
