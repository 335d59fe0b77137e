"""The state machine of one connection. Everything that decides what a connection does next stands in this file.

Rules:

1. `transition(connection, input, *, now)` is the only way a connection changes. It returns the new connection and the
   actions to perform, in order. It reads no clock, draws no lots and keeps no state.
2. Every request that is submitted is answered exactly once, by `Finish`, `Fail` or `Redirect`, and nothing is delivered
   for it afterwards.
3. There is a turn if and only if the state is CONNECTING or STREAMING; there is a socket in IDLE and STREAMING, there may be
   one in RETIRING, and in no other state. Only a connection with a socket holds an `Anchor`.
4. Nothing is sent before the socket is open, and no second request before the first has ended.
5. What is stale does not act: opening attempts, alarms and answers carry tokens, and only the current one counts. There is
   one alarm, set for the earliest deadline; all deadlines are a function of the connection (`deadlines.py`). Between turns
   pings and pongs may be somebody else's to see to, who tells `Silent` where a pong is overdue (`heartbeat.py`).
6. A request goes out a second time only where it provably did not run: on a fresh socket when a reused one was found dead
   before a byte was written, and as a full replay when the provider refused the continuation, the socket or its bearer. Once
   each; over HTTP where the caller allows it and the WebSocket took nothing; and where it may have run only if the caller
   said so (`retry_ambiguous`).
7. A turn over HTTP moves no anchor and closes no degraded window; it never runs beside an open WebSocket.
8. Once it is to drain, no turn begins any more and nobody waits; it stops when the running one ends, at the latest in time.
9. A pair of state and input without a rule is ignored: nothing changes and nothing happens.

The table of state and input follows from the code; `tests/core/test_lifecycle.py` prints it, and compares this copy with it.
A cell names the states that may follow; "." stands for "ignored".

INPUT           D disconnected C connecting   I idle         S streaming    G degraded     R retiring     X stopped
Begun           D              .              .              .              .              .              .
Submitted       D C            C              C I S          S              D C G          R              X
Cancelled       .              D C G X        I              D C S G X      .              R              .
Connected       .              C I S X        .              .              .              .              .
ConnectFailed   .              D C G X        .              .              .              .              .
Sent            .              .              .              S              .              .              .
Received        .              .              D I            D C I S G X    .              R              .
SocketFailed    .              .              D              D C G X        .              R              .
AlarmRang       D R            D C G X        D I R          D C S G X      D G R          D C I S G R    .
Silent          .              .              D I            .              .              .              .
RetireAnswered  D X            C              I X            S              G X            D C I S G X    .
EvictAsked      X              C              X              S              X              R X            X
StopAsked       X              X              X              X              X              X              .
DrainAsked      X              C              X              S              X              X              .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from pixir_actors.core.actions import (
    AbandonOpening,
    Action,
    AnswerEvict,
    AskRetire,
    CloseSocket,
    Deliver,
    Fail,
    Finish,
    Open,
    Ping,
    Queued,
    Redirect,
    Send,
    Sending,
    SetAlarm,
    Show,
    ShowStatus,
    Stop,
)
from pixir_actors.core.backoff import CLOSED, Backoff
from pixir_actors.core.continuation import (
    Anchor,
    Cold,
    Continuation,
    Plan,
    ResetReason,
    after_response,
    plan,
)
from pixir_actors.core.deadlines import (
    ANSWERING,
    PAUSES,
    RETIRE_ANSWER_TIMEOUT,
    after,
    deadlines,
    next_ping,
    phase_deadline,
    rests,
)
from pixir_actors.core.evidence import evidence, stored_id
from pixir_actors.core.fingerprint import authority, max_age
from pixir_actors.core.inputs import (
    AlarmRang,
    Begun,
    Cancelled,
    Connected,
    ConnectFailed,
    DrainAsked,
    EvictAsked,
    Input,
    Received,
    RetireAnswered,
    Sent,
    Silent,
    SocketFailed,
    StopAsked,
    Submitted,
)
from pixir_actors.core.output import indexed_item, output_of
from pixir_actors.core.payload import continues_itself, http_body, prefill
from pixir_actors.core.server_event import (
    RETRYABLE_STATUSES,
    ProviderFault,
    Rejection,
    ServerEvent,
    Stage,
    Tag,
    provider_fault,
    response_id,
    succeeded,
)
from pixir_actors.core.state import Alarm, Connection, Phase, Purpose, Socket, State, Turn, TurnRequest, Via, evolve
from pixir_actors.core.verdict import (
    ADVICE,
    MESSAGE_TOO_BIG,
    TOO_BIG_ADVICE,
    attempt_verdict,
    http_may_help,
    overall_verdict,
    refusal_advice,
)
from pixir_actors.errors import Delivery, ErrorCode, Failure

HELD_EVENTS: Final = 1000
"""Events held back at the most; a backend that sends more private events than that is taken to have begun."""
ALARM_SLACK: Final = 0.001
"""Seconds by which an alarm may ring early or late without being set anew."""


# --- the machine --------------------------------------------------------------------------------------------------------


class _Step:
    """One transition under construction: the connection as far as it has come, and the actions so far."""

    __slots__ = ("actions", "conn", "now", "serving")

    def __init__(self, conn: Connection, now: float) -> None:
        self.conn, self.now = conn, now
        self.serving = False  # the queue is being gone through
        self.actions: list[Action] = []

    def set(self, **changes: Any) -> None:
        self.conn = evolve(self.conn, **changes)

    def set_turn(self, **changes: Any) -> None:
        self.set(turn=evolve(self.turn, **changes))

    def set_socket(self, **changes: Any) -> None:
        assert self.conn.socket is not None
        self.set(socket=evolve(self.conn.socket, **changes))

    def count(self, **changes: Any) -> None:
        self.set(statistics=evolve(self.conn.statistics, **changes))

    def do(self, *actions: Action) -> None:
        self.actions += actions

    @property
    def turn(self) -> Turn:
        assert self.conn.turn is not None
        return self.conn.turn


Handler = Callable[[_Step, Any], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What handles an input in a state, and the states that may follow."""

    handler: Handler
    targets: frozenset[State]


RULES: dict[tuple[State, type], Rule] = {}


def _rule(kind: type, **targets: str) -> Callable[[Handler], Handler]:
    """Register a handler for an input; a keyword names a state, its value the states that may follow."""

    def register(handler: Handler) -> Handler:
        for state, following in targets.items():
            RULES[State(state), kind] = Rule(handler, frozenset(map(State, following.split())))
        return handler

    return register


def transition(connection: Connection, input: Input, *, now: float) -> tuple[Connection, list[Action]]:
    """Return the connection after `input`, and what to do, in order.

    Args:
        connection: The connection as the last transition left it.
        input: What has happened.
        now: Monotonic seconds; never less than in the last call.

    Raises nothing: an input that does not fit the state is ignored.
    """
    rule = RULES.get((connection.state, type(input)))
    if rule is None:
        return connection, []
    step = _Step(connection, now)
    rule.handler(step, input)
    _set_alarm(step)
    return step.conn, step.actions


# Submitting and starting


@_rule(Begun, disconnected="disconnected")
def _begun(step: _Step, _: Begun) -> None:
    """Nothing is to be done; but every transition sets the alarm."""


@_rule(
    Submitted,
    disconnected="connecting disconnected",
    idle="streaming connecting idle",
    degraded="degraded connecting disconnected",
)
def _submitted(step: _Step, input: Submitted) -> None:
    step.do(Queued(input.request.request_id, 0))
    _start(step, input.request)


@_rule(Submitted, connecting="connecting", streaming="streaming", retiring="retiring")
def _enqueued(step: _Step, input: Submitted) -> None:
    request = input.request
    if step.conn.drained_by is not None:
        _answer(step, request, Failure.of(ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT))
        return
    waiting = len(step.conn.queue)
    running = step.conn.turn is not None  # while retiring, the first to come waits behind nobody
    if waiting >= request.limits.queue_limit + (not running):
        full = Failure.of(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT, waiting=waiting, limit=request.limits.queue_limit)
        _answer(step, request, full)
        return
    step.set(queue=(*step.conn.queue, request))
    step.do(Queued(request.request_id, waiting + running))


@_rule(Submitted, stopped="stopped")
def _too_late(step: _Step, input: Submitted) -> None:
    step.do(Redirect(input.request.request_id))


def _start(step: _Step, request: TurnRequest) -> None:
    """Begin a turn, or answer it at once; expects that no turn is active."""
    wait = step.conn.backoff.remaining(step.now)
    over_http = request.limits.transport == "http"
    if wait > 0 and not over_http and not _may_fall_back(request):
        cause, host = step.conn.backoff.cause, step.conn.backoff.host
        degraded = Failure.of(ErrorCode.WEBSOCKET_DEGRADED, Delivery.NOT_SENT, retry_after=wait, cause=cause, host=host)
        _answer(step, request, degraded)
        return
    step.set(turn=Turn(request, step.now), limits=request.limits)
    if over_http and request.purpose is not Purpose.RUN:
        step.set_turn(via=Via.HTTP)
        _warmed(step)  # there is nothing to have open
        return
    if over_http or wait > 0:
        _go_over_http(step, None if over_http else ErrorCode.WEBSOCKET_DEGRADED)
        return
    reason = _why_not_reuse(step.conn, request, step.now)
    if step.conn.socket is not None and reason is None:
        step.set(state=State.STREAMING)
        step.set_turn(reused=True)
        _use_socket(step)
        return
    if step.conn.socket is not None:
        assert reason is not None
        _drop_socket(step, reason, code=1000)
    _open(step)


def _why_not_reuse(conn: Connection, request: TurnRequest, now: float) -> ResetReason | None:
    socket = conn.socket
    if socket is None:
        return None
    if socket.endpoint != request.endpoint:
        return ResetReason.ENDPOINT_CHANGED
    if socket.fingerprint != request.fingerprint:
        return ResetReason.HEADERS_CHANGED
    return ResetReason.MAX_AGE if socket.retire_at is not None and now >= socket.retire_at else None


def _open(step: _Step) -> None:
    token = step.conn.token + 1
    step.set(state=State.CONNECTING, token=token, opening=token)
    step.set_turn(phase=Phase.OPENING, phase_since=step.now, reused=False)
    step.do(Open(token, step.turn.request.request_id, step.turn.via))


def _may_fall_back(request: TurnRequest) -> bool:
    """Say whether a request may go over HTTP instead. What the caller continues by itself may live on the socket alone."""
    run = request.purpose is Purpose.RUN
    return run and request.limits.transport == "auto" and not continues_itself(request.payload)


def _go_over_http(step: _Step, fallback_reason: ErrorCode | None) -> None:
    _drop_socket(step, ResetReason.ENDPOINT_CHANGED, code=1000)
    step.set_turn(via=Via.HTTP, fallback_reason=fallback_reason)
    _open(step)


def _use_socket(step: _Step) -> None:
    """Do on the open socket what the request is for."""
    match step.turn.request.purpose:
        case Purpose.RUN:
            _attempt(step)
        case Purpose.PREFILL if isinstance(step.conn.continuation, Cold) and not continues_itself(step.turn.request.payload):
            _attempt(step)
        case _:
            _warmed(step)


def _attempt(step: _Step) -> None:
    """Write the request on the open socket: as a delta if that is proven right, else in full."""
    turn = step.turn
    decided = _plan(step.conn, turn)
    attempts = turn.attempts + 1
    step.set_turn(
        phase=Phase.SENDING,
        phase_since=step.now,
        attempts=attempts,
        plan=decided,
        evidence=evidence(step.conn, decided, attempts, now=step.now),
        held=(),
        opened=False,
        accepted=False,
        output=False,
        response_id=None,
        items=(),
        text="",
    )
    step.count(last_reset_reason=decided.reset_reason)
    step.do(Sending(turn.request.request_id, attempts), Send(decided.wire))


def _plan(conn: Connection, turn: Turn) -> Plan:
    request = turn.request
    if turn.via is Via.HTTP:
        uses_id = request.payload.get("previous_response_id") is not None
        reason = None if turn.fallback_reason is None else ResetReason.SOCKET_CLOSED
        return Plan(http_body(request.payload), False, reason, uses_id)
    decided = plan(conn.continuation, request.payload, request.body, request.grown)
    if request.purpose is Purpose.PREFILL:
        return replace(decided, wire=prefill(request.payload))
    return decided


# The socket


@_rule(Connected, connecting="streaming connecting idle stopped")
def _connected(step: _Step, input: Connected) -> None:
    if input.token != step.conn.opening:
        return
    request, via = step.turn.request, step.turn.via
    age = request.limits.max_connection_age
    seconds = max_age(request.endpoint) if age == "auto" else age
    # Up to a tenth earlier, so that connections opened together do not all close together.
    retire_at = None if seconds is None else step.now + seconds * (1 - 0.1 * request.jitter)
    socket = Socket(
        request.endpoint, request.fingerprint, step.now, retire_at, step.now, bearer=request.bearer, via=via
    )
    step.set(state=State.STREAMING, socket=socket)
    step.count(sockets=step.conn.statistics.sockets + 1)
    _use_socket(step)


@_rule(ConnectFailed, connecting="degraded disconnected connecting stopped")
def _connect_failed(step: _Step, input: ConnectFailed) -> None:
    if input.token != step.conn.opening:
        return
    status = input.details.get("status")
    failure = Failure.of(input.code, Delivery.NOT_SENT, retry_after=input.retry_after)
    # A refused upgrade is an answer with a status: a busy server (503) may take the next one, a wrong token (401) not. A
    # proxy's refusal has one as well, but says nothing about the provider.
    retryable = failure.retryable or status in RETRYABLE_STATUSES
    refused = input.code is ErrorCode.WEBSOCKET_HANDSHAKE_FAILED
    reason = input.details.get("reason")
    advice = refusal_advice(status, step.turn.request.endpoint) if refused else ADVICE.get(reason)
    retryable = retryable and advice is None
    details = input.details if advice is None else {**input.details, "advice": advice}
    _fail_socket(step, replace(failure, retryable=retryable, details=details), waiting_helps=advice is None)


@_rule(Sent, streaming="streaming")
def _sent(step: _Step, _: Sent) -> None:
    turn, statistics = step.turn, step.conn.statistics
    if turn.phase is not Phase.SENDING or turn.plan is None:
        return
    step.count(
        wire_bytes=statistics.wire_bytes + len(turn.plan.wire),
        full_bytes=statistics.full_bytes + len(turn.request.body),
    )
    step.set_turn(phase=Phase.FLOWING if turn.accepted else Phase.WAITING, phase_since=step.now)


@_rule(SocketFailed, idle="disconnected", retiring="retiring")
def _idle_socket_failed(step: _Step, _: SocketFailed) -> None:
    _drop_socket(step, ResetReason.CONNECTION_CLOSED)
    if step.conn.state is State.IDLE:
        step.set(state=State.DISCONNECTED)


@_rule(SocketFailed, streaming="connecting degraded disconnected stopped")
def _running_socket_failed(step: _Step, input: SocketFailed) -> None:
    turn = step.turn
    # Over HTTP the request is handed over at once, and its connection is opened after that.
    unsent = input.unsent and (turn.phase is Phase.SENDING or turn.via is Via.HTTP)
    if unsent and turn.reused and not turn.replaced and not turn.shown:
        # The server had gone while the connection was idle, and nothing of the request went out: not a failure.
        _drop_socket(step, ResetReason.CONNECTION_CLOSED)
        step.set_turn(replaced=True)
        _open(step)
        return
    delivery = Delivery.NOT_SENT if unsent else attempt_verdict(turn)
    too_big = input.details.get("close_code") == MESSAGE_TOO_BIG and delivery is Delivery.AMBIGUOUS
    if too_big:
        # The server read no further than the size: the request did not run, and will not on this way.
        delivery = Delivery.REJECTED
    elif _retry(step, delivery, ResetReason.WEBSOCKET_FAILED):
        return
    failure = replace(Failure.of(input.code, delivery), details=input.details)
    if too_big:
        failure = replace(failure, retryable=False, details={**input.details, "advice": TOO_BIG_ADVICE})
    _fail_socket(step, failure, waiting_helps=not too_big)


def _retry(step: _Step, delivery: Delivery, reason: ResetReason) -> bool:
    """Send once more what may have run on the socket that broke, if its caller wants that; say whether it was done."""
    turn = step.turn
    wanted = turn.request.limits.retry_ambiguous and turn.request.purpose is Purpose.RUN
    possible = delivery is Delivery.AMBIGUOUS and not turn.shown and not continues_itself(turn.request.payload)
    if not wanted or not possible or turn.retried:
        return False
    step.set_turn(retried=True)
    step.count(replays=step.conn.statistics.replays + 1)
    _drop_socket(step, reason, even_cold=turn.via is Via.WEBSOCKET)
    _open(step)
    return True


# Receiving


@_rule(Received, idle="idle disconnected", retiring="retiring")
def _received_between_turns(step: _Step, input: Received) -> None:
    if step.conn.socket is None:
        return
    if step.conn.socket.pong_due is not None and not rests(step.conn):
        # What was to ring if the pong did not come would wake a sleeping process for nothing: the next ping is due later.
        step.set(alarm=None)
    _alive(step)
    for event in input.events:
        if event.stage is Stage.PRIVATE:
            continue
        # An answer without a question: whatever else comes on this socket cannot be trusted.
        _drop_socket(step, _unasked(event))
        if step.conn.state is State.IDLE:
            step.set(state=State.DISCONNECTED)
        return


def _unasked(event: ServerEvent) -> ResetReason:
    """Return why a socket goes on which this came while nothing was asked."""
    fault = provider_fault(event)
    limit = fault is not None and fault.rejection is Rejection.CONNECTION_LIMIT
    return ResetReason.CONNECTION_LIMIT if limit else ResetReason.WEBSOCKET_FAILED


@_rule(Received, streaming="streaming idle disconnected connecting degraded stopped")
def _received(step: _Step, input: Received) -> None:
    _alive(step)
    if input.last:
        step.set_socket(ended=True)
    turn = step.turn
    fresh: list[tuple[Tag, bytes]] = []
    chunks: list[str] = []
    items: list[tuple[int, Any]] = []
    opened = progressed = False
    for position, event in enumerate(input.events):
        if _is_of_another(step.conn, turn, event):
            _degrade(step, Failure.of(ErrorCode.WEBSOCKET_FAILED, attempt_verdict(step.turn), reason="out_of_step"))
            return
        if event.stage is Stage.TERMINAL:
            step.set(turn=evolve(turn, items=turn.items + tuple(items), text=turn.text + "".join(chunks)))
            behind = input.events[position + 1 :]
            if _collected(step, fresh, progressed, opened):
                _terminal(step, event, behind=next((late for late in behind if late.stage is not Stage.PRIVATE), None))
            return
        fresh.append((event.tag, event.raw))
        progressed |= event.stage is not Stage.PRIVATE
        opened |= event.stage is Stage.OUTPUT
        if event.tag is Tag.TEXT_DELTA and isinstance(event.body.get("delta"), str):
            chunks.append(event.body["delta"])
        elif event.tag is Tag.ITEM_DONE:
            items.append(indexed_item(event))
        elif event.stage is Stage.OPENING:
            turn = evolve(turn, opened=True, response_id=response_id(event) or turn.response_id)
            step.set_socket(announces=True)
    step.set(turn=evolve(turn, items=turn.items + tuple(items), text=turn.text + "".join(chunks)))
    _collected(step, fresh, progressed, opened)


def _is_of_another(conn: Connection, turn: Turn, event: ServerEvent) -> bool:
    """Say whether an event belongs to an earlier response: it came behind that one's end, too late to be seen there.

    A server that announces its responses does so for each; what it puts out before is not the answer to this request.
    """
    announced = turn.opened or conn.socket is None or not conn.socket.announces
    return not announced and (event.stage is Stage.OUTPUT or (event.stage is Stage.TERMINAL and succeeded(event)))


def _collected(step: _Step, events: list[tuple[Tag, bytes]], progressed: bool, output: bool) -> bool:
    """Note how far the attempt has come, and deliver or hold back what it brought; say whether the turn goes on."""
    turn = step.turn
    if progressed:
        phase = Phase.SENDING if turn.phase is Phase.SENDING else Phase.FLOWING
        since = turn.phase_since if turn.phase is Phase.SENDING else step.now
        step.set_turn(accepted=True, output=turn.output or output, phase=phase, phase_since=since)
        turn = step.turn
    if not events:
        return True
    if turn.output and turn.request.purpose is Purpose.PREFILL:
        _warmed(step, unusable=True)  # it answers although no answer was wanted: neither paid for nor waited for
        return False
    if turn.shown or turn.output or len(turn.held) + len(events) > HELD_EVENTS:
        _show(step)
        step.do(Deliver(turn.request.request_id, tuple(events)))
    else:
        step.set_turn(held=turn.held + tuple(events))
    return True


def _show(step: _Step) -> None:
    """Deliver the evidence and what was held back; from now on the attempt is the one the caller sees."""
    turn = step.turn
    if turn.shown:
        return
    step.do(Show(turn.request.request_id, turn.evidence), ShowStatus(turn.request.request_id, turn.status))
    if turn.held:
        step.do(Deliver(turn.request.request_id, turn.held))
    step.set_turn(shown=True, held=())


def _alive(step: _Step) -> None:
    step.set_socket(last_seen=step.now, pong_due=None)


# The end of a response


def _terminal(step: _Step, event: ServerEvent, *, behind: ServerEvent | None) -> None:
    """End the response, unless it was refused for the socket's sake and can go out again.

    `behind` is what was read behind it and should not be there. Behind a rejection that does not matter: it was read before
    the replay is written, so it cannot be its answer.
    """
    fault = provider_fault(event)
    over_http = step.turn.via is Via.HTTP
    if over_http and fault is not None and not step.turn.output:
        step.set_turn(status=fault.status or 200)
    rejection = fault.rejection if fault is not None and not step.turn.output else None
    if rejection is not None and _replay(step, rejection):
        return
    if rejection is Rejection.NOT_FOUND and Rejection.NOT_FOUND in step.turn.replays and not over_http:
        assert fault is not None
        refused = fault.failure(Delivery.REJECTED)
        _degrade(step, replace(refused, details={**refused.details, "reason": Rejection.NOT_FOUND.value}))
        return
    step.set_turn(response_id=response_id(event) or step.turn.response_id)
    _finish(step, event, fault, behind=behind)


def _replay(step: _Step, rejection: Rejection) -> bool:
    """Send the request again in full, unseen by the caller, if that is safe; say whether it was."""
    turn = step.turn
    if not _is_ours(step.conn, turn, rejection) or turn.shown or rejection in turn.replays:
        return False
    if continues_itself(turn.request.payload) or turn.request.purpose is not Purpose.RUN:
        return False
    step.set_turn(replays=turn.replays | {rejection}, refused=True)
    step.count(replays=step.conn.statistics.replays + 1)
    writable = turn.phase is not Phase.SENDING and step.conn.socket is not None and not step.conn.socket.ended
    if rejection is Rejection.NOT_FOUND and writable:
        step.set(continuation=Cold(ResetReason.PREVIOUS_RESPONSE_NOT_FOUND))
        _attempt(step)
        return True
    _drop_socket(step, _REJECTED_FOR[rejection], even_cold=True)
    _open(step)
    return True


_REJECTED_FOR: Final = {
    Rejection.NOT_FOUND: ResetReason.PREVIOUS_RESPONSE_NOT_FOUND,
    Rejection.CONNECTION_LIMIT: ResetReason.CONNECTION_LIMIT,
    Rejection.UNAUTHORIZED: ResetReason.HEADERS_CHANGED,
}


def _is_ours(conn: Connection, turn: Turn, rejection: Rejection) -> bool:
    """Say whether a rejection is about what we did, and a replay therefore about to succeed."""
    if turn.via is Via.HTTP or turn.plan is None or conn.socket is None:
        return False
    match rejection:
        case Rejection.NOT_FOUND:
            return turn.plan.attempted
        case Rejection.CONNECTION_LIMIT:
            return True
        case Rejection.UNAUTHORIZED:
            # The socket keeps the bearer it was opened with; the request may have brought a newer one.
            return turn.reused and conn.socket.bearer != turn.request.bearer


def _finish(step: _Step, event: ServerEvent, fault: ProviderFault | None, *, behind: ServerEvent | None) -> None:
    """Deliver the terminal event, move the continuation, and go on with whoever waits."""
    turn, conn = step.turn, step.conn
    request_id = turn.request.request_id
    _show(step)
    step.do(Deliver(request_id, ((Tag.TERMINAL, event.raw),)))
    captured = None if fault is not None else turn.response_id
    if turn.via is Via.WEBSOCKET:
        step.set(continuation=_continuation_after(turn, event, fault, captured))
    if turn.via is Via.HTTP:
        _drop_socket(step, ResetReason.ENDPOINT_CHANGED)
    elif fault is not None and fault.rejection is Rejection.CONNECTION_LIMIT:
        _drop_socket(step, ResetReason.CONNECTION_LIMIT, even_cold=True)
    elif fault is not None and fault.rejection is Rejection.UNAUTHORIZED:
        # It keeps the bearer that was refused, and the server is about to close it.
        _drop_socket(step, ResetReason.RESPONSE_FAILED)
    elif behind is not None:
        # The next request would be answered by it.
        _drop_socket(step, _unasked(behind))
    elif turn.phase is Phase.SENDING:
        _drop_socket(step, ResetReason.WEBSOCKET_FAILED)  # half a request stands in the buffer
    elif conn.socket is not None and conn.socket.ended:
        _drop_socket(step, ResetReason.CONNECTION_CLOSED)  # or whoever waits would be sent into the void
    stored = {"websocket_captured_response_id": captured, "websocket_stored_previous_response_id": stored_id(step.conn)}
    step.do(Show(request_id, stored))
    delivery = overall_verdict(turn, Delivery.ACCEPTED if turn.output else Delivery.REJECTED)
    step.do(Finish(request_id, fault.failure(delivery) if fault is not None else None))
    if turn.request.purpose is Purpose.RUN:
        statistics = conn.statistics
        delta = turn.plan is not None and turn.plan.attempted
        step.count(turns=statistics.turns + 1, delta_turns=statistics.delta_turns + delta)
    if turn.via is Via.WEBSOCKET:
        step.set(backoff=CLOSED)
    _end_turn(step)


def _continuation_after(
    turn: Turn, event: ServerEvent, fault: ProviderFault | None, captured: str | None
) -> Continuation:
    payload = turn.request.payload
    if fault is not None:
        own = continues_itself(payload)
        return Cold(ResetReason.CALLER_CONTINUATION if own else ResetReason.RESPONSE_FAILED)
    output = output_of(event, turn.items, turn.text)
    # A server that answered all the same has put something between the input and whatever follows.
    prefilled = turn.request.purpose is Purpose.PREFILL and not output
    return after_response(payload, captured, output, prefilled=prefilled)


def _warmed(step: _Step, *, unusable: bool = False) -> None:
    """End a warm-up that sent nothing, or whose server does not do as it was asked; never a failure."""
    turn = step.turn
    evidence = turn.evidence or {"active_transport": turn.via.value, "websocket_key": turn.request.key}
    step.do(Show(turn.request.request_id, evidence), Finish(turn.request.request_id))
    if unusable:
        _drop_socket(step, ResetReason.CANCELLED, even_cold=True)
    if turn.via is Via.WEBSOCKET:
        step.set(backoff=CLOSED)
    _end_turn(step)


def _end_turn(step: _Step) -> None:
    """Leave the turn, and start the next one that can be started."""
    socket = step.conn.socket
    state = State.IDLE if socket is not None else State.DISCONNECTED
    if socket is None and step.conn.backoff.remaining(step.now) > 0:
        state = State.DEGRADED
    step.set(turn=None, state=state, idle_since=step.now)
    if step.conn.drained_by is not None:
        _stop(step, linger=False)
        return
    if step.conn.forgotten:
        _leave(step)
        return
    if step.serving:
        return  # the loop below goes on: a turn that ends as it starts is not a frame deeper
    step.serving = True
    while step.conn.turn is None and step.conn.queue:
        request, *rest = step.conn.queue
        step.set(queue=tuple(rest))
        _start(step, request)
    step.serving = False


# Failing


def _answer(step: _Step, request: TurnRequest, failure: Failure) -> None:
    step.do(Fail(request.request_id, failure))
    step.count(failures=step.conn.statistics.failures + 1)
    if failure.code is not ErrorCode.WEBSOCKET_DEGRADED:  # which only says that the one before holds on
        step.count(last_error=failure.code)


def _fail_turn(step: _Step, failure: Failure) -> None:
    """Answer the turn with a failure, after whatever of its attempt the caller has not seen yet."""
    turn = step.turn
    if turn.phase is not Phase.OPENING and turn.plan is not None:
        _show(step)
    _answer(step, turn.request, replace(failure, delivery=overall_verdict(turn, failure.delivery)))


def _fail_socket(step: _Step, failure: Failure, *, waiting_helps: bool = True) -> None:
    """End an attempt whose socket was not had, or is no more: over HTTP if that may help, else with a failure."""
    turn = step.turn
    if turn.via is Via.HTTP:
        _fail_turn(step, failure)
        _drop_socket(step, ResetReason.ENDPOINT_CHANGED)
        _end_turn(step)
    elif _may_fall_back(turn.request) and not turn.shown and http_may_help(failure):
        _drop_socket(step, ResetReason.WEBSOCKET_FAILED, even_cold=True)
        step.set(backoff=_window(step, failure))
        step.set_turn(refused=turn.refused or failure.delivery is Delivery.REJECTED)
        _go_over_http(step, failure.code)
    elif waiting_helps:
        _degrade(step, failure)
    else:
        _fail_turn(step, failure)
        _drop_socket(step, ResetReason.WEBSOCKET_FAILED, even_cold=True)
        _end_turn(step)


def _window(step: _Step, failure: Failure) -> Backoff:
    request = step.turn.request
    limits = request.limits
    backoff = step.conn.backoff.fail(
        now=step.now, jitter=request.jitter, first=limits.degraded_for, most=limits.degraded_max
    )
    host = failure.details.get("host")
    return replace(backoff, cause=failure.code, host=None if host is None else str(host))


def _degrade(step: _Step, failure: Failure, reason: ResetReason = ResetReason.WEBSOCKET_FAILED) -> None:
    """Fail the turn, close the socket and leave the connection alone for a while (C48)."""
    backoff = _window(step, failure)
    wait = backoff.remaining(step.now)
    if failure.retryable and wait > 0:
        # Whoever comes back earlier is only told to wait.
        failure = replace(failure, retry_after=max(wait, failure.retry_after or 0.0))
    _fail_turn(step, failure)
    _drop_socket(step, reason, even_cold=True)
    step.set(backoff=backoff)
    _end_turn(step)


def _drop_socket(step: _Step, reason: ResetReason, *, code: int | None = None, even_cold: bool = False) -> None:
    """Close the socket and forget what it remembered; a connection that was cold keeps its reason unless told (C19)."""
    if step.conn.socket is not None:
        step.do(CloseSocket(code, reason.value))
        step.set(socket=None)
    if even_cold or isinstance(step.conn.continuation, Anchor):
        step.set(continuation=Cold(reason))


@_rule(
    Cancelled,
    connecting="connecting disconnected degraded stopped",
    streaming="streaming connecting disconnected degraded stopped",
    retiring="retiring",
)
def _cancelled(step: _Step, input: Cancelled) -> None:
    turn = step.conn.turn
    if turn is not None and turn.request.request_id == input.request_id:
        _give_up(step, Failure.of(input.code, attempt_verdict(turn)), input.reason)
        return
    for request in step.conn.queue:
        if request.request_id == input.request_id:
            step.set(queue=tuple(other for other in step.conn.queue if other is not request))
            _answer(step, request, Failure.of(input.code, Delivery.NOT_SENT))
            return


@_rule(Cancelled, idle="idle")
def _callback_failed_late(step: _Step, input: Cancelled) -> None:
    """Forget a response whose last event the caller's own code could not take: it may not be in its history."""
    if input.reason is ResetReason.STREAM_CALLBACK_FAILED:
        step.set(continuation=Cold(input.reason))


def _give_up(step: _Step, failure: Failure, reason: ResetReason) -> None:
    """End the turn for the caller's sake. There is no cancel message on this wire, so its socket goes with it."""
    opening = step.turn.phase is Phase.OPENING
    _fail_turn(step, failure)
    if opening:
        step.do(AbandonOpening())
    else:
        _drop_socket(step, reason, even_cold=step.turn.via is Via.WEBSOCKET)
    _end_turn(step)


# Time


def _set_alarm(step: _Step) -> None:
    """Have the one alarm ring at the earliest deadline; one that rings too early is cheaper than a new one."""
    conn = step.conn
    if conn.state is State.STOPPED:
        return
    at = min(deadlines(conn), default=None)
    if at is None or (conn.alarm is not None and conn.alarm.at <= at + ALARM_SLACK):
        return
    token = conn.token + 1
    step.set(alarm=Alarm(token, at), token=token)
    step.do(SetAlarm(token, max(0.0, at - step.now)))


@_rule(
    AlarmRang,
    disconnected="disconnected retiring",
    connecting="connecting disconnected degraded stopped",
    idle="idle disconnected retiring",
    streaming="streaming connecting disconnected degraded stopped",
    degraded="degraded disconnected retiring",
    retiring="retiring idle disconnected degraded connecting streaming",
)
def _alarm_rang(step: _Step, input: AlarmRang) -> None:
    alarm = step.conn.alarm
    if alarm is None or alarm.token != input.token:
        return
    paused = step.conn.state in PAUSES
    step.set(alarm=None)
    if _due(step, step.conn.drained_by):
        _halt(step, ErrorCode.SHUTTING_DOWN, linger=False)
        return
    _expire_queue(step)
    if step.conn.turn is not None:
        _expire_turn(step)
    if step.conn.socket is not None and step.conn.socket.via is Via.WEBSOCKET and not rests(step.conn):
        _expire_silence(step)
    if paused:
        _expire_pause(step)
    elif step.conn.state is State.RETIRING and _due(step, step.conn.retiring_since + RETIRE_ANSWER_TIMEOUT):
        _resume(step)


def _due(step: _Step, moment: float | None) -> bool:
    return moment is not None and moment <= step.now + ALARM_SLACK


def _expire_queue(step: _Step) -> None:
    for request in step.conn.queue:
        for seconds, code in (
            (request.limits.timeout, ErrorCode.REQUEST_TIMEOUT),
            (request.limits.queue_timeout, ErrorCode.QUEUE_TIMEOUT),
        ):
            if _due(step, after(request.received_at, seconds)):
                step.set(queue=tuple(other for other in step.conn.queue if other is not request))
                _answer(step, request, Failure.of(code, Delivery.NOT_SENT, limit_s=seconds))
                break


_PHASE_CODES: Final = {
    Phase.OPENING: ErrorCode.WEBSOCKET_CONNECT_TIMEOUT,
    Phase.SENDING: ErrorCode.WEBSOCKET_SEND_TIMEOUT,
    Phase.WAITING: ErrorCode.FIRST_EVENT_TIMEOUT,
    Phase.FLOWING: ErrorCode.STREAM_IDLE_TIMEOUT,
}


def _expire_turn(step: _Step) -> None:
    turn = step.turn
    limits = turn.request.limits
    if _due(step, after(turn.request.received_at, limits.timeout)):
        timed_out = Failure.of(ErrorCode.REQUEST_TIMEOUT, attempt_verdict(turn), limit_s=limits.timeout)
        _give_up(step, timed_out, ResetReason.CANCELLED)
    elif _due(step, phase_deadline(turn)):
        if turn.phase is Phase.OPENING:
            step.do(AbandonOpening())
        if turn.request.purpose is Purpose.PREFILL and turn.phase in ANSWERING:
            _warmed(step, unusable=True)
            return
        waited = step.now - turn.phase_since
        host = authority(turn.request.endpoint) if turn.phase is Phase.OPENING else None
        late = Failure.of(_PHASE_CODES[turn.phase], attempt_verdict(turn), waited_s=round(waited, 3), host=host)
        if turn.phase is Phase.OPENING or turn.via is Via.HTTP:
            _fail_socket(step, late)
        else:
            _degrade(step, late)


def _expire_silence(step: _Step) -> None:
    """Send the ping that is due, or take the socket for dead if the last one went unanswered."""
    socket = step.conn.socket
    assert socket is not None
    if socket.pong_due is not None:
        if _due(step, socket.pong_due):
            _silent(step)
    elif _due(step, _ping_due(step.conn)):
        # Without a pong timeout the next ping is due an interval from now, as if something had been heard.
        due = after(step.now, step.conn.limits.pong_timeout)
        step.set_socket(pong_due=due, last_seen=step.now if due is None else socket.last_seen)
        step.do(Ping())


def _ping_due(conn: Connection) -> float | None:
    interval = conn.limits.keepalive_interval
    return None if conn.socket is None or interval is None else next_ping(conn.socket.last_seen, interval)


@_rule(Silent, idle="idle disconnected")
def _heartbeat_stopped(step: _Step, _: Silent) -> None:
    if step.conn.socket is not None and _due(step, step.conn.socket.pong_due):
        _silent(step)


def _silent(step: _Step) -> None:
    if step.conn.turn is not None:
        delivery = attempt_verdict(step.turn)
        if _retry(step, delivery, ResetReason.KEEPALIVE_FAILED):
            return
        dead = Failure.of(ErrorCode.WEBSOCKET_READ_FAILED, delivery, reason="pong_timeout")
        _degrade(step, dead, ResetReason.KEEPALIVE_FAILED)
        return
    _drop_socket(step, ResetReason.KEEPALIVE_FAILED)
    if step.conn.state is State.IDLE:
        step.set(state=State.DISCONNECTED)


def _expire_pause(step: _Step) -> None:
    conn = step.conn
    if conn.state is State.IDLE and conn.socket is not None and _due(step, conn.socket.retire_at):
        _drop_socket(step, ResetReason.MAX_AGE, code=1000)
        step.set(state=State.DISCONNECTED)
    if conn.state is State.DEGRADED and _due(step, conn.backoff.until):
        step.set(state=State.DISCONNECTED, backoff=replace(conn.backoff, until=None))
    if _due(step, after(conn.idle_since, conn.limits.idle_close_after)):
        step.set(state=State.RETIRING, retiring_since=step.now)
        step.do(AskRetire())


# Ending


@_rule(RetireAnswered, retiring="stopped idle disconnected degraded connecting streaming")
def _retire_answered(step: _Step, input: RetireAnswered) -> None:
    if input.granted:
        _leave(step)
    else:
        _resume(step)


@_rule(
    RetireAnswered,
    disconnected="disconnected stopped",
    idle="idle stopped",
    degraded="degraded stopped",
    connecting="connecting",
    streaming="streaming",
)
def _retire_answered_late(step: _Step, input: RetireAnswered) -> None:
    """Leave as soon as nothing runs: the supervisor has forgotten the key, and may start another connection for it."""
    if not input.granted:
        return
    step.set(forgotten=True)
    if step.conn.turn is None:
        _leave(step)


def _leave(step: _Step) -> None:
    """Send everybody who waits back to the supervisor, and end."""
    for request in step.conn.queue:
        step.do(Redirect(request.request_id))
    step.set(queue=())
    _stop(step, linger=True)


def _resume(step: _Step) -> None:
    """Go on after a retirement that was not granted."""
    _end_turn(step)


@_rule(EvictAsked, connecting="connecting", streaming="streaming")
def _not_now(step: _Step, _: EvictAsked) -> None:
    step.do(AnswerEvict(False))


@_rule(
    EvictAsked,
    disconnected="stopped",
    idle="stopped",
    degraded="stopped",
    retiring="stopped retiring",
    stopped="stopped",
)
def _evict_asked(step: _Step, _: EvictAsked) -> None:
    if step.conn.queue:
        step.do(AnswerEvict(False))
        return
    step.do(AnswerEvict(True))
    if step.conn.state is not State.STOPPED:
        _stop(step, linger=True)


@_rule(
    StopAsked,
    disconnected="stopped",
    connecting="stopped",
    idle="stopped",
    streaming="stopped",
    degraded="stopped",
    retiring="stopped",
)
def _stop_asked(step: _Step, input: StopAsked) -> None:
    _halt(step, input.code, linger=input.linger)


@_rule(
    DrainAsked,
    disconnected="stopped",
    connecting="connecting",
    idle="stopped",
    streaming="streaming",
    degraded="stopped",
    retiring="stopped",
)
def _drain_asked(step: _Step, input: DrainAsked) -> None:
    """Let a running turn go on, and nothing else; asked again, it never gets more time than it had."""
    by = step.now + input.within
    step.set(drained_by=by if step.conn.drained_by is None else min(by, step.conn.drained_by))
    _fail_queue(step, ErrorCode.SHUTTING_DOWN)
    if step.conn.turn is None:
        _stop(step, linger=False)


def _halt(step: _Step, code: ErrorCode, *, linger: bool) -> None:
    """Answer everybody with `code`, and end."""
    turn = step.conn.turn
    if turn is not None:
        _fail_turn(step, Failure.of(code, attempt_verdict(turn)))
        if turn.phase is Phase.OPENING:
            step.do(AbandonOpening())
    _fail_queue(step, code)
    step.set(turn=None)
    _stop(step, linger=linger)


def _fail_queue(step: _Step, code: ErrorCode) -> None:
    for request in step.conn.queue:
        _answer(step, request, Failure.of(code, Delivery.NOT_SENT))
    step.set(queue=())


def _stop(step: _Step, *, linger: bool) -> None:
    _drop_socket(step, ResetReason.NO_PREVIOUS_RESPONSE, code=1000)
    patience = 0.0 if step.conn.drained_by is None else max(0.0, step.conn.drained_by - step.now)
    step.set(state=State.STOPPED, alarm=None)
    step.do(Stop(linger, patience))
