"""A turn over HTTP: what goes out, what is seen of it, how it ends, what it leaves behind.

Covers S8 and S9. When the way over HTTP is taken: test_lifecycle_fallback.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core.continuation import Cold
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import State, Via
from pixir_actors.errors import Delivery, ErrorCode, Failure
from tests.core.machine import (
    LIMIT,
    NOT_FOUND,
    Machine,
    created,
    delta,
    error,
)
from tests.core.over_http import FIRST, ONE, SAID, SECOND, TWO, D, E, R, answered, degraded, opened, warm

# What goes out, and what is seen


def test_the_body_is_full_and_in_the_form_of_a_post() -> None:  # S8, C24
    machine = warm("http")
    second = machine.start(SECOND, prompt_cache_key="px1:a", stream_id="main")
    machine.receive(created("resp_2"), delta("o"))

    assert machine.wire == {
        "store": False,
        "stream": True,
        "model": "gpt",
        "prompt_cache_key": "px1:a",
        "input": SECOND,
    }
    evidence = machine.evidence(second)
    assert evidence["wire_bytes"] == len(machine.find(act.Send)[-1].data)
    assert evidence["full_bytes"] > 0


@pytest.mark.parametrize(("transport", "reason"), [("auto", "socket_closed"), ("http", None)])
def test_the_evidence_of_a_turn_over_http(transport: str, reason: str | None) -> None:  # S8
    machine = degraded() if transport == "auto" else warm()
    third = machine.submit(SECOND, transport=transport)
    answered(machine, third)

    expected = {
        "transport_preference": transport,
        "active_transport": "http_sse",
        "used_previous_response_id": False,
        "continuation_attempted": False,
        "continuation_reset_reason": reason,
        "websocket_stored_previous_response_id": None,
        "websocket_captured_response_id": "resp_http",
        "delivery_attempts": 1,
    }
    evidence = machine.evidence(third)
    assert {name: evidence[name] for name in expected} == expected
    assert ("fallback_reason" in evidence) == (transport == "auto")


def test_a_turn_over_the_websocket_says_so_whatever_is_allowed() -> None:
    machine = warm()

    assert machine.evidence("r1")["transport_preference"] == "websocket"
    assert machine.evidence("r1")["active_transport"] == "websocket"
    assert "fallback_reason" not in machine.evidence("r1")


def test_a_caller_who_wants_http_may_continue_by_itself() -> None:
    machine = Machine(transport="http")
    first = machine.submit(FIRST, previous_response_id="theirs")
    answered(machine, first)

    assert machine.wire["previous_response_id"] == "theirs"
    assert machine.evidence(first)["used_previous_response_id"] is True


def test_a_null_is_no_id() -> None:
    machine = Machine(transport="http")
    first = machine.submit(FIRST, previous_response_id=None)
    answered(machine, first)

    assert machine.evidence(first)["used_previous_response_id"] is False


REFUSALS: dict[str, tuple[ServerEvent, int]] = {
    "429": (error("rate_limit_exceeded", 429), 429),
    "401": (error("invalid_api_key", 401), 401),
    "not found": (NOT_FOUND, 400),
    "a limit that is none over HTTP": (LIMIT, 400),
    "without a status": (error("server_error", None), 200),
}


@pytest.mark.parametrize(("refusal", "status"), REFUSALS.values(), ids=REFUSALS)
def test_what_http_refuses_is_shown_with_its_status_and_not_repeated(refusal: ServerEvent, status: int) -> None:
    machine = Machine(transport="http")
    first = machine.start(FIRST)
    machine.receive(refusal)

    assert machine.find(act.ShowStatus) == [act.ShowStatus(first, status)]
    assert machine.failure(first).delivery is D.REJECTED
    assert (machine.conn.state, machine.conn.backoff.failures) == (State.DISCONNECTED, 0)
    assert len(machine.find(act.Send)) == 1


def test_after_output_an_error_does_not_change_the_status() -> None:
    machine = Machine(transport="http")
    first = machine.start(FIRST)
    machine.receive(created(), delta("o"), error("server_error", 500))

    assert machine.find(act.ShowStatus) == [act.ShowStatus(first, 200)]


# How it ends


ENDS: dict[str, tuple[Callable[[Machine], object], ErrorCode, Delivery]] = {
    "cancelled": (lambda m: m.cancel("r3"), E.CANCELLED, D.ACCEPTED),
    "a slow consumer": (lambda m: m.cancel("r3", code=E.SLOW_CONSUMER), E.SLOW_CONSUMER, D.ACCEPTED),
    "between events": (lambda m: m.wait(2.6), E.STREAM_IDLE_TIMEOUT, D.ACCEPTED),
    "the whole": (lambda m: (m.wait(2), m.receive(delta("k")), m.wait(1.1)), E.REQUEST_TIMEOUT, D.ACCEPTED),
    "broken": (lambda m: m.socket_failed(E.CONNECTION_LOST), E.CONNECTION_LOST, D.ACCEPTED),
}


@pytest.mark.parametrize(("end", "code", "delivery"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("within", [True, False], ids=["within a window", "by choice"])
def test_an_end_before_its_time_closes_the_exchange_and_is_no_failure_of_the_websocket(
    end: Callable[[Machine], object], code: ErrorCode, delivery: Delivery, within: bool
) -> None:
    machine = degraded()
    backoff = machine.conn.backoff
    if not within:
        machine.wait(6)
        backoff = machine.conn.backoff
    third = machine.start(SECOND, transport="auto" if within else "http", idle_timeout=2.5, timeout=3.0)
    machine.receive(created("resp_3"), delta("o"))
    end(machine)

    assert (machine.failure(third).code, machine.failure(third).delivery) == (code, delivery)
    assert machine.did(act.CloseSocket)
    assert machine.conn.backoff == backoff
    assert machine.conn.state is (State.DEGRADED if within else State.DISCONNECTED)
    assert machine.conn.continuation == Cold(R.WEBSOCKET_FAILED)


EARLY: dict[str, tuple[Callable[[Machine], object], ErrorCode, Delivery]] = {
    "no target": (lambda m: m.connect_failed(E.CONNECTION_LOST), E.CONNECTION_LOST, D.NOT_SENT),
    "not opened": (lambda m: m.wait(30.1), E.WEBSOCKET_CONNECT_TIMEOUT, D.NOT_SENT),
    "cancelled": (lambda m: m.cancel("r1"), E.CANCELLED, D.NOT_SENT),
    "unsent": (lambda m: (m.connected(), m.socket_failed(E.CONNECTION_LOST, unsent=True)), E.CONNECTION_LOST, D.NOT_SENT),
    "handed over, and no connection had": (
        lambda m: (m.connected(), m.sent(), m.socket_failed(E.CONNECTION_LOST, unsent=True)),
        E.CONNECTION_LOST,
        D.NOT_SENT,
    ),
    "not written": (lambda m: (m.connected(), m.wait(30.1)), E.WEBSOCKET_SEND_TIMEOUT, D.AMBIGUOUS),
    "no answer": (lambda m: (m.connected(), m.sent(), m.wait(180.1)), E.FIRST_EVENT_TIMEOUT, D.AMBIGUOUS),
    "broken": (lambda m: (m.connected(), m.sent(), m.socket_failed(E.CONNECTION_LOST)), E.CONNECTION_LOST, D.AMBIGUOUS),
}


@pytest.mark.parametrize(("end", "code", "delivery"), EARLY.values(), ids=EARLY)
def test_before_an_answer_the_verdict_is_that_of_its_moment(
    end: Callable[[Machine], object], code: ErrorCode, delivery: Delivery
) -> None:
    machine = Machine(transport="http")
    first = machine.submit(FIRST)
    end(machine)

    assert (machine.failure(first).code, machine.failure(first).delivery) == (code, delivery)
    assert len(machine.find(act.Open)) == 1
    assert (machine.conn.state, machine.conn.backoff.failures) == (State.DISCONNECTED, 0)


def test_retry_ambiguous_holds_over_http_as_well() -> None:
    machine = Machine(transport="http", retry_ambiguous=True)
    first = machine.start(FIRST)
    machine.socket_failed(E.CONNECTION_LOST)
    answered(machine, first)

    assert opened(machine) == [Via.HTTP, Via.HTTP]
    assert machine.evidence(first)["delivery_attempts"] == 2


# What it leaves behind


def test_a_caller_who_wants_http_closes_the_socket_that_stood_open() -> None:
    machine = warm()
    second = machine.submit(SECOND, transport="http")
    assert machine.last[1:3] == [act.CloseSocket(1000), act.Open(machine.conn.opening, second, Via.HTTP)]
    answered(machine, second)
    third = machine.turn(SECOND)

    assert machine.reason(third) == R.ENDPOINT_CHANGED
    assert opened(machine) == [Via.WEBSOCKET, Via.HTTP, Via.WEBSOCKET]


def test_nothing_is_continued_from_over_http_or_after_it() -> None:
    machine = Machine(transport="http")
    answered(machine, machine.submit(FIRST))
    second = machine.submit([ONE, SAID, TWO])
    answered(machine, second)

    assert machine.wire["input"] == [ONE, SAID, TWO]
    assert machine.conn.continuation == Cold(R.NO_PREVIOUS_RESPONSE)
    assert machine.conn.socket is None


def test_no_ping_goes_out_over_http() -> None:
    machine = Machine(transport="http", keepalive_interval=10.0, pong_timeout=4.0)
    first = machine.start(FIRST)
    machine.wait(100)

    assert machine.answer(first) is None
    assert not machine.find(act.Ping)


def test_what_comes_behind_the_end_is_ignored() -> None:
    machine = Machine(transport="http")
    machine.turn(FIRST)
    before = machine.conn
    machine.socket_failed(E.CONNECTION_LOST)
    machine.receive(delta("late"))
    machine.feed(put.Sent())

    assert machine.conn == before


def test_a_busy_exchange_does_not_make_room_and_a_stop_ends_it() -> None:
    machine = Machine(transport="http")
    first = machine.start(FIRST)
    assert machine.evict() == [act.AnswerEvict(False)]
    machine.stop()

    assert machine.failure(first) == Failure.of(E.SHUTTING_DOWN, D.AMBIGUOUS)
    assert machine.did(act.CloseSocket)


def test_the_statistics_count_it_as_a_turn() -> None:
    machine = Machine(transport="http")
    machine.turn(FIRST)
    statistics = machine.conn.statistics

    assert (statistics.turns, statistics.delta_turns, statistics.sockets) == (1, 0, 1)
    assert statistics.wire_bytes == len(machine.find(act.Send)[0].data)
