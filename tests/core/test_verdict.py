"""Verdicts and advice, as tables. What the machine makes of them stands in the tests of the lifecycle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pixir_actors.core.state import Phase, Turn
from pixir_actors.core.verdict import (
    ADVICE,
    MESSAGE_TOO_BIG,
    asked_for,
    attempt_verdict,
    http_may_help,
    overall_verdict,
    refusal_advice,
    verdict,
)
from pixir_actors.errors import Delivery, ErrorCode, Failure
from tests.core.machine import Machine

D, E = Delivery, ErrorCode


def turn(**fields: Any) -> Turn:
    machine = Machine()
    machine.submit(["x"])
    assert machine.conn.turn is not None
    return replace(machine.conn.turn, **fields)


@pytest.mark.parametrize(
    ("phase", "accepted", "delivery"),
    [
        (Phase.OPENING, False, D.NOT_SENT),
        (Phase.OPENING, True, D.NOT_SENT),
        (Phase.SENDING, False, D.AMBIGUOUS),
        (Phase.WAITING, False, D.AMBIGUOUS),
        (Phase.WAITING, True, D.ACCEPTED),
        (Phase.FLOWING, True, D.ACCEPTED),
    ],
)
def test_an_attempt_may_have_run_from_its_first_byte_on(phase: Phase, accepted: bool, delivery: Delivery) -> None:
    assert attempt_verdict(turn(phase=phase, accepted=accepted)) is delivery


@pytest.mark.parametrize(
    ("newest", "retried", "refused", "delivery"),
    [
        (D.NOT_SENT, False, False, D.NOT_SENT),
        (D.NOT_SENT, False, True, D.REJECTED),
        (D.REJECTED, False, True, D.REJECTED),
        (D.NOT_SENT, True, False, D.AMBIGUOUS),
        (D.REJECTED, True, True, D.AMBIGUOUS),
        (D.AMBIGUOUS, False, True, D.AMBIGUOUS),
        (D.ACCEPTED, True, True, D.ACCEPTED),
    ],
)
def test_an_earlier_attempt_is_not_forgotten(newest: Delivery, retried: bool, refused: bool, delivery: Delivery) -> None:
    assert overall_verdict(turn(retried=retried, refused=refused), newest) is delivery


def test_a_request_that_is_nowhere_may_have_run() -> None:
    assert verdict(Machine().conn, "r1") is D.AMBIGUOUS


@pytest.mark.parametrize(
    ("code", "delivery", "details", "helps"),
    [
        (E.WEBSOCKET_HANDSHAKE_FAILED, D.NOT_SENT, {"status": 426}, True),
        (E.WEBSOCKET_CONNECT_TIMEOUT, D.NOT_SENT, {}, True),
        (E.WEBSOCKET_CLOSED, D.REJECTED, {}, True),
        (E.WEBSOCKET_CLOSED, D.AMBIGUOUS, {}, False),
        (E.WEBSOCKET_CLOSED, D.ACCEPTED, {"close_code": MESSAGE_TOO_BIG}, False),
        (E.REQUEST_TIMEOUT, D.NOT_SENT, {"close_code": MESSAGE_TOO_BIG}, True),
        (E.REQUEST_TIMEOUT, D.NOT_SENT, {}, False),
        (E.WEBSOCKET_HANDSHAKE_FAILED, D.NOT_SENT, {"status": 401}, False),
        (E.WEBSOCKET_HANDSHAKE_FAILED, D.NOT_SENT, {"status": 403}, False),
        *((E.WEBSOCKET_CONNECT_FAILED, D.NOT_SENT, {"reason": why}, False) for why in ADVICE if isinstance(why, str)),
    ],
)
def test_http_may_help_where_nothing_ran_and_the_caller_cannot(
    code: ErrorCode, delivery: Delivery, details: dict[str, Any], helps: bool
) -> None:
    assert http_may_help(Failure.of(code, delivery, **details)) is helps


@pytest.mark.parametrize(
    ("status", "endpoint", "advice"),
    [
        (404, "wss://h/v1/responses", ADVICE[404]),
        (404, "wss://h/v1/responses/responses?k=1", asked_for("wss://h/v1/responses/responses")),
        (404, "wss://h/responses", ADVICE[404]),
        (426, "wss://h/v1/responses/responses", ADVICE[426]),
        (503, "wss://h/v1/responses/responses", None),
        (None, "wss://h/v1/responses", None),
    ],
)
def test_a_refusal_is_advised_by_its_status_and_a_path_that_was_not_found(
    status: int | None, endpoint: str, advice: str | None
) -> None:
    assert refusal_advice(status, endpoint) == advice
