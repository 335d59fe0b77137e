"""The rows of the fault matrix: what happens, and what has to come of it, cold and continued.

What is expected follows from `README.md` and the promises behind it, not from what the code does:

* sent at most once, unless the provider said no before any output, or the caller asked for `retry_ambiguous`;
* every end has a name, a verdict over delivery, and a limit;
* the next turn continues only what the newest response on an open socket proves, and otherwise says why it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pixir_actors.simulator import FAULTS, Fault, Reply

AT_ONCE: Final = "at once"
PHASES: Final = {
    "connecting": "name, TCP, TLS; continued: the server has closed the idle socket before",
    "upgrading": "the HTTP upgrade; continued: the server has closed the idle socket before",
    "sending": "the request is being written",
    "before the first event": "the request is written, nothing has come back",
    "held": "`response.created` has come, no output yet",
    "mid-text": "text is being streamed",
    "mid-tool-call": "a function call's arguments are being streamed",
    "at the terminal event": "`response.completed`, and what stands right behind it",
    "idle": "between two turns; the row tells the turn after the fault. Cold: the socket was opened by `warm`",
    "queued": "the request waits behind another one of its key; cold: that one is the key's first",
    "closing": "a socket, a connection or a client is being closed",
    "over HTTP": "`transport=\"auto\"`: where the WebSocket took nothing",
}


@dataclass(frozen=True)
class Outcome:
    """What came of the turn under test, and of the key's next turn.

    Attributes:
        what: The error code; "answered" or "recovered" with how the request went out; or how the caller left.
        verdict: The delivery verdict of an error.
        sent: How many requests the server received for it.
        then: How the next turn goes out: "delta", or "full" and its reset reason; after a degraded window if there is one.
    """

    what: str
    verdict: str
    sent: int
    then: str


@dataclass(frozen=True)
class Row:
    """One fault at one phase.

    Attributes:
        cold: What has to come of it on a key without a response to continue; None: it cannot happen there.
        continued: The same on a key whose last response can be continued.
        limit: The option that bounds it, or `AT_ONCE`.
        armed: Simulator faults for the turn under test.
        frozen: The server neither reads nor writes on the key's open socket.
        replies: What the server answers to the turn under test, one after another; then the default.
        running: For a queued request: what the server answers to the one ahead.
        running_fails: That one is not held up until the row is done with it.
        act: What the caller, the server or the system does; see `stage.py`.
        at: Where: a point of `stage.py`, or the type of an event as it reaches the caller.
        options: Options of the turn under test; for an idle connection, of the turn before.
        server: Arguments of the simulator.
        elsewhere: The turn goes to another place than the simulator.
        large: Its request is larger than the kernel's buffers.
        bearer: Its token, if it is a new one.
        ends_socket: The idle socket ends of it; the turn comes after that.
        settles: The socket ends after the turn; the next turn comes after that.
    """

    phase: str
    fault: str
    cold: Outcome | None
    continued: Outcome | None
    limit: str = AT_ONCE
    armed: tuple[Fault, ...] = ()
    frozen: bool = False
    replies: tuple[Reply, ...] = ()
    running: Reply | None = None
    running_fails: bool = False
    act: str | None = None
    at: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: str | None = None
    large: bool = False
    bearer: str | None = None
    ends_socket: bool = False
    settles: bool = False


FAILED: Final = "window, then full: websocket_failed"
NO_PONG: Final = "window, then full: keepalive_failed"
CLOSED: Final = "full: connection_closed"
CRASHED: Final = "full: connection_crashed"
AFRESH: Final = "full: no_previous_response"
LEFT: Final = "full: cancelled"
REFUSED: Final = "full: response_failed"
NEW: Final = "answered, full: no_previous_response"
ON: Final = "answered, delta"


def both(
    phase: str, fault: str, what: str, verdict: str = "-", *, sent: int = 1, then: str = FAILED, **how: Any
) -> Row:
    """Return a row with one outcome for cold and continued."""
    outcome = Outcome(what, verdict, sent, then)
    return Row(phase, fault, outcome, outcome, **how)


def harmless(phase: str, fault: str, *, then: str = "delta", **how: Any) -> Row:
    """Return a row in which the turn is answered as if nothing had happened."""
    return Row(phase, fault, Outcome(NEW, "-", 1, then), Outcome(ON, "-", 1, then), **how)


def recovered(phase: str, fault: str, reason: str, *, sent: int = 2, **how: Any) -> Row:
    """Return a row in which the request goes out again in full, unseen, and the next turn continues."""
    outcome = Outcome(f"recovered, full: {reason}", "-", sent, "delta")
    return Row(phase, fault, outcome, outcome, **how)


def continued_only(phase: str, fault: str, what: str, verdict: str, sent: int, then: str, **how: Any) -> Row:
    """Return a row for a continuation's id, which a cold turn does not send."""
    return Row(phase, fault, None, Outcome(what, verdict, sent, then), **how)


def _connecting() -> list[Row]:
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
        both(phase, "TCP is never accepted", "websocket_connect_timeout", limit="connect_timeout", elsewhere="full", **unsent),
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
        _twice(phase, "the request's `timeout` passes", "request_timeout", "not_sent", 0, limit="timeout", armed=stuck["armed"]),
        _twice(phase, "the caller leaves", "left", "-", 0, **stuck),
        both(
            phase, "`close(key)`", "cancelled", then=AFRESH, **unsent, **stuck | {"act": "closes key"}
        ),
        both(
            phase, "`kill -9` of the connection actor", "connection_lost", then=CRASHED, **unsent, **stuck | {"act": "kills"}
        ),
    ]


def _twice(phase: str, fault: str, what: str, verdict: str, sent: int, **how: Any) -> Row:
    """Return a row that leaves the key as it was: cold, or with its socket closed by the server."""
    return Row(phase, fault, Outcome(what, verdict, sent, AFRESH), Outcome(what, verdict, sent, CLOSED), **how)


def _upgrading() -> list[Row]:
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
        _twice(phase, "the caller leaves", "left", "-", 0, armed=(FAULTS["never_upgrade"](),), act="leaves", at="connecting"),
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


def harmless_reopened(phase: str, fault: str, **how: Any) -> Row:
    """Return a row in which the turn is answered on a new socket."""
    lost = Outcome("answered, full: connection_closed", "-", 1, "delta")
    return Row(phase, fault, Outcome(NEW, "-", 1, "delta"), lost, **how)


def _sending() -> list[Row]:
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


def _silent(phase: str, when: str, verdict: str, code: str, limit: str) -> list[Row]:
    """Return the rows of a server that falls silent at a point, and of a caller that ends the turn meanwhile."""
    stalled = {"armed": (FAULTS["stall"](when),)}
    point = _point(when)
    # What a killed actor had read and not yet passed on, nobody knows.
    killed = "accepted" if point.endswith("delta") else "ambiguous"
    return [
        both(phase, "the server falls silent", code, verdict, limit=limit, **stalled),
        both(
            phase,
            "the server freezes: no pong",
            "websocket_read_failed",
            verdict,
            limit="pong_timeout",
            then=NO_PONG,
            armed=(FAULTS["freeze"](when),),
        ),
        both(phase, "the request's `timeout` passes", "request_timeout", verdict, limit="timeout", then=LEFT, **stalled),
        both(phase, "the caller leaves", "left", then=LEFT, act="leaves", at=point, **stalled),
        both(phase, "`close(key)`", "cancelled", verdict, then=AFRESH, act="closes key", at=point, **stalled),
        both(
            phase,
            "`kill -9` of the connection actor",
            "connection_lost",
            killed,
            then=CRASHED,
            act="kills",
            at=point,
            **stalled,
        ),
    ]


def _broken(phase: str, when: str, verdict: str) -> list[Row]:
    """Return the rows of a socket that breaks at a point."""
    # A reset takes what was not read yet with it, so it comes when the point is known to have been reached.
    reset = {"armed": (FAULTS["stall"](when),), "act": "server resets", "at": _point(when)}
    ends = [(code, FAULTS["close_with"](code, when=when)) for code in (1011, 1000)]
    return [
        both(phase, "TCP is reset", "websocket_read_failed", verdict, **reset),
        # A close without a terminal event is no success, whatever its code.
        *(both(phase, f"the server closes with {code}", f"websocket_closed {code}", verdict, armed=(end,)) for code, end in ends),
    ]


def _point(when: str) -> str:
    return {"before_first_event": "requested", "after_first_event": "created"}.get(when, "response.output_text.delta")


def _before_first_event() -> list[Row]:
    phase, when = "before the first event", "before_first_event"
    lost, limit, twice = FAULTS["cut_before_first_event"], FAULTS["connection_limit"], "previous_response_not_found"
    asked = {"armed": (lost(),), "options": {"retry_ambiguous": True}}
    unauthorized = Reply.error(401, "invalid_api_key", "Incorrect API key provided.")
    unknown = Reply.error(400, twice, "Previous response with id 'resp_1' not found.")
    rejected = "provider_http_error"
    return [
        both(phase, "TCP is cut", "websocket_read_failed", "ambiguous", armed=(lost(),)),
        *_broken(phase, when, "ambiguous"),
        recovered(phase, "TCP is cut, `retry_ambiguous=True`", "websocket_failed", **asked),
        both(
            phase,
            "TCP is cut twice, `retry_ambiguous=True`",
            "websocket_read_failed",
            "ambiguous",
            sent=2,
            **asked | {"armed": (lost(times=2),)},
        ),
        *_silent(phase, when, "ambiguous", "first_event_timeout", "first_event_timeout"),
        *(
            continued_only(
                phase,
                f"the id is unknown ({form})",
                f"recovered, full: {twice}",
                "-",
                2,
                "delta",
                armed=(FAULTS["not_found"](form),),
            )
            for form in ("nested", "flat", "failed", "message")
        ),
        continued_only(
            phase, "the id was evicted", f"recovered, full: {twice}", "-", 2, "delta", armed=(FAULTS["evict"](),)
        ),
        continued_only(
            phase,
            "the id is unknown, and the full replay refused for the same",
            f"{rejected} 400, final",
            "rejected",
            2,
            FAILED,
            replies=(unknown, unknown),
        ),
        recovered(phase, "the connection is too old", "connection_limit", armed=(limit(),)),
        continued_only(
            phase,
            "the id is unknown, then the connection too old",
            "recovered, full: connection_limit",
            "-",
            3,
            "delta",
            replies=(unknown,),
            armed=(limit(on_request=2),),
        ),
        both(
            phase,
            "the connection is too old, and so is the next",
            f"{rejected} 400, final",
            "rejected",
            sent=2,
            then="full: connection_limit",
            armed=(limit(times=2),),
        ),
        both(phase, "401", f"{rejected} 401, final", "rejected", then=REFUSED, replies=(unauthorized,)),
        continued_only(
            phase,
            "401, the request's token is newer than the socket's",
            "recovered, full: headers_changed",
            "-",
            2,
            "delta",
            replies=(unauthorized,),
            bearer="token-2",
        ),
        *(
            both(
                phase,
                f"429, retry-after in {place}",
                f"{rejected} 429, again in 7 s",
                "rejected",
                then=REFUSED,
                armed=(FAULTS["error_429"](7, where=where),),
            )
            for place, where in (("`error.headers`", "error"), ("`headers`", "top"), ("its message", "message"))
        ),
        both(phase, "503", f"{rejected} 503", "rejected", then=REFUSED, armed=(FAULTS["error_503"](),)),
        harmless(phase, "private and future events", armed=(FAULTS["unknown_events"](),)),
        harmless(phase, "the server demands pongs", armed=(FAULTS["ping_demand_pong"](within=10),)),
    ]


def _held() -> list[Row]:
    phase, when = "held", "after_first_event"
    unknown = Reply.error(400, "previous_response_not_found", "Previous response not found.", after="created")
    limit = Reply.error(400, "websocket_connection_limit_reached", "Connection limit reached.", after="created")
    broken = Reply.error(500, "server_error", "Sorry.", after="created")
    return [
        both(phase, "TCP is cut", "websocket_read_failed", "accepted", armed=(FAULTS["cut_after_first_event"](),)),
        *_broken(phase, when, "accepted"),
        *_silent(phase, when, "accepted", "stream_idle_timeout", "idle_timeout"),
        continued_only(
            phase,
            "the id is unknown",
            "recovered, full: previous_response_not_found",
            "-",
            2,
            "delta",
            replies=(unknown,),
        ),
        recovered(phase, "the connection is too old", "connection_limit", replies=(limit,)),
        both(phase, "an `error` event", "provider_http_error 500", "rejected", then=REFUSED, replies=(broken,)),
        both(
            phase,
            "`response.failed`",
            "provider_http_error",
            "rejected",
            then=REFUSED,
            replies=(Reply.failed("server_error", "Sorry."),),
        ),
    ]


def _mid_text() -> list[Row]:
    phase, code, verdict = "mid-text", "websocket_read_failed", "accepted"
    unknown = Reply.error(400, "previous_response_not_found", "Previous response not found.", after="output")
    limit = Reply.error(400, "websocket_connection_limit_reached", "Connection limit reached.", after="output")
    delta, huge = "response.output_text.delta", Reply.text("x" * (16 * 1024 * 1024), deltas=4000)
    text = Reply.text("one two three four", deltas=4)
    bad = ("invalid_json", "invalid_utf8", "binary_frame", "masked_frame", "rsv_frame", "bad_opcode")
    words = ("half an object", "no UTF-8", "a binary message", "a masked frame", "reserved bits", "a reserved opcode")
    return [
        both(phase, "TCP is cut", code, verdict, armed=(FAULTS["cut_mid_text"](),)),
        both(phase, "TCP is cut within an event", code, verdict, armed=(FAULTS["cut_within_event"](),)),
        *_broken(phase, "mid_text", verdict),
        *_silent(phase, "mid_text", verdict, "stream_idle_timeout", "idle_timeout"),
        *(
            both(phase, f"{word} comes", "websocket_failed", verdict, armed=(FAULTS[fault](),))
            for fault, word in zip(bad, words, strict=True)
        ),
        both(
            phase,
            "a frame of 1 TiB is announced",
            "websocket_frame_too_large",
            verdict,
            armed=(FAULTS["oversized_frame_header"](),),
        ),
        both(phase, "an `error` event (500)", "provider_http_error 500", verdict, then=REFUSED,
             replies=(Reply.error(500, "server_error", "Sorry.", after="output"),)),
        both(phase, "`response.failed`", "provider_http_error", verdict, then=REFUSED,
             replies=(Reply.failed("server_error", "Sorry.", after="output"),)),
        # After output a refusal is an answer: nothing goes out again.
        both(phase, "the connection is too old", "provider_http_error 400, final", verdict,
             then="full: connection_limit", replies=(limit,)),
        both(phase, "the id is unknown", "provider_http_error 400, final", verdict, then=REFUSED, replies=(unknown,)),
        both(phase, "the caller's callback raises", "its own exception", then="full: stream_callback_failed",
             act="raises", at=delta, replies=(text.paced(0.2),)),
        both(phase, "the caller does not read", "slow_consumer", verdict, then=LEFT, replies=(huge,),
             options={"max_buffered_bytes": 1024 * 1024}, act="does not read", at=delta),
        harmless(phase, "each byte by itself", armed=(FAULTS["split_every_byte"](),)),
        harmless(phase, "fragments with pings between them", armed=(FAULTS["fragment"](),)),
        harmless(phase, "all events in one write", armed=(FAULTS["coalesce"](),)),
        harmless(phase, "`response.incomplete`", replies=(Reply.incomplete("so far"),)),
    ]


_CALL: Final = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "look", "arguments": ""}
_HALF_A_CALL: Final = Reply.events(
    [
        {"type": "response.created", "response": {"id": "resp_half", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": _CALL},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": '{"path": "a'},
    ]
)


def _mid_tool_call() -> list[Row]:
    phase, verdict = "mid-tool-call", "accepted"
    here = {"replies": (_HALF_A_CALL,), "at": "response.function_call_arguments.delta"}
    whole = Reply.tool_call("look", {"path": "a"})
    return [
        both(phase, "TCP is reset", "websocket_read_failed", verdict, act="server resets", **here),
        both(phase, "the server closes with 1011", "websocket_closed 1011", verdict, act="server fails", **here),
        both(phase, "the server falls silent", "stream_idle_timeout", verdict, limit="idle_timeout", **here),
        both(phase, "the request's `timeout` passes", "request_timeout", verdict, limit="timeout", then=LEFT, **here),
        # The call is whole, the response is not: what the provider remembers of it is unknown.
        both(
            phase,
            "TCP is reset behind the whole call",
            "websocket_read_failed",
            verdict,
            replies=(whole,),
            armed=(FAULTS["abort_tcp"]("before_terminal"),),
        ),
        both(phase, "the caller leaves", "left", then=LEFT, act="leaves", **here),
        both(phase, "the caller's callback raises", "its own exception", then="full: stream_callback_failed",
             act="raises", **here),
        both(phase, "`close(key)`", "cancelled", verdict, then=AFRESH, act="closes key", **here),
        both(phase, "`kill -9` of the connection actor", "connection_lost", verdict, then=CRASHED, act="kills", **here),
    ]


def _terminal() -> list[Row]:
    phase, within, behind = "at the terminal event", "within_terminal", "after_terminal"
    text, verdict = Reply.text("one two three", deltas=3), "accepted"
    return [
        both(phase, "TCP is reset within it", "websocket_read_failed", verdict, armed=(FAULTS["stall"](within),),
             act="server resets", at="response.output_text.delta"),
        both(phase, "the server falls silent within it", "stream_idle_timeout", verdict, limit="idle_timeout",
             armed=(FAULTS["stall"](within),)),
        both(phase, "the server freezes within it: no pong", "websocket_read_failed", verdict, limit="pong_timeout",
             then=NO_PONG, armed=(FAULTS["freeze"](within),)),
        both(phase, "it is larger than `max_message_bytes`", "websocket_frame_too_large", verdict,
             armed=(FAULTS["huge_terminal"](),), options={"max_message_bytes": 1024 * 1024}),
        both(phase, "the caller's callback raises at it", "its own exception", then="full: stream_callback_failed",
             act="raises", at="response.completed"),
        both(phase, "the caller leaves at it", "left", then="full: prefix_mismatch", act="leaves", at="response.completed"),
        harmless(phase, "it has 2 MiB", armed=(FAULTS["huge_terminal"](),)),
        harmless(phase, "it lists no output", replies=(text.empty_terminal_output(),)),
        harmless(phase, "it lists no output, and no item came", replies=(text.no_items(),)),
        harmless(phase, "half a frame stands behind it", armed=(FAULTS["trailing_partial"](),)),
        harmless(phase, "it comes twice", then="full: websocket_failed", armed=(FAULTS["second_terminal"](),), settles=True),
        harmless(phase, "TCP is cut behind it", then=CLOSED, armed=(FAULTS["cut_after_terminal"](),), settles=True),
        harmless(phase, "the server closes behind it", then=CLOSED, armed=(FAULTS["close_with"](1000, when=behind),), settles=True),
        harmless(phase, "an event comes after it", then="full: websocket_failed", armed=(FAULTS["event_while_idle"](),), settles=True),
    ]


def _idle() -> list[Row]:
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
        Row("idle", "`idle_close_after` passes", afresh, afresh, ends_socket=True, act="retires",
            options={"idle_close_after": 0.2}),
        Row("idle", "`close(key)`", afresh, afresh, ends_socket=True, act="closes key"),
        Row("idle", "`kill -9` of the connection actor", crashed, crashed, ends_socket=True, act="kills"),
    ]


def _queued() -> list[Row]:
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


def _closing() -> list[Row]:
    phase = "closing"

    def crossing(fault: str, reason: str, act: str) -> Row:
        gone = Outcome(f"answered, full: {reason}", "-", 1, "delta")
        return Row(phase, fault, Outcome(NEW, "-", 1, "delta"), gone, act=act)

    old = Outcome("answered, full: max_age", "-", 1, "delta")
    return [
        crossing("the server's close crosses the request", "connection_closed", "crossing close"),
        crossing("a reset crosses the request", "connection_closed", "crossing reset"),
        crossing("the limit notice and its close cross the request", "connection_limit", "crossing limit"),
        Row(phase, "the server answers no close frame (`max_connection_age`)", Outcome(NEW, "-", 1, "delta"), old,
            frozen=True, ends_socket=True, options={"max_connection_age": 0.2}),
        both(phase, "`Client.close()` mid-text", "shutting_down", "accepted", then=AFRESH, act="closes client",
             at="response.output_text.delta", armed=(FAULTS["stall"]("mid_text"),)),
    ]


ROWS: Final[tuple[Row, ...]] = (
    *_connecting(),
    *_upgrading(),
    *_sending(),
    *_before_first_event(),
    *_held(),
    *_mid_text(),
    *_mid_tool_call(),
    *_terminal(),
    *_idle(),
    *_queued(),
    *_closing(),
)
