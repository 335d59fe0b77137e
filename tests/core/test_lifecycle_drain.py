"""How a connection drains: what runs may end, what waits or comes is refused, and then it stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core.state import State
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import NOT_FOUND, Machine, assistant, completed, created, delta, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D = ErrorCode, Delivery


def warm() -> Machine:
    machine = Machine()
    machine.turn(FIRST, "resp_1", [SAID])
    return machine


def degraded() -> Machine:
    machine = Machine()
    machine.submit(FIRST)
    machine.connect_failed()
    assert machine.conn.state is State.DEGRADED
    return machine


def retiring() -> Machine:
    machine = Machine(idle_close_after=100.0)
    machine.turn(FIRST)
    machine.wait(100.1)
    assert machine.conn.state is State.RETIRING
    return machine


def draining(within: float = 30.0) -> tuple[Machine, str]:
    """Return a machine that drains in the middle of a turn, and the turn's request."""
    machine = warm()
    running = machine.start(SECOND)
    machine.receive(created("resp_2"), delta("x"))
    machine.drain(within)
    assert machine.conn.state is State.STREAMING
    return machine, running


@pytest.mark.parametrize(
    ("prepare", "socket"),
    [(Machine, False), (warm, True), (degraded, False), (retiring, True)],
    ids=["disconnected", "idle", "degraded", "retiring"],
)
def test_one_that_does_nothing_closes_its_socket_and_stops_at_once(
    prepare: Callable[[], Machine], socket: bool
) -> None:
    machine = prepare()
    machine.drain(30.0)

    # Its callers may not have read all of an earlier answer: they have as long as a turn would have had.
    assert machine.last == [act.CloseSocket(1000)] * socket + [act.Stop(linger=False, patience=30.0)]
    assert machine.conn.state is State.STOPPED
    assert machine.drain() == [], "it has stopped"


def test_a_running_turn_goes_on_to_its_end_and_the_connection_stops_with_it() -> None:
    machine, running = draining()
    machine.now += 10
    machine.receive(completed("resp_2", SAID))

    assert machine.answer(running) == act.Finish(running)
    assert machine.last[-2:] == [act.CloseSocket(1000), act.Stop(linger=False, patience=20.0)]
    assert machine.conn.state is State.STOPPED


def test_those_who_wait_and_those_who_come_are_refused_unsent() -> None:
    machine = warm()
    running = machine.start(SECOND)
    waiting = [machine.submit(FIRST), machine.submit(FIRST)]
    machine.drain()
    late = machine.submit(FIRST)

    for name in (*waiting, late):
        failure = machine.failure(name)
        assert (failure.code, failure.delivery, failure.retryable) == (E.SHUTTING_DOWN, D.NOT_SENT, False)
    assert machine.frames(late) == ["Fail"], "it is not told that it waits"
    assert machine.answer(running) is None
    machine.receive(created("resp_2"), completed("resp_2"))
    assert machine.answer(running) == act.Finish(running)
    assert len(machine.wires) == 2


ENDINGS: dict[str, Callable[[Machine, str], object]] = {
    "cancelled": lambda machine, running: machine.cancel(running),
    "a broken socket": lambda machine, running: machine.socket_failed(),
    "a limit of its own": lambda machine, running: machine.wait(10.1),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_it_stops_however_the_turn_ends(end: Callable[[Machine, str], object]) -> None:
    machine = warm()
    running = machine.start(SECOND, first_event_timeout=10.0)
    machine.drain()
    end(machine, running)

    assert machine.failure(running).code is not E.SHUTTING_DOWN
    assert isinstance(machine.last[-1], act.Stop)
    assert machine.conn.state is State.STOPPED
    assert len(machine.find(act.CloseSocket)) == 1


PHASES: dict[str, tuple[Callable[[Machine], object], Delivery]] = {
    "opening": (lambda machine: None, D.NOT_SENT),
    "sending": (lambda machine: machine.connected(), D.AMBIGUOUS),
    "waiting": (lambda machine: (machine.connected(), machine.sent()), D.AMBIGUOUS),
    "flowing": (lambda machine: (machine.connected(), machine.sent(), machine.receive(created(), delta("x"))), D.ACCEPTED),
}


@pytest.mark.parametrize(("prepare", "delivery"), PHASES.values(), ids=PHASES)
def test_when_its_time_has_passed_the_turn_fails_with_the_verdict_of_where_it_stands(
    prepare: Callable[[Machine], object], delivery: Delivery
) -> None:
    machine = Machine()
    running = machine.submit(FIRST)
    prepare(machine)
    machine.drain(5.0)
    machine.wait(4.9)
    assert machine.answer(running) is None
    machine.wait(0.2)

    failure = machine.failure(running)
    assert (failure.code, failure.delivery) == (E.SHUTTING_DOWN, delivery)
    assert machine.did(act.AbandonOpening) is (delivery is D.NOT_SENT)
    assert machine.did(act.CloseSocket) is (delivery is not D.NOT_SENT)
    assert machine.last[-1] == act.Stop(linger=False, patience=0.0)
    assert machine.conn.alarm is None


def test_a_turn_that_may_go_out_again_does_so_while_it_drains() -> None:
    machine = warm()
    running = machine.start(SECOND)
    machine.drain()
    machine.receive(NOT_FOUND)
    assert "previous_response_id" not in machine.wire
    machine.sent()
    machine.receive(created("resp_2"), completed("resp_2"))

    assert machine.answer(running) == act.Finish(running)
    assert machine.conn.state is State.STOPPED


@pytest.mark.parametrize(("second", "left"), [(5.0, 5.0), (100.0, 20.0)], ids=["sooner", "later"])
def test_asked_again_it_may_have_less_time_and_never_more(second: float, left: float) -> None:
    machine, running = draining(30.0)
    machine.now += 10
    machine.drain(second)
    machine.wait(left - 0.1)
    assert machine.answer(running) is None
    machine.wait(0.2)

    assert machine.failure(running).code is E.SHUTTING_DOWN


def test_one_that_is_stopped_while_it_drains_ends_at_once() -> None:
    machine, running = draining()
    machine.stop()

    failure = machine.failure(running)
    assert (failure.code, failure.delivery) == (E.SHUTTING_DOWN, D.ACCEPTED)
    assert machine.conn.state is State.STOPPED


def test_one_that_drains_makes_no_room_before_its_turn_has_ended() -> None:
    machine, _ = draining()

    assert machine.evict() == [act.AnswerEvict(False)]
