"""How a connection ends: retirement, eviction, stop.

Covers C1, C2 and C8 as far as a connection decides them, C59, C60 fixed, and the retirement of design section 5.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.deadlines import RETIRE_ANSWER_TIMEOUT
from pixir_actors.core.state import State
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import Machine, assistant, completed, delta, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason


def warm(**options: object) -> Machine:
    machine = Machine(**options)  # type: ignore[arg-type]
    machine.turn(FIRST, "resp_1", [SAID])
    return machine


def pings(machine: Machine) -> int:
    return len(machine.find(act.Ping))


# The end


def retiring(**options: object) -> Machine:
    machine = warm(idle_close_after=100.0, **options)
    machine.wait(100.1)
    assert machine.find(act.AskRetire) == [act.AskRetire()]
    assert machine.conn.state is State.RETIRING
    return machine


def test_an_idle_connection_asks_and_ends_when_it_is_forgotten() -> None:  # C59
    machine = retiring()
    machine.retire_answered(True)

    assert machine.last == [act.CloseSocket(1000), act.Stop(linger=True)]
    assert machine.conn.state is State.STOPPED


def test_pings_do_not_postpone_the_end() -> None:  # C59
    machine = warm(idle_close_after=100.0, keepalive_interval=10.0, pong_timeout=None)
    machine.wait(100.1)

    assert pings(machine) >= 9
    assert machine.find(act.AskRetire)


def test_a_request_that_comes_while_retiring_is_redirected_not_lost() -> None:  # C60 fixed
    machine = retiring()
    second = machine.submit(SECOND)
    assert machine.answer(second) is None
    machine.retire_answered(True)
    third = machine.submit(SECOND)

    assert machine.answer(second) == act.Redirect(second)
    assert machine.answer(third) == act.Redirect(third)


@pytest.mark.parametrize("answered", [True, False], ids=["refused", "unanswered"])
def test_a_retirement_that_is_not_granted_goes_on_where_it_was(answered: bool) -> None:
    machine = retiring()
    second = machine.submit(SECOND)
    if answered:
        machine.retire_answered(False)
    else:
        machine.wait(RETIRE_ANSWER_TIMEOUT + 0.1)
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.answer(second) == act.Finish(second)
    assert machine.wire["previous_response_id"] == "resp_1"


def test_a_refused_retirement_is_asked_for_again_after_another_idle_limit() -> None:
    machine = retiring()
    machine.retire_answered(False)
    machine.wait(99)
    assert len(machine.find(act.AskRetire)) == 1
    machine.wait(2)

    assert len(machine.find(act.AskRetire)) == 2


def test_one_request_is_taken_while_retiring_even_where_none_may_wait() -> None:
    machine = retiring(queue_limit=0)
    second, third = machine.submit(SECOND), machine.submit(SECOND)

    assert machine.answer(second) is None
    assert machine.failure(third).code is E.QUEUE_FULL
    assert [queued.ahead for queued in machine.find(act.Queued)] == [0, 0]


def test_a_socket_may_go_while_retiring() -> None:
    for losing in (Machine.socket_failed, lambda machine: machine.receive(delta("x"))):
        machine = retiring()
        losing(machine)
        assert machine.conn.state is State.RETIRING
        assert machine.conn.socket is None
        machine.receive(delta("y"))
        machine.retire_answered(False)

        assert machine.conn.state is State.DISCONNECTED


# A grant that comes late: the supervisor has forgotten the key, and may start another connection for it


def resumed(**options: object) -> Machine:
    machine = retiring(**options)
    machine.wait(RETIRE_ANSWER_TIMEOUT + 0.1)
    assert machine.conn.state in (State.IDLE, State.DISCONNECTED)
    return machine


@pytest.mark.parametrize("closed", [False, True], ids=["idle", "disconnected"])
def test_a_late_grant_ends_a_connection_that_does_nothing(closed: bool) -> None:
    machine = resumed()
    if closed:
        machine.socket_failed()
    machine.retire_answered(True)

    assert machine.last == [act.CloseSocket(1000)] * (not closed) + [act.Stop(linger=True)]
    assert machine.conn.state is State.STOPPED


ENDINGS: dict[str, Callable[[Machine], object]] = {
    "completed": lambda machine: machine.receive(completed("resp_2")),
    "cancelled": lambda machine: machine.cancel("r2"),
    "a broken socket": lambda machine: machine.socket_failed(),
    "a limit": lambda machine: machine.wait(10.1),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_late_grant_lets_a_running_turn_end_and_sends_those_who_wait_back(end: Callable[[Machine], object]) -> None:
    machine = resumed()
    second = machine.start(SECOND, first_event_timeout=10.0)
    third = machine.submit(FIRST)
    assert machine.retire_answered(True) == []
    fourth = machine.submit(FIRST)
    assert machine.answer(second) is None
    end(machine)

    assert machine.answer(second) is not None
    assert (machine.answer(third), machine.answer(fourth)) == (act.Redirect(third), act.Redirect(fourth))
    assert machine.last[-1] == act.Stop(linger=True)
    assert len(machine.find(act.CloseSocket)) == 1
    assert len(machine.find(act.Open)) == 1


@pytest.mark.parametrize("failing", [True, False], ids=["failed", "cancelled"])
def test_a_late_grant_ends_it_after_an_opening_that_came_to_nothing(failing: bool) -> None:
    machine = resumed()
    second = machine.submit(SECOND, endpoint="wss://other/")
    machine.retire_answered(True)
    if failing:
        machine.connect_failed()
    else:
        machine.cancel(second)

    assert machine.failure(second).delivery is D.NOT_SENT
    assert machine.last[-1] == act.Stop(linger=True)


def test_a_late_refusal_does_nothing() -> None:
    machine = resumed()
    before = machine.conn

    assert machine.retire_answered(False) == []
    assert machine.conn == before


@pytest.mark.parametrize("prepare", [Machine, warm, retiring], ids=["disconnected", "idle", "retiring"])
def test_an_idle_connection_makes_room(prepare: type[Machine]) -> None:
    machine = prepare()
    machine.evict()

    assert machine.last[0] == act.AnswerEvict(True)
    assert machine.last[-1] == act.Stop(linger=True)
    assert machine.evict() == [act.AnswerEvict(True)]


def test_a_busy_connection_does_not_make_room() -> None:
    machine = Machine()
    for step in (lambda: machine.submit(FIRST), machine.connected):
        step()
        assert machine.evict() == [act.AnswerEvict(False)]
    idle = retiring()
    idle.submit(SECOND)

    assert idle.evict() == [act.AnswerEvict(False)]


def test_nothing_rings_and_nothing_happens_after_the_end() -> None:
    machine = warm(keepalive_interval=10.0)
    machine.stop()
    stopped = machine.conn

    assert machine.conn.alarm is None
    assert machine.feed(put.AlarmRang(stopped.token)) == []
    assert machine.stop() == []
    assert machine.conn == stopped


def test_a_callback_that_fails_at_the_last_event_makes_the_answered_turn_cold() -> None:  # C35, design section 3
    machine = Machine()
    first = machine.turn(FIRST, "resp_1", [SAID])
    machine.feed(put.Cancelled(first, reason=R.STREAM_CALLBACK_FAILED))
    assert machine.conn.state is State.IDLE, "the socket is kept: nothing is wrong with it"

    second = machine.turn(SECOND, "resp_2")
    assert machine.reason(second) is R.STREAM_CALLBACK_FAILED


def test_a_cancel_that_comes_after_the_answer_changes_nothing() -> None:
    machine = Machine()
    first = machine.turn(FIRST, "resp_1", [SAID])
    machine.cancel(first)

    second = machine.turn(SECOND, "resp_2")
    assert machine.reason(second) is None
