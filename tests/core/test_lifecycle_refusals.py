"""Refusals that do not get better by waiting: upgrades, messages that are too large, bearers.

Covers the issue's "401 and 403 on the upgrade, 1009, 426 and 404 are told apart from a network failure (they do not get
better by waiting; the error says what to do)" and "an in-band 401 before output, when the request's bearer is newer than the
socket's: reconnect with it, once". What `auto` does about them: test_lifecycle_http.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.core import actions as act
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import State
from pixir_actors.core.verdict import ADVICE, TOO_BIG_ADVICE
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
    user,
)

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason
REFUSED = E.WEBSOCKET_HANDSHAKE_FAILED


def warm(**fields: Any) -> Machine:
    machine = Machine()
    machine.turn(FIRST, "resp_1", [SAID], **fields)
    return machine


# Upgrades


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(401, False), (403, False), (404, False), (426, False), (307, False), (429, True), (500, True), (503, True)],
)
def test_a_refused_upgrade_is_retryable_as_its_status_is(status: int, retryable: bool) -> None:
    machine = Machine()
    request = machine.submit(FIRST)
    machine.connect_failed(REFUSED, details={"status": status}, retry_after=90.0)

    failure = machine.failure(request)
    assert (failure.code, failure.delivery) == (REFUSED, D.NOT_SENT)
    assert (failure.retryable, failure.retry_after) == (retryable, 90.0)


@pytest.mark.parametrize("status", [401, 403, 404, 426])
def test_a_refusal_that_waiting_does_not_mend_says_what_to_do_and_opens_no_window(status: int) -> None:
    machine = warm()
    second = machine.submit(SECOND, endpoint="wss://other/")
    third = machine.submit(SECOND)
    machine.connect_failed(REFUSED, details={"reason": "upgrade_refused", "status": status})

    assert machine.failure(second).details == {"reason": "upgrade_refused", "status": status, "advice": ADVICE[status]}
    assert machine.failure(second).retry_after is None
    assert machine.conn.backoff.failures == 0
    assert machine.did(act.Open), "whoever waits may have other credentials"
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))
    assert machine.reason(third) == R.WEBSOCKET_FAILED


def test_a_path_that_names_the_endpoint_twice_is_told_without_its_query() -> None:
    machine = Machine()
    first = machine.submit(FIRST, endpoint="wss://h/v1/responses/responses?key=CANARY")
    machine.connect_failed(REFUSED, details={"reason": "upgrade_refused", "status": 404})
    second = machine.submit(FIRST, endpoint="wss://h/v1/responses/responses")
    machine.connect_failed(REFUSED, details={"status": 401})

    advice = "asked for was /v1/responses/responses: a base URL ends in /v1 or the like, not in /responses"
    assert machine.failure(first).details["advice"] == advice
    assert not machine.failure(first).retryable
    assert machine.failure(second).details["advice"] == ADVICE[401], "whatever the path is"


@pytest.mark.parametrize("status", [307, 429, 500, 503])
def test_any_other_refusal_opens_a_window_and_has_no_advice(status: int) -> None:
    machine = Machine()
    request = machine.submit(FIRST)
    machine.connect_failed(REFUSED, details={"status": status})

    assert machine.failure(request).details == {"status": status}
    assert machine.conn.state is State.DEGRADED


@pytest.mark.parametrize("status", [401, 403, 404, 426])
def test_a_proxys_refusal_says_nothing_about_the_provider(status: int) -> None:
    machine = Machine()
    request = machine.submit(FIRST)
    machine.connect_failed(E.WEBSOCKET_CONNECT_FAILED, details={"reason": "proxy_refused", "status": status})

    assert machine.failure(request).details == {"reason": "proxy_refused", "status": status}
    assert machine.failure(request).retryable
    assert machine.conn.state is State.DEGRADED


def test_the_advice_names_no_secret_and_a_remedy_for_each() -> None:
    assert set(ADVICE) == {401, 403, 404, 426, "ca_file", "proxy_unsupported", "proxy_invalid", "no_http_client"}
    assert "transport='auto'" in ADVICE[404] + ADVICE[426]
    assert "transport='auto'" in TOO_BIG_ADVICE


@pytest.mark.parametrize("reason", ["ca_file", "proxy_unsupported", "proxy_invalid", "no_http_client"])
@pytest.mark.parametrize("transport", ["websocket", "auto"])
def test_a_setting_that_cannot_work_is_not_tried_again_nor_over_http(reason: str, transport: str) -> None:
    machine = Machine(transport=transport)
    request = machine.submit(FIRST)
    machine.connect_failed(ErrorCode.WEBSOCKET_CONNECT_FAILED, details={"reason": reason, "step": "tls"})

    failure = machine.failure(request)
    assert (failure.code, failure.delivery, failure.retryable) == (E.WEBSOCKET_CONNECT_FAILED, D.NOT_SENT, False)
    assert failure.details["advice"] == ADVICE[reason]
    assert (machine.conn.backoff.failures, machine.conn.state) == (0, State.DISCONNECTED)


# Too large


@pytest.mark.parametrize("before", [(), (RATE_LIMITS,)], ids=["at once", "after a private event"])
@pytest.mark.parametrize("sent", [True, False], ids=["written", "while writing"])
def test_a_message_that_is_too_large_is_rejected_with_advice_and_opens_no_window(
    before: tuple[ServerEvent, ...], sent: bool
) -> None:
    machine = warm()
    second = machine.submit(SECOND)
    if sent:
        machine.sent()
    machine.receive(*before)
    machine.socket_failed(details={"close_code": 1009})

    failure = machine.failure(second)
    assert (failure.code, failure.delivery, failure.retryable) == (E.WEBSOCKET_CLOSED, D.REJECTED, False)
    assert failure.details == {"close_code": 1009, "advice": TOO_BIG_ADVICE}
    assert failure.retry_after is None
    assert (machine.conn.backoff.failures, machine.conn.state) == (0, State.DISCONNECTED)
    assert machine.reason(machine.turn(FIRST)) == R.WEBSOCKET_FAILED


@pytest.mark.parametrize("opened", [(created(),), (created(), delta("o"))], ids=["created", "output"])
def test_1009_after_an_event_is_a_close_like_any_other(opened: tuple[ServerEvent, ...]) -> None:
    machine = warm()
    second = machine.start(SECOND)
    machine.receive(*opened)
    machine.socket_failed(details={"close_code": 1009})

    failure = machine.failure(second)
    assert (failure.delivery, failure.retryable, failure.details) == (D.ACCEPTED, True, {"close_code": 1009})
    assert machine.conn.state is State.DEGRADED


def test_1009_before_a_byte_was_written_is_about_something_else() -> None:
    machine = warm()
    second = machine.submit(SECOND)
    machine.socket_failed(details={"close_code": 1009}, unsent=True)
    assert machine.did(act.Open), "a reused socket found dead is replaced"
    machine.connected()
    machine.socket_failed(details={"close_code": 1009}, unsent=True)

    assert machine.failure(second).delivery is D.NOT_SENT
    assert machine.failure(second).details == {"close_code": 1009}
    assert machine.conn.state is State.DEGRADED


def test_1009_between_turns_costs_the_socket_alone() -> None:
    machine = warm()
    machine.socket_failed(details={"close_code": 1009})

    assert (machine.conn.state, machine.conn.backoff.failures) == (State.DISCONNECTED, 0)
    assert machine.reason(machine.turn(SECOND)) == R.CONNECTION_CLOSED


# Bearers


UNAUTHORIZED = {
    "by status": error(None, 401, message="expired"),
    "by code": error("invalid_api_key", None),
    "flat": event("error", code="invalid_api_key", message="no"),
    "in response.failed": failed("invalid_api_key"),
}
BEFORE = {"at once": (), "after created": (RATE_LIMITS, created("resp_x"))}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("refusal", UNAUTHORIZED.values(), ids=UNAUTHORIZED)
def test_a_newer_bearer_gets_a_socket_of_its_own_once_the_old_one_is_refused(
    refusal: ServerEvent, before: tuple[ServerEvent, ...]
) -> None:
    machine = warm(bearer="old")
    second = machine.start(SECOND, bearer="new")
    assert machine.wire["previous_response_id"] == "resp_1"
    machine.receive(*before, refusal)
    assert [type(action) for action in machine.last] == [act.CloseSocket, act.Open]
    machine.connected()
    machine.sent()
    machine.receive(created("resp_2"), completed("resp_2", SAID))

    assert machine.answer(second) == act.Finish(second)
    assert machine.delivered(second) == ["response.created", "response.completed"]
    assert machine.reason(second) == R.HEADERS_CHANGED
    assert machine.wire["input"] == SECOND
    assert machine.conn.socket is not None
    assert machine.conn.socket.bearer == "new"
    assert machine.conn.statistics.replays == 1


def test_a_bearer_that_is_refused_on_its_own_socket_is_the_callers_to_renew() -> None:
    machine = warm(bearer="old")
    second = machine.start(SECOND, bearer="new")
    machine.receive(error(None, 401))
    machine.connected()
    machine.sent()
    machine.receive(error(None, 401))

    assert (machine.failure(second).status, machine.failure(second).delivery) == (401, D.REJECTED)
    assert machine.delivered(second) == ["error"]
    assert len(machine.find(act.Send)) == 3
    assert machine.conn.backoff.failures == 0


NOT_RECONNECTED: dict[str, tuple[dict[str, Any], tuple[ServerEvent, ...]]] = {
    "the same bearer": ({"bearer": "old"}, ()),
    "output": ({"bearer": "new"}, (delta("o"),)),
    "the caller's own continuation": ({"bearer": "new", "previous_response_id": "theirs"}, ()),
}


@pytest.mark.parametrize(("fields", "before"), NOT_RECONNECTED.values(), ids=NOT_RECONNECTED)
def test_a_401_is_shown_where_a_fresh_socket_would_not_help_or_be_safe(
    fields: dict[str, Any], before: tuple[ServerEvent, ...]
) -> None:
    machine = warm(bearer="old")
    second = machine.start(SECOND, **fields)
    machine.receive(*before, error("invalid_api_key", 401))

    assert machine.failure(second).status == 401
    assert machine.delivered(second)[-1] == "error"
    assert not machine.did(act.Open)


def test_on_a_first_socket_a_401_is_the_bearers_own() -> None:
    machine = Machine()
    first = machine.start(FIRST, bearer="new")
    machine.receive(error(None, 401))

    assert machine.failure(first).delivery is D.REJECTED
    assert not machine.did(act.Open)


def test_each_kind_of_rejection_is_replayed_once_in_one_turn() -> None:
    machine = warm(bearer="old")
    second = machine.start(SECOND, bearer="new")
    machine.receive(NOT_FOUND)
    machine.sent()
    machine.receive(error(None, 401))
    machine.connected()
    machine.sent()
    machine.receive(LIMIT)
    machine.connected()
    machine.sent()
    machine.receive(completed("resp_2"))

    assert machine.answer(second) == act.Finish(second)
    assert machine.evidence(second)["delivery_attempts"] == 4
    assert machine.conn.statistics.replays == 3
