"""The rows between turns and beside them: idle, queued, closing; and those of the way over HTTP."""

from __future__ import annotations

from typing import Any

from pixir_actors.simulator import FAULTS, Fault, Reply
from tests.conftest import within
from tests.faults.row import (
    AFRESH,
    CRASHED,
    FAILED,
    NEW,
    Outcome,
    Row,
    both,
    harmless,
)


def idle() -> list[Row]:
    def lost(fault: str, reason: str, **how: Any) -> Row:
        gone = Outcome(f"answered, full: {reason}", "-", 1, "delta")
        return Row("idle", fault, Outcome(NEW, "-", 1, "delta"), gone, ends_socket=True, **how)

    afresh = Outcome(NEW, "-", 1, "delta")
    crashed = Outcome("answered, full: connection_crashed", "-", 1, "delta")
    return [
        lost("the server closes with 1001", "connection_closed", act="server closes"),
        lost("TCP is reset", "connection_closed", act="server resets"),
        lost("an event that nobody asked for", "websocket_failed", act="event"),
        lost("an `error` event", "websocket_failed", act="error"),
        lost("the notice that the connection is too old", "connection_limit", act="limit"),
        lost("the same, and a close with 1000", "connection_limit", act="limit and close"),
        lost("pings are not answered", "keepalive_failed", limit="pong_timeout", armed=(FAULTS["ignore_pings"](),)),
        lost("the server is frozen: no pong", "keepalive_failed", limit="pong_timeout", frozen=True),
        lost("`max_connection_age` passes", "max_age", options={"max_connection_age": 0.2}),
        harmless("idle", "private events and a ping", act="private event"),
        Row(
            "idle",
            "`idle_close_after` passes",
            afresh,
            afresh,
            ends_socket=True,
            act="retires",
            options={"idle_close_after": 0.2},
        ),
        Row("idle", "`close(key)`", afresh, afresh, ends_socket=True, act="closes key"),
        Row("idle", "`kill -9` of the connection actor", crashed, crashed, ends_socket=True, act="kills"),
    ]


def queued() -> list[Row]:
    phase, unsent = "queued", {"verdict": "not_sent", "sent": 0}
    cut = {"running": Reply.text("ran").with_faults(FAULTS["cut_before_first_event"]()), "running_fails": True}
    bad = {"running": Reply.failed("server_error", "Sorry.", after="output"), "running_fails": True}
    return [
        both(phase, "the queue is full", "queue_full", then="delta", act="fills", options={"queue_limit": 1}, **unsent),
        both(phase, "`queue_timeout` passes", "queue_timeout", then="delta", limit="queue_timeout", **unsent),
        both(phase, "the request's `timeout` passes", "request_timeout", then="delta", limit="timeout", **unsent),
        both(phase, "its caller leaves", "left", sent=0, then="delta", act="leaves"),
        both(phase, "the caller of the one ahead leaves", "answered, full: cancelled", then="delta", act="runner leaves"),
        both(phase, "the one ahead fails at the provider", "answered, full: response_failed", then="delta", **bad),
        both(phase, "the socket of the one ahead breaks", "websocket_degraded", **unsent, **cut),
        both(phase, "`close(key)`", "cancelled", then=AFRESH, act="closes key", **unsent),
        both(phase, "`kill -9` of the connection actor", "connection_lost", then=CRASHED, act="kills", **unsent),
    ]


def closing() -> list[Row]:
    phase = "closing"

    def crossing(fault: str, reason: str, act: str) -> Row:
        gone = Outcome(f"answered, full: {reason}", "-", 1, "delta")
        return Row(phase, fault, Outcome(NEW, "-", 1, "delta"), gone, act=act)

    old = Outcome("answered, full: max_age", "-", 1, "delta")
    return [
        crossing("the server's close crosses the request", "connection_closed", "crossing close"),
        crossing("a reset crosses the request", "connection_closed", "crossing reset"),
        crossing("the limit notice and its close cross the request", "connection_limit", "crossing limit"),
        Row(
            phase,
            "the server answers no close frame (`max_connection_age`)",
            Outcome(NEW, "-", 1, "delta"),
            old,
            frozen=True,
            ends_socket=True,
            options={"max_connection_age": 0.2},
        ),
        both(
            phase,
            "`Client.close()` mid-text",
            "shutting_down",
            "accepted",
            then=AFRESH,
            act="closes client",
            at="response.output_text.delta",
            armed=(FAULTS["stall"]("mid_text"),),
        ),
    ]


def over_http() -> list[Row]:
    phase, plain = "over HTTP", {"transport": "http"}
    # The window begins with the failure, before the HTTP client is loaded and the request answered.
    auto = {"transport": "auto", "degraded_for": within(4)}
    unsent = {"verdict": "not_sent", "sent": 0}

    def helped(fault: str, *, word: str = "answered", sent: int = 1, then: str = FAILED, **how: Any) -> Row:
        return both(phase, fault, f"{word} over HTTP, full: socket_closed", sent=sent, then=then, **{"options": auto} | how)

    def refused(status: int) -> tuple[Fault, ...]:
        return (FAULTS["refuse_upgrade"](status, on_via="websocket"),)

    def direct(fault: str, what: str, verdict: str, **how: Any) -> Row:
        # The WebSocket beside it is closed, what it remembered with it.
        cold, continued = Outcome(what, verdict, 1, AFRESH), Outcome(what, verdict, 1, "full: endpoint_changed")
        return Row(phase, fault, cold, continued, options=plain, **how)

    return [
        *(helped(f"upgrade: {status}", armed=refused(status)) for status in (404, 426, 429, 503)),
        helped(
            "upgrade: no answer",
            limit="connect_timeout",
            options=auto | {"connect_timeout": within(1.5)},  # the way over HTTP has as long, and loads its client first
            armed=(FAULTS["never_upgrade"](on_via="websocket"),),
        ),
        # What is the caller's to mend HTTP would refuse as well.
        both(
            phase,
            "upgrade: 401",
            "websocket_handshake_failed 401, final",
            then="full: websocket_failed",
            armed=refused(401),
            options=auto,
            **unsent,
        ),
        both(phase, "nobody listens, to HTTP neither", "connection_lost", elsewhere="refused", options=auto, **unsent),
        helped(
            "the server closes with 1009: too large",
            word="recovered",
            sent=2,
            armed=(FAULTS["too_large"](),),
        ),
        helped("the WebSocket failed a moment ago", degraded=True),
        # It may have run: HTTP would run it twice.
        both(
            phase,
            "TCP is cut before the first event",
            "websocket_read_failed",
            "ambiguous",
            armed=(FAULTS["cut_before_first_event"](on_via="websocket"),),
            options=auto,
        ),
        direct(
            '`transport="http"`: 429', "provider_http_error 429, again in 7 s", "rejected", armed=(FAULTS["error_429"](7),)
        ),
        direct('`transport="http"`: TCP is cut mid-text', "connection_lost", "accepted", armed=(FAULTS["cut_mid_text"](),)),
        direct(
            '`transport="http"`: the server falls silent',
            "stream_idle_timeout",
            "accepted",
            limit="idle_timeout",
            armed=(FAULTS["stall"]("mid_text"),),
        ),
    ]
