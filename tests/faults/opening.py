"""The rows before a request has left: connecting, upgrading, sending."""

from __future__ import annotations

from pixir_actors.simulator import FAULTS
from tests.faults.row import (
    AFRESH,
    CRASHED,
    LEFT,
    NO_PONG,
    Row,
    both,
    harmless_reopened,
    unchanged,
)


def connecting() -> list[Row]:
    phase, unsent = "connecting", {"verdict": "not_sent", "sent": 0}
    stuck = {"armed": (FAULTS["silent"](),), "act": "leaves", "at": "connecting"}
    return [
        both(phase, "nobody listens", "websocket_connect_failed", elsewhere="refused", **unsent),
        both(phase, "the name is unknown", "websocket_connect_failed", elsewhere="unknown", **unsent),
        both(
            phase,
            "another authority signed the certificate",
            "websocket_connect_failed",
            elsewhere="untrusted",
            server={"tls": True},
            **unsent,
        ),
        both(
            phase, "TCP is never accepted", "websocket_connect_timeout", limit="connect_timeout", elsewhere="full", **unsent
        ),
        both(
            phase,
            "TCP is accepted, then silence",
            "websocket_connect_timeout",
            limit="connect_timeout",
            armed=(FAULTS["silent"](),),
            **unsent,
        ),
        both(
            phase,
            "TCP is accepted, TLS never answered",
            "websocket_connect_timeout",
            limit="connect_timeout",
            armed=(FAULTS["silent"](),),
            server={"tls": True},
            **unsent,
        ),
        # A turn that its caller ends before anything was sent changes nothing about the key.
        unchanged(
            phase, "the request's `timeout` passes", "request_timeout", "not_sent", 0, limit="timeout", armed=stuck["armed"]
        ),
        unchanged(phase, "the caller leaves", "left", "-", 0, **stuck),
        both(phase, "`close(key)`", "cancelled", then=AFRESH, **unsent, **stuck | {"act": "closes key"}),
        both(
            phase, "`kill -9` of the connection actor", "connection_lost", then=CRASHED, **unsent, **stuck | {"act": "kills"}
        ),
    ]


def upgrading() -> list[Row]:
    phase, unsent = "upgrading", {"verdict": "not_sent", "sent": 0}
    refused = FAULTS["refuse_upgrade"]
    refusal, now = "websocket_handshake_failed", "full: websocket_failed"
    asked = {"Retry-After": "7"}
    return [
        both(phase, "401", f"{refusal} 401, final", then=now, armed=(refused(401),), **unsent),
        both(phase, "403", f"{refusal} 403, final", then=now, armed=(refused(403),), **unsent),
        both(phase, "404", f"{refusal} 404, final", then=now, armed=(refused(404),), **unsent),
        both(phase, "426", f"{refusal} 426, final", then=now, armed=(refused(426),), **unsent),
        both(phase, "429, `Retry-After: 7`", f"{refusal} 429, again in 7 s", armed=(refused(429, asked),), **unsent),
        both(phase, "503, `Retry-After: 7`", f"{refusal} 503, again in 7 s", armed=(refused(503, asked),), **unsent),
        both(phase, "503", f"{refusal} 503", armed=(refused(503),), **unsent),
        # Followed, a redirect would carry the token to another place.
        both(phase, "a redirect", f"{refusal} 307, final", armed=(FAULTS["redirect"](),), **unsent),
        both(phase, "101 with another connection's key", f"{refusal}, final", armed=(FAULTS["wrong_accept"](),), **unsent),
        # No refusal: it may go better the next time, so it is told apart from one (behaviours W4 has one code for both).
        both(phase, "the answer is cut", "websocket_connect_failed", armed=(FAULTS["cut_upgrade"](),), **unsent),
        both(
            phase,
            "the answer drips",
            "websocket_connect_timeout",
            limit="connect_timeout",
            armed=(FAULTS["drip_upgrade"](),),
            **unsent,
        ),
        both(
            phase,
            "no answer",
            "websocket_connect_timeout",
            limit="connect_timeout",
            armed=(FAULTS["never_upgrade"](),),
            **unsent,
        ),
        harmless_reopened(phase, "the answer is late", armed=(FAULTS["slow_accept"](0.2),)),
        unchanged(
            phase, "the caller leaves", "left", "-", 0, armed=(FAULTS["never_upgrade"](),), act="leaves", at="connecting"
        ),
        both(
            phase,
            "`kill -9` of the connection actor",
            "connection_lost",
            then=CRASHED,
            armed=(FAULTS["never_upgrade"](),),
            act="kills",
            at="connecting",
            **unsent,
        ),
    ]


def sending() -> list[Row]:
    # Part of the request is in the kernel's hands: it may have run, whatever the server says it has read.
    phase, stuck = "sending", {"frozen": True, "large": True}
    unread = {"verdict": "ambiguous", "sent": 0}
    return [
        both(phase, "the server does not read", "websocket_send_timeout", limit="send_timeout", **unread, **stuck),
        both(
            phase,
            "no pong meanwhile",
            "websocket_read_failed",
            limit="pong_timeout",
            then=NO_PONG,
            **unread,
            **stuck,
        ),
        both(phase, "the request's `timeout` passes", "request_timeout", limit="timeout", then=LEFT, **unread, **stuck),
        both(phase, "TCP is reset", "websocket_read_failed", act="server resets", at="sending", **unread, **stuck),
        both(
            phase,
            "the server closes with 1009: too large",
            "websocket_closed 1009, final",
            "rejected",
            sent=0,
            then="full: websocket_failed",
            large=True,
            server={"max_message_bytes": 1024 * 1024},
        ),
        both(phase, "the caller leaves", "left", sent=0, then=LEFT, act="leaves", at="sending", **stuck),
        both(phase, "`close(key)`", "cancelled", then=AFRESH, act="closes key", at="sending", **unread, **stuck),
        both(
            phase,
            "`kill -9` of the connection actor",
            "connection_lost",
            then=CRASHED,
            act="kills",
            at="sending",
            **unread,
            **stuck,
        ),
    ]
