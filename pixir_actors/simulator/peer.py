"""One connection of the server, from TCP to its end. Runs in the server's thread; never raises out of its task."""

from __future__ import annotations

import asyncio
import http
import ssl
from typing import Final, Literal

import orjson
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from pixir_actors.simulator import operation as op
from pixir_actors.simulator.arming import Where
from pixir_actors.simulator.door import Door
from pixir_actors.simulator.fault import Fault, Phase, Upgrade
from pixir_actors.simulator.http_parser import HttpParser, Post
from pixir_actors.simulator.http_peer import HttpPeer
from pixir_actors.simulator.operation import Emit, Operation
from pixir_actors.simulator.performer import Performer
from pixir_actors.simulator.record import ClientClose, Handshake, Received, Via
from pixir_actors.simulator.rejection import Rejection, connection_limit
from pixir_actors.simulator.turn import Conversation, Plan, Stage
from pixir_actors.simulator.wire import Gone, Wire

INBOX_LIMIT: Final = 256
"""Messages that may wait on one connection; a client that sends more is closed with 1013."""
Message = Request | Received | Rejection | tuple[Post, HttpParser]


class Peer:
    """One client. `wire` is its connection; `number` is None until its first HTTP request was read."""

    def __init__(self, stage: Stage, door: Door, peers: set[Peer]) -> None:
        self.wire = Wire(self, door.max_message_bytes)
        self.number: int | None = None
        self.upgraded = False
        self.task: asyncio.Task[None] | None = None
        self._stage = stage
        self._ledger = stage.ledger
        self._door = door
        self._peers = peers
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._performer = Performer(self.wire)
        self._begun = 0
        self._via: Via | None = None
        self._refused = False
        self._deaf = False

    @property
    def conversation(self) -> Conversation:
        """What the connection remembers; only after the upgrade."""
        return self._conversation

    # Called by the wire.

    def on_open(self) -> None:
        self._peers.add(self)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def on_upgrade(self, request: Request) -> None:
        self._inbox.put_nowait(request)

    def on_post(self, post: Post, parser: HttpParser) -> None:
        self._inbox.put_nowait((post, parser))

    def on_message(self, payload: bytes, *, text: bool) -> None:
        if self._inbox.qsize() >= INBOX_LIMIT:
            self.wire.close(1013, "too many messages")
            return
        self._inbox.put_nowait(self._received(payload, text))

    def on_ping(self, payload: bytes) -> bool:
        self._ledger.add(self._ledger.pings, (self._known(), payload))
        if not self._deaf:
            self._deaf = self._fault("ping") is not None
        return not self._deaf

    def on_pong(self, payload: bytes) -> None:
        self._ledger.add(self._ledger.pongs, (self._known(), payload))
        self._performer.on_pong(payload)

    def on_lost(self) -> None:
        self._inbox.put_nowait(None)
        turn = self._performer.turn
        if turn is not None and turn.status == "in_progress":
            self._ledger.settle(turn, "disconnected", [])
        if self._via == "http":
            self._ledger.count(http_opened=-1)
        if self._via == "websocket" and self.number is not None and not self._refused:
            close, by_server = self.wire.ending()
            ended = (1006, "", False) if close is None else (int(close.code), close.reason, True)
            by: Literal["client", "server"] = "server" if by_server else "client"
            self._ledger.add(self._ledger.closes, ClientClose(self.number, *ended, by=by))
        if self.upgraded:
            self.upgraded = False
            self._ledger.count(opened=-1)

    def _received(self, payload: bytes, text: bool) -> Received | Rejection:
        """Read a client event at its arrival, and record it if it is a request."""
        try:
            event = orjson.loads(payload) if text else None
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict):
            return Rejection("invalid_json", "The message is not a JSON object in a text frame.", 400)
        if event.get("type") != "response.create":
            return Rejection("unknown_event_type", "Unknown event type.", 400, param="type")
        overlap = self._begun > self._performer.ended
        self._begun += 1
        return self._ledger.receive(self._known(), event, len(payload), overlap=overlap)

    # The task.

    async def _run(self) -> None:
        try:
            await self._open()
            while True:
                await self._serve(await self._next())
        except Gone:
            pass
        except Exception as error:
            self._ledger.add(self._ledger.errors, error)
            self.wire.close(1011, "the simulator broke")
        finally:
            await self._finish()

    async def _finish(self) -> None:
        """Let a closing handshake end by itself; the wire resets the connection if it does not."""
        if not self.upgraded:
            self.wire.abort()
        await self.wire.gone.wait()
        self._peers.discard(self)

    async def _next(self) -> Message:
        message = await self._inbox.get()
        if message is None or self.wire.gone.is_set():
            raise Gone
        return message

    async def _open(self) -> None:
        if self._fault("accept") is not None:
            await self.wire.freeze()
        if self._door.tls is None:
            self.wire.listen()
        else:
            await self._secure(self._door.tls)
        first = await self._next()
        self.number = self._ledger.connections
        self._ledger.connections += 1
        if isinstance(first, Request):
            await self._open_websocket(first, self.number)
        else:
            await self._serve_http(first, self.number)

    async def _open_websocket(self, request: Request, number: int) -> None:
        self._via = "websocket"
        self._conversation = Conversation(self._stage, number)
        await self._upgrade(request)
        await self._performer.perform(Plan(self._after_upgrade(), lambda: True))
        if self._door.lifetime is not None:
            notice = connection_limit(max(1, round(self._door.lifetime / 60)))
            asyncio.get_running_loop().call_later(self._door.lifetime, self._inbox.put_nowait, notice)

    async def _serve_http(self, message: Message, number: int) -> None:
        """Answer POSTs until the connection has ended. Always raises Gone."""
        self._via = "http"
        self._ledger.count(http_opened=1)
        peer = HttpPeer(self.wire, self._stage, self._door, number, self._performer)
        while True:
            assert isinstance(message, tuple)
            await peer.serve(*message)
            message = await self._next()

    async def _secure(self, context: ssl.SSLContext) -> None:
        try:
            await self.wire.secure(context)
        except OSError as error:
            self._ledger.count(tls_failures=1)
            raise Gone from error

    async def _upgrade(self, request: Request) -> None:
        fault = self._fault("upgrade")
        how = Upgrade() if fault is None or fault.upgrade is None else fault.upgrade
        response = self._response(request, how)
        accepted = response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS and not how.never
        self._refused = not accepted and not how.never
        status = 0 if how.never else response.status_code
        headers = list(request.headers.raw_items())
        self._ledger.add(self._ledger.handshakes, Handshake(self._known(), request.path, headers, accepted, status))
        if how.never:
            await self.wire.until_gone()
        if how.seconds:
            await self.wire.pause(how.seconds)
        await self._answer(self.wire.answer(response), how, accepted)

    def _response(self, request: Request, how: Upgrade) -> Response:
        if how.refusal is not None:
            return _refusal(*how.refusal)
        rejection = self._door.refusal(request.path, request.headers.get("Authorization", ""))
        if rejection is not None:
            return _refusal(rejection.http_status, (), orjson.dumps(rejection.body()))
        response = self.wire.accept(request)
        if how.wrong_accept:
            del response.headers["Sec-WebSocket-Accept"]
            response.headers["Sec-WebSocket-Accept"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
        return response

    async def _answer(self, data: bytes, how: Upgrade, accepted: bool) -> None:
        if how.cut_after is not None:
            await self.wire.write(data[: how.cut_after], partial=True)
            self.wire.cut()
            await self.wire.until_gone()
        if accepted:
            self.upgraded = True
            self._ledger.count(opened=1)
        if how.drip is None:
            await self.wire.write(data)
        else:
            await self.wire.write_bytewise(data, how.drip)
        if not accepted:
            await self.wire.half_close()

    async def _serve(self, message: Message) -> None:
        if isinstance(message, Received):
            await self._performer.perform(self._conversation.plan(message))
        elif isinstance(message, Rejection):
            close: list[Operation] = [op.SendClose(*message.close)] if message.close else []
            await self._performer.perform(Plan([Emit(message.event()), *close], lambda: True))

    def _after_upgrade(self) -> list[Operation]:
        fault = self._fault("upgraded")
        return [] if fault is None or fault.rewrite is None else fault.rewrite([]) or []

    def _fault(self, phase: Phase) -> Fault | None:
        return self._stage.faults.take(phase, Where(self.number, self._via))

    def _known(self) -> int:
        return -1 if self.number is None else self.number


def _refusal(status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> Response:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    fixed = (("Connection", "close"), ("Content-Length", str(len(body))), ("Content-Type", "application/json"))
    given = {name.lower() for name, _ in headers}
    added = [pair for pair in fixed if pair[0].lower() not in given]
    return Response(status, phrase, Headers([*headers, *added]), body)
