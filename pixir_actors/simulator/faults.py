"""Named faults: what a provider, a proxy or a network does to a client, each armed for the next point that it fits.

Every factory in `FAULTS` can be called without arguments, so that a test can try all of them. Each takes, besides its
own arguments, `times=1` (how often it applies; None: always), `on_request=` and `on_connection=` (numbers from 0: only
there), and `on_via=` ("websocket" or "http": only this way). A fault that makes sense one way only is for that way
without being told, and the other way never uses it.

Phases, in the order in which a request meets them:

    accept     TCP is there, before TLS             one fault at a time
    upgrade    the HTTP request was read            one; over HTTP it changes how the answer begins
    upgraded   right after the 101                  one (those with when="upgrade")
    request    a request came                       one; it is refused, or its cached id forgotten
    events     the reply's events are changed       all that fit
    stream     the reply ends early                 one
    framing    how its bytes are written            all that fit
    ping       the client's ping came               one; lasts as long as the connection

Over HTTP a reply's "first event" is the first in the body: the head has been sent by then. A frame is a chunk of the body.
An answer that is no stream has no events: only the phases "stream" and "framing" may fit its one document.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, Literal

from websockets.frames import Opcode

from pixir_actors.simulator import rewrite
from pixir_actors.simulator.eventstream import LAST_CHUNK
from pixir_actors.simulator.fault import REGISTER, Fault, Phase, Upgrade, named
from pixir_actors.simulator.operation import Abort, Cut, Freeze, Operation, Raw, SendClose, Stall, check_close_code, frame
from pixir_actors.simulator.rejection import ErrorForm, Rejection
from pixir_actors.simulator.rejection import connection_limit as limit_notice
from pixir_actors.simulator.rejection import not_found as unknown_id
from pixir_actors.simulator.rewrite import When

FAULTS: Final[Mapping[str, Callable[..., Fault]]] = MappingProxyType(REGISTER)
"""Name -> factory."""
_BetweenEvents = Literal["before_first_event", "after_first_event", "mid_text", "before_terminal"]


def _ending(name: str, when: When, action: Operation, *, nth: int = 1, delay: float = 0.0) -> Fault:
    phase: Phase = "upgraded" if when == "upgrade" else "stream"
    return Fault(name, phase, rewrite=rewrite.ending(when, action, nth=nth, delay=delay))


# The handshake.


@named
def silent() -> Fault:
    """Accept TCP and never say or read anything, not even TLS."""
    return Fault("silent", "accept")


@named
def refuse_upgrade(status: int = 503, headers: Mapping[str, str] | None = None, body: bytes | str = b"") -> Fault:
    """Answer the upgrade with another status than 101; a POST is answered as ever."""
    return Fault("refuse_upgrade", "upgrade", on_via="websocket", upgrade=_refusal(status, headers, body))


@named
def redirect(url: str = "http://127.0.0.1:9/v1/responses", status: int = 307) -> Fault:
    """Answer the upgrade, or the POST, with a redirect."""
    return Fault("redirect", "upgrade", upgrade=_refusal(status, {"Location": url}, b""))


@named
def slow_accept(seconds: float = 0.2) -> Fault:
    """Answer the upgrade late, or begin the answer to the POST late."""
    return Fault("slow_accept", "upgrade", upgrade=Upgrade(seconds=seconds))


@named
def never_upgrade() -> Fault:
    """Read the upgrade and never answer it."""
    return Fault("never_upgrade", "upgrade", on_via="websocket", upgrade=Upgrade(never=True))


@named
def drip_upgrade(every: float = 0.05) -> Fault:
    """Send the 101 byte by byte with so many seconds between (it has about 200)."""
    return Fault("drip_upgrade", "upgrade", on_via="websocket", upgrade=Upgrade(drip=every))


@named
def cut_upgrade(after: int = 20) -> Fault:
    """Send the first bytes of the 101 and cut."""
    return Fault("cut_upgrade", "upgrade", on_via="websocket", upgrade=Upgrade(cut_after=after))


@named
def wrong_accept() -> Fault:
    """Answer 101 with the key of another connection."""
    return Fault("wrong_accept", "upgrade", on_via="websocket", upgrade=Upgrade(wrong_accept=True))


# How the answer to a POST begins.


@named
def refuse(status: int = 503, headers: Mapping[str, str] | None = None, body: bytes | str = b"") -> Fault:
    """Answer the POST with this status and body, and do not look at the request."""
    return Fault("refuse", "upgrade", on_via="http", upgrade=_refusal(status, headers, body))


@named
def never_answer() -> Fault:
    """Run the POST's request and never say anything."""
    return Fault("never_answer", "upgrade", on_via="http", upgrade=Upgrade(never=True))


@named
def cut_head(after: int = 0) -> Fault:
    """Run the POST's request, send so many bytes of the answer's head and cut TCP."""
    return Fault("cut_head", "upgrade", on_via="http", upgrade=Upgrade(cut_after=after))


def _refusal(status: int, headers: Mapping[str, str] | None, body: bytes | str) -> Upgrade:
    if not 200 <= status <= 599:
        raise ValueError(f"status={status}: allowed are 200 to 599")
    return Upgrade(refusal=(status, tuple((headers or {}).items()), body.encode() if isinstance(body, str) else body))


# The request.


@named
def not_found(form: ErrorForm = "nested") -> Fault:
    """Refuse the next continuation: its id is unknown. The id is forgotten."""
    return Fault(
        "not_found",
        "request",
        continuation=True,
        reject=lambda payload: unknown_id(str(payload.get("previous_response_id")), form),
    )


@named
def evict() -> Fault:
    """Forget what is cached just before the next continuation, which is refused by the ordinary rule."""
    return Fault("evict", "request", continuation=True)


@named
def connection_limit(minutes: int = 60) -> Fault:
    """Refuse the request because the connection is too old, and close with 1000."""
    return Fault("connection_limit", "request", on_via="websocket", reject=lambda payload: limit_notice(minutes))


@named
def too_large() -> Fault:
    """Take the message for larger than the server reads: it does not run, and the connection is closed with 1009."""
    refusal = Rejection("too_large", "Message too big.", close=(1009, "message too big"), silent=True)
    return Fault("too_large", "request", on_via="websocket", reject=lambda payload: refusal)


@named
def error_429(retry_after: float = 1, where: Literal["error", "top", "message"] = "error") -> Fault:
    """Refuse the request for now; `retry_after` stands in `error.headers`, at top level, or in the message only."""
    text = f"Rate limit reached. Please try again in {retry_after:g}s." if where == "message" else "Rate limit reached."
    headers = None if where == "message" else {"retry-after": f"{retry_after:g}"}
    rejection = Rejection(
        "rate_limit_exceeded", text, 429, headers=headers, top_headers=where == "top", type="rate_limit_error"
    )
    return Fault("error_429", "request", reject=lambda payload: rejection)


@named
def error_503() -> Fault:
    """Refuse the request: the provider is overloaded."""
    rejection = Rejection("server_is_overloaded", "The server is overloaded.", 503, type="server_error")
    return Fault("error_503", "request", reject=lambda payload: rejection)


# The reply's end.


@named
def cut_before_first_event() -> Fault:
    """Take the request and cut TCP."""
    return _ending("cut_before_first_event", "before_first_event", Cut())


@named
def cut_within_event() -> Fault:
    """Cut TCP in the middle of the first output event's frame."""
    return _ending("cut_within_event", "within_event", Cut())


@named
def cut_after_first_event() -> Fault:
    """Cut TCP after `response.created`."""
    return _ending("cut_after_first_event", "after_first_event", Cut())


@named
def cut_mid_text(n: int = 1) -> Fault:
    """Cut TCP after so many text deltas."""
    return _ending("cut_mid_text", "mid_text", Cut(), nth=n)


@named
def cut_after_terminal(delay: float = 0.0) -> Fault:
    """Send the terminal event, and cut TCP so many seconds later."""
    return _ending("cut_after_terminal", "after_terminal", Cut(), delay=delay)


@named
def close_with(code: int = 1011, reason: str = "", when: When = "after_first_event", delay: float = 0.0) -> Fault:
    """Close with a code at a point; 1005 sends a close frame without one."""
    check_close_code(code)
    return replace(_ending("close_with", when, SendClose(code, reason), delay=delay), on_via="websocket")


@named
def end_without_terminal(when: _BetweenEvents = "before_terminal") -> Fault:
    """End the body of an HTTP answer well before the terminal event, and keep the connection."""
    return replace(_ending("end_without_terminal", when, Raw(LAST_CHUNK)), on_via="http")


@named
def abort_tcp(when: When = "after_first_event", delay: float = 0.0) -> Fault:
    """Reset TCP (RST) at a point."""
    return _ending("abort_tcp", when, Abort(), delay=delay)


@named
def stall(when: When = "after_first_event") -> Fault:
    """Send no event any more from a point on; the socket stays and pings are answered."""
    return _ending("stall", when, Stall())


@named
def freeze(when: When = "after_first_event") -> Fault:
    """Neither send nor read any more from a point on; nothing is answered, nor is a request of 16 MiB taken."""
    return _ending("freeze", when, Freeze())


# The reply's events.


@named
def huge_terminal(size: int = 2 * 1024 * 1024) -> Fault:
    """Pad the terminal event by so many bytes."""
    return Fault("huge_terminal", "events", rewrite=rewrite.padded(size))


@named
def invalid_json() -> Fault:
    """Send half an object, in a whole frame or event, in place of the first output event."""
    return Fault("invalid_json", "events", rewrite=rewrite.garbled(lambda emit: replace(emit, event=emit.message()[:-2])))


@named
def invalid_utf8() -> Fault:
    """Send an event whose text is not UTF-8 in place of the first output event."""
    bad = b'{"type":"response.output_text.delta","delta":"\xff\xfe"}'
    return Fault("invalid_utf8", "events", rewrite=rewrite.garbled(lambda emit: replace(emit, event=bad)))


@named
def binary_frame() -> Fault:
    """Send the first output event as a binary message."""
    change = rewrite.garbled(lambda emit: Raw(frame(emit.message(), Opcode.BINARY)))
    return Fault("binary_frame", "events", on_via="websocket", rewrite=change)


@named
def oversized_frame_header(size: int = 2**40) -> Fault:
    """Announce a frame of so many bytes in place of the first output event, and send little of it."""
    header = struct.pack("!BBQ", 0x81, 127, size)
    change = rewrite.nonsense(header + b'{"type":', partial=True)
    return Fault("oversized_frame_header", "events", on_via="websocket", rewrite=change)


@named
def masked_frame() -> Fault:
    """Send a masked frame, which a server must not."""
    return Fault("masked_frame", "events", on_via="websocket", rewrite=rewrite.nonsense(b"\x81\x82\x01\x02\x03\x04" + b"zy"))


@named
def rsv_frame() -> Fault:
    """Send a frame with reserved bits set, though no extension was agreed."""
    return Fault("rsv_frame", "events", on_via="websocket", rewrite=rewrite.nonsense(b"\xf1\x02{}"))


@named
def bad_opcode() -> Fault:
    """Send a frame with a reserved opcode."""
    return Fault("bad_opcode", "events", on_via="websocket", rewrite=rewrite.nonsense(b"\x83\x02{}"))


@named
def unknown_events() -> Fault:
    """Send private and future events between those of the reply."""
    return Fault("unknown_events", "events", rewrite=rewrite.interleaved(_STRANGERS))


@named
def second_terminal() -> Fault:
    """Send the terminal event twice."""
    return Fault("second_terminal", "events", rewrite=rewrite.repeated_terminal())


@named
def event_while_idle(delay: float = 0.05) -> Fault:
    """Send a text delta so many seconds after the terminal event."""
    late = {"type": "response.output_text.delta", "item_id": "msg_late", "output_index": 0, "delta": "late"}
    return Fault("event_while_idle", "events", on_via="websocket", rewrite=rewrite.appended(late, delay))


@named
def ping_demand_pong(within: float = 2.0, every: int = 1) -> Fault:
    """Send a ping before every so many events; cut TCP unless its pong comes in time."""
    return Fault("ping_demand_pong", "events", on_via="websocket", rewrite=rewrite.pinged(every, within))


# The reply's bytes.


@named
def split_every_byte() -> Fault:
    """Write each byte of the reply by itself."""
    return Fault("split_every_byte", "framing", rewrite=rewrite.split())


@named
def fragment(parts: int = 3, pings: bool = True) -> Fault:
    """Send each event in so many continuation frames, with pings between them."""
    return Fault("fragment", "framing", on_via="websocket", rewrite=rewrite.fragmented(parts, pings))


@named
def coalesce(size: int | None = None) -> Fault:
    """Put so many events into one write; None: all of the reply."""
    return Fault("coalesce", "framing", rewrite=rewrite.coalesced(size))


@named
def trailing_partial(seconds: float = 0.2) -> Fault:
    """Write the terminal event and half a ping at once, and the rest of the ping so many seconds later."""
    return Fault("trailing_partial", "framing", on_via="websocket", rewrite=rewrite.trailed(seconds))


@named
def other_sse_forms() -> Fault:
    """Write the events of an HTTP answer as the format allows too: CR LF, comments, ids, `data` in two lines."""
    return Fault("other_sse_forms", "framing", on_via="http", rewrite=rewrite.reworded())


# The client's pings.


@named
def ignore_pings() -> Fault:
    """Answer no ping any more on the connection where the next one comes."""
    return Fault("ignore_pings", "ping")


_STRANGERS: Final[tuple[Mapping[str, Any], ...]] = (
    {"type": "codex.rate_limits", "rate_limits": {"limit_reached": False, "primary": {"used_percent": 1}}},
    {"type": "keepalive"},
    {"type": "response.future_event", "sequence_number": 1, "novelty": {"nested": [1, None]}},
    {"type": "response.metadata", "headers": {"openai-model": "m"}},
)
