"""An error instead of an answer, in each of the forms that providers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

After = Literal["nothing", "created", "output"]
ErrorForm = Literal["nested", "flat", "failed", "message"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An error instead of an answer.

    Attributes:
        status: HTTP-like status; None leaves it out.
        form: "nested" (`error` event as documented), "flat" (`error` event in the old shape), "failed"
            (`response.failed`), "message" (`error` event that says it in its message only: no code, no status).
        headers: Put into `error.headers`, with `top_headers` at the top level of the event.
        after: What comes before it: "nothing" (the request does not run), "created", or "output" (some text).
        close: Close code and reason that follow, or None to keep the connection.
        silent: The close is all that comes (WebSocket only).
    """

    code: str
    message: str
    status: int | None = None
    form: ErrorForm = "nested"
    headers: Mapping[str, Any] | None = None
    top_headers: bool = False
    param: str | None = None
    type: str = "invalid_request_error"
    after: After = "nothing"
    close: tuple[int, str] | None = None
    silent: bool = False

    @property
    def http_status(self) -> int:
        """The status of an HTTP answer that says it: 400, or 500 for a failure, if none is given."""
        return self.status or (500 if self.form == "failed" else 400)

    @property
    def http_headers(self) -> list[tuple[str, str]]:
        """`headers` as those of an HTTP answer."""
        return [(name, str(value)) for name, value in (self.headers or {}).items()]

    def body(self) -> dict[str, Any]:
        """Return the JSON body of an HTTP answer: `{"error": {...}}`, whose forms "nested" and "failed" are one."""
        if self.form == "message":
            return {"error": {"message": self.message}}
        if self.form == "flat":
            return {"code": self.code, "message": self.message, "param": self.param}
        return {"error": {"type": self.type, "code": self.code, "message": self.message, "param": self.param}}

    def event(self) -> dict[str, Any]:
        """Return the event in any form but "failed", which needs a response object around it."""
        if self.form == "flat":
            return {"type": "error", "code": self.code, "message": self.message, "param": self.param}
        error: dict[str, Any] = {"type": self.type, "code": self.code, "message": self.message, "param": self.param}
        if self.form == "message":
            error = {"message": self.message}
        if self.headers and not self.top_headers:
            error["headers"] = dict(self.headers)
        event: dict[str, Any] = {"type": "error", "error": error}
        if self.status is not None and self.form != "message":
            event["status"] = self.status
        if self.headers and self.top_headers:
            event["headers"] = dict(self.headers)
        return event


def error_type(status: int | None) -> str:
    """Return the `error.type` that goes with a status."""
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status is not None and status >= 500 else "invalid_request_error"


def not_found(response_id: str, form: ErrorForm = "nested") -> Rejection:
    """Return the answer to an id that is not cached."""
    message = f"Previous response with id '{response_id}' not found."
    return Rejection("previous_response_not_found", message, 400, form, param="previous_response_id")


def connection_limit(minutes: int = 60) -> Rejection:
    """Return the notice that the connection is too old; a close with 1000 follows."""
    message = (
        f"Responses websocket connection limit reached ({minutes} minutes)."
        " Create a new websocket connection to continue."
    )
    return Rejection("websocket_connection_limit_reached", message, 400, close=(1000, "connection limit reached"))
