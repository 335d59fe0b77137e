"""What the server answers: replies, and the scripts that choose them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from pixir_actors.simulator.fault import Fault, checked
from pixir_actors.simulator.record import Via
from pixir_actors.simulator.rejection import After, ErrorForm, Rejection, error_type

Item = dict[str, Any]
Point = Literal["created", "first_output", "terminal"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Made by the class methods, changed by the others, each of which returns a new one."""

    output: tuple[Item, ...] = ()
    deltas: int = 3
    incomplete_reason: str | None = None
    rejection: Rejection | None = None
    verbatim: tuple[Mapping[str, Any] | bytes, ...] | None = None
    faults: tuple[Fault, ...] = ()
    pace: float = 0.0
    holds: tuple[tuple[Point, threading.Event], ...] = field(default=(), repr=False)
    terminal_output: bool = True
    item_events: bool = True
    terminal_padding: int = 0

    @classmethod
    def text(cls, text: str, *, deltas: int = 3) -> Reply:
        """Answer one assistant message, streamed in at most so many deltas."""
        return cls((_message(text),), deltas)

    @classmethod
    def tool_call(cls, name: str, arguments: Mapping[str, Any] | str, call_id: str | None = None) -> Reply:
        """Answer one function call; a mapping becomes JSON text, and a call id is made when none is given."""
        return cls((_call(name, arguments, call_id),))

    @classmethod
    def items(cls, items: Iterable[Mapping[str, Any]], *, deltas: int = 3) -> Reply:
        """Answer these output items in order; a missing id or status is filled in, a text content becomes a part."""
        return cls(tuple(dict(item) for item in items), deltas)

    @classmethod
    def reasoning_and_text(cls, summary: str, text: str, *, deltas: int = 3) -> Reply:
        """Answer a reasoning item and a message."""
        reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": summary}]}
        return cls((reasoning, _message(text)), deltas)

    @classmethod
    def incomplete(cls, text: str, reason: str = "max_output_tokens", *, deltas: int = 3) -> Reply:
        """Answer a message that ends early, with `response.incomplete`."""
        return cls((_message(text),), deltas, incomplete_reason=reason)

    @classmethod
    def failed(cls, code: str, message: str, *, after: After = "created") -> Reply:
        """Run, and end with `response.failed`."""
        return cls((_message("so far"),), rejection=Rejection(code, message, form="failed", after=after))

    @classmethod
    def error(
        cls,
        status: int | None,
        code: str,
        message: str,
        *,
        form: ErrorForm = "nested",
        headers: Mapping[str, Any] | None = None,
        after: After = "nothing",
    ) -> Reply:
        """Answer an `error` event; see `Rejection` for the arguments."""
        rejection = Rejection(code, message, status, form, headers, after=after, type=error_type(status))
        return cls((_message("so far"),), rejection=rejection)

    @classmethod
    def events(cls, events: Iterable[Mapping[str, Any] | bytes]) -> Reply:
        """Send these events verbatim, each as one text message; nothing is added, not even a terminal event.

        Over HTTP they are server-sent events, and the body ends after them.
        """
        return cls(verbatim=tuple(events))

    def with_faults(self, *faults: Fault) -> Reply:
        """Apply faults to this answer; their selectors and `times` do not matter."""
        faults = tuple(checked(fault) for fault in faults)
        if any(fault.phase in ("accept", "upgrade", "upgraded", "ping") for fault in faults):
            raise ValueError("a reply cannot carry a fault of the handshake or of pings: give it to the simulator")
        return replace(self, faults=self.faults + faults)

    def paced(self, seconds: float) -> Reply:
        """Wait so many seconds before each event but the first."""
        return replace(self, pace=seconds)

    def held(self, event: threading.Event, point: Point = "first_output") -> Reply:
        """Wait, before a point, until the test sets the event."""
        return replace(self, holds=(*self.holds, (point, event)))

    def empty_terminal_output(self) -> Reply:
        """Send the items by `response.output_item.done` only: the terminal event lists `output: []`."""
        return replace(self, terminal_output=False)

    def no_items(self) -> Reply:
        """Send text deltas only: no item events, and a terminal event with `output: []`."""
        return replace(self, terminal_output=False, item_events=False)

    def with_big_terminal(self, size: int) -> Reply:
        """Pad the terminal event by so many bytes (in `response.metadata`)."""
        return replace(self, terminal_padding=size)


@dataclass(frozen=True, slots=True, repr=False)
class TurnContext:
    """What a script function is given: one request that is about to run.

    Attributes:
        payload: The `response.create` as received.
        seen: What the model sees: the history of `previous_response_id`, then the request's input.
        input: The request's own input items.
        connection: Number of the connection, from 0.
        request_index: Index in `Simulator.requests`.
        via: The way it came, "websocket" or "http".
    """

    payload: Mapping[str, Any]
    seen: Sequence[Item]
    input: Sequence[Item]
    connection: int
    request_index: int
    via: Via = "websocket"

    @property
    def model(self) -> str:
        """The request's model."""
        return str(self.payload["model"])

    @property
    def tools(self) -> list[str]:
        """Names of the request's tools."""
        tools = self.payload.get("tools") or []
        return [tool["name"] for tool in tools if isinstance(tool, Mapping) and isinstance(tool.get("name"), str)]

    @property
    def last(self) -> Item:
        """The last item that the model sees, or an empty one."""
        return self.seen[-1] if self.seen else {}

    @property
    def text(self) -> str:
        """Text of the last item: a message's, or a tool's output; "" for any other."""
        return _text_of(self.last.get("content", self.last.get("output", "")))


Script = Callable[[TurnContext], Reply]


def coding_agent(turn: TurnContext) -> Reply:
    """The default script: answer deterministically.

    A user message that says "use <tool>", where the request has that tool, gets a call of it, with the JSON object that
    follows as arguments, if one does. A tool's output is quoted in a text. Any other user message is echoed.
    """
    match turn.last:
        case {"type": "function_call_output"}:
            return Reply.text(f"The tool returned: {turn.text}")
        case {"role": "user"}:
            return _tool_wanted(turn) or Reply.text(f"You said: {turn.text}")
    return Reply.text("Ready.")


class Player:
    """Chooses the reply for each request: a list in order and then the default, or a function."""

    def __init__(self, script: Script | Iterable[Reply] | None) -> None:
        self._function: Script = script if callable(script) else coding_agent
        self._replies = iter(() if script is None or callable(script) else _listed(script))

    def reply(self, turn: TurnContext) -> Reply:
        """Return the next reply. Raises what a script function raises."""
        reply = next(self._replies, None) or self._function(turn)
        if not isinstance(reply, Reply):
            raise TypeError(f"the script returned a {type(reply).__name__}, not a Reply")
        return reply


def _listed(script: object) -> list[Reply]:
    """Return the replies of a list, checked: a wrong one would break the server when its turn comes."""
    if isinstance(script, str) or not isinstance(script, Iterable):
        raise TypeError(f"a {type(script).__name__} is no script: give a list of Reply, or a function that returns one")
    replies = list(script)
    for item in replies:
        if not isinstance(item, Reply):
            raise TypeError(f"the script holds a {type(item).__name__}, not a Reply")
    return replies


_WISH: Final = re.compile(r"\buse ([A-Za-z0-9_.-]*[A-Za-z0-9_-])", re.IGNORECASE)


def _tool_wanted(turn: TurnContext) -> Reply | None:
    for wish in _WISH.finditer(turn.text):
        if wish[1] in turn.tools:
            return Reply.tool_call(wish[1], _first_object(turn.text[wish.end() :]))
    return None


def _first_object(text: str) -> str:
    """Return the first JSON object in a text, as written; "{}" if there is none."""
    start = text.find("{")
    try:
        _, end = json.JSONDecoder().raw_decode(text, start) if start >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return "{}"
    return text[start:end] if end else "{}"


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))


def _message(text: str) -> Item:
    return {"type": "message", "role": "assistant", "content": text}


def _call(name: str, arguments: Mapping[str, Any] | str, call_id: str | None) -> Item:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": "function_call", "name": name, "arguments": written} | ({"call_id": call_id} if call_id else {})
