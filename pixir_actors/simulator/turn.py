"""What one request becomes: refused, or run against the history it refers to. No I/O; runs in the server's thread."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Final, Literal

from pixir_actors.simulator import emission
from pixir_actors.simulator.arming import FaultBox, Where
from pixir_actors.simulator.cache import CacheMode, History, ResponseCache, ResponseStore
from pixir_actors.simulator.fault import Fault, Phase
from pixir_actors.simulator.operation import Emit, Hold, Operation, Settle, Sleep
from pixir_actors.simulator.record import Item, Ledger, Received, Turn, TurnStatus, Via
from pixir_actors.simulator.rejection import Rejection, not_found
from pixir_actors.simulator.script import Player, Reply, TurnContext

REWRITING: Final[tuple[Phase, ...]] = ("events", "stream", "framing")
_DOCUMENT_REWRITING: Final[tuple[Phase, ...]] = ("stream", "framing")
_NOT_OVER_HTTP: Final = ("type", "generate")
WarmUp = Literal["answered", "no_id", "created", "generated"]
"""What becomes of a request with `generate: false`: answered as documented; with an empty id, to which nothing can refer;
begun by `response.created` and never ended; or run like any other."""


@dataclass(slots=True)
class Stage:
    """What all connections of one server share."""

    ledger: Ledger
    faults: FaultBox
    player: Player
    cache_mode: CacheMode
    warm_up: WarmUp = "answered"
    store: ResponseStore = field(default_factory=ResponseStore)
    _prefix: str = field(default_factory=lambda: secrets.token_hex(8))
    _count: Any = field(default_factory=itertools.count)

    def new_response_id(self) -> str:
        """Return an id that no other simulator gives, so that a stale one is never valid by chance."""
        return f"resp_{self._prefix}{next(self._count):08x}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one request. `settle` is called at `Settle`; it says whether the request has ended.

    `rejection` is set when the answer is an error and nothing else: over HTTP, its status and headers.
    """

    operations: list[Operation]
    settle: Callable[[], bool]
    turn: Turn | None = None
    rejection: Rejection | None = None


class Conversation:
    """The requests of one connection, one after another, and what the connection remembers: nothing over HTTP."""

    def __init__(self, stage: Stage, connection: int, via: Via = "websocket") -> None:
        self.cache = ResponseCache(stage.cache_mode if via == "websocket" else "none")
        self._stage = stage
        self._connection = connection
        self._via: Via = via

    def plan(self, received: Received) -> Plan:
        """Decide what a request becomes, and record its turn if it runs. Raises what a script function raises."""
        payload = received.payload
        rejection = invalid(payload, self._via) or self._faulted(received)
        history = self._history(payload)
        if rejection is not None:
            self._fail(payload)
        elif history is None:
            rejection = not_found(str(payload["previous_response_id"]))
        if rejection is not None or history is None:
            return self._refused(received, Reply(rejection=rejection))
        return self._run(received, history)

    def rewrite(self, operations: list[Operation], received: Received, own: Iterable[Fault]) -> list[Operation]:
        """Return the operations as the reply's own faults, and the armed ones that fit, change them."""
        current = operations

        def attempt(fault: Fault) -> bool:
            nonlocal current
            changed = fault.rewrite(current) if fault.rewrite is not None else None
            current = current if changed is None else changed
            return changed is not None

        where = Where(self._connection, self._via, received.index)
        for phase in _DOCUMENT_REWRITING if _is_document(operations) else REWRITING:
            for fault in own:
                if fault.phase == phase and fault.fits(self._via):
                    attempt(fault)
            self._stage.faults.use(phase, attempt, where, single=phase == "stream")
        return current

    def _run(self, received: Received, history: History) -> Plan:
        own_input = items_of(received.payload.get("input", []))
        seen = [*history.items, *own_input]
        context = TurnContext(received.payload, seen, own_input, self._connection, received.index, self._via)
        generate = received.payload.get("generate") is not False or self._stage.warm_up == "generated"
        reply = self._own_rejection(self._stage.player.reply(context), received) if generate else Reply()
        if reply.rejection is not None and reply.rejection.after == "nothing":
            self._fail(received.payload)
            return self._refused(received, reply)
        facts = self._facts(received.payload, history, own_input, generate=generate)
        if reply.verbatim is not None:
            return self._verbatim(received, reply, seen, facts.input_tokens)
        output = emission.complete_items(reply, facts.response_id)
        turn = self._turn(received, facts.response_id, seen, generate)
        status, kept = _outcome(reply, output)
        played = emission.operations(reply, facts, output)
        if not generate and self._stage.warm_up == "created":
            played, status = played[:1], "in_progress"
        settle = self._settler(received, turn, status, kept, facts.input_tokens)
        operations, error = self._encoded(played, received, reply.rejection)
        return Plan(self.rewrite(operations, received, reply.faults), settle, turn, error)

    def _verbatim(self, received: Received, reply: Reply, seen: list[Item], read: int) -> Plan:
        emits = [Emit(event) for event in reply.verbatim or ()]
        response_id, status, output = gleaned(emits)
        encoded, error = self._encoded(emission.arranged(reply, emits), received, _NO_RESPONSE)
        operations = self.rewrite(encoded, received, reply.faults)
        if emits and emits[0].type == "error":
            self._fail(received.payload)
            return Plan(operations, lambda: True, None, error)
        turn = self._turn(received, response_id, seen, True)
        return Plan(operations, self._settler(received, turn, status, output, read), turn, error)

    def _refused(self, received: Received, reply: Reply) -> Plan:
        facts = emission.Facts(self._stage.new_response_id(), {"model": "", **received.payload}, int(time.time()))
        operations = emission.operations(reply, facts, [])
        if self._via == "http":
            operations = document(operations, None, reply.rejection)
        return Plan(self.rewrite(operations, received, reply.faults), lambda: True, None, reply.rejection)

    def _encoded(
        self, operations: list[Operation], received: Received, otherwise: Rejection | None
    ) -> tuple[list[Operation], Rejection | None]:
        """Return the operations as this request's way has them, and the error that they became, if they are no stream.

        Args:
            otherwise: The error to answer in place of a stream that does not end with a response.
        """
        if self._via == "websocket":
            return operations, None
        if received.payload.get("stream") is True:
            return [replace(one, encoding="event") if isinstance(one, Emit) else one for one in operations], None
        response = final_response(operations)
        error = otherwise if response is None else None
        return document(operations, response, error), error

    def _own_rejection(self, reply: Reply, received: Received) -> Reply:
        """Return the reply as its own request faults change it."""
        for fault in reply.faults:
            if fault.phase == "request" and fault.reject is not None and fault.fits(self._via):
                return replace(reply, rejection=fault.reject(received.payload))
        return reply

    def _faulted(self, received: Received) -> Rejection | None:
        """Use an armed fault of the request phase, if one fits; "evict" evicts and refuses nothing by itself."""
        used: list[Fault] = []

        def attempt(fault: Fault) -> bool:
            if fault.continuation and not received.payload.get("previous_response_id"):
                return False
            used.append(fault)
            return True

        self._stage.faults.use("request", attempt, Where(self._connection, self._via, received.index))
        if not used:
            return None
        if used[0].continuation:
            self._forget(received.payload)
        return None if used[0].reject is None else used[0].reject(received.payload)

    def _history(self, payload: Mapping[str, Any]) -> History | None:
        """Return the history that a request refers to; None when its id is unknown."""
        previous = payload.get("previous_response_id")
        if previous is None:
            return History()
        return self.cache.recall(previous) or self._stage.store.recall(previous) if isinstance(previous, str) else None

    def _fail(self, payload: Mapping[str, Any]) -> None:
        """An error: over WebSocket, forget. Over HTTP the store keeps what it has."""
        if self._via == "websocket":
            self._forget(payload)

    def _forget(self, payload: Mapping[str, Any]) -> None:
        """Evict what the request referred to, from the store too, so that nobody relies on it."""
        previous = payload.get("previous_response_id")
        self.cache.fail(previous if isinstance(previous, str) else None)
        if isinstance(previous, str):
            self._stage.store.evict(previous)

    def _facts(
        self, payload: Mapping[str, Any], history: History, own_input: list[Item], *, generate: bool
    ) -> emission.Facts:
        read = history.tokens + emission.tokens(own_input)
        nameless = not generate and self._stage.warm_up == "no_id"
        response_id = "" if nameless else self._stage.new_response_id()
        return emission.Facts(response_id, payload, int(time.time()), history.tokens, read)

    def _turn(self, received: Received, response_id: str, seen: list[Item], generate: bool) -> Turn:
        model = str(received.payload["model"])
        turn = Turn(self._connection, received.index, response_id, model, seen, generated=generate, via=self._via)
        self._stage.ledger.add(self._stage.ledger.turns, turn)
        return turn

    def _settler(
        self, received: Received, turn: Turn, status: TurnStatus, output: list[Item], read: int
    ) -> Callable[[], bool]:
        """Return what happens at `Settle`: the cache and the turn's record change. `read` counts the input tokens."""

        def settle() -> bool:
            if status == "in_progress":
                return False
            if status in ("completed", "incomplete"):
                history = History((*turn.seen, *output), read + emission.tokens(output))
                self._remember(received.payload, turn.response_id, history)
            else:
                self._fail(received.payload)
            self._stage.ledger.settle(turn, status, output)
            return True

        return settle

    def _remember(self, payload: Mapping[str, Any], response_id: str, history: History) -> None:
        if not response_id:
            return
        self.cache.remember(response_id, history)
        if payload.get("store") is True:
            self._stage.store.remember(response_id, history)


_NO_RESPONSE: Final = Rejection("server_error", "The answer ended without a response.", 500, type="server_error")


def final_response(operations: Iterable[Operation]) -> Mapping[str, Any] | None:
    """Return the response object of the terminal event; None when it has none, or when there is no such event."""
    for one in operations:
        if isinstance(one, Emit) and one.terminal and isinstance(one.event, Mapping):
            response = one.event.get("response")
            return response if isinstance(response, Mapping) else None
    return None


def document(
    operations: list[Operation], response: Mapping[str, Any] | None, error: Rejection | None
) -> list[Operation]:
    """Return what an HTTP answer in one piece is: the waiting of these operations, then a response, or an error."""
    body = response if error is None else error.body()
    kept: list[Operation] = [one for one in operations if isinstance(one, (Sleep, Hold))]
    return [*kept, Settle(), Emit(body or {}, "document")]


def _is_document(operations: list[Operation]) -> bool:
    return any(isinstance(one, Emit) and one.encoding == "document" for one in operations)


def invalid(payload: Mapping[str, Any], via: Via = "websocket") -> Rejection | None:
    """Return why a request is malformed, or None. Source: the API's own field rules."""
    if not isinstance(payload.get("model"), str) or not payload["model"]:
        return Rejection("missing_required_parameter", "Missing required parameter: 'model'.", 400, param="model")
    wrong = _misplaced(payload) if via == "websocket" else _not_over_http(payload)
    if wrong is not None:
        return wrong
    items = payload.get("input", [])
    listed = isinstance(items, list) and all(isinstance(item, Mapping) for item in items)
    if not isinstance(items, str) and not listed:
        return Rejection("invalid_type", "'input' must be a string or an array of objects.", 400, param="input")
    previous = payload.get("previous_response_id")
    if previous is not None and payload.get("conversation") is not None:
        message = "'previous_response_id' and 'conversation' exclude each other."
        return Rejection("mutually_exclusive_parameters", message, 400, param="previous_response_id")
    return None


def _misplaced(payload: Mapping[str, Any]) -> Rejection | None:
    if payload.get("stream", True) is not True or payload.get("background", False):
        return Rejection("invalid_value", "'stream' and 'background' do not apply over WebSocket.", 400, param="stream")
    return None


def _not_over_http(payload: Mapping[str, Any]) -> Rejection | None:
    for name in _NOT_OVER_HTTP:
        if name in payload:
            return Rejection("unknown_parameter", f"Unknown parameter: '{name}'.", 400, param=name)
    if not isinstance(payload.get("stream"), (bool, NoneType)):
        return Rejection("invalid_type", "'stream' must be a boolean.", 400, param="stream")
    if payload.get("background", False):
        return Rejection("unsupported_parameter", "'background' is not supported here.", 400, param="background")
    return None


def items_of(value: str | list[Item]) -> list[Item]:
    """Return an input as a list of items; a text is one user message."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    return list(value)


def gleaned(emits: list[Emit]) -> tuple[str, TurnStatus, list[Item]]:
    """Return what verbatim events say: response id, status ("in_progress" without a terminal event), output items."""
    response_id, status, output = "", "in_progress", []
    for emit in emits:
        event = emit.event if isinstance(emit.event, Mapping) else {}
        response = event.get("response")
        if isinstance(response, Mapping):
            response_id = str(response.get("id", response_id))
        if emit.type == "response.output_item.done":
            output.append(event["item"])
        if emit.terminal:
            status = emit.type.removeprefix("response.")
            output = response["output"] if isinstance(response, Mapping) and response.get("output") else output
    return response_id, status, output  # type: ignore[return-value]


def _outcome(reply: Reply, output: list[Item]) -> tuple[TurnStatus, list[Item]]:
    if reply.rejection is not None:
        return ("failed" if reply.rejection.form == "failed" else "error"), []
    return ("incomplete" if reply.incomplete_reason else "completed"), output
