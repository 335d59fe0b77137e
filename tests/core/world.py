"""Everything around one connection, played at random: callers, a server with its cache, a supervisor, time.

`World.step` draws one thing that may happen, lets it happen, and checks every invariant of `lifecycle` afterwards. What is
drawn comes from a `random.Random`, so that a seed, or hypothesis, can play it again.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core.continuation import Anchor, ResetReason
from pixir_actors.core.lifecycle import ALARM_SLACK, RETIRE_ANSWER_TIMEOUT, RULES, _deadlines, transition
from pixir_actors.core.payload import continues_itself, full_payload
from pixir_actors.core.server_event import ServerEvent, Stage
from pixir_actors.core.state import Connection, Phase, State, TurnRequest
from pixir_actors.errors import ErrorCode
from pixir_actors.settings import Settings
from tests.core import machine as say

LIMITS = [
    Settings(keepalive_interval=8.0, pong_timeout=3.0, idle_close_after=40.0, max_connection_age=60.0, queue_limit=2),
    Settings(queue_timeout=5.0, timeout=20.0, degraded_for=None, keepalive_interval=None, idle_close_after=15.0),
    Settings(connect_timeout=1.0, send_timeout=1.0, first_event_timeout=2.0, idle_timeout=2.0, queue_limit=0),
    Settings(idle_close_after=3.0, degraded_for=8.0, first_event_timeout=9.0, max_connection_age=5.0, timeout=30.0),
    Settings(pong_timeout=None, keepalive_interval=0.001, idle_close_after=0.001, degraded_for=0.001, timeout=9.0),
]
"""All of them end every wait, so that time alone answers every request."""

ENDS = (act.Finish, act.Fail, act.Redirect)
TOLD = (act.Queued, act.Sending, act.Show, act.ShowStatus, act.Deliver, *ENDS)
REJECTIONS = (say.NOT_FOUND, say.LIMIT)
FAILURES = (say.failed(), say.error(), say.event("response.cancelled"), say.error("connection_expiring", None))
SOCKET_CODES = (ErrorCode.WEBSOCKET_CLOSED, ErrorCode.WEBSOCKET_READ_FAILED, ErrorCode.WEBSOCKET_FAILED)
PAUSES = [0.0] * 6 + [0.01] * 3 + [0.3, 2.0]
"""Seconds that may pass between two happenings."""
LATE = 0.25
"""Seconds by which wakeups may be late where time alone passes."""


@dataclass
class Life:
    """What was told to the caller of one request."""

    request: TurnRequest
    sends: int = 0
    announced: bool = False
    ended: bool = False


@dataclass
class Peer:
    """The server behind the open socket: what it remembers, and what it is about to say."""

    endpoint: str
    fingerprint: str
    cache: dict[str, list[Any]] = field(default_factory=dict)
    newest: str | None = None
    unsent: bool = False
    script: list[ServerEvent] = field(default_factory=list)
    history: list[Any] = field(default_factory=list)
    output: list[Any] = field(default_factory=list)
    awaited: str | None = None  # the response that the script leads to


class World:
    """One connection and what surrounds it."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.now = rng, rng.choice([-500.0, 0.0, 1000.0])
        self.conn = Connection.new(now=self.now, limits=rng.choice(LIMITS))
        self.lives: dict[str, Life] = {}
        self.peer: Peer | None = None
        self.opening: int | None = None
        self.stopped = False
        self.ids = 0
        self.history: list[Any] = []
        self.seen: Counter[tuple[State, type, State]] = Counter()
        self.sends: Counter[tuple[bool, bool, bool]] = Counter()
        """Requests written: as a delta, after a rejection, after a dead socket."""
        self.count = 0
        self.feed(put.Begun())

    # Feeding, and what must hold after every single transition

    def feed(self, input: put.Input) -> list[act.Action]:
        before = self.conn
        kept = copy.deepcopy((before, input)) if self.rng.random() < 0.02 else None
        after, actions = transition(before, input, now=self.now)
        assert (after, actions) == transition(before, input, now=self.now), "not deterministic"
        assert kept is None or kept == (before, input), "an input was changed in place"
        rule = RULES.get((before.state, type(input)))
        allowed = {before.state} if rule is None else rule.targets
        assert after.state in allowed, f"{before.state} -> {after.state} on {input}"
        self.seen[before.state, type(input), after.state] += 1
        self.count += 1
        self.conn = after
        for action in actions:
            self._perform(action, before)
        self._check()
        return actions

    def stale(self, input: put.Input) -> None:
        """Feed what is stale: nothing may change, nothing may happen."""
        before = self.conn
        assert self.feed(input) == []
        assert self.conn == before

    def _perform(self, action: act.Action, before: Connection) -> None:
        if isinstance(action, TOLD):
            self._told(action)
        elif isinstance(action, act.Open):
            assert self.peer is None and self.opening is None, "a second socket"
            assert before.backoff.remaining(self.now) == 0, "opened within the degraded window"
            self.opening = action.token
        elif isinstance(action, act.AbandonOpening):
            assert self.opening is not None
            self.opening = None
        elif isinstance(action, act.Send):
            self._written(action)
        elif isinstance(action, act.Ping | act.CloseSocket):
            assert self.peer is not None, f"{action} on a closed socket"
            self.peer = None if isinstance(action, act.CloseSocket) else self.peer
        elif isinstance(action, act.Stop):
            assert not self.stopped
            self.stopped = True

    def _told(self, action: Any) -> None:
        life = self.lives[action.request_id]
        assert not life.ended, f"{action} after the end"
        life.ended = isinstance(action, ENDS)
        assert not self.stopped or isinstance(action, act.Redirect)
        if isinstance(action, act.Sending):
            life.announced = True
        assert life.announced or not isinstance(action, act.Show | act.ShowStatus | act.Deliver | act.Finish)

    def _written(self, send: act.Send) -> None:
        peer, turn = self.peer, self.conn.turn
        assert peer is not None and not peer.unsent, "sent on no socket, or while another message is unsent"
        assert turn is not None and turn.plan is not None
        life = self.lives[turn.request.request_id]
        life.sends += 1
        assert life.announced and life.sends <= 1 + len(turn.replays) + turn.replaced
        assert not turn.replays or not continues_itself(turn.request.payload)
        wire, full = orjson.loads(send.data), turn.request.payload
        own = full.get("previous_response_id")
        assert ("previous_response_id" in wire) == (turn.plan.attempted or own is not None)
        assert (peer.endpoint, peer.fingerprint) == (turn.request.endpoint, turn.request.fingerprint)
        self.sends[turn.plan.attempted, bool(turn.replays), turn.replaced] += 1
        if turn.plan.attempted:
            assert own is None and peer.newest is not None and wire["previous_response_id"] == peer.newest
            meant = peer.cache[peer.newest] + wire["input"]
            assert visible(meant) == visible(full["input"]), "the model sees another history than the caller meant"
        else:
            assert wire == full
        peer.unsent, peer.history = True, full["input"]
        self._compose(peer, turn.plan.attempted or bool(turn.replays))

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
        assert self.stopped == (state is State.STOPPED)
        due = min(_deadlines(conn), default=None) if state is not State.STOPPED else None
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
        payload, body = full_payload(orjson.dumps(self._body()))
        limits = self.rng.choice(LIMITS) if self.rng.random() < 0.3 else self.conn.limits
        rare = self.rng.random()
        request = TurnRequest(
            request_id=f"r{self.ids}",
            payload=payload,
            body=body,
            endpoint="wss://other/" if rare < 0.02 else say.URL,
            fingerprint="other" if rare > 0.98 else "who",
            key="'k'",
            limits=limits,
            received_at=self.now - self.rng.choice([0.0, 0.0, 1.0]),
            jitter=self.rng.random(),
        )
        self.lives[request.request_id] = Life(request)
        self.feed(put.Submitted(request))

    def _body(self) -> dict[str, Any]:
        """Return the conversation as its caller has it: grown, sometimes edited, branched or begun anew."""
        draw = self.rng.random()
        items = list(self.history)
        if draw < 0.04 or len(items) > 12:
            items = []
        elif draw < 0.08 and items:
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
        if self.rng.random() < 0.08:
            code = self.rng.choice([ErrorCode.WEBSOCKET_CONNECT_FAILED, ErrorCode.WEBSOCKET_HANDSHAKE_FAILED])
            self.feed(put.ConnectFailed(token, code, retry_after=self.rng.choice([None, 3.0])))
        else:
            self.peer = Peer(self.conn.turn.request.endpoint, self.conn.turn.request.fingerprint)
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
            self.stale(put.RetireAnswered(self.rng.random() < 0.5))

    def write(self) -> None:
        if self.peer is not None and self.peer.unsent:
            self.peer.unsent = False
            self.feed(put.Sent())

    def _compose(self, peer: Peer, doubtful: bool) -> None:
        """Write the script of the answer to a request."""
        self.ids += 1
        rng, id = self.rng, f"resp_{self.ids}"
        peer.output = [say.assistant(f"answer {self.ids}", id=f"msg_{self.ids}")]
        text = f"answer {self.ids}"
        kind = rng.random()
        script = [say.RATE_LIMITS] * (kind < 0.2) + [say.created(id)] * (rng.random() < 0.7)
        peer.awaited = None
        if kind < (0.25 if doubtful else 0.04):
            script.append(rng.choice(REJECTIONS))
        elif kind < (0.35 if doubtful else 0.12):
            script += [say.delta("x"), rng.choice(FAILURES), say.error()]
        else:
            peer.awaited = id
            ending = say.incomplete if kind > 0.9 else say.completed
            form = rng.randrange(3)
            script += [say.delta(text[:3]), say.delta(text[3:])] if form else []
            script += [say.item_done(peer.output[0])] if form == 1 else []
            script.append(ending(id, *(peer.output if form != 2 else [])))
            script[-1] = ending(id, *peer.output) if form == 0 else script[-1]
        script += [say.RATE_LIMITS] * (kind > 0.97) + [say.delta("late")] * (rng.random() < 0.03)
        peer.script = script

    def receive(self) -> None:
        peer = self.peer
        if peer is None:
            return
        if peer.unsent and self.rng.random() < 0.9:
            return self.write()
        count = self.rng.randrange(4)
        batch, peer.script = peer.script[:count], peer.script[count:]
        ending = [event for event in batch if event.stage is Stage.TERMINAL]
        if ending and peer.awaited is not None:
            # The cache has it before the machine has: with the answer, the next request of the queue goes out.
            peer.cache = {peer.awaited: peer.history + peer.output}
            peer.newest = peer.awaited
            turn = self.conn.turn
            if turn is not None and self.rng.random() < 0.9:
                echo = peer.output if self.rng.random() < 0.5 else [say.assistant(peer.output[0]["content"][0]["text"])]
                self.history = turn.request.payload["input"] + echo
        self.feed(put.Received(tuple(batch)))
        return None

    def intrude(self) -> None:
        if self.peer is not None and self.conn.turn is None:
            self.feed(put.Received((self.rng.choice([say.RATE_LIMITS, say.delta("x"), say.LIMIT, say.error()]),)))

    def break_socket(self) -> None:
        if self.peer is not None:
            code = self.rng.choice(SOCKET_CODES)
            self.feed(put.SocketFailed(code, unsent=self.peer.unsent and self.rng.random() < 0.6))

    def ring(self) -> None:
        if self.conn.alarm is not None:
            if self.rng.random() < 0.9:
                self.now = max(self.now, self.conn.alarm.at)
            self.feed(put.AlarmRang(self.conn.alarm.token))

    def cancel(self) -> None:
        living = [name for name, life in self.lives.items() if not life.ended]
        if living:
            reason = self.rng.choice([ResetReason.CANCELLED, ResetReason.CALLER_GONE])
            self.feed(put.Cancelled(self.rng.choice(living), reason=reason))

    def supervise(self) -> None:
        if self.conn.state is State.RETIRING and self.rng.random() < 0.7:
            self.feed(put.RetireAnswered(self.rng.random() < 0.3))
        elif self.rng.random() < 0.05:
            self.feed(put.EvictAsked())

    def stop(self) -> None:
        if self.rng.random() < 0.1:
            self.feed(put.StopAsked())

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


def longest(limits: Settings) -> float:
    waits = (limits.connect_timeout, limits.send_timeout, limits.first_event_timeout, limits.idle_timeout)
    assert None not in waits
    return sum(wait for wait in waits if wait is not None)


def visible(items: list[Any]) -> list[Any]:
    """Return of a history what a model sees: neither ids nor statuses."""
    return [{name: value for name, value in item.items() if name not in ("id", "status", "type")} for item in items]


HAPPENINGS: dict[Callable[[World], Any], int] = {
    World.submit: 20,
    World.connect: 14,
    World.write: 14,
    World.receive: 40,
    World.intrude: 1,
    World.break_socket: 2,
    World.ring: 6,
    World.cancel: 2,
    World.supervise: 6,
    World.stop: 1,
    World.misfit: 1,
}
WEIGHTS = list(HAPPENINGS.values())
