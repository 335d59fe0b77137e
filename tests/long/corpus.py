"""What the fuzzer starts from: real bytes of every kind, as the simulator and the package themselves write them."""

from __future__ import annotations

from typing import Any, Final

import orjson

from pixir_actors.channel.frame import (
    GOODBYE,
    Frame,
    FrameType,
    encode,
    failure_payload,
    hello,
    metadata_payload,
    status_payload,
)
from pixir_actors.core.server_event import Tag
from pixir_actors.errors import Delivery, ErrorCode, Failure
from pixir_actors.simulator.emission import Facts, complete_items, operations
from pixir_actors.simulator.operation import Emit
from pixir_actors.simulator.rejection import Rejection, connection_limit, not_found
from pixir_actors.simulator.script import Reply
from tests.transport import peer

MESSAGE: Final = {"type": "message", "content": "so far"}
ITEMS: Final[list[dict[str, Any]]] = [
    MESSAGE,
    {"type": "function_call", "name": "read", "arguments": '{"path": "a"}', "call_id": "call_1"},
    {"type": "custom_tool_call", "name": "shell", "input": "ls", "call_id": "call_2"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
    {"type": "web_search_call", "action": {"type": "search", "query": "q"}},
    {"type": "mcp_call", "name": "n", "server_label": "s", "arguments": "{}", "output": "o"},
    {"type": "image_generation_call", "result": "aGk="},
    {"type": "computer_call", "call_id": "call_3", "action": {"type": "click", "x": 1, "y": 2}},
    {"type": "compaction", "encrypted_content": "gBBB"},
    {"type": "of_next_year", "x": [1, 2.5, None, True]},
]
REPLIES: Final = [
    Reply.text("Grüße, 世界 \u2028 \U0001f600"),
    Reply.items(ITEMS),
    Reply.items(ITEMS[:2]).empty_terminal_output(),
    Reply.text("only deltas").no_items(),
    Reply.reasoning_and_text("hm", "so"),
    Reply.incomplete("cut"),
    Reply.failed("server_error", "no"),
    Reply.failed("rate_limit_exceeded", "Please try again in 1.5s.", after="output"),
    Reply.error(400, "invalid_request_error", "no"),
    Reply.error(429, "rate_limit_exceeded", "slow down: try again in 20 ms", headers={"retry-after": "7"}),
    Reply.error(503, "server_is_overloaded", "no", form="flat", headers={"retry-after-ms": 250}),
    Reply.error(401, "invalid_api_key", "no"),
    Reply.error(401, "invalid_api_key", "no", form="message"),
    Reply((MESSAGE,), rejection=not_found("resp_1")),
    Reply((MESSAGE,), rejection=not_found("resp_1", "message")),
    Reply((MESSAGE,), rejection=not_found("resp_1", "failed")),
    Reply((MESSAGE,), rejection=connection_limit()),
    Reply((MESSAGE,), rejection=Rejection("x", "no", 400, "nested", {"retry-after": 1}, top_headers=True, after="created")),
]
PRIVATE: Final = [
    b'{"type":"codex.rate_limits","rate_limits":{"primary":{"used_percent":1.5}}}',
    b'{"type":"keepalive"}',
    b'{"type":"response.metadata","headers":{"x":"y"}}',
    b'{"type":"error","error":{"code":"connection_expiring","message":"soon"}}',
    b'{"type":"response.done","response":{"id":"resp_1","status":"completed","output":[]}}',
    b'{"type":"response.cancelled","response":{"id":"resp_1","status":"cancelled"}}',
    b'{"type":"response.queued","response_id":"resp_1"}',
    b'{"type":"response.created","id":"resp_1"}',
    b" [DONE] ",
    b"5",
    b'"text"',
    b"{}",
]


def _conversation(number: int, reply: Reply) -> list[bytes]:
    id = f"resp_{number:04d}"
    facts = Facts(id, {"model": "gpt", "input": [{"role": "user", "content": "hi"}], "instructions": "be"}, 1_700_000_000)
    emits = [operation for operation in operations(reply, facts, complete_items(reply, id)) if isinstance(operation, Emit)]
    return [emit.message() for emit in emits]


CONVERSATIONS: Final = [_conversation(number, reply) for number, reply in enumerate(REPLIES)]
"""The events of whole responses, as JSON texts."""
EVENTS: Final = [*dict.fromkeys(event for conversation in CONVERSATIONS for event in conversation), *PRIVATE]

FRAMES: Final = [
    *[b"".join(map(peer.text, conversation)) for conversation in CONVERSATIONS],
    peer.text(EVENTS[0]) + peer.frame(peer.PING, b"ping") + peer.text(EVENTS[1]) + peer.close_frame(1000, b"bye"),
    peer.frame(peer.TEXT, b'{"type":', fin=False)
    + peer.frame(peer.PING)
    + peer.frame(peer.CONT, b'"keep', fin=False)
    + peer.frame(peer.CONT, b'alive"}')
    + peer.frame(peer.PONG, b"p" * 125),
    peer.frame(peer.TEXT, b"{}", wide=2) + peer.frame(peer.TEXT, b"{}", wide=8) + peer.frame(peer.CLOSE),
    peer.text(b'{"type":"x","y":"' + b"y" * 70_000 + b'"}') + peer.close_frame(1011, "Grüße".encode()),
    peer.frame(peer.BINARY, b"\0\1"),
    peer.frame(peer.TEXT, b"{}", mask=True),
    peer.frame(peer.TEXT, b"{}", rsv=4),
    peer.frame(0xB) + peer.frame(3),
    peer.frame(peer.CONT, b"of nothing"),
    peer.frame(peer.PING, b"x" * 126) + peer.frame(peer.PING, fin=False),
]
"""What a server writes behind the upgrade."""

STREAMS: Final = [
    *[b"".join(b"event: x\ndata: " + event + b"\n\n" for event in conversation) for conversation in CONVERSATIONS],
    b"\xef\xbb\xbf: hello\r\ndata: {\r\ndata: }\r\n\r\nid: 1\rretry: 5\rdata:[DONE]\r\r",
    b"data\n\ndata:\n\n: only a comment\n\ndata: unfinished",
]

FAILURES: Final = [
    Failure.of(ErrorCode.WEBSOCKET_CLOSED, Delivery.AMBIGUOUS, close_code=1011, close_reason="no", retry_after=1.5),
    Failure(
        code=ErrorCode.PROVIDER_HTTP_ERROR,
        delivery=Delivery.REJECTED,
        retryable=True,
        retry_after=7.0,
        details={"status": 429},
        status=429,
        error={"code": "c", "message": "m", "headers": {"a": 1}},
    ),
]
CHANNELS: Final = [
    hello("connection-1") + encode(Frame(FrameType.QUEUED, 0, 7, b"")) + encode(Frame(FrameType.SENDING, 1, 7, b"")),
    encode(Frame(FrameType.METADATA, 0, 7, metadata_payload({"active_transport": "websocket", "wire_bytes": 17})))
    + encode(Frame(FrameType.STATUS, 0, 7, status_payload(200)))
    + encode(Frame(FrameType.DATA, Tag.TEXT_DELTA, 7, EVENTS[5]))
    + encode(Frame(FrameType.DATA, Tag.TERMINAL, 7, EVENTS[-5]))
    + encode(Frame(FrameType.FINISHED, 0, 7, b""))
    + GOODBYE,
    *[encode(Frame(FrameType.FAILED, 0, 2**64 - 1, failure_payload(failure))) for failure in FAILURES],
    encode(Frame(FrameType.FINISHED, 0, 9, failure_payload(FAILURES[1]))),
]
"""What travels on an event channel."""

BODIES: Final = [
    *STREAMS,
    orjson.dumps({"error": {"code": "rate_limit_exceeded", "message": "later", "type": "t", "param": None}}),
    b'[{"error":{"code":429,"message":"m"}}]',
    b'{"detail":"no"}',
    b'{"message":"no","code":"c"}',
    b"<html>no</html>",
    b"",
    orjson.dumps(orjson.loads(CONVERSATIONS[0][-1])["response"]),
]
"""What stands in an HTTP answer."""
