"""What surrounds a connection that is played at random: limits that callers bring, the server behind the socket, and
what may happen between the two."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from pixir_actors.core import inputs as put
from pixir_actors.core.payload import continues_itself
from pixir_actors.core.server_event import ServerEvent
from pixir_actors.core.state import Connection, Purpose, State, Turn, TurnRequest, Via
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
TRANSPORTS = ["websocket"] * 9 + ["auto"] * 4 + ["http"]
VARIANTS = [
    {(way, retry): replace(limits, transport=way, retry_ambiguous=retry) for way in TRANSPORTS for retry in (True, False)}
    for limits in LIMITS
]
PURPOSES = [Purpose.RUN] * 30 + [Purpose.OPEN] * 2 + [Purpose.PREFILL] * 3

UNAUTHORIZED = say.error("invalid_api_key", 401)
REJECTIONS = (say.NOT_FOUND, say.LIMIT, UNAUTHORIZED)
REFUSALS = [*[{}] * 5, *({"status": status} for status in (401, 403, 404, 426, 503))]
"""Details of upgrades that failed; those with a status were refused."""
SOCKET_CODES = (ErrorCode.WEBSOCKET_CLOSED, ErrorCode.WEBSOCKET_READ_FAILED, ErrorCode.WEBSOCKET_FAILED)
FAILURES = (say.failed(), say.error(), say.event("response.cancelled"), say.error("connection_expiring", None))


@dataclass
class Life:
    """What was told to the caller of one request."""

    request: TurnRequest
    sends: int = 0
    runs: int = 0  # how often the server may have run it
    announced: bool = False
    shown: bool = False
    ended: bool = False


@dataclass
class Peer:
    """The server behind the open socket: what it remembers, and what it is about to say."""

    endpoint: str
    fingerprint: str
    bearer: str
    via: Via
    ended: bool = False  # its last frame has been read
    cache: dict[str, list[Any]] = field(default_factory=dict)
    newest: str | None = None
    unsent: bool = False
    script: list[ServerEvent] = field(default_factory=list)
    history: list[Any] = field(default_factory=list)
    output: list[Any] = field(default_factory=list)
    awaited: str | None = None  # the response that the script leads to

    def compose(self, rng: Random, number: int, turn: Turn, *, doubtful: bool) -> None:
        """Write the script of the answer to a request; `doubtful` makes a rejection likely."""
        id = f"resp_{number}"
        self.output = [say.assistant(f"answer {number}", id=f"msg_{number}")]
        text = f"answer {number}"
        kind = rng.random()
        script = [say.RATE_LIMITS] * (kind < 0.2) + [say.created(id)] * (rng.random() < 0.7)
        self.awaited = None
        if turn.request.bearer != self.bearer and rng.random() < 0.5:
            script.append(UNAUTHORIZED)
        elif turn.request.purpose is Purpose.PREFILL and kind > 0.1:
            script = self._warm_up(rng, id)
        elif kind < (0.25 if doubtful else 0.04):
            script.append(rng.choice(REJECTIONS))
        elif kind < (0.35 if doubtful else 0.12):
            script += [say.delta("x"), rng.choice(FAILURES), say.error()]
        else:
            self.awaited = id
            ending = say.incomplete if kind > 0.9 else say.completed
            form = rng.randrange(3)
            script += [say.delta(text[:3]), say.delta(text[3:])] if form else []
            script += [say.item_done(self.output[0])] if form == 1 else []
            script.append(ending(id, *(self.output if form != 2 else [])))
            script[-1] = ending(id, *self.output) if form == 0 else script[-1]
        script += [say.RATE_LIMITS] * (kind > 0.97) + [say.delta("late")] * (rng.random() < 0.03)
        self.script = script

    def _warm_up(self, rng: Random, id: str) -> list[ServerEvent]:
        """Answer a warm-up, in one of the ways seen in the wild."""
        match rng.randrange(6):
            case 0:
                return [say.created(id)]  # and never a terminal event
            case 1:
                return [say.created(""), say.completed("")]
            case 2:
                return [say.created(id), say.delta("an answer"), say.completed(id, *self.output)]
            case 3:
                self.awaited = id
                return [say.completed(id, *self.output)]
            case _:
                self.awaited, self.output = id, []
                return [say.created(id), say.completed(id)]


def variant(rng: Random, base: int) -> Settings:
    """Return limits of the same times, with a way to the provider and a wish for ambiguous requests of their own."""
    return VARIANTS[base][rng.choice(TRANSPORTS), rng.random() < 0.3]


def longest(limits: Settings) -> float:
    waits = (limits.connect_timeout, limits.send_timeout, limits.first_event_timeout, limits.idle_timeout)
    assert None not in waits
    # A second opening: over HTTP after the first came to nothing, or because the caller wants what may have run once more.
    return sum(wait for wait in (*waits, limits.connect_timeout) if wait is not None)


def visible(items: list[Any]) -> list[Any]:
    """Return of a history what a model sees: neither ids nor statuses."""
    return [{name: value for name, value in item.items() if name not in ("id", "status", "type")} for item in items]


def may_use_http(turn: Turn, before: Connection, input: put.Input, *, within: bool) -> bool:
    """Say whether an opening over HTTP is what was asked for, or has something to gain."""
    assert turn.request.purpose is Purpose.RUN
    if turn.request.limits.transport == "http" or (before.turn is not None and before.turn.via is Via.HTTP):
        return turn.request.limits.transport != "websocket"
    assert turn.request.limits.transport == "auto" and not continues_itself(turn.request.payload)
    if before.turn is None or before.turn.request is not turn.request:
        return within
    if isinstance(input, put.SocketFailed):
        return input.unsent or input.details.get("close_code") == 1009
    refused = isinstance(input, put.ConnectFailed) and input.details.get("status") not in (401, 403)
    return refused or (isinstance(input, put.AlarmRang) and before.state is State.CONNECTING)


def special(turn: Turn, wire: dict[str, Any]) -> list[str]:
    """Return what is special about a request that was written."""
    assert turn.plan is not None
    facts = {
        "delta": turn.plan.attempted,
        "empty delta": turn.plan.attempted and not wire["input"],
        "warm-up": turn.request.purpose is Purpose.PREFILL,
        "over http": turn.via is Via.HTTP,
        "fallback": turn.fallback_reason is not None,
        "fallback after an attempt": turn.fallback_reason is not None and turn.attempts > 1,
        "dead socket replaced": turn.replaced,
        "retried": turn.retried,
    }
    facts |= {f"after {rejection.value}": True for rejection in turn.replays}
    return [name for name, is_so in facts.items() if is_so]


def waiting_helps(before: Connection, input: put.Input, after: Connection) -> bool:
    """Say whether a failure is one that time may mend, or went over HTTP instead, until the window is over."""
    turn = before.turn
    if turn is None or (after.turn is not None and after.turn.fallback_reason is not None):
        return True
    if isinstance(input, put.ConnectFailed):
        refused = input.code is ErrorCode.WEBSOCKET_HANDSHAKE_FAILED
        return not refused or input.details.get("status") not in (401, 403, 404, 426)
    if isinstance(input, put.SocketFailed) and not input.unsent and not turn.accepted:
        return input.details.get("close_code") != 1009
    return True
