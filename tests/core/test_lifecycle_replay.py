"""What is refused and goes out again, what is held back meanwhile, and what comes out of step.

Covers C36 to C41 with design sections 4.6 and 6, T30, T40, X6, X7, W18, P1.
"""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core.continuation import Anchor, Cold, ResetReason
from pixir_actors.core.lifecycle import HELD_EVENTS
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import State
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import (
    LIMIT,
    NOT_FOUND,
    RATE_LIMITS,
    Machine,
    assistant,
    completed,
    created,
    delta,
    error,
    event,
    failed,
    incomplete,
    user,
)

ONE, TWO, THREE = user("one"), user("two"), user("three")
SAID = assistant("ok", id="msg_1")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
R = ResetReason


def warm(**options: Any) -> Machine:
    """Return a connection that has had one turn, and can continue from `resp_1`."""
    machine = Machine(**options)
    machine.turn(FIRST, "resp_1", [SAID])
    assert isinstance(machine.conn.continuation, Anchor)
    return machine


# Rejections


NOT_FOUNDS = {
    "T30 nested": NOT_FOUND,
    "T30 flat": event("error", code="previous_response_not_found", message="no"),
    "T30 response.failed": failed("previous_response_not_found"),
    "T30 by its param": error("invalid_request_error", 400, param="previous_response_id"),
}


@pytest.mark.parametrize("rejection", NOT_FOUNDS.values(), ids=NOT_FOUNDS)
@pytest.mark.parametrize("before", [(), (RATE_LIMITS, created("resp_x"))], ids=["at once", "after created"])
def test_a_refused_continuation_is_replayed_in_full_and_unseen(  # T30, C37, C38, P1
    rejection: ServerEvent, before: tuple[ServerEvent, ...]
) -> None:
    machine = warm()
    second = machine.start(SECOND, prompt_cache_key="px1:a")
    machine.receive(*before, rejection)
    assert [type(action) for action in machine.last] == [act.Sending, act.Send]
    machine.sent()
    machine.receive(created("resp_2"), completed("resp_2", SAID))

    assert len(machine.find(act.Open)) == 1
    assert machine.wire["input"] == SECOND
    assert "previous_response_id" not in machine.wire
    assert machine.wire["prompt_cache_key"] == "px1:a"
    assert machine.wire["store"] is False
    assert machine.delivered(second) == ["response.created", "response.completed"]
    shown = [show for show in machine.find(act.Show) if show.request_id == second]
    assert len(shown) == 2
    assert shown[0].values["websocket_stored_previous_response_id"] is None
    assert shown[0].values["delivery_attempts"] == 2
    assert machine.reason(second) == R.PREVIOUS_RESPONSE_NOT_FOUND
    assert machine.turn([*SECOND, SAID, THREE], "resp_3")
    assert machine.wire["previous_response_id"] == "resp_2"


def test_the_second_not_found_ends_it_as_the_providers_error() -> None:  # X7, C40, C41
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(NOT_FOUND)
    machine.sent()
    machine.receive(NOT_FOUND)

    failure = machine.failure(second)
    assert (failure.code, failure.delivery) == (ErrorCode.PROVIDER_HTTP_ERROR, Delivery.REJECTED)
    assert failure.details["reason"] == "previous_response_not_found"
    assert failure.error is not None
    assert machine.delivered(second) == []
    assert machine.conn.state is State.DEGRADED


@pytest.mark.parametrize("own", ["previous_response_id", "conversation"])
def test_a_callers_own_continuation_is_never_replayed(own: str) -> None:  # design section 6
    for rejection in (NOT_FOUND, LIMIT):
        machine = warm()
        second = machine.start(SECOND, **{own: "theirs"})
        machine.receive(rejection)

        assert machine.delivered(second) == ["error"]
        assert machine.failure(second).delivery is Delivery.REJECTED
        assert len(machine.find(act.Send)) == 2
        assert machine.reason(machine.turn(FIRST)) in (R.CALLER_CONTINUATION, R.CONNECTION_LIMIT)


def test_a_not_found_without_a_continuation_is_the_callers_to_see() -> None:
    machine = Machine()
    first = machine.start(FIRST)
    machine.receive(NOT_FOUND)

    assert machine.delivered(first) == ["error"]
    assert machine.failure(first).status == 400
    assert len(machine.find(act.Send)) == 1


@pytest.mark.parametrize("items", [FIRST, SECOND], ids=["full", "delta"])
def test_a_connection_limit_is_replayed_on_a_fresh_socket(items: list[Any]) -> None:
    machine = warm()
    second = machine.start(items)
    machine.receive(LIMIT)
    assert [type(action) for action in machine.last] == [act.CloseSocket, act.Open]
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.wire["input"] == items
    assert machine.reason(second) == R.CONNECTION_LIMIT
    assert machine.delivered(second) == ["response.completed"]


def test_not_found_and_limit_are_replayed_once_each() -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(NOT_FOUND)
    machine.sent()
    machine.receive(LIMIT)
    machine.connected()
    machine.sent()
    machine.receive(LIMIT)

    assert len(machine.find(act.Send)) == 1 + 3
    assert machine.delivered(second) == ["error"]
    assert machine.failure(second).delivery is Delivery.REJECTED
    assert machine.reason(machine.turn(FIRST)) == R.CONNECTION_LIMIT


@pytest.mark.parametrize("rejection", [NOT_FOUND, LIMIT], ids=["not found", "limit"])
def test_after_output_nothing_is_replayed(rejection: ServerEvent) -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(created("resp_2"), delta("o"), rejection)

    assert machine.delivered(second)[-1] == "error"
    assert machine.failure(second).delivery is Delivery.ACCEPTED
    assert len(machine.find(act.Send)) == 2


def test_a_refusal_before_the_request_was_written_costs_the_socket_too() -> None:
    machine = warm()
    machine.submit(SECOND)
    machine.receive(NOT_FOUND)

    assert [type(action) for action in machine.last] == [act.CloseSocket, act.Open]
    machine.connected()
    machine.sent()
    machine.receive(created("resp_2"), delta("o"))
    assert machine.reason("r2") == R.PREVIOUS_RESPONSE_NOT_FOUND


# What is held back


def test_an_attempt_to_continue_is_held_back_until_the_model_begins() -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(RATE_LIMITS, created("resp_2"))
    machine.receive(event("response.in_progress", response={"id": "resp_2"}))
    assert machine.frames(second) == ["Queued", "Sending"]
    machine.receive(delta("o"))

    assert machine.frames(second) == ["Queued", "Sending", "Show", "ShowStatus", "Deliver", "Deliver"]
    assert machine.delivered(second) == [
        "codex.rate_limits",
        "response.created",
        "response.in_progress",
        "response.output_text.delta",
    ]


def test_what_was_held_back_is_delivered_before_a_failure() -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(created("resp_2"))
    machine.socket_failed()

    assert machine.frames(second) == ["Queued", "Sending", "Show", "ShowStatus", "Deliver", "Fail"]


ENDINGS = {
    "output": delta("o"),
    "completed": completed(),
    "incomplete": incomplete(),
    "failed": failed(),
    "an error": error(),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_full_attempt_is_held_back_as_well_until_output_or_its_end(ending: ServerEvent) -> None:
    machine = Machine()
    first = machine.start(FIRST)
    machine.receive(RATE_LIMITS, created())
    machine.receive(event("response.queued", response={"id": "resp_1"}))
    machine.receive(event("response.in_progress", response={"id": "resp_1"}))
    assert machine.frames(first) == ["Queued", "Sending"]
    machine.receive(ending)

    held = ["codex.rate_limits", "response.created", "response.queued", "response.in_progress"]
    assert machine.delivered(first) == [*held, ending.type]
    assert machine.frames(first)[:4] == ["Queued", "Sending", "Show", "ShowStatus"]


def test_a_limit_before_any_output_of_a_full_attempt_is_never_seen() -> None:
    """Issue: `websocket_connection_limit_reached` before any output leads to one full replay; one clean attempt is seen."""
    machine = Machine()
    first = machine.start(FIRST)
    machine.receive(RATE_LIMITS, created("resp_lost"), LIMIT)
    machine.connected()
    machine.sent()
    machine.receive(created("resp_1"), completed("resp_1", SAID))

    assert machine.delivered(first) == ["response.created", "response.completed"]
    assert machine.evidence(first)["websocket_captured_response_id"] == "resp_1"
    assert len(machine.find(act.ShowStatus)) == 1


# A socket whose last frame has been read


def test_the_next_in_the_queue_is_not_sent_on_a_socket_that_the_server_closed_behind_an_answer() -> None:
    machine = warm()
    second, third = machine.start(SECOND), machine.submit(FIRST)
    machine.receive(completed("resp_2"), last=True)
    assert machine.answer(second) == act.Finish(second)
    assert not machine.did(act.Send)
    assert machine.socket_failed() == []
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_3"))

    assert machine.answer(third) == act.Finish(third)
    assert machine.reason(third) == R.CONNECTION_CLOSED
    assert machine.evidence(third)["delivery_attempts"] == 1


def test_a_refused_continuation_is_not_replayed_on_a_socket_that_the_server_has_closed() -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(NOT_FOUND, last=True)
    assert [type(action) for action in machine.last] == [act.CloseSocket, act.Open]
    assert machine.socket_failed() == []
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.reason(second) == R.PREVIOUS_RESPONSE_NOT_FOUND
    assert machine.wire["input"] == SECOND


def test_a_reason_to_be_cold_survives_that_the_server_closed_behind_an_error() -> None:
    machine = warm()
    machine.start(SECOND)
    machine.receive(error(), last=True)
    machine.socket_failed()

    assert machine.conn.state is State.DISCONNECTED
    assert machine.reason(machine.turn(SECOND)) == R.RESPONSE_FAILED


def test_not_more_than_a_thousand_events_are_held() -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(*[RATE_LIMITS] * HELD_EVENTS)
    assert machine.delivered(second) == []
    machine.receive(RATE_LIMITS)
    assert len(machine.delivered(second)) == HELD_EVENTS + 1
    machine.receive(NOT_FOUND)

    assert machine.delivered(second)[-1] == "error"
    assert len(machine.find(act.Send)) == 2


# What stands behind a terminal event, or comes between turns


def test_what_comes_behind_a_terminal_event_is_not_delivered_and_costs_the_socket() -> None:  # T40, W18
    machine = Machine()
    first = machine.start(FIRST)
    machine.receive(created(), completed("resp_1", SAID), delta("late"), incomplete())
    assert machine.did(act.CloseSocket)
    second = machine.turn(SECOND)

    assert machine.delivered(first) == ["response.created", "response.completed"]
    assert machine.answer(first) == act.Finish(first)
    assert machine.evidence(first)["websocket_stored_previous_response_id"] is None
    assert machine.reason(second) == R.WEBSOCKET_FAILED


def test_a_private_event_behind_a_terminal_one_costs_nothing() -> None:
    machine = Machine()
    machine.start(FIRST)
    machine.receive(completed("resp_1", SAID), RATE_LIMITS)

    assert machine.conn.state is State.IDLE


def test_an_answer_before_the_request_was_written_costs_the_socket() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.receive(completed("resp_2", SAID))

    assert machine.answer(second) == act.Finish(second)
    assert machine.did(act.CloseSocket)
    assert machine.conn.continuation == Cold(R.WEBSOCKET_FAILED)


STRAYS = {
    "a private event": (RATE_LIMITS, None),
    "a warning": (error("connection_expiring", None), None),
    "an answer without a question": (delta("x"), R.WEBSOCKET_FAILED),
    "a terminal event": (completed(), R.WEBSOCKET_FAILED),
    "an error": (error(), R.WEBSOCKET_FAILED),
    "the connection limit": (LIMIT, R.CONNECTION_LIMIT),
}


@pytest.mark.parametrize(("stray", "reason"), STRAYS.values(), ids=STRAYS)
def test_what_comes_between_turns_closes_the_socket_unless_private(stray: ServerEvent, reason: ResetReason | None) -> None:
    machine = warm()
    machine.receive(RATE_LIMITS, stray)

    assert machine.did(act.CloseSocket) == (reason is not None)
    assert machine.conn.state is (State.IDLE if reason is None else State.DISCONNECTED)
    assert machine.reason(machine.turn(SECOND)) == reason


def test_a_socket_closed_between_turns_is_reopened_without_a_window() -> None:
    machine = warm()
    machine.socket_failed()
    second = machine.turn(SECOND)

    assert machine.reason(second) == R.CONNECTION_CLOSED
    assert len(machine.find(act.Open)) == 2


@pytest.mark.parametrize("late", [delta("late"), completed("resp_1", assistant("late"))], ids=["output", "a second end"])
def test_what_comes_late_of_an_earlier_response_is_not_taken_for_the_answer(late: ServerEvent) -> None:
    machine = Machine()
    machine.start([user("one")])
    machine.receive(created("resp_1"))
    machine.receive(completed("resp_1", assistant("ok")))
    second = machine.start([user("one"), assistant("ok"), user("two")])
    machine.receive(late, announced=False)

    failure = machine.failure(second)
    assert (failure.code, failure.delivery) == (ErrorCode.WEBSOCKET_FAILED, Delivery.AMBIGUOUS)
    assert failure.details["reason"] == "out_of_step"
    assert "response.completed" not in machine.delivered(second)
    assert machine.conn.socket is None


def test_a_server_that_never_announces_is_believed() -> None:
    machine = Machine()
    machine.start([user("one")])
    machine.receive(completed("resp_1", assistant("ok")))
    second = machine.start([user("one"), assistant("ok"), user("two")])
    machine.receive(delta("fine"), completed("resp_2", assistant("fine")), announced=False)

    assert isinstance(machine.answer(second), act.Finish)
