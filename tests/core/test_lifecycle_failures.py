"""Failures: every code the machine gives, with its verdict, what it does to the connection and what the next turn says.

Covers C11, C20, C41, C47 to C50, X1, X2, X9 and the delivery verdicts of design section 3. C23 and X8 (a bad body) never get
as far as here: test_payload.py. X10 (a retry's time) has become the request's own `timeout`: test_lifecycle_time.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.state import State
from pixir_actors.core.verdict import verdict
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import LIMIT, NOT_FOUND, Machine, assistant, completed, created, delta, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason

Stage = Callable[[Machine], None]


def warm(**options: object) -> Machine:
    machine = Machine(**options)  # type: ignore[arg-type]
    machine.turn(FIRST, "resp_1", [SAID])
    return machine


def opening(machine: Machine) -> None:
    machine.submit(SECOND, endpoint="wss://other/")


def sending(machine: Machine) -> None:
    machine.submit(SECOND)


def waiting(machine: Machine) -> None:
    machine.start(SECOND)


def begun(machine: Machine) -> None:
    machine.start(SECOND)
    machine.receive(created("resp_2"))


def flowing(machine: Machine) -> None:
    begun(machine)
    machine.receive(delta("o"))


def replaying(machine: Machine) -> None:
    """A continuation was refused after `created`, and the full payload is on its way."""
    begun(machine)
    machine.receive(NOT_FOUND)


def reopening(machine: Machine) -> None:
    """The socket was refused after `created`, and another one is being opened."""
    begun(machine)
    machine.receive(LIMIT)


STAGES: dict[str, tuple[Stage, Delivery]] = {
    "opening": (opening, D.NOT_SENT),
    "sending": (sending, D.AMBIGUOUS),
    "waiting": (waiting, D.AMBIGUOUS),
    "after created": (begun, D.ACCEPTED),
    "flowing": (flowing, D.ACCEPTED),
    "replaying": (replaying, D.AMBIGUOUS),
    "reopening": (reopening, D.REJECTED),
}


@pytest.mark.parametrize(("stage", "delivery"), STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("code", [E.CANCELLED, E.SLOW_CONSUMER, E.INTERNAL_ERROR])
def test_a_cancel_gives_the_verdict_of_its_moment(stage: Stage, delivery: Delivery, code: ErrorCode) -> None:
    machine = warm()
    stage(machine)
    machine.cancel("r2", code=code, reason=R.CALLER_GONE)

    failure = machine.failure("r2")
    assert (failure.code, failure.delivery, failure.retryable) == (code, delivery, False)
    assert machine.did(act.AbandonOpening) == (stage in (opening, reopening))
    assert machine.did(act.CloseSocket) == (stage not in (opening, reopening))
    assert machine.conn.state is State.DISCONNECTED


@pytest.mark.parametrize(("stage", "delivery"), STAGES.values(), ids=STAGES)
def test_a_stop_gives_the_verdict_of_its_moment_and_answers_everybody(stage: Stage, delivery: Delivery) -> None:
    machine = warm()
    stage(machine)
    queued = machine.submit(SECOND)
    machine.stop(E.SHUTTING_DOWN)

    assert (machine.failure("r2").code, machine.failure("r2").delivery) == (E.SHUTTING_DOWN, delivery)
    assert (machine.failure(queued).code, machine.failure(queued).delivery) == (E.SHUTTING_DOWN, D.NOT_SENT)
    assert machine.last[-1] == act.Stop(linger=False)
    assert machine.did(act.CloseSocket) == (stage not in (opening, reopening))


@pytest.mark.parametrize("linger", [True, False])
def test_one_that_is_stopped_lingers_if_it_is_told_to(linger: bool) -> None:
    machine = warm()
    machine.feed(put.StopAsked(E.CANCELLED, linger=linger))

    assert machine.last[-1] == act.Stop(linger=linger)
    late = machine.submit(SECOND)
    assert machine.last == [act.Redirect(late)]


@pytest.mark.parametrize(("stage", "delivery"), STAGES.values(), ids=STAGES)
def test_the_verdict_of_the_moment_can_be_had_without_an_end(stage: Stage, delivery: Delivery) -> None:
    machine = warm()
    stage(machine)
    queued = machine.submit(SECOND)

    assert verdict(machine.conn, "r2") is delivery
    assert verdict(machine.conn, queued) is D.NOT_SENT
    assert verdict(machine.conn, "r1") is D.AMBIGUOUS, "it has ended here, and may have run"


PASSED: dict[str, tuple[Stage, str, ErrorCode]] = {
    "opening": (opening, "connect_timeout", E.WEBSOCKET_CONNECT_TIMEOUT),
    "reopening": (reopening, "connect_timeout", E.WEBSOCKET_CONNECT_TIMEOUT),
    "sending": (sending, "send_timeout", E.WEBSOCKET_SEND_TIMEOUT),
    "replaying": (replaying, "send_timeout", E.WEBSOCKET_SEND_TIMEOUT),
    "waiting": (waiting, "first_event_timeout", E.FIRST_EVENT_TIMEOUT),
    "after created": (begun, "idle_timeout", E.STREAM_IDLE_TIMEOUT),
    "flowing": (flowing, "idle_timeout", E.STREAM_IDLE_TIMEOUT),
}


@pytest.mark.parametrize("name", PASSED)
def test_each_stage_has_its_own_limit(name: str) -> None:
    stage, limit, code = PASSED[name]
    machine = warm(**{limit: 7.5})
    stage(machine)
    assert not machine.wait(7.4)
    machine.wait(0.2)

    failure = machine.failure("r2")
    assert (failure.code, failure.delivery, failure.retryable) == (code, STAGES[name][1], True)
    host = {"host": "other:443"} if stage is opening else {"host": "api.example:443"} if stage is reopening else {}
    assert failure.details == {"waited_s": 7.5} | host
    assert machine.conn.state is State.DEGRADED
    assert bool(machine.find(act.AbandonOpening)) == (stage in (opening, reopening))


@pytest.mark.parametrize("name", PASSED)
def test_a_limit_that_is_off_never_passes(name: str) -> None:
    stage, limit, _ = PASSED[name]
    machine = warm(**{limit: None})
    stage(machine)
    machine.wait(1e6)

    assert machine.answer("r2") is None


BROKEN: dict[str, tuple[Stage, Delivery]] = {n: s for n, s in STAGES.items() if n not in ("opening", "reopening")}


@pytest.mark.parametrize(("stage", "delivery"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    "code", [E.WEBSOCKET_CLOSED, E.WEBSOCKET_READ_FAILED, E.WEBSOCKET_FAILED, E.WEBSOCKET_FRAME_TOO_LARGE]
)
def test_a_broken_socket_fails_the_turn_and_is_left_alone(stage: Stage, delivery: Delivery, code: ErrorCode) -> None:
    machine = warm()
    stage(machine)
    machine.socket_failed(code, details={"close_code": 1011})

    failure = machine.failure("r2")
    assert (failure.code, failure.delivery, failure.details) == (code, delivery, {"close_code": 1011})
    assert failure.retry_after == (5.0 if failure.retryable else None)
    assert len(machine.find(act.CloseSocket)) == 1
    assert machine.conn.state is State.DEGRADED
    machine.wait(6)
    assert machine.reason(machine.turn(SECOND)) == R.WEBSOCKET_FAILED


CONNECT_CODES = [E.WEBSOCKET_CONNECT_FAILED, E.WEBSOCKET_HANDSHAKE_FAILED, E.WEBSOCKET_CONNECT_TIMEOUT]


@pytest.mark.parametrize("code", CONNECT_CODES)
@pytest.mark.parametrize(("stage", "delivery"), [STAGES["opening"], STAGES["reopening"]], ids=["opening", "reopening"])
def test_a_failed_opening_sends_nothing(stage: Stage, delivery: Delivery, code: ErrorCode) -> None:  # C20, X9: closed once
    machine = warm()
    stage(machine)
    machine.connect_failed(code, details={"reason": "refused"})

    failure = machine.failure("r2")
    assert (failure.code, failure.delivery, failure.details) == (code, delivery, {"reason": "refused"})
    assert machine.conn.state is State.DEGRADED
    assert len(machine.find(act.CloseSocket)) == 1
    assert "Show" not in machine.frames("r2")
    machine.wait(6)
    assert machine.reason(machine.turn(SECOND)) == R.WEBSOCKET_FAILED


def test_a_server_that_says_when_to_come_back_is_believed_where_it_says_later() -> None:
    waits = {1.0: 5.0, 120.0: 120.0}
    for said, meant in waits.items():
        machine = Machine()
        first = machine.submit(FIRST)
        machine.connect_failed(retry_after=said)

        assert machine.failure(first).retry_after == meant


# A reused socket that was dead


def test_a_reused_socket_found_dead_is_replaced_once_at_once() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.socket_failed(unsent=True)
    assert [type(action) for action in machine.last[:2]] == [act.CloseSocket, act.Open]
    assert machine.answer(second) is None
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.answer(second) == act.Finish(second)
    assert machine.reason(second) == R.CONNECTION_CLOSED
    assert machine.evidence(second)["delivery_attempts"] == 2
    assert machine.wire["input"] == SECOND


def test_the_fresh_socket_is_not_replaced() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.socket_failed(unsent=True)
    machine.connected()
    machine.socket_failed(unsent=True)

    assert machine.failure(second).delivery is D.NOT_SENT
    assert machine.conn.state is State.DEGRADED


def test_a_first_socket_is_not_replaced() -> None:
    machine = Machine()
    first = machine.submit(FIRST)
    machine.connected()
    machine.socket_failed(unsent=True)

    assert machine.failure(first).delivery is D.NOT_SENT


def test_a_reused_socket_that_took_a_byte_is_not_replaced() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.socket_failed()

    assert machine.failure(second).delivery is D.AMBIGUOUS
    assert not machine.did(act.Open)


def test_what_a_caller_has_seen_is_not_sent_again() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.receive(created("resp_2"), delta("o"))
    machine.socket_failed(unsent=True)

    assert machine.failure(second).delivery is D.NOT_SENT
    assert not machine.did(act.Open)


# The degraded window


def degraded(**options: object) -> Machine:
    machine = Machine(**options)  # type: ignore[arg-type]
    machine.submit(FIRST)
    machine.connect_failed()
    return machine


def test_within_the_window_a_request_is_refused_with_the_time_that_remains() -> None:  # C11, X1
    machine = degraded()
    machine.now += 1.5
    second = machine.submit(SECOND)

    failure = machine.failure(second)
    assert (failure.code, failure.delivery, failure.retryable) == (E.WEBSOCKET_DEGRADED, D.NOT_SENT, True)
    assert failure.retry_after == pytest.approx(3.5)
    assert failure.details == {"cause": machine.failure("r1").code}
    assert [type(action) for action in machine.last] == [act.Queued, act.Fail]
    statistics = machine.conn.statistics
    assert (statistics.failures, statistics.last_error) == (2, machine.failure("r1").code), "the cause is what is shown"


def test_a_window_names_whom_the_failure_before_it_did_not_reach() -> None:
    machine = Machine()
    machine.submit(FIRST)
    machine.connect_failed(details={"reason": "refused", "host": "h:443", "step": "tcp"})

    failure = machine.failure(machine.submit(SECOND))
    assert failure.details == {"cause": E.WEBSOCKET_CONNECT_FAILED, "host": "h:443"}


def test_the_cause_of_a_window_is_its_newest_failure() -> None:
    machine = degraded()
    machine.wait(6)
    machine.submit(FIRST)
    machine.connect_failed(E.WEBSOCKET_HANDSHAKE_FAILED, details={"status": 503})

    assert machine.failure(machine.submit(SECOND)).details == {"cause": E.WEBSOCKET_HANDSHAKE_FAILED}


def test_a_refusal_within_the_window_leaves_all_but_the_statistics_alone() -> None:  # X1
    machine = degraded()
    before = machine.conn
    machine.submit(SECOND, idle_close_after=1.0)
    after = machine.conn

    for field in ("state", "limits", "idle_since", "continuation", "backoff", "alarm", "token", "queue"):
        assert getattr(after, field) == getattr(before, field), field


def test_whoever_waits_when_the_window_opens_is_refused_as_well() -> None:
    machine = Machine()
    machine.submit(FIRST)
    second = machine.submit(FIRST)
    machine.connect_failed()

    assert machine.failure(second).code is E.WEBSOCKET_DEGRADED
    assert machine.failure(second).retry_after == 5.0


def test_at_the_end_of_the_window_it_goes_on_with_or_without_the_alarm() -> None:  # C11: strictly greater
    for ringing in (True, False):
        machine = degraded()
        if ringing:
            machine.wait(5)
            assert machine.conn.state is State.DISCONNECTED
        machine.now = 1005.0
        machine.submit(FIRST)

        assert machine.did(act.Open)


def test_no_window_is_opened_where_none_is_wanted() -> None:  # X2, C55: None, not 0
    machine = degraded(degraded_for=None)
    assert machine.conn.state is State.DISCONNECTED
    assert machine.failure("r1").retry_after is None
    machine.submit(FIRST)

    assert machine.did(act.Open)


def test_the_window_doubles_with_each_failure_and_closes_with_a_success() -> None:  # C48, design section 6
    machine = degraded()
    for window in (10, 20, 40, 60, 60):
        machine.wait(60)
        failing = machine.submit(FIRST)
        machine.connect_failed()
        assert machine.failure(failing).retry_after == window
    machine.wait(60)
    machine.turn(FIRST)
    failing = machine.start(FIRST)
    machine.socket_failed()

    assert machine.failure(failing).retry_after == 5


def test_the_window_is_shortened_by_the_requests_own_lot() -> None:
    machine = Machine()
    machine.submit(FIRST, jitter=0.5)
    machine.connect_failed()

    assert machine.conn.backoff.until == pytest.approx(1000 + 5 * 0.875)


def test_an_in_band_failure_opens_no_window_and_closes_one() -> None:  # C42, C43
    machine = degraded()
    machine.wait(5)
    machine.start(FIRST)
    machine.receive(LIMIT)
    machine.connected()
    machine.sent()
    machine.receive(LIMIT)

    assert machine.conn.backoff.failures == 0
    assert machine.conn.state is State.DISCONNECTED


def test_after_a_failure_the_process_still_ends_some_day() -> None:  # C50 fixed
    machine = degraded(idle_close_after=100.0)
    machine.wait(101)

    assert machine.find(act.AskRetire)
