"""Turns: what goes on the wire, what a caller sees of it, and what the next turn continues from.

Covers C5 (FIFO), C9 and X21 (inputs that do not fit), C12, C17, C19, C30 to C34, C42 to C46 with design section 6, C53, C54,
T15, T16, T19 to T26, X5, X6, X11, X19, X20, X25, P7. Rejections, what is held back and what comes out of step stand in
test_lifecycle_replay.py, failures and verdicts in test_lifecycle_failures.py, alarms and keepalive in
test_lifecycle_time.py, the end in test_lifecycle_end.py; the decision between
delta and full as a table in test_continuation.py.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, get_args

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core import lifecycle
from pixir_actors.core.continuation import Anchor, ResetReason
from pixir_actors.core.lifecycle import RULES, Rule, transition
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import State
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import (
    Machine,
    assistant,
    completed,
    created,
    delta,
    error,
    event,
    failed,
    incomplete,
    item_done,
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


# The table

LETTERS = dict(zip(State, "DCISGRX", strict=True))


def print_table() -> str:
    """Return the table of state and input, as it stands in the docstring of the machine."""
    lines = ["INPUT".ljust(16) + "".join(f"{LETTERS[state]} {state.value}".ljust(15) for state in State).rstrip()]
    for kind in get_args(put.Input):
        cells = [RULES.get((state, kind)) for state in State]
        text = "".join(("." if rule is None else letters(rule)).ljust(15) for rule in cells)
        lines.append((kind.__name__.ljust(16) + text).rstrip())
    return "\n".join(lines)


def letters(rule: Rule) -> str:
    return " ".join(LETTERS[state] for state in State if state in rule.targets)


def test_the_docstring_has_the_table_that_follows_from_the_code() -> None:
    assert print_table() in (lifecycle.__doc__ or "")


def test_every_input_has_a_rule_somewhere_and_every_rule_is_for_an_input() -> None:
    assert {kind for _, kind in RULES} == set(get_args(put.Input))


def test_an_input_without_a_rule_changes_nothing() -> None:  # X21, C9 fixed
    samples: dict[type, Any] = {
        put.Begun: put.Begun(),
        put.Submitted: put.Submitted(Machine().conn),  # type: ignore[arg-type]
        put.Cancelled: put.Cancelled("r1"),
        put.Connected: put.Connected(1),
        put.ConnectFailed: put.ConnectFailed(1, ErrorCode.WEBSOCKET_CONNECT_FAILED),
        put.Sent: put.Sent(),
        put.Received: put.Received((created(),)),
        put.SocketFailed: put.SocketFailed(ErrorCode.WEBSOCKET_CLOSED),
        put.AlarmRang: put.AlarmRang(1),
        put.RetireAnswered: put.RetireAnswered(True),
        put.EvictAsked: put.EvictAsked(),
        put.StopAsked: put.StopAsked(),
        int: 7,
    }
    connection = warm().conn
    for state, (kind, input) in itertools.product(State, samples.items()):
        if (state, kind) not in RULES:
            at = replace(connection, state=state)
            assert transition(at, input, now=2000.0) == (at, [])


# One turn


def test_a_first_turn_opens_a_socket_sends_everything_and_shows_it() -> None:  # T21, C31 to C33
    machine = Machine()
    request = machine.submit(FIRST)
    assert machine.last[:2] == [act.Queued(request, 0), act.Open(1, request)]
    assert machine.connected()[:2] == [act.Sending(request, 1), *machine.find(act.Send)]
    machine.sent()
    machine.receive(created(), delta("ok"))
    machine.receive(completed("resp_1", SAID))

    assert machine.frames(request) == ["Queued", "Sending", "Show", "ShowStatus", "Deliver", "Deliver", "Show", "Finish"]
    assert machine.delivered(request) == ["response.created", "response.output_text.delta", "response.completed"]
    assert machine.find(act.ShowStatus) == [act.ShowStatus(request, 200)]
    assert machine.answer(request) == act.Finish(request)
    assert machine.conn.state is State.IDLE


def test_the_evidence_before_and_after_a_first_turn() -> None:  # C32, C33
    machine = Machine()
    request = machine.submit(FIRST, received_at=999.5)
    machine.now += 0.25
    machine.connected()
    machine.sent()
    machine.receive(created(), completed("resp_1", SAID))

    before, after = (show.values for show in machine.find(act.Show))
    assert before == {
        "transport_preference": "websocket",
        "active_transport": "websocket",
        "continuation_attempted": False,
        "continuation_reset_reason": "no_previous_response",
        "used_previous_response_id": False,
        "websocket_key": "'session-1'",
        "websocket_stored_previous_response_id": None,
        "delivery_attempts": 1,
        "wire_bytes": len(machine.find(act.Send)[0].data),
        "full_bytes": len(machine.find(act.Send)[0].data),
        "connection_age_ms": 0,
        "queue_wait_ms": 500,
    }
    assert after == {
        "websocket_captured_response_id": "resp_1",
        "websocket_stored_previous_response_id": "resp_1",
    }
    assert request == "r1"


def test_a_second_turn_sends_the_delta_on_the_same_socket() -> None:  # T16, T21, T22, C17
    machine = warm()
    machine.now += 3.0
    second = machine.turn(SECOND, "resp_2", prompt_cache_key="px1:a")

    assert len(machine.find(act.Open)) == 1
    assert machine.wire == {
        "type": "response.create",
        "store": False,
        "model": "gpt",
        "prompt_cache_key": "px1:a",
        "previous_response_id": "resp_1",
        "input": [TWO],
    }
    evidence = machine.evidence(second)
    assert evidence["continuation_attempted"] is True
    assert evidence["continuation_reset_reason"] is None
    assert evidence["used_previous_response_id"] is True
    assert evidence["websocket_captured_response_id"] == "resp_2"
    assert evidence["websocket_stored_previous_response_id"] == "resp_2"
    assert evidence["connection_age_ms"] == 3000
    assert evidence["wire_bytes"] == len(machine.find(act.Send)[-1].data)


def test_the_statistics_add_up() -> None:
    machine = warm()
    machine.turn(SECOND, "resp_2")
    statistics = machine.conn.statistics

    assert (statistics.turns, statistics.delta_turns, statistics.sockets, statistics.failures) == (2, 1, 1, 0)
    assert statistics.wire_bytes == sum(len(send.data) for send in machine.find(act.Send))
    assert statistics.full_bytes > statistics.wire_bytes
    assert statistics.last_reset_reason is None


# What the next turn continues from


def test_the_id_is_taken_from_an_opening_event_where_the_terminal_one_has_none() -> None:  # T23
    machine = Machine()
    machine.start(FIRST)
    machine.receive(created("resp_7"))
    machine.receive(event("response.completed", response={"output": [SAID]}))
    machine.turn(SECOND)

    assert machine.wire["previous_response_id"] == "resp_7"


def test_the_latest_id_wins() -> None:  # W17
    machine = Machine()
    machine.start(FIRST)
    machine.receive(created("resp_6"), event("response.in_progress", response={"id": "resp_7"}))
    machine.receive(completed("resp_8", SAID))

    assert machine.evidence("r1")["websocket_captured_response_id"] == "resp_8"


CALL = {"type": "function_call", "call_id": "call_1", "name": "ls", "arguments": "{}"}
OUTPUTS: dict[str, tuple[tuple[ServerEvent, ...], list[Any]]] = {
    "as the terminal event lists it": ((item_done(assistant("other")), completed("resp_1", SAID, CALL)), [SAID, CALL]),
    "as items came, where it lists none": ((item_done(SAID, 0), item_done(CALL, 1), completed()), [SAID, CALL]),
    "by their index, where they came out of order": ((item_done(CALL, 1), item_done(SAID, 0), completed()), [SAID, CALL]),
    "as text deltas, where no item came": ((delta("o"), delta("k"), completed()), [SAID]),
    "of an incomplete response": ((incomplete("resp_1", SAID),), [SAID]),
    "of response.done": ((event("response.done", response={"id": "r", "status": "completed", "output": [SAID]}),), [SAID]),
}


@pytest.mark.parametrize("batched", [True, False], ids=["in one batch", "one by one"])
@pytest.mark.parametrize(("events", "echo"), OUTPUTS.values(), ids=OUTPUTS)
def test_the_output_counts(events: tuple[ServerEvent, ...], echo: list[Any], batched: bool) -> None:
    machine = Machine()
    machine.start(FIRST)
    for batch in [(created(), *events)] if batched else [(one,) for one in (created(), *events)]:
        machine.receive(*batch)
    machine.turn([ONE, *echo, TWO])

    assert machine.wire["input"] == [TWO]


RESETS: dict[str, tuple[dict[str, Any], list[Any], ResetReason]] = {
    "T24 T19 another model": ({"model": "other"}, SECOND, R.MODEL_CHANGED),
    "T25 another prefix": ({}, [TWO, SAID, TWO], R.PREFIX_MISMATCH),
    "T26 nothing new": ({}, [ONE, SAID], R.EMPTY_DELTA),
    "C27 fixed: another output": ({}, [ONE, assistant("no"), TWO], R.OUTPUT_MISMATCH),
    "C19 another endpoint": ({"endpoint": "wss://other/"}, SECOND, R.ENDPOINT_CHANGED),
    "C54 other headers": ({"fingerprint": "other"}, SECOND, R.HEADERS_CHANGED),
    "X5 endpoint beats headers": ({"endpoint": "wss://other/", "fingerprint": "x"}, SECOND, R.ENDPOINT_CHANGED),
    "X6 the caller's own id": ({"previous_response_id": "resp_9"}, SECOND, R.CALLER_CONTINUATION),
}


@pytest.mark.parametrize(("change", "items", "reason"), RESETS.values(), ids=RESETS)
def test_a_full_payload_goes_out_with_its_reason(change: dict[str, Any], items: list[Any], reason: ResetReason) -> None:
    machine = warm()
    second = machine.turn(items, "resp_2", **change)
    reconnects = reason in (R.ENDPOINT_CHANGED, R.HEADERS_CHANGED)

    assert machine.wire["input"] == items
    assert machine.wire.get("previous_response_id") == change.get("previous_response_id")
    assert machine.evidence(second)["continuation_attempted"] is False
    assert machine.reason(second) == reason
    assert len(machine.find(act.Open)) == (2 if reconnects else 1)
    assert machine.find(act.CloseSocket) == ([act.CloseSocket(1000)] if reconnects else [])


def test_a_mismatch_does_not_forget_by_itself_what_is_stored() -> None:  # C30
    machine = warm()
    second = machine.start([TWO])

    assert machine.conn.continuation == Anchor("resp_1", FIRST, [SAID], "gpt")
    machine.receive(created("resp_2"), delta("o"))
    assert machine.evidence(second)["websocket_stored_previous_response_id"] == "resp_1"


def test_a_rotated_bearer_keeps_the_socket() -> None:  # T20, C53: the fingerprint is the same, the test for that is its own
    machine = warm()
    machine.turn(SECOND, fingerprint="who", bearer="newer")

    assert machine.wire["previous_response_id"] == "resp_1"
    assert len(machine.find(act.Open)) == 1


def test_a_callers_own_continuation_says_what_it_used_and_leaves_the_connection_cold() -> None:  # X6, C32
    machine = warm()
    second = machine.turn(FIRST, "resp_2", previous_response_id="resp_9")
    third = machine.turn(SECOND)

    assert machine.evidence(second)["used_previous_response_id"] is True
    assert machine.evidence(second)["websocket_captured_response_id"] == "resp_2"
    assert machine.evidence(second)["websocket_stored_previous_response_id"] is None
    assert machine.reason(third) == R.CALLER_CONTINUATION


@pytest.mark.parametrize("ending", [failed(), failed(id="resp_1"), error(), event("response.cancelled")])
def test_after_a_failed_response_nothing_is_continued(ending: ServerEvent) -> None:  # X11, C44, C45 fixed
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(ending)
    third = machine.turn([*SECOND, THREE])

    assert machine.evidence(second)["websocket_captured_response_id"] is None
    assert machine.evidence(second)["websocket_stored_previous_response_id"] is None
    assert (machine.reason(third), machine.wire["input"]) == (R.RESPONSE_FAILED, [*SECOND, THREE])
    assert len(machine.find(act.Open)) == 1


@pytest.mark.parametrize("reason", [R.CANCELLED, R.CALLER_GONE, R.STREAM_CALLBACK_FAILED])
def test_after_an_abandoned_response_nothing_is_continued(reason: ResetReason) -> None:  # T15, X19, C46 fixed, P7
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(created("resp_2"), delta("hal"))
    machine.cancel(second, reason=reason)
    assert machine.did(act.CloseSocket)
    third = machine.turn(SECOND)

    assert machine.failure(second).code is ErrorCode.CANCELLED
    assert (machine.reason(third), machine.wire["input"]) == (reason, SECOND)
    assert len(machine.find(act.Open)) == 2


@pytest.mark.parametrize("reason", [R.CONNECTION_CRASHED, R.EVICTED])
def test_what_ended_an_earlier_process_is_reported_by_the_next(reason: ResetReason) -> None:
    machine = Machine(reason=reason)

    assert machine.reason(machine.turn(FIRST)) == reason


def test_a_reason_survives_a_change_of_socket_and_is_reported_once() -> None:  # C19
    machine = warm()
    machine.start(SECOND)
    machine.receive(failed())
    third = machine.turn(FIRST, "resp_3", [SAID], endpoint="wss://other/")
    fourth = machine.turn(SECOND, endpoint="wss://other/")

    assert machine.reason(third) == R.RESPONSE_FAILED
    assert machine.reason(fourth) is None


# The queue


def test_requests_of_a_key_are_answered_in_their_order() -> None:  # X20, C5
    machine = Machine()
    first = machine.submit(FIRST)
    second, third = machine.submit(SECOND), machine.submit([*SECOND, SAID, THREE])
    assert [queued.ahead for queued in machine.find(act.Queued)] == [0, 1, 2]
    machine.connected()
    machine.sent()
    machine.now += 2.0
    machine.receive(created(), completed("resp_1", SAID))
    assert machine.wire == machine.wire | {"previous_response_id": "resp_1", "input": [TWO]}
    machine.sent()
    machine.receive(completed("resp_2", SAID))

    assert machine.wire == machine.wire | {"previous_response_id": "resp_2", "input": [THREE]}
    assert (machine.answer(first), machine.answer(second)) == (act.Finish(first), act.Finish(second))
    assert machine.answer(third) is None
    assert machine.evidence(second)["queue_wait_ms"] == 2000


def test_a_full_queue_refuses_at_once() -> None:
    machine = Machine(queue_limit=1)
    machine.submit()
    second, third = machine.submit(), machine.submit()

    assert machine.answer(second) is None
    failure = machine.failure(third)
    assert (failure.code, failure.delivery, failure.retryable) == (ErrorCode.QUEUE_FULL, Delivery.NOT_SENT, True)
    assert failure.details == {"waiting": 1, "limit": 1}
    assert machine.conn.statistics.last_error == ErrorCode.QUEUE_FULL


def test_a_waiting_request_is_cancelled_alone() -> None:
    machine = Machine()
    first = machine.start(FIRST)
    second, third = machine.submit(SECOND), machine.submit(SECOND)
    machine.cancel(second)
    assert machine.last == [act.Fail(second, machine.failure(second))]
    machine.receive(completed("resp_1", SAID))

    assert machine.failure(second).delivery is Delivery.NOT_SENT
    assert machine.answer(first) == act.Finish(first)
    assert machine.conn.turn is not None
    assert machine.conn.turn.request.request_id == third


def test_a_cancel_for_nobody_does_nothing() -> None:
    machine = Machine()
    first = machine.start(FIRST)
    before = machine.conn

    assert machine.cancel("unknown") == []
    assert machine.conn == before
    machine.receive(completed())
    assert machine.cancel(first) == []
