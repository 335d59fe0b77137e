"""The words of a failure: its tree, its texts, its way through a process boundary.

Covers C4 and section 1.14 as far as names go, T13 and T14 (nothing but scalars in what is told), and design section 3.
"""

from __future__ import annotations

import pickle

import pytest

from pixir_actors import errors
from pixir_actors.errors import (
    RETRYABLE,
    AdminAlreadyRunning,
    AdminMismatch,
    AdminNotRunning,
    CookieUnusable,
    Delivery,
    ErrorCode,
    Failure,
    InvalidRequest,
    InvalidSettings,
    PixirError,
    ProviderError,
    StreamError,
    SystemStartFailed,
    WrongProcess,
    exception_from,
)

CODES = [
    "websocket_degraded",
    "websocket_start_failed",
    "websocket_connect_failed",
    "websocket_handshake_failed",
    "websocket_read_failed",
    "websocket_closed",
    "websocket_failed",
    "websocket_frame_too_large",
    "stream_idle_timeout",
    "provider_http_error",
    "websocket_connect_timeout",
    "websocket_send_timeout",
    "first_event_timeout",
    "request_timeout",
    "queue_timeout",
    "queue_full",
    "cancelled",
    "slow_consumer",
    "connection_lost",
    "connection_unresponsive",
    "too_many_connections",
    "shutting_down",
    "internal_error",
]


def test_the_codes_are_those_of_the_design_and_the_mistakes_of_a_caller() -> None:
    assert {code.value for code in ErrorCode} == {*CODES, "invalid_provider_request"}


def test_the_verdicts_are_those_of_the_design() -> None:
    assert [delivery.value for delivery in Delivery] == ["not_sent", "rejected", "ambiguous", "accepted"]


def test_every_exception_of_ours_is_a_pixir_error_and_stands_in_the_tree() -> None:
    own = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert set(own) == {
        PixirError,
        InvalidSettings,
        InvalidRequest,
        WrongProcess,
        SystemStartFailed,
        AdminNotRunning,
        AdminMismatch,
        AdminAlreadyRunning,
        CookieUnusable,
        StreamError,
        ProviderError,
    }
    for kind in own:
        assert issubclass(kind, PixirError)
        assert kind.__name__ in (errors.__doc__ or "")
    assert issubclass(ProviderError, StreamError)
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(InvalidSettings, ValueError)


@pytest.mark.parametrize("code", ErrorCode)
def test_whether_to_try_again_follows_from_the_code(code: ErrorCode) -> None:
    assert Failure.of(code, Delivery.NOT_SENT).retryable is (code in RETRYABLE)


def test_what_only_the_caller_can_mend_is_not_retryable() -> None:
    mistakes = {
        ErrorCode.INVALID_PROVIDER_REQUEST,
        ErrorCode.WEBSOCKET_HANDSHAKE_FAILED,
        ErrorCode.WEBSOCKET_FRAME_TOO_LARGE,
        ErrorCode.CANCELLED,
        ErrorCode.SLOW_CONSUMER,
        ErrorCode.REQUEST_TIMEOUT,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.INTERNAL_ERROR,
    }

    assert not mistakes & RETRYABLE


def test_details_that_are_not_known_are_left_out() -> None:
    failure = Failure.of(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT, waiting=0, limit=None)

    assert failure.details == {"waiting": 0}


def test_an_invalid_setting_names_field_value_and_range() -> None:
    error = InvalidSettings("timeout", 0, "a number")

    assert str(error) == "timeout=0 is not valid: allowed is a number"
    assert (error.field, error.value, error.allowed) == ("timeout", 0, "a number")


def test_an_invalid_request_has_the_references_code() -> None:
    error = InvalidRequest("body", "is not JSON")

    assert str(error) == "invalid request: body is not JSON"
    assert error.code == "invalid_provider_request"


FAILURE = Failure.of(ErrorCode.WEBSOCKET_CLOSED, Delivery.ACCEPTED, retry_after=2.5, close_code=1011)
SAID_NO = Failure(
    code=ErrorCode.PROVIDER_HTTP_ERROR,
    delivery=Delivery.REJECTED,
    retryable=False,
    details={"provider_code": "invalid_prompt"},
    status=400,
    error={"code": "invalid_prompt", "message": "CANARY"},
)


def test_a_stream_error_says_code_verdict_and_when_to_come_back() -> None:
    error = exception_from(FAILURE, acc=[1])

    assert type(error) is StreamError
    assert str(error) == "websocket_closed (delivery=accepted, retry_after=2.5s, close_code=1011)"
    assert (error.code, error.delivery, error.retryable, error.retry_after) == ("websocket_closed", "accepted", True, 2.5)
    assert (error.details, error.acc, error.failure) == ({"close_code": 1011}, [1], FAILURE)


def test_a_providers_error_has_its_status_and_error_but_does_not_print_its_text() -> None:
    error = exception_from(SAID_NO)

    assert isinstance(error, ProviderError)
    assert (error.status, error.error["message"]) == (400, "CANARY")
    assert "CANARY" not in str(error) + repr(error)


def test_a_stream_error_prints_as_short_as_others() -> None:
    assert repr(exception_from(SAID_NO)) == (
        "ProviderError('provider_http_error (delivery=rejected, provider_code=invalid_prompt)')"
    )
    assert repr(exception_from(FAILURE)) == f"StreamError('{exception_from(FAILURE)}')"


def test_a_providers_error_that_says_nothing_is_one_all_the_same() -> None:
    empty = Failure(code=ErrorCode.PROVIDER_HTTP_ERROR, delivery=Delivery.REJECTED, retryable=False, error={})

    assert isinstance(exception_from(empty), ProviderError)


ERRORS = [
    InvalidSettings("timeout", 0, "a number"),
    InvalidRequest("url", "has no host"),
    InvalidSettings("timeuot", "***", "a number", problem="timeuot is not known"),
    WrongProcess(1),
    SystemStartFailed("at once"),
    AdminNotRunning("none"),
    exception_from(FAILURE, acc=[1]),
    exception_from(SAID_NO),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_survives_a_process_boundary(error: PixirError) -> None:
    there = pickle.loads(pickle.dumps(error))

    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


def test_a_failure_survives_a_process_boundary() -> None:
    assert pickle.loads(pickle.dumps(SAID_NO)) == SAID_NO
