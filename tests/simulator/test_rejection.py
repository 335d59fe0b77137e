"""The forms of an error."""

from __future__ import annotations

from pixir_actors.simulator.rejection import Rejection, connection_limit, error_type, not_found


def test_the_nested_form_is_the_documented_one() -> None:
    assert not_found("resp_abc").event() == {
        "type": "error",
        "status": 400,
        "error": {
            "type": "invalid_request_error",
            "code": "previous_response_not_found",
            "message": "Previous response with id 'resp_abc' not found.",
            "param": "previous_response_id",
        },
    }


def test_the_flat_form_has_everything_at_top_level() -> None:
    assert not_found("r", "flat").event() == {
        "type": "error",
        "code": "previous_response_not_found",
        "message": "Previous response with id 'r' not found.",
        "param": "previous_response_id",
    }


def test_the_message_form_has_neither_code_nor_status() -> None:
    event = not_found("r", "message").event()
    assert event == {"type": "error", "error": {"message": "Previous response with id 'r' not found."}}


def test_headers_stand_in_the_error_or_at_top_level() -> None:
    inside = Rejection("c", "m", 429, headers={"retry-after": "1"}).event()
    assert inside["error"]["headers"] == {"retry-after": "1"}
    assert "headers" not in inside
    outside = Rejection("c", "m", 429, headers={"retry-after": "1"}, top_headers=True).event()
    assert outside["headers"] == {"retry-after": "1"}
    assert "headers" not in outside["error"]


def test_a_status_of_none_is_left_out() -> None:
    assert "status" not in Rejection("c", "m").event()


def test_the_limit_notice_closes_the_connection() -> None:
    notice = connection_limit(25)
    assert notice.code == "websocket_connection_limit_reached"
    assert notice.status == 400
    assert "25 minutes" in notice.message
    assert notice.close is not None and notice.close[0] == 1000


def test_the_error_type_follows_the_status() -> None:
    assert [error_type(status) for status in (None, 400, 429, 500, 503)] == [
        "invalid_request_error",
        "invalid_request_error",
        "rate_limit_error",
        "server_error",
        "server_error",
    ]


def test_over_http_an_error_is_a_status_a_body_and_headers() -> None:
    rejection = Rejection("c", "m", 429, headers={"retry-after": 1}, top_headers=True, param="p", type="t")
    assert (rejection.http_status, rejection.http_headers) == (429, [("retry-after", "1")])
    assert rejection.body() == {"error": {"type": "t", "code": "c", "message": "m", "param": "p"}}
    assert not_found("r", "failed").body() == not_found("r").body()
    assert not_found("r", "flat").body() == {k: v for k, v in not_found("r", "flat").event().items() if k != "type"}
    assert list(not_found("r", "message").body()["error"]) == ["message"]


def test_without_a_status_the_form_says_whose_fault_it_is() -> None:
    assert [Rejection("c", "m", form=form).http_status for form in ("nested", "failed")] == [400, 500]
