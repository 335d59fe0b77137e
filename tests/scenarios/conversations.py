"""Random conversations, and the judgement over them: did the model see what the caller meant, each request once?

A scene is five conversations over three keys, taking turns, against a simulator of its own; everything in it follows from
its seed, but for what depends on time (how long a connection that failed is left alone). Callers branch, edit what was said,
switch models and accounts, echo answers in many forms, leave early, and come over the WebSocket, over HTTP, or either way
(`auto`); the server forgets, refuses, closes, breaks off and fails, on both ways.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

from pixir_actors import Client, Data, ErrorCode, Request, Stream, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext, same_history
from tests.conftest import within
from tests.scenarios.dealings import Dealings
from tests.scenarios.tally import Tally

Item = dict[str, Any]

CONVERSATIONS: Final = 5
TURNS: Final = (2, 7)
LIMIT: Final = within(20)
OPTIONS: Final[dict[str, Any]] = {"first_event_timeout": LIMIT, "idle_timeout": LIMIT}
WAYS: Final = ("websocket", "auto", "http")
HABITS: Final[dict[tuple[str, ...], int]] = {("websocket",): 5, ("auto",): 6, ("http",): 1, WAYS: 3}
"""What a caller may allow: always the same, or now this and now that; and how often that is."""
WINDOW: Final = (None, 0.05)
"""Seconds for which a connection that failed is left alone, at first; at most thrice that."""
FAILING: Final = (
    "cut_before_first_event",
    "cut_within_event",
    "cut_mid_text",
    "abort_tcp",
    "close_with",
    "invalid_json",
    "end_without_terminal",
)
HARMLESS: Final = ("coalesce", "fragment", "unknown_events", "other_sse_forms")
REFUSALS: Final = (403, 404, 426, 426, 429, 503)
CONNECTION_LIMIT: Final = b"websocket_connection_limit_reached"


@dataclass
class Plan:
    """One turn as its caller means it, and as the server is to play it."""

    meant: str | list[Item]
    input: str | list[Item]
    fields: dict[str, Any]
    reply: Reply
    way: str
    may_fail: bool = False
    leave_after: int | None = None

    @property
    def continues_itself(self) -> bool:
        return "previous_response_id" in self.fields


class Scene:
    """Five conversations over three keys. Runs in one thread; what should not be is noted, not raised.

    `awake` says whether the client's actors run between turns.
    """

    def __init__(self, seed: int, client: Client, *, awake: bool = True) -> None:
        self._client = client
        self.awake = awake
        self.rng = random.Random(seed)
        self.tally = Tally()
        self._seed = seed
        self._plans: dict[str, Plan] = {}
        self._count = 0
        self._asked: Counter[str] = Counter()
        self._window: float | None = self.rng.choice(WINDOW)
        self._troubled: dict[str, float] = {}  # key: when it last failed or fell back
        self._fell_back: set[str] = set()  # keys whose last turn did
        self.owed: Counter[str] = Counter()  # faults that are armed, and may meet a later turn than the one they were for

    def run(self) -> Tally:
        """Run the scene and return what became of it."""
        keys = [f"{self._seed}-{self.rng.getrandbits(64):x}-{letter}" for letter in "abc"]
        talks = {Conversation(self, self.rng.choice(keys)): self.rng.randint(*TURNS) for _ in range(CONVERSATIONS)}
        self.tally.conversations = len(talks)
        with Simulator(self._reply) as sim:
            self.sim = sim
            current: list[Conversation] = []
            while talks:
                if not current or current[0] not in talks or self.rng.random() < 0.12:
                    current = self.rng.sample(list(talks), min(len(talks), self.rng.choice([1, 1, 1, 2])))
                current = [talk for talk in current if talk in talks]
                self._turns(current)
                for talk in current:
                    talks[talk] -= 1
                talks = {talk: left for talk, left in talks.items() if left}
            for key in keys:
                self._each_ended_once(key)
                self._client.close(key)
            self._judge()
        return self.tally

    def differs(self, what: str) -> None:
        """Note something that must not be."""
        again = f"PIXIR_ORACLE_SEED={self._seed} PIXIR_ORACLE_CONVERSATIONS=1"
        self.tally.differences.append(f"seed {self._seed}: {what} (again: {again})")

    def _reply(self, turn: TurnContext) -> Reply:
        return self._plans[turn.payload["metadata"]["turn"]].reply

    def _turns(self, talks: list[Conversation]) -> None:
        """Submit a turn of each, then read them."""
        under_way = []
        for talk in talks:
            plan = talk.next_plan(alone=len(talks) == 1)
            self._count += 1
            name = f"{self._count}"
            self._plans[name] = plan
            request = talk.request(plan, name)
            under_way.append((talk, plan, name, self._submitted(talk.key, request, plan, name)))
        for talk, plan, name, stream in under_way:
            if stream is not None:
                talk.ended(stream, self._read(talk.key, stream, plan, name))

    def _submitted(self, key: str, request: Request, plan: Plan, name: str) -> Stream | None:
        self._asked[key] += 1
        window = {"degraded_for": self._window, "degraded_max": 3 * (self._window or 1)}
        try:
            return self._client.stream(key, request, transport=plan.way, **OPTIONS, **window)
        except StreamError as error:
            self.differs(f"turn {name} was not taken: {error}")
            return None

    def _read(self, key: str, stream: Stream, plan: Plan, name: str) -> bool:
        """Read a stream as planned; say whether it ended with a response that counts."""
        self.tally.turns += 1
        seen = 0
        try:
            with stream:
                for event in stream:
                    seen += isinstance(event, Data)
                    if seen == plan.leave_after:
                        if "fallback_reason" in stream.metadata:
                            self._troubled[key] = time.monotonic()
                        return False
        except StreamError as error:
            self._failed(key, error, plan, name)
            return False
        dealt = Dealings.of(self.sim, name, _token(name))
        self._count_evidence(key, stream, plan)
        for contradiction in dealt.contradictions(plan.way, stream.metadata):
            self.differs(f"turn {name}: {contradiction}")
        status = (stream.response or {}).get("status", "error")
        if status in ("completed", "incomplete"):
            self._heard(stream, name)
            return True
        self.tally.failures[status] += 1
        provoked = plan.may_fail or plan.reply.rejection is not None or plan.continues_itself or dealt.turned_away
        if not (provoked or self._was_refused_twice(stream)):
            self.differs(f"turn {name} was refused unprovoked")
        return False

    def _failed(self, key: str, error: StreamError, plan: Plan, name: str) -> None:
        """Count a failure, and judge whether it had to be, and what it says of the server."""
        self.tally.failures[error.code.value] += 1
        dealt = Dealings.of(self.sim, name, _token(name))
        told_to_wait = error.code is ErrorCode.WEBSOCKET_DEGRADED
        waits = told_to_wait and (plan.way == "websocket" or plan.continues_itself) and self._is_left_alone(key)
        if not (plan.may_fail or dealt.refused(error) or waits or self._was_owed(error, plan)):
            self.differs(f"turn {name} failed unprovoked: {error}")
        for wrong in (dealt.misjudged(error), *dealt.wrong_ways(plan.way)):
            if wrong is not None:
                self.differs(f"turn {name}: {wrong}")
        if not told_to_wait:
            self._troubled[key] = time.monotonic()
        self._fell_back.discard(key)

    def _was_owed(self, error: StreamError, plan: Plan) -> bool:
        """Say whether a failure is that of a fault which was armed for an earlier turn, and has not been met yet."""
        if error.details.get("close_code") == 1009 and (plan.way == "websocket" or plan.continues_itself):
            fault = "too_large"
        elif error.details.get("transport") == "http":
            fault = "cut_head"
        else:
            return False
        self.owed[fault] -= 1
        return self.owed[fault] >= 0

    def _was_refused_twice(self, stream: Stream) -> bool:
        """Say whether a turn met two refusals of its socket that were armed for earlier ones: the second one is told."""
        refused = stream._terminal is not None and CONNECTION_LIMIT in stream._terminal
        return refused and stream.metadata["delivery_attempts"] == 2 and self.owed["connection_limit"] >= 2

    def _is_left_alone(self, key: str) -> bool:
        """Say whether a key's connection may still be within its window; what the machine needs besides is allowed for."""
        longest = 0.0 if self._window is None else 3 * self._window + within(2)
        return time.monotonic() - self._troubled.get(key, float("-inf")) < longest

    def _count_evidence(self, key: str, stream: Stream, plan: Plan) -> None:
        values, tally = stream.metadata, self.tally
        tally.deltas += values["continuation_attempted"]
        tally.replays += values["delivery_attempts"] > 1
        tally.wire_bytes += values["wire_bytes"]
        tally.full_bytes += values["full_bytes"]
        if values["continuation_reset_reason"] is not None:
            tally.reasons[values["continuation_reset_reason"]] += 1
        tally.over_http += values["active_transport"] == "http_sse"
        fell_back = values.get("fallback_reason")
        if fell_back is not None:
            tally.fallbacks[fell_back] += 1
            self._troubled[key] = time.monotonic()
            self._fell_back.add(key)
        elif key in self._fell_back:
            tally.came_back += values["active_transport"] == "websocket"
            self._fell_back.discard(key)

    def _heard(self, stream: Stream, name: str) -> None:
        """Compare what a caller heard with what the server said."""
        assert stream.response is not None
        turn = next(turn for turn in self.sim.turns if turn.response_id == stream.response["id"])
        heard = same_history(stream.output, turn.output)
        if heard is not None:
            self.differs(f"turn {name}: the caller heard something else: {heard}")

    def _each_ended_once(self, key: str) -> None:
        """Compare how many requests a connection has answered with how many it was sent."""
        answered = sum(status.turns + status.failures for status in self._client.status(key))
        if answered != self._asked[key]:
            self.differs(f"key {key}: {self._asked[key]} requests had {answered} ends")

    def _judge(self) -> None:
        """Compare every request that ran with what its caller meant; none may have run twice."""
        ran: Counter[str] = Counter()
        for turn in self.sim.turns:
            name = self.sim.requests[turn.request_index].payload["metadata"]["turn"]
            ran[name] += 1
            difference = same_history(self._plans[name].meant, turn.seen)
            if difference is not None:
                self.differs(f"turn {name}: {difference}")
        for name, times in ran.items():
            if times > 1:
                self.differs(f"turn {name} ran {times} times")
        if self.sim.overlaps:
            self.differs(f"{len(self.sim.overlaps)} requests were sent before the one before them had ended")


class Conversation:
    """One caller's side: its history, its habits and its whims."""

    def __init__(self, scene: Scene, key: str) -> None:
        self.key = key
        self._scene, self._rng = scene, scene.rng
        self._history: list[Item] = []
        self._kept: list[list[Item]] = []
        self._open_calls: list[str] = []
        self._model = self._account = "a"
        self._query = ""
        self._ways = self._rng.choices(list(HABITS), list(HABITS.values()))[0]
        self._fields: dict[str, Any] = {"instructions": "Be brief."}
        self._last_id: str | None = None

    def next_plan(self, *, alone: bool) -> Plan:
        """Decide on the next turn; only one that runs `alone` may be disturbed."""
        rng = self._rng
        whim = rng.choices([whim for whim, _ in _WHIMS], [weight for _, weight in _WHIMS])[0]
        plan = whim(self) or self._said()
        if not alone:
            return plan
        if rng.random() < 0.16:
            rng.choice(_DISTURBANCES)(self, plan)
        if rng.random() < 0.04:
            plan.reply, plan.may_fail = plan.reply.with_faults(FAULTS[rng.choice(FAILING)]()), True
        elif rng.random() < 0.05:
            # In the middle of an answer, or while it may have come as a whole.
            plan.leave_after = rng.randint(1, 4)
            if plan.leave_after == 1:
                plan.reply = Reply.text(self._words()).with_faults(FAULTS["stall"]("mid_text"))
        return plan

    def request(self, plan: Plan, name: str) -> Request:
        """Return a plan as a request; `name` goes with it, for the server to know its turn by."""
        return Request.responses(
            model=self._model,
            input=plan.input,
            api_key=_token(name),
            base_url=self._scene.sim.base_url + self._query,
            headers={"account": self._account},
            metadata={"turn": name},
            **self._fields | plan.fields,
        )

    def ended(self, stream: Stream, counts: bool) -> None:
        """Take the answer into the history; after a failure the caller may have forgotten what it asked."""
        response = stream.response
        if counts and response is not None:
            output = echo(stream.output, self._rng)
            self._history = [*self._history, *output]
            self._open_calls = [item["call_id"] for item in output if item.get("type") == "function_call"]
            self._last_id = response["id"]
            self._kept.append(self._history)
        elif self._rng.random() < 0.5 and self._kept:
            self._history, self._open_calls = self._kept[-1], []

    # What a caller says

    def _said(self) -> Plan:
        """Tool results if some are due, else a user message."""
        self._history = [*self._history, *self._news()]
        return self._plan(self._history, self._history)

    def _news(self) -> list[Item]:
        calls, self._open_calls = self._open_calls, []
        results = [{"type": "function_call_output", "call_id": call, "output": self._words()} for call in calls]
        if results and self._rng.random() < 0.8:
            return results
        text = self._words()
        content = text if self._rng.random() < 0.5 else [{"type": "input_text", "text": text}]
        return [*results, {"role": "user", "content": content}]

    def _plan(self, meant: str | list[Item], input: str | list[Item], **fields: Any) -> Plan:
        return Plan(meant, input, fields, self._any_reply(), self._rng.choice(self._ways))

    def _words(self) -> str:
        return " ".join(self._rng.choices(["alpha", "beta", "gamma", "delta", "größer", "ε"], k=self._rng.randint(1, 6)))

    def _any_reply(self) -> Reply:
        rng = self._rng
        text, deltas = self._words(), rng.randint(1, 3)
        reply = rng.choices(
            [
                Reply.text(text, deltas=deltas),
                Reply.reasoning_and_text(self._words(), text, deltas=deltas),
                Reply.items(self._items(), deltas=deltas),
                Reply.incomplete(text, deltas=deltas),
                Reply.failed("server_error", "It broke.", after=rng.choice(["created", "output"])),
                Reply.error(rng.choice([400, 429, 500]), "some_error", "No.", after=rng.choice(["nothing", "output"])),
                Reply.error(400, "previous_response_not_found", "Not found, though it has begun.", after="output"),
            ],
            [16, 8, 16, 2, 2, 2, 1],
        )[0]
        form = rng.random()
        if form < 0.15:
            reply = reply.empty_terminal_output()
        elif form < 0.25 and [item.get("type") for item in reply.output] == ["message"]:
            reply = reply.no_items()
        return reply.with_faults(FAULTS[rng.choice(HARMLESS)]()) if rng.random() < 0.1 else replace(reply)

    def _items(self) -> list[Item]:
        rng = self._rng
        choices: list[Callable[[], Item]] = [
            lambda: {"type": "reasoning", "summary": [{"type": "summary_text", "text": self._words()}]},
            lambda: {"type": "message", "role": "assistant", "content": self._words()},
            lambda: {"type": "web_search_call", "action": {"type": "search", "query": self._words()}},
        ]
        before = [rng.choice(choices)() for _ in range(rng.randint(0, 2))]
        calls = [self._call() for _ in range(rng.randint(1, 3))]
        return before + calls

    def _call(self) -> Item:
        arguments = json.dumps({"b": self._rng.randint(0, 9), "a": [self._words(), None, True, 1.5]})
        call_id = f"call_{self._rng.getrandbits(32):x}"
        return {"type": "function_call", "name": "tool", "arguments": arguments, "call_id": call_id}

    # Whims: a change before the next turn, or a turn of another kind

    def _branch(self) -> None:
        if self._kept:
            self._history, self._open_calls = self._rng.choice(self._kept), []

    def _edit(self) -> None:
        """Change, drop, double or move one item."""
        if not self._history:
            return
        history = deepcopy(self._history)
        position = self._rng.randrange(len(history))
        match self._rng.choice(["change", "change", "drop", "double", "move"]):
            case "change":
                history[position] = _changed(history[position], self._words())
            case "drop":
                del history[position]
            case "double":
                history.insert(position, history[position])
            case "move":
                history.append(history.pop(position))
        self._history, self._open_calls = history, []

    def _switch_model(self) -> None:
        self._model = self._rng.choice("ab")

    def _switch_account(self) -> None:
        self._account = self._rng.choice("ab")

    def _switch_endpoint(self) -> None:
        self._query = self._rng.choice(["", "?b=1"])

    def _change_fields(self) -> None:
        self._fields = {"instructions": self._words(), "temperature": self._rng.random(), "store": True}

    def _repeat(self) -> Plan | None:
        return self._plan(self._history, self._history) if self._history else None

    def _text(self) -> Plan:
        text = self._words()
        self._history = [{"role": "user", "content": text}]
        return self._plan(text, text)

    def _own_continuation(self) -> Plan | None:
        """Continue from the newest answer by id, as a caller may who keeps count itself."""
        if self._last_id is None or not self._kept or self._history is not self._kept[-1]:
            return None
        news = self._news()
        self._history = [*self._history, *news]
        return self._plan(self._history, news, previous_response_id=self._last_id)

    # Disturbances between two turns

    def _server_closes(self, _: Plan) -> None:
        sim = self._scene.sim
        ways: list[Callable[[], None]] = [sim.close_connection, sim.abort_connection]
        while left := sim.open_connections:
            how = self._rng.choice(ways)
            with suppress(LookupError):  # it has ended in this moment, by itself
                # An actor that sleeps does not answer a close frame, and the server waits for that.
                how() if self._scene.awake else sim.abort_connection()
            sim.wait_for(lambda seen, left=left: seen.open_connections < left, LIMIT)  # type: ignore[misc]

    def _server_forgets(self, _: Plan) -> None:
        self._scene.sim.evict()

    def _id_is_refused(self, _: Plan) -> None:
        self._scene.sim.inject(FAULTS["not_found"](self._rng.choice(["nested", "flat", "failed", "message"])))

    def _connection_is_refused(self, _: Plan) -> None:
        self._scene.sim.inject(FAULTS["connection_limit"]())
        self._scene.owed["connection_limit"] += 1

    def _upgrade_is_refused(self, plan: Plan) -> None:
        """Refuse the next upgrade; mostly this turn is the one that needs it."""
        self._scene.sim.inject(FAULTS["refuse_upgrade"](self._rng.choice(REFUSALS)))
        if self._rng.random() < 0.8:
            self._server_closes(plan)

    def _message_is_too_large(self, _: Plan) -> None:
        self._scene.sim.inject(FAULTS["too_large"]())
        self._scene.owed["too_large"] += 1

    def _post_is_refused(self, _: Plan) -> None:
        """Refuse the next request over HTTP, which may not be this one."""
        body = json.dumps({"error": {"code": "some_error", "message": "No."}})
        self._scene.sim.inject(FAULTS["refuse"](self._rng.choice([404, 429, 503]), body=body))

    def _post_is_not_answered(self, plan: Plan) -> None:
        """Run the request, and break off before the answer, or within the head of it."""
        if plan.way == "http":
            self._scene.sim.inject(FAULTS["cut_head"](self._rng.choice([0, 9])))
            self._scene.owed["cut_head"] += 1


_WHIMS: Final[tuple[tuple[Callable[[Conversation], Plan | None], int], ...]] = (
    (lambda talk: None, 110),
    (Conversation._branch, 6),
    (Conversation._edit, 8),
    (Conversation._switch_model, 5),
    (Conversation._switch_account, 3),
    (Conversation._switch_endpoint, 3),
    (Conversation._change_fields, 5),
    (Conversation._repeat, 4),
    (Conversation._text, 2),
    (Conversation._own_continuation, 3),
)
_DISTURBANCES: Final = (
    Conversation._server_closes,
    Conversation._server_forgets,
    Conversation._id_is_refused,
    Conversation._connection_is_refused,
    Conversation._upgrade_is_refused,
    Conversation._upgrade_is_refused,
    Conversation._upgrade_is_refused,
    Conversation._message_is_too_large,
    Conversation._post_is_refused,
    Conversation._post_is_not_answered,
)


def _token(name: str) -> str:
    """Return the bearer of a turn: each has its own."""
    return f"token-{name}"


def _changed(item: Item, text: str) -> Item:
    name = next((name for name in ("arguments", "output", "content", "summary") if name in item), "content")
    value: Any = json.dumps({"a": text}) if name == "arguments" else text
    return item | {name: [{"type": "summary_text", "text": text}] if name == "summary" else value}


def echo(items: Iterable[Item], rng: random.Random) -> list[Item]:
    """Return a provider's items as clients send them back: in full, or stripped of this and that."""
    habit = rng.choice(["all", "all", "no ids", "short", "no reasoning", "respaced"])
    result = []
    for item in deepcopy(list(items)):
        if habit in ("no ids", "short"):
            item = {name: value for name, value in item.items() if name not in ("id", "status")}
        if habit == "short" and item.get("type") == "message" and len(item["content"]) == 1:
            item = {"role": "assistant", "content": item["content"][0]["text"]}
        if habit == "respaced" and "arguments" in item:
            item["arguments"] = json.dumps(json.loads(item["arguments"]), indent=1, sort_keys=True)
        if habit not in ("no reasoning", "short") or item.get("type") != "reasoning":
            result.append(item)
    return result
