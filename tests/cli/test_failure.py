"""What a person is told about a failure."""

from __future__ import annotations

import pytest

from pixir_actors.cli.failure import ADVICE, MAX_PROVIDER_TEXT, VERDICTS, code_of, lines_of
from pixir_actors.cli.options import WrongUsage
from pixir_actors.errors import (
    AdminAlreadyRunning,
    AdminMismatch,
    AdminNotRunning,
    CookieUnusable,
    Delivery,
    ErrorCode,
    Failure,
    InvalidRequest,
    InvalidSettings,
    ProviderError,
    StreamError,
    SystemStartFailed,
)


def test_every_code_has_advice_and_every_verdict_a_meaning() -> None:
    assert set(ADVICE) == set(ErrorCode)
    assert set(VERDICTS) == set(Delivery)


def test_a_failed_stream_is_told_with_code_verdict_and_what_to_do() -> None:
    failure = Failure.of(
        ErrorCode.WEBSOCKET_CONNECT_FAILED, Delivery.NOT_SENT, retry_after=4.56, step="tcp", reason="refused"
    )
    first, verdict, advice = lines_of(StreamError(failure))
    assert first == "websocket_connect_failed (step=tcp, reason=refused)"
    assert verdict == "not_sent: nothing was sent: to send it again is safe"
    assert advice.startswith("to do: `pixir-actors doctor`") and advice.endswith("Wait 4.6 s before you try again")


def test_what_the_failure_itself_advises_counts_more_than_its_code() -> None:
    details = {"reason": "no_http_client", "advice": "pip install it", "transport": "http"}
    failure = Failure(code=ErrorCode.CONNECTION_LOST, delivery=Delivery.NOT_SENT, retryable=False, details=details)
    first, _, advice = lines_of(StreamError(failure))
    assert first == "connection_lost (reason=no_http_client, transport=http)"
    assert advice == "to do: pip install it"


def test_a_connection_that_is_lost_is_told_from_a_broken_http_exchange() -> None:
    def advice(**details: str) -> str:
        return lines_of(StreamError(Failure.of(ErrorCode.CONNECTION_LOST, Delivery.AMBIGUOUS, **details)))[-1]

    assert "process died" in advice() and "if an admin runs" in advice()
    assert "HTTP exchange" in advice(transport="http", reason="eof")


def provider_error(**error: object) -> ProviderError:
    failure = Failure(
        code=ErrorCode.PROVIDER_HTTP_ERROR, delivery=Delivery.REJECTED, retryable=False, status=401, error=error
    )
    return ProviderError(failure)


def test_what_the_provider_said_is_told_without_the_key_that_it_repeats() -> None:
    error = provider_error(code="invalid_api_key", message="Incorrect key:\n sk-canary.")
    lines = lines_of(error, secret="sk-canary")
    assert lines[1] == "the provider: 401, invalid_api_key: Incorrect key: ***."


def test_what_the_provider_said_is_bounded() -> None:
    assert len(lines_of(provider_error(message="x" * 10_000))[1]) < MAX_PROVIDER_TEXT + 50
    assert lines_of(provider_error(param="x"))[1] == "the provider: 401, no reason given"


def test_an_unexpected_error_is_one_line_that_quotes_nothing() -> None:
    assert lines_of(KeyError("canary")) == ["an unexpected KeyError: this is a defect; --debug shows where"]


def test_with_debug_it_says_where_and_still_quotes_nothing() -> None:
    def fail() -> None:
        try:
            raise KeyError("canary" + "1")
        except KeyError as error:
            raise ValueError("canary" + "2") from error

    with pytest.raises(ValueError) as caught:
        fail()
    text = "\n".join(lines_of(caught.value, debug=True))
    assert "test_failure.py" in text and "ValueError" in text and "KeyError" in text
    assert "canary1" not in text and "canary2" not in text


def test_an_error_of_the_system_is_told_in_its_words() -> None:
    assert lines_of(PermissionError(13, "Permission denied", "/etc/x")) == ["Permission denied: /etc/x"]


def test_a_setting_s_value_is_not_repeated() -> None:
    assert lines_of(InvalidSettings("proxy", "canary", "a text")) == ["proxy is not valid: allowed is a text"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AdminNotRunning("x"), 3),
        (AdminMismatch("x"), 5),
        (CookieUnusable("x"), 5),
        (AdminAlreadyRunning("x"), 1),
        (SystemStartFailed("x"), 1),
        (WrongUsage("x"), 2),
        (InvalidRequest("url", "has no host"), 2),
        (InvalidSettings("port", 0, "more"), 2),
        (StreamError(Failure.of(ErrorCode.CANCELLED, Delivery.ACCEPTED)), 1),
        (KeyError("x"), 1),
    ],
)
def test_scripts_can_tell_failures_apart(error: Exception, code: int) -> None:
    assert code_of(error) == code
