"""A caller as the scenarios need it: keeps its history, reads its streams to the end, and holds the model to its word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixir_actors import Client, Data, Event, Metadata, Request, Status, Stream
from pixir_actors.simulator import Simulator, same_history

Item = dict[str, Any]

BEFORE = {
    "transport_preference",
    "active_transport",
    "continuation_attempted",
    "continuation_reset_reason",
    "used_previous_response_id",
    "websocket_key",
    "websocket_stored_previous_response_id",
    "delivery_attempts",
    "wire_bytes",
    "full_bytes",
    "connection_age_ms",
    "queue_wait_ms",
}
"""Keys of the evidence that comes before an answer: behaviours C32, and five of ours."""
AFTER = {"websocket_captured_response_id", "websocket_stored_previous_response_id"}
"""Keys of the evidence that comes behind it: C33."""


def user(text: str, **fields: Any) -> Item:
    return {"role": "user", "content": text} | fields


def tool_output(call: Mapping[str, Any], output: str) -> Item:
    return {"type": "function_call_output", "call_id": call["call_id"], "output": output}


@dataclass
class Answer:
    """What came of one request that ended with a terminal event."""

    events: list[Event]
    metadata: dict[str, Any]
    text: str
    output: list[Item]
    response: dict[str, Any] | None

    @property
    def evidence(self) -> list[Mapping[str, Any]]:
        return [event.values for event in self.events if isinstance(event, Metadata)]

    @property
    def reason(self) -> Any:
        """Why it went out in full; None for a delta, which has to say that it was one."""
        reason = self.metadata["continuation_reset_reason"]
        assert self.metadata["continuation_attempted"] is (reason is None)
        return reason

    @property
    def types(self) -> list[str]:
        """The shape of all events, in order: "metadata", "status", and the types of the provider's."""
        return [shape(event) for event in self.events]


def shape(event: Event) -> str:
    match event:
        case Metadata():
            return "metadata"
        case Status():
            return "status"
        case Data():
            return event.type


@dataclass
class Caller:
    """One caller of one key. `send` and `say` raise as a program would see it: StreamError, ProviderError."""

    client: Client
    sim: Simulator
    key: Any
    model: str = "m"
    api_key: str | None = "token-1"
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    history: list[Item] = field(default_factory=list)
    url: str | None = None
    """Another base URL than the simulator's."""

    def request(self, input: str | list[Item] | None = None, **fields: Any) -> Request:
        return Request.responses(
            model=self.model,
            input=self.history if input is None else input,
            api_key=self.api_key,
            base_url=self.url or self.sim.base_url,
            headers=self.headers,
            **self.fields | fields,
        )

    def stream(self, input: str | list[Item] | None = None, **options: Any) -> Stream:
        return self.client.stream(self.key, self.request(input), **self.options | options)

    def send(self, input: str | list[Item] | None = None, *, exact: bool = True, **fields: Any) -> Answer:
        """Send a full input, and check what the model saw of it unless it was not `exact`ly that by design."""
        with self.client.stream(self.key, self.request(input, **fields), **self.options) as stream:
            events = list(stream)
        stream.raise_for_failure()
        answer = Answer(events, stream.metadata, stream.text, stream.output, stream.response)
        if exact and stream.response is not None:
            self.check(self.history if input is None else input, stream.response["id"])
        return answer

    def say(self, text: str) -> Answer:
        """Add a user message to the history, send it all, and add what was answered."""
        self.history = [*self.history, user(text)]
        answer = self.send()
        self.history += answer.output
        return answer

    def check(self, meant: str | list[Item], response_id: str) -> None:
        turns = [turn for turn in self.sim.turns if turn.response_id == response_id]
        assert len(turns) == 1, "a response that the simulator did not give"
        assert same_history(meant, turns[0].seen) is None

    def data(self, *, last: int = 1) -> list[dict[str, Any]]:
        """Return the last payloads that the server received, oldest first."""
        return [received.payload for received in self.sim.requests[-last:]]

    def wire(self) -> dict[str, Any]:
        """Return the last payload that the server received."""
        return self.data()[0]


def texts(items: str | Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the contents of messages, or a text as it is."""
    return [items] if isinstance(items, str) else [item.get("content") for item in items]
