"""`retry_ambiguous`: what may have run goes out once more, because its caller chose that.

Covers the issue's "`retry_ambiguous=True` is the caller's explicit choice" and, with it, "the server never runs a request
twice unless the caller asked for `retry_ambiguous`".
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.state import State
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import RATE_LIMITS, Machine, assistant, completed, created, delta, error, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason


def warm(**options: object) -> Machine:
    machine = Machine(**{"retry_ambiguous": True, **options})  # type: ignore[arg-type]
    machine.turn(FIRST, "resp_1", [SAID])
    return machine


def broken(**options: object) -> Machine:
    """Return a machine whose second request went out, and whose socket broke then."""
    machine = warm(**options)
    machine.start(SECOND)
    machine.receive(RATE_LIMITS)
    machine.socket_failed()
    return machine


@pytest.mark.parametrize("sent", [True, False], ids=["written", "while writing"])
def test_what_may_have_run_goes_out_once_more_in_full_and_unseen(sent: bool) -> None:
    machine = warm()
    second = machine.submit(SECOND)
    if sent:
        machine.sent()
    machine.socket_failed()
    assert [type(action) for action in machine.last[:2]] == [act.CloseSocket, act.Open]
    machine.connected()
    machine.sent()
    machine.receive(created("resp_2"), completed("resp_2", SAID))

    assert machine.answer(second) == act.Finish(second)
    assert machine.delivered(second) == ["response.created", "response.completed"]
    assert machine.wire["input"] == SECOND
    assert "previous_response_id" not in machine.wire
    assert machine.reason(second) == R.WEBSOCKET_FAILED
    assert machine.evidence(second)["delivery_attempts"] == 2
    assert (machine.conn.backoff.failures, machine.conn.statistics.replays) == (0, 1)


def test_a_socket_that_gives_no_pong_has_broken_as_well() -> None:
    machine = warm(keepalive_interval=10.0, pong_timeout=4.0)
    second = machine.start(SECOND)
    machine.wait(14.1)
    assert machine.conn.state is State.CONNECTING
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.answer(second) == act.Finish(second)
    assert machine.reason(second) == R.KEEPALIVE_FAILED


def test_it_does_not_go_out_a_third_time() -> None:
    machine = broken()
    machine.connected()
    machine.sent()
    machine.socket_failed()

    assert machine.failure("r2").delivery is D.AMBIGUOUS
    assert machine.conn.state is State.DEGRADED
    assert len(machine.find(act.Send)) == 3


def opening_fails(machine: Machine) -> None:
    machine.connect_failed()


def unsent(machine: Machine) -> None:
    machine.connected()
    machine.socket_failed(unsent=True)


def too_big(machine: Machine) -> None:
    machine.connected()
    machine.sent()
    machine.socket_failed(details={"close_code": 1009})


def refused(machine: Machine) -> None:
    machine.connected()
    machine.sent()
    machine.receive(error("rate_limit_exceeded", 429))


def cancelled(machine: Machine) -> None:
    machine.cancel("r2")


def stopped(machine: Machine) -> None:
    machine.stop()


@pytest.mark.parametrize("end", [opening_fails, unsent, too_big, refused, cancelled, stopped])
def test_the_verdict_is_over_the_request_not_over_its_last_attempt(end: Callable[[Machine], None]) -> None:
    machine = broken()
    end(machine)

    assert machine.failure("r2").delivery is D.AMBIGUOUS


def test_an_answer_to_the_second_attempt_is_accepted_as_ever() -> None:
    machine = broken()
    machine.connected()
    machine.sent()
    machine.receive(created("resp_2"), delta("o"))
    machine.socket_failed()

    assert machine.failure("r2").delivery is D.ACCEPTED


def test_a_dead_reused_socket_is_replaced_and_the_fresh_one_may_break_once() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.socket_failed(unsent=True)
    machine.connected()
    machine.sent()
    machine.socket_failed()
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.answer(second) == act.Finish(second)
    assert machine.evidence(second)["delivery_attempts"] == 3
    assert len(machine.find(act.Open)) == 3


def own_continuation(machine: Machine) -> None:
    machine.start(SECOND, previous_response_id="theirs")
    machine.socket_failed()


def an_event_came(machine: Machine) -> None:
    machine.start(SECOND)
    machine.receive(created("resp_2"))
    machine.socket_failed()


def a_limit_passed(machine: Machine) -> None:
    machine.start(SECOND, first_event_timeout=5.0)
    machine.wait(5.1)


def not_wanted(machine: Machine) -> None:
    machine.start(SECOND, retry_ambiguous=False)
    machine.socket_failed()


@pytest.mark.parametrize("happen", [own_continuation, an_event_came, a_limit_passed, not_wanted])
def test_nothing_else_goes_out_again(happen: Callable[[Machine], None]) -> None:
    machine = warm()
    happen(machine)

    assert machine.failure("r2").delivery in (D.AMBIGUOUS, D.ACCEPTED)
    assert len(machine.find(act.Send)) == 2
    assert len(machine.find(act.Open)) == 1


def test_a_request_that_may_have_run_goes_over_http_only_in_place_of_its_second_attempt() -> None:
    machine = broken(transport="auto")
    machine.connect_failed()
    assert machine.did(act.Open)
    machine.connected()
    machine.sent()
    machine.socket_failed(E.CONNECTION_LOST)

    assert machine.failure("r2").delivery is D.AMBIGUOUS
    assert len(machine.find(act.Send)) == 3
