"""A connection under a clock of the test's own, and the server's events to feed it with.

Every method that feeds an input returns the actions it brought and keeps them; the questions at the end read as a caller
or an observer of the wire would ask them.
"""

from __future__ import annotations

from typing import Any

import orjson

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core import server_event
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.lifecycle import transition
from pixir_actors.core.payload import Parsed, full_text, parse
from pixir_actors.core.server_event import ServerEvent, Stage
from pixir_actors.core.state import Connection, TurnRequest
from pixir_actors.errors import ErrorCode, Failure
from pixir_actors.settings import Settings

URL = "wss://api.example/v1/responses"
QUIET = Settings(keepalive_interval=None, max_connection_age=None, idle_close_after=None)
"""Limits under which nothing rings while a conversation pauses."""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **fields}


def event(type: str, **fields: Any) -> ServerEvent:
    parsed = server_event.parse(orjson.dumps({"type": type, **fields}))
    assert parsed is not None
    return parsed


def created(id: str = "resp_1") -> ServerEvent:
    return event("response.created", response={"id": id})


def delta(text: str) -> ServerEvent:
    return event("response.output_text.delta", item_id="msg_1", output_index=0, delta=text)


def item_done(item: dict[str, Any], index: int = 0) -> ServerEvent:
    return event("response.output_item.done", output_index=index, item=item)


def completed(id: str = "resp_1", *output: dict[str, Any]) -> ServerEvent:
    return event("response.completed", response={"id": id, "status": "completed", "output": list(output)})


def incomplete(id: str = "resp_1", *output: dict[str, Any]) -> ServerEvent:
    return event("response.incomplete", response={"id": id, "status": "incomplete", "output": list(output)})


def failed(code: str = "server_error", id: str = "resp_failed", **fields: Any) -> ServerEvent:
    return event("response.failed", response={"id": id, "error": {"code": code, "message": "no", **fields}})


def error(code: str | None = "server_error", status: int | None = 500, **fields: Any) -> ServerEvent:
    return event("error", status=status, error={"code": code, "message": "no", **fields})


NOT_FOUND = error("previous_response_not_found", 400, param="previous_response_id")
LIMIT = error("websocket_connection_limit_reached", 400)
RATE_LIMITS = event("codex.rate_limits", rate_limits={})


class Machine:
    """One connection, its clock, and everything it wanted done."""

    def __init__(
        self,
        limits: Settings = QUIET,
        *,
        now: float = 1000.0,
        reason: ResetReason = ResetReason.NO_PREVIOUS_RESPONSE,
        attended: bool = False,
        **options: Any,
    ) -> None:
        self.limits = limits.override(options)
        self.now = now
        self.conn = Connection.new(now=now, limits=self.limits, reason=reason, attended=attended)
        self.actions: list[act.Action] = []
        self.last: list[act.Action] = []
        self._submitted = 0
        self._parsed: Parsed | None = None  # as a connection's intake has it
        self.feed(put.Begun())

    # What happens to it

    def feed(self, input: put.Input) -> list[act.Action]:
        self.conn, self.last = transition(self.conn, input, now=self.now)
        self.actions += self.last
        return self.last

    def submit(self, items: Any = (), *, model: Any = "gpt", body: bytes | None = None, **fields: Any) -> str:
        """Submit a request; fields of `TurnRequest` and options are told apart by name, others go into the body."""
        self._submitted += 1
        options = {name: fields.pop(name) for name in list(fields) if name in Settings.__dataclass_fields__}
        known = {name: fields.pop(name) for name in list(fields) if name in TurnRequest.__dataclass_fields__}
        content = {"model": model, "input": list(items) if isinstance(items, (list, tuple)) else items, **fields}
        parsed = self._parsed = parse(full_text(orjson.dumps(content)) if body is None else body, self._parsed)
        values: dict[str, Any] = {
            "request_id": f"r{self._submitted}",
            "endpoint": URL,
            "fingerprint": "who",
            "key": "'session-1'",
            "limits": self.limits.override(options),
            "received_at": self.now,
            "jitter": 0.0,
        }
        read = {"payload": parsed.payload, "body": parsed.text, "grown": parsed.grown}
        request = TurnRequest(**{**values, **read, **known})
        self.feed(put.Submitted(request))
        return str(request.request_id)

    def connected(self) -> list[act.Action]:
        return self.feed(put.Connected(self.conn.opening))

    def connect_failed(self, code: ErrorCode = ErrorCode.WEBSOCKET_CONNECT_FAILED, **fields: Any) -> list[act.Action]:
        return self.feed(put.ConnectFailed(self.conn.opening, code, **fields))

    def sent(self) -> list[act.Action]:
        return self.feed(put.Sent())

    def receive(self, *events: ServerEvent, last: bool = False, announced: bool = True) -> list[act.Action]:
        """Feed events; a response whose test leaves out that it was announced is announced, where its server does that."""
        turn, socket = self.conn.turn, self.conn.socket
        expected = turn is not None and not turn.opened and socket is not None and socket.announces
        if announced and expected and events and events[0].stage is not Stage.OPENING and _answers(events[0]):
            events = (created("resp_announced"), *events)
        return self.feed(put.Received(events, last))

    def socket_failed(self, code: ErrorCode = ErrorCode.WEBSOCKET_CLOSED, **fields: Any) -> list[act.Action]:
        return self.feed(put.SocketFailed(code, **fields))

    def cancel(self, request_id: str, **fields: Any) -> list[act.Action]:
        return self.feed(put.Cancelled(request_id, **fields))

    def stop(self, code: ErrorCode = ErrorCode.SHUTTING_DOWN) -> list[act.Action]:
        return self.feed(put.StopAsked(code))

    def drain(self, within: float = 30.0) -> list[act.Action]:
        return self.feed(put.DrainAsked(within))

    def evict(self) -> list[act.Action]:
        return self.feed(put.EvictAsked())

    def retire_answered(self, granted: bool) -> list[act.Action]:
        return self.feed(put.RetireAnswered(granted))

    def ring(self) -> list[act.Action]:
        """Let time pass until the alarm, and ring it."""
        assert self.conn.alarm is not None
        self.now = max(self.now, self.conn.alarm.at)
        return self.feed(put.AlarmRang(self.conn.alarm.token))

    def wait(self, seconds: float) -> list[act.Action]:
        """Let time pass, and ring every alarm on the way; return all that it brought."""
        end, before = self.now + seconds, len(self.actions)
        while self.conn.alarm is not None and self.conn.alarm.at <= end:
            self.ring()
        self.now = end
        return self.actions[before:]

    # Whole stretches

    def start(self, items: Any = (), **fields: Any) -> str:
        """Submit, open a socket where there is none, and write the request."""
        request_id = self.submit(items, **fields)
        if self.find(act.Open, self.last):
            self.connected()
        self.sent()
        return request_id

    def turn(self, items: Any = (), id: str = "resp_1", output: Any = (), **fields: Any) -> str:
        """Run a whole turn that ends with `response.completed`."""
        request_id = self.start(items, **fields)
        self.receive(created(id), completed(id, *output))
        return request_id

    # What it wanted

    def find(self, kind: type, among: list[act.Action] | None = None) -> list[Any]:
        return [action for action in (self.actions if among is None else among) if isinstance(action, kind)]

    def did(self, kind: type) -> bool:
        """Say whether the last input brought such an action."""
        return bool(self.find(kind, self.last))

    @property
    def wires(self) -> list[dict[str, Any]]:
        return [orjson.loads(bytes(send.data)) for send in self.find(act.Send)]

    @property
    def wire(self) -> dict[str, Any]:
        return self.wires[-1]

    def evidence(self, request_id: str) -> dict[str, Any]:
        """Return the evidence a caller has been shown, merged."""
        shown: dict[str, Any] = {}
        for show in self.find(act.Show):
            if show.request_id == request_id:
                shown |= show.values
        return shown

    def reason(self, request_id: str) -> ResetReason | None:
        value = self.evidence(request_id)["continuation_reset_reason"]
        assert value is None or isinstance(value, ResetReason)
        return value

    def delivered(self, request_id: str) -> list[str]:
        """Return the types of the events a caller has been given."""
        batches = [deliver.events for deliver in self.find(act.Deliver) if deliver.request_id == request_id]
        return [orjson.loads(raw)["type"] for batch in batches for _, raw in batch]

    def answer(self, request_id: str) -> act.Finish | act.Fail | act.Redirect | None:
        """Return what ended the request, once."""
        ends = [end for end in self.find((act.Finish, act.Fail, act.Redirect)) if end.request_id == request_id]  # type: ignore[arg-type]
        assert len(ends) <= 1
        return ends[0] if ends else None

    def failure(self, request_id: str) -> Failure:
        answer = self.answer(request_id)
        assert isinstance(answer, act.Finish | act.Fail)
        assert answer.failure is not None
        return answer.failure

    def frames(self, request_id: str) -> list[str]:
        """Return, by name, what was told to one caller, in order."""
        told = (act.Queued, act.Sending, act.Show, act.ShowStatus, act.Deliver, act.Finish, act.Fail, act.Redirect)
        return [type(a).__name__ for a in self.actions if isinstance(a, told) and a.request_id == request_id]


def _answers(event: ServerEvent) -> bool:
    return event.stage is Stage.OUTPUT or (event.stage is Stage.TERMINAL and server_event.succeeded(event))
