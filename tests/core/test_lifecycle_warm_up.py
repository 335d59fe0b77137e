"""Warm-ups: a connection opened, or a request read, before the first turn needs it.

Covers the issue's "`client.warm(key, request)` opens the connection and, if asked, sends `generate: false` once, tolerating
the four behaviours listed in `protocol.md` 2.2; the first turn continues from it when it may".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core.continuation import Anchor, Cold, ResetReason
from pixir_actors.core.deadlines import WARM_UP_TIMEOUT
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import Purpose, State, Via
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import (
    LIMIT,
    RATE_LIMITS,
    Machine,
    assistant,
    completed,
    created,
    delta,
    error,
    event,
    user,
)

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason
OPEN, PREFILL = Purpose.OPEN, Purpose.PREFILL


def prefilled(items: Any = FIRST) -> Machine:
    """Return a connection whose first request has been read, as OpenAI does it."""
    machine = Machine()
    warm_up = machine.start(items, purpose=PREFILL)
    machine.receive(created("resp_w"), completed("resp_w"))
    assert machine.answer(warm_up) == act.Finish(warm_up)
    return machine


# Opening


def test_opening_sends_nothing_and_the_first_turn_finds_the_socket_open() -> None:
    machine = Machine()
    warm_up = machine.submit(FIRST, purpose=OPEN)
    machine.connected()
    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert machine.evidence(warm_up) == {"active_transport": "websocket", "websocket_key": "'session-1'"}
    assert not machine.find((act.Send, act.Sending))  # type: ignore[arg-type]
    assert machine.conn.state is State.IDLE
    first = machine.turn(FIRST)

    assert len(machine.find(act.Open)) == 1
    assert machine.reason(first) == R.NO_PREVIOUS_RESPONSE
    assert machine.conn.statistics.turns == 1


def test_an_open_socket_is_left_as_it_is() -> None:
    for purpose in (OPEN, PREFILL):
        machine = Machine()
        machine.turn(FIRST, "resp_1", [SAID])
        warm_up = machine.submit(SECOND, purpose=purpose)
        assert machine.answer(warm_up) == act.Finish(warm_up)
        assert machine.conn.state is State.IDLE
        machine.turn(SECOND)

        assert machine.wire["previous_response_id"] == "resp_1"
        assert len(machine.find(act.Send)) == 2


def test_a_socket_of_another_identity_is_replaced() -> None:
    machine = Machine()
    machine.turn(FIRST, "resp_1", [SAID])
    warm_up = machine.submit(SECOND, purpose=OPEN, fingerprint="other")
    machine.connected()

    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert machine.reason(machine.turn(SECOND, fingerprint="other")) == R.HEADERS_CHANGED
    assert len(machine.find(act.Open)) == 2


@pytest.mark.parametrize("transport", ["websocket", "auto"])
@pytest.mark.parametrize("purpose", [OPEN, PREFILL])
def test_a_failed_opening_is_the_warm_ups_failure_and_never_goes_over_http(purpose: Purpose, transport: str) -> None:
    machine = Machine(transport=transport)
    warm_up = machine.submit(FIRST, purpose=purpose)
    machine.connect_failed()

    assert machine.failure(warm_up).code is E.WEBSOCKET_CONNECT_FAILED
    assert machine.conn.state is State.DEGRADED
    again = machine.submit(FIRST, purpose=purpose)
    assert machine.failure(again).code is E.WEBSOCKET_DEGRADED
    assert [open_.via for open_ in machine.find(act.Open)] == [Via.WEBSOCKET]


@pytest.mark.parametrize("purpose", [OPEN, PREFILL])
@pytest.mark.parametrize("open_before", [True, False], ids=["with a socket", "without"])
def test_over_http_there_is_nothing_to_warm_and_nothing_is_touched(purpose: Purpose, open_before: bool) -> None:
    machine = Machine()
    if open_before:
        machine.turn(FIRST, "resp_1", [SAID])
    before = machine.conn
    warm_up = machine.submit(SECOND, purpose=purpose, transport="http")

    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert machine.evidence(warm_up)["active_transport"] == "http_sse"
    assert not machine.find((act.Open, act.Send, act.CloseSocket), machine.last)  # type: ignore[arg-type]
    assert (machine.conn.socket, machine.conn.state) == (before.socket, before.state)
    assert machine.conn.continuation == before.continuation


def test_over_http_a_warm_up_leaves_the_window_alone() -> None:
    machine = Machine()
    machine.submit(FIRST)
    machine.connect_failed()
    backoff = machine.conn.backoff
    machine.submit(FIRST, purpose=OPEN, transport="http")

    assert machine.conn.backoff == backoff
    assert machine.conn.state is State.DEGRADED


def test_hundreds_of_warm_ups_may_wait() -> None:
    machine = Machine(queue_limit=10_000)
    first = machine.start(FIRST)
    waiting = [machine.submit(FIRST, purpose=OPEN) for _ in range(500)]
    machine.receive(completed())

    assert machine.answer(first) == act.Finish(first)
    assert {end.request_id for end in machine.find(act.Finish, machine.last)} == {first, *waiting}


# Reading the request before its turn


def test_the_first_turn_continues_from_its_own_request_with_nothing_new() -> None:
    machine = prefilled()
    assert machine.wire == {"type": "response.create", "store": False, "model": "gpt", "input": FIRST, "generate": False}
    first = machine.turn(FIRST, "resp_1", [SAID])

    assert machine.wire == {
        "type": "response.create",
        "store": False,
        "model": "gpt",
        "input": [],
        "previous_response_id": "resp_w",
    }
    assert machine.reason(first) is None
    assert machine.evidence(first)["continuation_attempted"] is True
    machine.turn(SECOND)
    assert machine.wire == machine.wire | {"input": [TWO], "previous_response_id": "resp_1"}


def test_the_first_turn_may_say_more_than_was_read() -> None:
    machine = prefilled()
    machine.turn([ONE, TWO])

    assert machine.wire == machine.wire | {"input": [TWO], "previous_response_id": "resp_w"}


CHANGES: dict[str, tuple[dict[str, Any], list[Any], ResetReason]] = {
    "another beginning": ({}, [TWO], R.PREFIX_MISMATCH),
    "less than was read": ({}, [], R.PREFIX_MISMATCH),
    "another model": ({"model": "other"}, FIRST, R.MODEL_CHANGED),
}


@pytest.mark.parametrize(("fields", "items", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_turn_of_something_else_goes_out_in_full(fields: dict[str, Any], items: list[Any], reason: ResetReason) -> None:
    machine = prefilled()
    first = machine.turn(items, **fields)

    assert machine.reason(first) == reason
    assert machine.wire["input"] == items


def test_only_behind_a_warm_up_is_nothing_new_a_continuation() -> None:
    machine = prefilled()
    machine.turn(FIRST, "resp_1", [])

    assert machine.reason(machine.turn(FIRST)) == R.EMPTY_DELTA


def test_it_is_sent_once() -> None:
    machine = prefilled()
    again = machine.submit(FIRST, purpose=PREFILL)

    assert machine.answer(again) == act.Finish(again)
    assert len(machine.find(act.Send)) == 1


def test_what_the_warm_up_was_told_is_shown_like_any_stream() -> None:
    machine = prefilled()

    assert machine.delivered("r1") == ["response.created", "response.completed"]
    assert machine.evidence("r1")["websocket_captured_response_id"] == "resp_w"


def test_a_warm_up_is_no_turn() -> None:
    machine = prefilled()
    machine.turn(FIRST)

    assert (machine.conn.statistics.turns, machine.conn.statistics.delta_turns) == (1, 1)


@pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
def test_a_request_that_continues_itself_is_not_read_ahead(field: str) -> None:
    """The provider remembers the newest response alone: the warm-up's would take the place of the caller's own."""
    machine = Machine()
    warm_up = machine.submit(FIRST, purpose=PREFILL, **{field: "theirs"})
    machine.connected()

    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert not machine.find(act.Send)
    assert machine.conn.state is State.IDLE


# What servers make of it (`protocol.md` 2.2)


def test_an_empty_id_is_not_continued_from() -> None:
    machine = Machine()
    machine.start(FIRST, purpose=PREFILL)
    machine.receive(created(""), completed(""))
    assert machine.conn.continuation == Cold(R.NO_PREVIOUS_RESPONSE)
    machine.turn(FIRST)

    assert machine.wire["input"] == FIRST
    assert "previous_response_id" not in machine.wire
    assert len(machine.find(act.Open)) == 1


@pytest.mark.parametrize("before", [(), (created("resp_w"),), (RATE_LIMITS,)], ids=["nothing", "created", "private"])
def test_a_terminal_event_that_does_not_come_is_not_waited_for(before: tuple[ServerEvent, ...]) -> None:
    machine = Machine()
    warm_up = machine.start(FIRST, purpose=PREFILL)
    machine.receive(*before)
    machine.wait(WARM_UP_TIMEOUT - 0.1)
    assert machine.answer(warm_up) is None
    machine.wait(0.2)

    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert machine.conn.backoff.failures == 0
    assert (machine.conn.socket, machine.conn.state) == (None, State.DISCONNECTED)
    assert machine.reason(machine.turn(FIRST)) == R.CANCELLED


def test_a_shorter_limit_of_its_own_holds() -> None:
    machine = Machine()
    warm_up = machine.start(FIRST, purpose=PREFILL, first_event_timeout=1.0)
    machine.wait(1.1)

    assert machine.answer(warm_up) == act.Finish(warm_up)


def test_a_warm_up_that_is_not_written_in_time_fails() -> None:
    machine = Machine()
    warm_up = machine.submit(FIRST, purpose=PREFILL)
    machine.connected()
    machine.wait(30.1)

    assert machine.failure(warm_up).code is E.WEBSOCKET_SEND_TIMEOUT


BEGUN: dict[str, tuple[ServerEvent, ...]] = {
    "a delta": (created("resp_w"), delta("o")),
    "the whole answer at once": (created("resp_w"), delta("ok"), completed("resp_w", SAID)),
    "an item": (event("response.output_item.added", item={}),),
}


@pytest.mark.parametrize("events", BEGUN.values(), ids=BEGUN)
def test_a_server_that_answers_all_the_same_is_cut_short(events: tuple[ServerEvent, ...]) -> None:
    machine = Machine()
    warm_up = machine.start(FIRST, purpose=PREFILL)
    machine.receive(*events)

    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert machine.delivered(warm_up) == []
    assert machine.did(act.CloseSocket)
    assert machine.conn.backoff.failures == 0
    assert machine.reason(machine.turn(FIRST)) == R.CANCELLED


@pytest.mark.parametrize("events", BEGUN.values(), ids=BEGUN)
def test_the_answer_of_a_warm_up_is_not_taken_for_that_of_whoever_waits(events: tuple[ServerEvent, ...]) -> None:
    machine = Machine()
    machine.start(FIRST, purpose=PREFILL)
    second = machine.submit(FIRST)
    machine.receive(*events)
    assert machine.conn.state is State.CONNECTING
    assert machine.answer(second) is None
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_1", SAID))

    assert machine.delivered(second) == ["response.completed"]
    assert machine.evidence(second)["websocket_captured_response_id"] == "resp_1"


@pytest.mark.parametrize("items", [FIRST, SECOND], ids=["the same request", "with the answer"])
def test_an_answer_that_only_the_terminal_event_lists_is_not_slipped_in(items: list[Any]) -> None:
    machine = Machine()
    machine.start(FIRST, purpose=PREFILL)
    machine.receive(created("resp_w"), completed("resp_w", assistant("nobody asked")))
    first = machine.turn(items)

    assert machine.wire["input"] == items
    assert machine.reason(first) in (R.EMPTY_DELTA, R.OUTPUT_MISMATCH)


@pytest.mark.parametrize("refusal", [error("invalid_prompt", 400), LIMIT], ids=["an error", "the limit"])
def test_a_refusal_is_the_warm_ups_failure(refusal: ServerEvent) -> None:
    machine = Machine()
    warm_up = machine.start(FIRST, purpose=PREFILL)
    machine.receive(refusal)

    assert (machine.failure(warm_up).code, machine.failure(warm_up).status) == (E.PROVIDER_HTTP_ERROR, 400)
    assert machine.delivered(warm_up) == ["error"]
    assert len(machine.find(act.Send)) == 1
    assert not isinstance(machine.conn.continuation, Anchor)


BREAKS: dict[str, tuple[Callable[[Machine], object], Delivery]] = {
    "broken": (lambda machine: machine.socket_failed(), D.AMBIGUOUS),
    "too large": (lambda machine: machine.socket_failed(details={"close_code": 1009}), D.REJECTED),
    "cancelled": (lambda machine: machine.cancel("r1"), D.AMBIGUOUS),
}


@pytest.mark.parametrize(("happen", "delivery"), BREAKS.values(), ids=BREAKS)
def test_a_warm_up_is_never_sent_again(happen: Callable[[Machine], object], delivery: Delivery) -> None:
    machine = Machine(transport="auto", retry_ambiguous=True)
    warm_up = machine.start(FIRST, purpose=PREFILL)
    happen(machine)

    assert machine.failure(warm_up).delivery is delivery
    assert len(machine.find(act.Open)) == 1


def test_a_warm_up_on_a_socket_that_had_died_gets_a_fresh_one() -> None:
    machine = Machine()
    machine.submit(FIRST, purpose=OPEN)
    machine.connected()
    warm_up = machine.submit(FIRST, purpose=PREFILL)
    machine.socket_failed(unsent=True)
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_w"))

    assert machine.answer(warm_up) == act.Finish(warm_up)
    assert machine.conn.continuation == Anchor("resp_w", FIRST, [], "gpt", prefilled=True)


def test_whoever_waits_behind_a_warm_up_continues_from_it() -> None:
    machine = Machine()
    machine.start(FIRST, purpose=PREFILL)
    first = machine.submit(FIRST)
    machine.receive(created("resp_w"), completed("resp_w"))
    machine.sent()
    machine.receive(completed("resp_1", SAID))

    assert machine.wire["previous_response_id"] == "resp_w"
    assert machine.answer(first) == act.Finish(first)
