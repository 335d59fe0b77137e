"""The rows of a request that is under way, from its last byte to the terminal event."""

from __future__ import annotations

from typing import Final

from pixir_actors.simulator import FAULTS, Fault, Reply
from pixir_actors.simulator.rewrite import appended
from tests.faults.row import (
    AFRESH,
    CLOSED,
    CRASHED,
    FAILED,
    LEFT,
    LIMIT_NOTICE,
    NO_PONG,
    REFUSED,
    Row,
    both,
    continued_only,
    harmless,
    recovered,
)


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
        *(
            both(phase, f"the server closes with {code}", f"websocket_closed {code}", verdict, armed=(end,))
            for code, end in ends
        ),
    ]


def _point(when: str) -> str:
    return {"before_first_event": "requested", "after_first_event": "created"}.get(when, "response.output_text.delta")


def before_first_event() -> list[Row]:
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


def held() -> list[Row]:
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


def mid_text() -> list[Row]:
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
        both(
            phase,
            "an `error` event (500)",
            "provider_http_error 500",
            verdict,
            then=REFUSED,
            replies=(Reply.error(500, "server_error", "Sorry.", after="output"),),
        ),
        both(
            phase,
            "`response.failed`",
            "provider_http_error",
            verdict,
            then=REFUSED,
            replies=(Reply.failed("server_error", "Sorry.", after="output"),),
        ),
        # After output a refusal is an answer: nothing goes out again.
        both(
            phase,
            "the connection is too old",
            "provider_http_error 400, final",
            verdict,
            then="full: connection_limit",
            replies=(limit,),
        ),
        both(phase, "the id is unknown", "provider_http_error 400, final", verdict, then=REFUSED, replies=(unknown,)),
        both(
            phase,
            "the caller's callback raises",
            "its own exception",
            then="full: stream_callback_failed",
            act="raises",
            at=delta,
            replies=(text.paced(0.2),),
        ),
        both(
            phase,
            "the caller does not read",
            "slow_consumer",
            verdict,
            then=LEFT,
            replies=(huge,),
            options={"max_buffered_bytes": 1024 * 1024},
            act="does not read",
            at=delta,
        ),
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


def mid_tool_call() -> list[Row]:
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
        both(
            phase,
            "the caller's callback raises",
            "its own exception",
            then="full: stream_callback_failed",
            act="raises",
            **here,
        ),
        both(phase, "`close(key)`", "cancelled", verdict, then=AFRESH, act="closes key", **here),
        both(phase, "`kill -9` of the connection actor", "connection_lost", verdict, then=CRASHED, act="kills", **here),
    ]


def at_the_terminal_event() -> list[Row]:
    phase, within, behind = "at the terminal event", "within_terminal", "after_terminal"
    text, verdict = Reply.text("one two three", deltas=3), "accepted"
    return [
        both(
            phase,
            "TCP is reset within it",
            "websocket_read_failed",
            verdict,
            armed=(FAULTS["stall"](within),),
            act="server resets",
            at="response.output_text.delta",
        ),
        both(
            phase,
            "the server falls silent within it",
            "stream_idle_timeout",
            verdict,
            limit="idle_timeout",
            armed=(FAULTS["stall"](within),),
        ),
        both(
            phase,
            "the server freezes within it: no pong",
            "websocket_read_failed",
            verdict,
            limit="pong_timeout",
            then=NO_PONG,
            armed=(FAULTS["freeze"](within),),
        ),
        both(
            phase,
            "it is larger than `max_message_bytes`",
            "websocket_frame_too_large",
            verdict,
            armed=(FAULTS["huge_terminal"](),),
            options={"max_message_bytes": 1024 * 1024},
        ),
        both(
            phase,
            "the caller's callback raises at it",
            "its own exception",
            then="full: stream_callback_failed",
            act="raises",
            at="response.completed",
        ),
        both(phase, "the caller leaves at it", "left", then="full: prefix_mismatch", act="leaves", at="response.completed"),
        harmless(phase, "it has 2 MiB", armed=(FAULTS["huge_terminal"](),)),
        harmless(phase, "it lists no output", replies=(text.empty_terminal_output(),)),
        harmless(phase, "it lists no output, and no item came", replies=(text.no_items(),)),
        harmless(phase, "half a frame stands behind it", armed=(FAULTS["trailing_partial"](),)),
        harmless(phase, "it comes twice", then="full: websocket_failed", armed=(FAULTS["second_terminal"](),), settles=True),
        harmless(phase, "TCP is cut behind it", then=CLOSED, armed=(FAULTS["cut_after_terminal"](),), settles=True),
        harmless(
            phase, "the server closes behind it", then=CLOSED, armed=(FAULTS["close_with"](1000, when=behind),), settles=True
        ),
        harmless(
            phase,
            "the notice that the connection is too old stands behind it",
            then="full: connection_limit",
            armed=(Fault("limit_behind", "events", rewrite=appended(LIMIT_NOTICE, 0)), FAULTS["coalesce"]()),
            settles=True,
        ),
        harmless(
            phase,
            "an event comes after it",
            then="full: websocket_failed",
            armed=(FAULTS["event_while_idle"](),),
            settles=True,
        ),
    ]
