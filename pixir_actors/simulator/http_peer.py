"""The requests of one connection that are for no WebSocket: answered one after another, each streamed or in one piece."""

from __future__ import annotations

from typing import Final

import orjson

from pixir_actors.simulator.arming import Where
from pixir_actors.simulator.door import Door
from pixir_actors.simulator.eventstream import LAST_CHUNK, chunk, server_sent
from pixir_actors.simulator.fault import Upgrade
from pixir_actors.simulator.http_parser import Headers, HttpParser, Post
from pixir_actors.simulator.operation import Operation, Raw
from pixir_actors.simulator.performer import Performer
from pixir_actors.simulator.record import HttpRequest, Received
from pixir_actors.simulator.rejection import Rejection
from pixir_actors.simulator.turn import Conversation, Plan, Stage, document
from pixir_actors.simulator.wire import Wire

_STREAM: Final = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"))
_DOCUMENT: Final = (("Content-Type", "application/json"),)
_DONE: Final = Raw(chunk(server_sent("", b"[DONE]")))
_PLAIN: Final = Upgrade()
_BROKEN: Final = Rejection("server_error", "The simulator broke.", 500, type="server_error")


class HttpPeer:
    """A client of HTTP: POSTs, and what is refused. Used by the connection's task only."""

    def __init__(self, wire: Wire, stage: Stage, door: Door, number: int, performer: Performer) -> None:
        self._wire = wire
        self._stage = stage
        self._door = door
        self._number = number
        self._performer = performer
        self._conversation = Conversation(stage, number, "http")
        self._kept = False  # a request was answered, and the connection stayed

    async def serve(self, post: Post, parser: HttpParser) -> None:
        """Answer one request, and end the connection if it cannot stay. Raises Gone when the connection has ended."""
        fault = self._stage.faults.take("upgrade", Where(self._number, "http"))
        how = _PLAIN if fault is None or fault.upgrade is None else fault.upgrade
        if how.refusal is not None:
            status, headers, body = how.refusal
            await self._whole(post, parser, status, headers, body)
        else:
            request = self._request(post)
            if isinstance(request, Rejection):
                await self._refuse(post, parser, request, how)
            else:
                await self._run(post, parser, request, how)
        self._kept = parser.finish()
        if not self._kept:
            await self._wire.half_close()
        self._wire.go_on()

    def _request(self, post: Post) -> Received | Rejection:
        """Read a request at the door, and record it if it is let in."""
        refusal = post.problem or self._door.refusal(post.path, post.header("Authorization"))
        if refusal is not None:
            return refusal
        if post.method != "POST":
            return Rejection("method_not_allowed", "Only POST is allowed here.", 405, headers={"Allow": "POST"})
        try:
            payload = orjson.loads(post.body)
        except orjson.JSONDecodeError:
            payload = None
        if not isinstance(payload, dict):
            return Rejection("invalid_json", "The body is not a JSON object.", 400)
        return self._stage.ledger.receive(self._number, payload, post.size, via="http")

    async def _run(self, post: Post, parser: HttpParser, received: Received, how: Upgrade) -> None:
        try:
            plan = self._conversation.plan(received)
        except Exception as error:
            self._stage.ledger.add(self._stage.ledger.errors, error)
            plan = Plan(document([], None, _BROKEN), lambda: True, None, _BROKEN)
        streamed = received.payload.get("stream") is True and plan.rejection is None
        status = 200 if plan.rejection is None else plan.rejection.http_status
        extra = [] if plan.rejection is None else plan.rejection.http_headers
        self._performer.turn = plan.turn
        self._record(post, 0 if how.never else status, received.index)
        await self._begin(parser.head(status, [*(_STREAM if streamed else _DOCUMENT), *extra]), how)
        operations = _body(plan.operations, done=streamed and self._door.sse_done)
        await self._performer.perform(Plan(operations, plan.settle, plan.turn))
        if plan.turn is not None and plan.turn.status == "in_progress":
            self._stage.ledger.settle(plan.turn, "disconnected", [])
        await self._wire.write(LAST_CHUNK)

    async def _refuse(self, post: Post, parser: HttpParser, rejection: Rejection, how: Upgrade) -> None:
        headers = [*_DOCUMENT, *rejection.http_headers]
        await self._whole(post, parser, rejection.http_status, headers, orjson.dumps(rejection.body()), how)

    async def _whole(
        self, post: Post, parser: HttpParser, status: int, headers: Headers, body: bytes, how: Upgrade = _PLAIN
    ) -> None:
        """Answer at the door: the request was not taken."""
        self._record(post, 0 if how.never else status, None)
        if post.method != "POST" and not self._kept:
            # A connection that has begun so ends, as one does that begins with a GET and asks for no upgrade.
            headers = [*(pair for pair in headers if pair[0].lower() != "connection"), ("Connection", "close")]
        await self._begin(parser.whole(status, headers, body), how)

    async def _begin(self, data: bytes, how: Upgrade) -> None:
        """Write the beginning of an answer as a fault wants it; raises Gone if it ends there."""
        if how.never:
            await self._wire.until_gone()
        if how.seconds:
            await self._wire.pause(how.seconds)
        if how.cut_after is None:
            await self._wire.write(data)
            return
        if how.cut_after:
            await self._wire.write(data[: how.cut_after])
        self._wire.cut()
        await self._wire.until_gone()

    def _record(self, post: Post, status: int, index: int | None) -> None:
        record = HttpRequest(self._number, post.method, post.path, post.headers, status, index)
        self._stage.ledger.add(self._stage.ledger.http_requests, record)


def _body(operations: list[Operation], *, done: bool) -> list[Operation]:
    """Return the operations up to the end of the body, which a fault may have set before the terminal event."""
    if operations and operations[-1] == Raw(LAST_CHUNK):
        return operations[:-1]
    return [*operations, _DONE] if done else operations
