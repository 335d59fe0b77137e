"""When `auto` goes over HTTP, and when it does not.

Covers S7, S10 and S11 with the issue's "`auto` replays over HTTP/SSE (POST, same URL, full body) when the failure is
`not_sent` or `rejected` and there is something to gain (upgrade refused, 426, 1009, degraded window); the caller gets the
same events; the WebSocket is tried again after its window". What a turn over HTTP is like: test_lifecycle_http.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core.evidence import FALLBACK_MESSAGE
from pixir_actors.core.state import State, Via
from pixir_actors.core.verdict import ADVICE
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import (
    NOT_FOUND,
    Machine,
    created,
    delta,
    error,
)
from tests.core.over_http import FIRST, SECOND, D, E, R, answered, degraded, opened, warm


def refused(machine: Machine, **details: Any) -> None:
    machine.submit(SECOND, endpoint="wss://other/")
    machine.connect_failed(E.WEBSOCKET_HANDSHAKE_FAILED, details=details)


def unreachable(machine: Machine) -> None:
    machine.submit(SECOND, endpoint="wss://other/")
    machine.connect_failed(E.WEBSOCKET_CONNECT_FAILED, details={"reason": "refused"})


def too_slow(machine: Machine) -> None:
    machine.submit(SECOND, endpoint="wss://other/")
    machine.wait(30.1)


def too_big(machine: Machine) -> None:
    machine.start(SECOND)
    machine.socket_failed(details={"close_code": 1009})


def dead_twice(machine: Machine) -> None:
    machine.submit(SECOND)
    machine.socket_failed(unsent=True)
    machine.connected()
    machine.socket_failed(unsent=True)


GAINS: dict[str, tuple[Callable[[Machine], None], ErrorCode]] = {
    "426": (lambda machine: refused(machine, status=426), E.WEBSOCKET_HANDSHAKE_FAILED),
    "404": (lambda machine: refused(machine, status=404), E.WEBSOCKET_HANDSHAKE_FAILED),
    "503": (lambda machine: refused(machine, status=503), E.WEBSOCKET_HANDSHAKE_FAILED),
    "an upgrade without a status": (lambda machine: refused(machine, reason="eof"), E.WEBSOCKET_HANDSHAKE_FAILED),
    "no connection": (unreachable, E.WEBSOCKET_CONNECT_FAILED),
    "no connection in time": (too_slow, E.WEBSOCKET_CONNECT_TIMEOUT),
    "1009": (too_big, E.WEBSOCKET_CLOSED),
    "two dead sockets": (dead_twice, E.WEBSOCKET_CLOSED),
}


@pytest.mark.parametrize(("happen", "code"), GAINS.values(), ids=GAINS)
def test_auto_goes_over_http_where_that_gains_something(happen: Callable[[Machine], None], code: ErrorCode) -> None:
    machine = warm()
    happen(machine)
    assert opened(machine)[-1] is Via.HTTP
    assert machine.frames("r2")[-1] in ("Queued", "Sending")
    answered(machine, "r2")

    evidence = machine.evidence("r2")
    assert machine.delivered("r2") == ["response.created", "response.output_text.delta", "response.completed"]
    assert (evidence["fallback_reason"], evidence["fallback_message"]) == (code, FALLBACK_MESSAGE)
    assert machine.conn.state is State.DEGRADED
    assert machine.conn.backoff.failures == 1
    machine.wait(6)
    third = machine.turn(FIRST)
    assert machine.reason(third) == R.WEBSOCKET_FAILED  # S10
    assert opened(machine)[-1] is Via.WEBSOCKET
    assert machine.conn.backoff.failures == 0


def broken(machine: Machine) -> None:
    machine.start(SECOND)
    machine.socket_failed()


def broken_later(machine: Machine) -> None:
    machine.start(SECOND)
    machine.receive(created("resp_2"))
    machine.socket_failed(details={"close_code": 1009})


def silent(machine: Machine) -> None:
    machine.start(SECOND, first_event_timeout=5.0)
    machine.wait(5.1)


def in_band(machine: Machine) -> None:
    machine.start(SECOND)
    machine.receive(error("rate_limit_exceeded", 429))


def seen(machine: Machine) -> None:
    machine.submit(SECOND)
    machine.receive(created("resp_2"), delta("o"))
    machine.socket_failed(unsent=True)


def own(field: str) -> Callable[[Machine], None]:
    def refused(machine: Machine) -> None:
        machine.submit(SECOND, endpoint="wss://other/", **{field: "theirs"})
        machine.connect_failed(E.WEBSOCKET_HANDSHAKE_FAILED, details={"status": 426})

    return refused


def not_allowed(machine: Machine) -> None:
    machine.submit(SECOND, endpoint="wss://other/", transport="websocket")
    machine.connect_failed(E.WEBSOCKET_HANDSHAKE_FAILED, details={"status": 426})


STAYS: dict[str, tuple[Callable[[Machine], None], Delivery]] = {
    "401": (lambda machine: refused(machine, status=401), D.NOT_SENT),
    "403": (lambda machine: refused(machine, status=403), D.NOT_SENT),
    "what may have run": (broken, D.AMBIGUOUS),
    "1009 after an event": (broken_later, D.ACCEPTED),
    "what its caller has seen": (seen, D.NOT_SENT),
    "no first event": (silent, D.AMBIGUOUS),
    "the provider's own error": (in_band, D.REJECTED),
    "a caller's own id": (own("previous_response_id"), D.NOT_SENT),
    "a caller's own conversation": (own("conversation"), D.NOT_SENT),
    "a caller who wants the WebSocket": (not_allowed, D.NOT_SENT),
}


@pytest.mark.parametrize(("happen", "delivery"), STAYS.values(), ids=STAYS)
def test_it_does_not_where_it_gains_nothing_or_may_run_twice(happen: Callable[[Machine], None], delivery: Delivery) -> None:
    machine = warm()
    happen(machine)

    assert machine.failure("r2").delivery is delivery
    assert Via.HTTP not in opened(machine)


def test_what_a_refused_credential_says_stays_the_same_under_auto() -> None:
    machine = warm()
    refused(machine, status=401)

    assert machine.failure("r2").details["advice"] == ADVICE[401]
    assert machine.conn.backoff.failures == 0


def test_within_the_window_auto_goes_straight_to_http() -> None:  # S10
    machine = degraded()
    third = machine.submit(SECOND)
    assert machine.last[:2] == [act.Queued(third, 0), act.Open(machine.conn.opening, third, Via.HTTP)]
    until = machine.conn.backoff
    answered(machine, third)

    assert machine.evidence(third)["fallback_reason"] == "websocket_degraded"
    assert machine.conn.backoff == until
    assert machine.conn.state is State.DEGRADED


def test_within_the_window_others_are_told_to_wait() -> None:
    for fields in ({"transport": "websocket"}, {"previous_response_id": "theirs"}, {"conversation": "theirs"}):
        machine = degraded()
        third = machine.submit(SECOND, **fields)

        assert machine.failure(third).code is E.WEBSOCKET_DEGRADED
        assert opened(machine) == [Via.WEBSOCKET]


def test_a_success_over_http_does_not_shorten_what_the_next_failure_waits() -> None:
    machine = degraded()
    answered(machine, machine.submit(SECOND))
    machine.wait(6)
    fourth = machine.submit(SECOND)
    machine.connect_failed()
    answered(machine, fourth)

    assert machine.conn.backoff.failures == 2


def test_those_who_wait_are_served_in_their_order_each_by_its_own_way() -> None:
    machine = warm()
    machine.submit(SECOND, endpoint="wss://other/")
    third = machine.submit(SECOND)
    fourth = machine.submit(SECOND, transport="websocket")
    fifth = machine.submit(SECOND, transport="http")
    machine.connect_failed()
    answered(machine, "r2")
    answered(machine, third)
    assert machine.failure(fourth).code is E.WEBSOCKET_DEGRADED
    answered(machine, fifth)

    assert machine.evidence(third)["fallback_reason"] == "websocket_degraded"
    assert "fallback_reason" not in machine.evidence(fifth)


def test_the_window_may_end_while_somebody_is_served_over_http() -> None:
    machine = degraded()
    third = machine.submit(SECOND)
    machine.wait(6)
    answered(machine, third)

    assert machine.conn.state is State.DISCONNECTED
    machine.turn(SECOND)
    assert opened(machine)[-1] is Via.WEBSOCKET


def test_http_is_tried_once_where_auto_allows_it() -> None:
    machine = warm()
    unreachable(machine)
    machine.connect_failed(E.CONNECTION_LOST)

    assert machine.failure("r2").code is E.CONNECTION_LOST
    assert opened(machine) == [Via.WEBSOCKET, Via.WEBSOCKET, Via.HTTP]
    assert machine.conn.state is State.DEGRADED


@pytest.mark.parametrize(("happen", "delivery"), [(unreachable, D.NOT_SENT), (too_big, D.REJECTED)], ids=["unsent", "1009"])
def test_if_http_is_not_to_be_had_either_the_verdict_is_that_of_the_websocket(
    happen: Callable[[Machine], None], delivery: Delivery
) -> None:
    machine = warm()
    happen(machine)
    machine.connect_failed(E.CONNECTION_LOST)

    assert machine.failure("r2").delivery is delivery


def test_a_refusal_over_http_is_shown_though_the_same_was_replayed_before() -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(NOT_FOUND)
    machine.sent()
    machine.socket_failed(details={"close_code": 1009})
    backoff = machine.conn.backoff
    machine.connected()
    machine.sent()
    machine.receive(NOT_FOUND)

    assert machine.delivered(second) == ["error"]
    assert machine.failure(second).delivery is D.REJECTED
    assert machine.conn.backoff == backoff
