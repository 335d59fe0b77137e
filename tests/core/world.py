"""Everything around one connection, played at random: callers, a server with its cache, a supervisor, time.

`World.step` draws one thing that may happen, lets it happen, and checks every invariant of `lifecycle` afterwards. What is
drawn comes from a `random.Random`, so that a seed, or hypothesis, can play it again.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import orjson

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core.continuation import Anchor, ResetReason
from pixir_actors.core.deadlines import RETIRE_ANSWER_TIMEOUT, deadlines, rests
from pixir_actors.core.heartbeat import Heartbeat, caught_up, heartbeat
from pixir_actors.core.lifecycle import ALARM_SLACK, RULES, transition
from pixir_actors.core.payload import Parsed, continues_itself, full_text, parse
from pixir_actors.core.server_event import Stage
from pixir_actors.core.state import Connection, Phase, Purpose, State, TurnRequest, Via
from pixir_actors.core.text import Pieces
from pixir_actors.errors import Delivery, ErrorCode
from tests.core import machine as say
from tests.core import peer as model
from tests.core.peer import LIMITS, PURPOSES, REFUSALS, REJECTIONS, SOCKET_CODES, Life, Peer, longest, visible

ENDS = (act.Finish, act.Fail, act.Redirect)
TOLD = (act.Queued, act.Sending, act.Show, act.ShowStatus, act.Deliver, *ENDS)
PAUSES = [0.0] * 6 + [0.01] * 3 + [0.3, 2.0]
"""Seconds that may pass between two happenings."""
LATE = 0.25
"""Seconds by which wakeups may be late where time alone passes."""


class World:
    """One connection and what surrounds it."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.now = rng, rng.choice([-500.0, 0.0, 1000.0])
        self.base = rng.randrange(len(LIMITS))
        self.bearer = "bearer 0"
        self.conn = Connection.new(now=self.now, limits=LIMITS[self.base], attended=rng.random() < 0.5)
        self.beat: Heartbeat | None = None  # as the actor's `Pulse` has it
        self.lives: dict[str, Life] = {}
        self.peer: Peer | None = None
        self.opening: int | None = None
        self.stopped = False
        self.ids = 0
        self.history: list[Any] = []
        self.parsed: Parsed | None = None  # the body before, as a connection's intake has it
        self.warmed: dict[str, Any] | None = None  # what a warm-up said, for its first turn to say again
        self.asked = 0  # questions to the supervisor that it has not answered
        self.seen: Counter[tuple[State, type, State]] = Counter()
        self.sends: Counter[str] = Counter()
        """Requests written, by what is special about them."""
        self.count = 0
        self.feed(put.Begun())

    # Feeding, and what must hold after every single transition

    def feed(self, input: put.Input) -> list[act.Action]:
        before = self.conn = self.caught_up()
        kept = copy.deepcopy((before, input)) if self.rng.random() < 0.02 else None
        after, actions = transition(before, input, now=self.now)
        assert (after, actions) == transition(before, input, now=self.now), "not deterministic"
        assert kept is None or kept == (before, input), "an input was changed in place"
        rule = RULES.get((before.state, type(input)))
        allowed = {before.state} if rule is None else rule.targets
        assert after.state in allowed, f"{before.state} -> {after.state} on {input}"
        self.seen[before.state, type(input), after.state] += 1
        self.count += 1
        self.conn, self.beat = after, heartbeat(after)
        for action in actions:
            self._perform(action, before, input)
        assert before.drained_by is None or after.turn is None or before.turn is not None, "begun while it drains"
        assert before.drained_by is None or after.drained_by <= before.drained_by, "given more time"
        self._check()
        assert model.waiting_helps(before, input, after) or after.backoff == before.backoff, "a window without a use"
        if before.turn is not None and before.turn.via is Via.HTTP:
            assert not isinstance(after.continuation, Anchor), "a turn over HTTP moved the anchor"
            assert after.backoff == before.backoff, "a turn over HTTP opened or closed a window"
        return actions

    def stale(self, input: put.Input) -> None:
        """Feed what is stale: nothing may change, nothing may happen."""
        before = self.caught_up()
        assert self.feed(input) == []
        assert self.conn == before

    def caught_up(self) -> Connection:
        """Return the connection with what has happened while it rested."""
        return self.conn if self.beat is None else caught_up(self.conn, self.beat)

    def _perform(self, action: act.Action, before: Connection, input: put.Input) -> None:
        assert not isinstance(action, act.Ping) or not rests(before), "pinged by two"
        if isinstance(action, TOLD):
            self._told(action)
        elif isinstance(action, act.Open):
            assert self.peer is None and self.opening is None, "a second socket, of whichever kind"
            within = self.conn.backoff.remaining(self.now) > 0
            assert action.via is Via.HTTP or not within, "opened within the degraded window"
            assert self.conn.turn is not None
            assert action.via is Via.WEBSOCKET or model.may_use_http(self.conn.turn, before, input, within=within)
            self.opening = action.token
        elif isinstance(action, act.AbandonOpening):
            assert self.opening is not None
            self.opening = None
        elif isinstance(action, act.Send):
            self._written(action)
        elif isinstance(action, act.Ping | act.CloseSocket):
            assert self.peer is not None, f"{action} on a closed socket"
            assert self.peer.via is Via.WEBSOCKET or not isinstance(action, act.Ping)
            self.peer = None if isinstance(action, act.CloseSocket) else self.peer
        elif isinstance(action, act.Stop):
            assert not self.stopped
            assert action.patience == 0 or self.now + action.patience <= (self.conn.drained_by or 0) + ALARM_SLACK
            self.stopped = True
        elif isinstance(action, act.AskRetire):
            self.asked += 1

    def _told(self, action: Any) -> None:
        life = self.lives[action.request_id]
        assert not life.ended, f"{action} after the end"
        life.ended = isinstance(action, ENDS)
        life.shown |= isinstance(action, act.Deliver)
        if isinstance(action, act.Finish | act.Fail) and action.failure is not None:
            ran = action.failure.delivery not in (Delivery.NOT_SENT, Delivery.REJECTED)
            assert ran or life.runs == 0, f"{action.failure} of what may have run {life.runs} times"
        assert not self.stopped or isinstance(action, act.Redirect)
        if isinstance(action, act.Sending):
            life.announced = True
        unannounced = (act.ShowStatus, act.Deliver) + (act.Show, act.Finish) * (life.request.purpose is Purpose.RUN)
        assert life.announced or not isinstance(action, unannounced)

    def _written(self, send: act.Send) -> None:
        peer, turn = self.peer, self.conn.turn
        assert peer is not None and not peer.unsent, "sent on no socket, or while another message is unsent"
        assert not peer.ended, "sent on a socket whose last frame has been read"
        assert turn is not None and turn.plan is not None and peer.via is turn.via
        request, life = turn.request, self.lives[turn.request.request_id]
        assert request.purpose is Purpose.RUN or (request.purpose is Purpose.PREFILL and life.sends < 2)
        life.sends += 1
        life.runs += 1
        assert life.runs <= 1 + request.limits.retry_ambiguous, "sent again, and nobody wanted that"
        assert life.announced and not life.shown, "sent again after its caller had seen events"
        assert life.sends <= 1 + len(turn.replays) + turn.replaced + turn.retried + (turn.fallback_reason is not None)
        resent = turn.replays or turn.retried or turn.fallback_reason is not None or request.purpose is Purpose.PREFILL
        assert not resent or not continues_itself(request.payload)
        assert turn.reused or peer.bearer == request.bearer
        if turn.via is Via.HTTP:
            return self._posted(send, peer)
        wire, full = orjson.loads(bytes(send.data)), request.payload
        full = full | ({"generate": False} if request.purpose is Purpose.PREFILL else {})
        own = full.get("previous_response_id")
        assert ("previous_response_id" in wire) == (turn.plan.attempted or own is not None)
        assert (peer.endpoint, peer.fingerprint) == (turn.request.endpoint, turn.request.fingerprint)
        self.sends["cut"] += isinstance(send.data, Pieces)
        self.sends.update(model.special(turn, wire))
        if turn.plan.attempted:
            assert own is None and peer.newest is not None and wire["previous_response_id"] == peer.newest
            meant = peer.cache[peer.newest] + wire["input"]
            assert visible(meant) == visible(full["input"]), "the model sees another history than the caller meant"
        else:
            assert wire == full
        peer.unsent, peer.history = True, full["input"]
        self.ids += 1
        peer.compose(self.rng, self.ids, turn, doubtful=turn.plan.attempted or bool(turn.replays))
        return None

    def _posted(self, send: act.Send, peer: Peer) -> None:
        turn = self.conn.turn
        assert turn is not None and turn.request.limits.transport in ("auto", "http")
        wire, full = orjson.loads(bytes(send.data)), turn.request.payload
        assert wire == {name: value for name, value in full.items() if name != "type"} | {"stream": True}
        self.sends.update(model.special(turn, wire))
        peer.unsent, peer.history = True, full["input"]
        self.ids += 1
        peer.compose(self.rng, self.ids, turn, doubtful=False)

    def _check(self) -> None:
        conn, turn, state = self.conn, self.conn.turn, self.conn.state
        assert (turn is not None) == (state in (State.CONNECTING, State.STREAMING))
        assert (conn.socket is not None) == (self.peer is not None)
        assert conn.socket is None or state in (State.IDLE, State.STREAMING, State.RETIRING)
        assert conn.socket is not None or state not in (State.IDLE, State.STREAMING)
        assert conn.socket is not None or not isinstance(conn.continuation, Anchor)
        assert (self.opening is not None) == (state is State.CONNECTING)
        assert (state is State.CONNECTING) == (turn is not None and turn.phase is Phase.OPENING)
        assert turn is None or turn.phase is not Phase.SENDING or (self.peer is not None and self.peer.unsent)
        waiting = [request.request_id for request in conn.queue] + ([turn.request.request_id] if turn else [])
        assert sorted(waiting) == sorted(name for name, life in self.lives.items() if not life.ended)
        assert not conn.queue or state in (State.CONNECTING, State.STREAMING, State.RETIRING)
        # While retiring, the first that comes waits behind nobody, and its place is not one of the queue's.
        limits = [request.limits.queue_limit for request in conn.queue]
        assert len(conn.queue) <= max(limits, default=0) + (state is State.RETIRING)
        assert self.peer is None or self.peer.via is Via.WEBSOCKET or state is State.STREAMING, "an idle HTTP exchange"
        assert not conn.forgotten or turn is not None or state is State.STOPPED, "serves on under a key that was forgotten"
        assert conn.drained_by is None or not conn.queue, "somebody waits for a turn that will not come"
        assert conn.drained_by is None or turn is not None or state is State.STOPPED, "drained, and still here"
        assert self.stopped == (state is State.STOPPED)
        due = min(deadlines(conn), default=None) if state is not State.STOPPED else None
        assert due is None or (conn.alarm is not None and conn.alarm.at <= due + ALARM_SLACK), "no alarm in time"

    # What may happen

    def step(self) -> None:
        """Let one thing happen, drawn by weight."""
        self.now += self.rng.choice(PAUSES)
        happening = self.rng.choices(list(HAPPENINGS), WEIGHTS)[0]
        happening(self)
        if self.rng.random() < 0.02:
            self.check_liveness()

    def submit(self) -> None:
        living = [life for life in self.lives.values() if not life.ended]
        if living and self.rng.random() < 0.85:
            return
        if len(self.lives) > 8:
            self.lives = {name: life for name, life in self.lives.items() if not life.ended}
        self.ids += 1
        if self.rng.random() < 0.1:
            self.bearer = f"bearer {self.ids}"
        parsed = self.parsed = parse(full_text(orjson.dumps(self._body())), self.parsed)
        base = self.rng.randrange(len(LIMITS)) if self.rng.random() < 0.3 else self.base
        purpose, rare = self.rng.choice(PURPOSES), self.rng.random()
        self.warmed = parsed.payload if purpose is Purpose.PREFILL else None
        request = TurnRequest(
            request_id=f"r{self.ids}",
            payload=parsed.payload,
            body=parsed.text,
            grown=parsed.grown,
            endpoint="wss://other/" if rare < 0.02 else say.URL,
            fingerprint="other" if rare > 0.98 else "who",
            key="'k'",
            limits=model.variant(self.rng, base),
            received_at=self.now - self.rng.choice([0.0, 0.0, 1.0]),
            jitter=self.rng.random(),
            bearer=self.bearer,
            purpose=purpose,
        )
        self.lives[request.request_id] = Life(request)
        self.feed(put.Submitted(request))

    def _body(self) -> dict[str, Any]:
        """Return the conversation as its caller has it: grown, sometimes edited, branched or begun anew."""
        draw = self.rng.random()
        if self.warmed is not None and draw < 0.7:
            return self.warmed
        items = list(self.history)
        if draw < 0.04 or len(items) > 12:
            items = []
        elif draw < 0.05 and items:
            items[self.rng.randrange(len(items))] = say.user(f"edited {self.ids}")
        elif draw < 0.11 and items:
            items.pop(self.rng.randrange(len(items)))
        if draw > 0.02:
            items.append(say.user(f"question {self.ids}"))
        self.history = items
        body: dict[str, Any] = {"model": "other" if draw > 0.97 else "gpt", "input": items}
        if 0.9 < draw < 0.93:
            body["previous_response_id" if draw < 0.92 else "conversation"] = "theirs"
        return body

    def connect(self) -> None:
        if self.opening is None or self.conn.turn is None:
            return self.stale(put.Connected(self.conn.opening + self.rng.choice([-1, 1])))
        token, self.opening = self.opening, None
        turn = self.conn.turn
        if self.rng.random() < 0.08:
            details = self.rng.choice(REFUSALS)
            code = ErrorCode.WEBSOCKET_HANDSHAKE_FAILED if details else ErrorCode.WEBSOCKET_CONNECT_FAILED
            code = code if turn.via is Via.WEBSOCKET else ErrorCode.CONNECTION_LOST
            self.feed(put.ConnectFailed(token, code, details, retry_after=self.rng.choice([None, 3.0])))
        else:
            request = turn.request
            self.peer = Peer(request.endpoint, request.fingerprint, request.bearer, turn.via)
            self.feed(put.Connected(token))
        return None

    def misfit(self) -> None:
        """Bring what has no place or time: of an older attempt or alarm, or of no socket."""
        token = self.conn.opening - 1
        self.stale(put.Connected(token))
        self.stale(put.ConnectFailed(token, ErrorCode.WEBSOCKET_CONNECT_FAILED))
        self.stale(put.AlarmRang(self.conn.alarm.token - 1 if self.conn.alarm else self.conn.token))
        self.stale(put.Cancelled("nobody"))
        if self.peer is None:
            self.stale(put.Received((say.created(),)))
            self.stale(put.SocketFailed(ErrorCode.WEBSOCKET_CLOSED))
        if self.conn.turn is None or self.conn.turn.phase is not Phase.SENDING:
            self.stale(put.Sent())
        if self.conn.state is not State.RETIRING:
            self.stale(put.RetireAnswered(False))
        if self.stopped:
            self.stale(put.RetireAnswered(True))

    def write(self) -> None:
        if self.peer is not None and self.peer.unsent:
            self.peer.unsent = False
            self.feed(put.Sent())

    def receive(self) -> None:
        peer = self.peer
        if peer is None:
            return
        if peer.unsent and self.rng.random() < 0.9:
            return self.write()
        count = self.rng.randrange(4)
        batch, peer.script = peer.script[:count], peer.script[count:]
        ending = [event for event in batch if event.stage is Stage.TERMINAL]
        rejected = any(event in REJECTIONS for event in ending[:1])
        if rejected:
            self._undo_run()
        if ending and peer.awaited is not None:
            # The cache has it before the machine has: with the answer, the next request of the queue goes out.
            peer.cache = {peer.awaited: peer.history + peer.output}
            peer.newest = peer.awaited
            turn = self.conn.turn
            if turn is not None and turn.request.purpose is Purpose.RUN and self.rng.random() < 0.9:
                echo = peer.output if self.rng.random() < 0.5 else [say.assistant(peer.output[0]["content"][0]["text"])]
                self.history = turn.request.payload["input"] + echo
        if self.rng.random() < (0.9 if rejected else 0.985):
            self.feed(put.Received(tuple(batch)))
            return None
        peer.ended = True
        broken = put.SocketFailed(self.rng.choice(SOCKET_CODES))
        self.feed(put.Received(tuple(batch), last=True))
        self.feed(broken)
        assert self.peer is not peer
        return None

    def _undo_run(self) -> None:
        """The server says, or the socket does, that it has not run what was written last."""
        if self.conn.turn is not None:
            self.lives[self.conn.turn.request.request_id].runs -= 1

    def intrude(self) -> None:
        if self.peer is not None and self.conn.turn is None:
            self.feed(put.Received((self.rng.choice([say.RATE_LIMITS, say.delta("x"), say.LIMIT, say.error()]),)))

    def break_socket(self) -> None:
        if self.peer is None:
            return
        code, turn = self.rng.choice(SOCKET_CODES), self.conn.turn
        code = code if self.peer.via is Via.WEBSOCKET else ErrorCode.CONNECTION_LOST
        unsent = self.peer.unsent and self.rng.random() < 0.6
        too_big = self.peer.via is Via.WEBSOCKET and (turn is None or not turn.accepted) and self.rng.random() < 0.2
        if unsent or too_big:
            self._undo_run()
        self.feed(put.SocketFailed(code, {"close_code": 1009} if too_big else {}, unsent=unsent))

    def ring(self) -> None:
        if self.conn.alarm is not None:
            if self.rng.random() < 0.9:
                self.now = max(self.now, self.conn.alarm.at)
            self.feed(put.AlarmRang(self.conn.alarm.token))

    def rest(self) -> None:
        """See to the heartbeat for a while, as the actor's process does that waits."""
        if self.beat is None and self.rng.random() < 0.1:
            self.stale(put.Silent())
        while self.beat is not None and self.rng.random() < 0.7:
            if self.rng.random() < 0.7:
                self.now = max(self.now, self.beat.due)
            if self.beat.due > self.now:
                self.stale(put.Silent())
                self.beat = self.beat.heard(self.now) if self.beat is not None else None
            elif self.beat.pong_due is None:
                self.beat = self.beat.pinged(self.now)
            else:
                self.feed(put.Silent())
                assert self.conn.socket is None, "it goes on with a socket that is dead"

    def cancel(self) -> None:
        living = [name for name, life in self.lives.items() if not life.ended]
        if living:
            reason = self.rng.choice([ResetReason.CANCELLED, ResetReason.CALLER_GONE])
            self.feed(put.Cancelled(self.rng.choice(living), reason=reason))

    def supervise(self) -> None:
        if self.asked and self.rng.random() < (0.6 if self.conn.state is State.RETIRING else 0.4):
            # When it comes late, the connection goes on already.
            self.asked -= 1
            self.feed(put.RetireAnswered(self.rng.random() < (0.3 if self.conn.state is State.RETIRING else 0.8)))
        elif self.rng.random() < 0.05:
            self.feed(put.EvictAsked())

    def stop(self) -> None:
        draw = self.rng.random()
        if draw < 0.05:
            self.feed(put.StopAsked())
        elif draw < 0.08:
            self.feed(put.DrainAsked(self.rng.choice([0.0, 1.0, 5.0, 1000.0])))

    # Time alone

    def check_liveness(self) -> None:
        """From here on let only alarms ring: every request must be answered within the sum of the limits."""
        conn, now, rings = self.conn, self.now, 0
        requests = [*conn.queue, *([conn.turn.request] if conn.turn else [])]
        bound = now + RETIRE_ANSWER_TIMEOUT + sum(longest(request.limits) + LATE for request in requests) + LATE
        open_ = {request.request_id for request in requests}
        while open_:
            assert conn.alarm is not None, "outstanding, and nothing will ring"
            # After a hundred, take larger steps, as late wakeups would: one of the intervals is a millisecond.
            now = max(now, conn.alarm.at if rings < 100 else now + LATE)
            rings += 1
            conn, actions = transition(conn, put.AlarmRang(conn.alarm.token), now=now)
            open_ -= {action.request_id for action in actions if isinstance(action, ENDS)}
            assert now <= bound or not open_, f"{open_} are still waiting"
            assert rings < 5000, "an alarm that rings for nothing"


HAPPENINGS: dict[Callable[[World], Any], int] = {
    World.submit: 24,
    World.connect: 14,
    World.write: 14,
    World.receive: 40,
    World.intrude: 1,
    World.break_socket: 2,
    World.ring: 6,
    World.rest: 2,
    World.cancel: 2,
    World.supervise: 6,
    World.stop: 1,
    World.misfit: 1,
}
WEIGHTS = list(HAPPENINGS.values())
