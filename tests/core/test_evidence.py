"""The evidence of one attempt, field by field."""

from __future__ import annotations

from dataclasses import replace

from pixir_actors.core.continuation import FRESH, Anchor, Plan, ResetReason
from pixir_actors.core.evidence import FALLBACK_MESSAGE, evidence, stored_id
from pixir_actors.core.state import Connection
from pixir_actors.errors import ErrorCode
from tests.core.machine import Machine, user

PLAN = Plan(b"12345", False, ResetReason.MODEL_CHANGED, False)


def running() -> Connection:
    machine = Machine()
    machine.submit([user("one")])
    machine.connected()
    assert machine.conn.turn is not None
    assert machine.conn.socket is not None
    return machine.conn


def test_it_says_what_goes_out_and_how() -> None:
    conn = running()
    assert conn.turn is not None
    assert conn.socket is not None
    told = evidence(conn, PLAN, 2, now=conn.socket.opened_at + 1.5)

    assert told == {
        "transport_preference": "websocket",
        "active_transport": "websocket",
        "continuation_attempted": False,
        "continuation_reset_reason": ResetReason.MODEL_CHANGED,
        "used_previous_response_id": False,
        "websocket_key": "'session-1'",
        "websocket_stored_previous_response_id": None,
        "delivery_attempts": 2,
        "wire_bytes": 5,
        "full_bytes": len(conn.turn.request.body),
        "connection_age_ms": 1500,
        "queue_wait_ms": 0,
    }


def test_no_time_is_negative() -> None:
    conn = running()
    assert conn.socket is not None
    assert evidence(conn, PLAN, 1, now=conn.socket.opened_at - 1)["connection_age_ms"] == 0


def test_a_fallback_is_said_with_its_reason() -> None:
    conn = running()
    assert conn.turn is not None
    away = replace(conn, turn=replace(conn.turn, fallback_reason=ErrorCode.WEBSOCKET_CLOSED))
    told = evidence(away, PLAN, 1, now=0.0)

    assert (told["fallback_reason"], told["fallback_message"]) == (ErrorCode.WEBSOCKET_CLOSED, FALLBACK_MESSAGE)


def test_what_is_stored_is_the_anchor_s_id() -> None:
    conn = running()
    assert stored_id(replace(conn, continuation=FRESH)) is None
    assert stored_id(replace(conn, continuation=Anchor("resp_1", [], [], "gpt"))) == "resp_1"
