"""openai-agents' WebSocket model: given the id to continue from, as its runner gives it with `auto_previous_response_id`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.asks import MODEL, Ask
from benchmarks.peers.base import DELTAS, TERMINAL, AsyncPeer, Seen, terminal


class Conversation:
    """One model, which holds one socket."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.newest: str | None = None


class Agents(AsyncPeer[Conversation]):
    """One model per conversation, one client of the SDK for all of them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        openai: Any = import_module("openai")
        self._agents: Any = import_module("agents")
        self._models: Any = import_module("agents.models.openai_responses")
        self._client = openai.AsyncOpenAI(api_key="none", base_url=url.replace("ws://", "http://"), websocket_base_url=url)
        self._settings = self._agents.ModelSettings(store=False)

    async def open(self, key: str) -> Conversation:
        return Conversation(self._models.OpenAIResponsesWSModel(MODEL, self._client))

    async def turn(self, conversation: Conversation, ask: Ask, seen: Seen) -> None:
        stream = conversation.model.stream_response(
            system_instructions=None,
            input=ask.input(),
            model_settings=self._settings,
            tools=[],
            output_schema=None,
            handoffs=[],
            tracing=self._agents.ModelTracing.DISABLED,
            previous_response_id=conversation.newest,
        )
        async for event in stream:
            if (kind := event.type) in DELTAS:
                seen(event.delta)
            elif kind in TERMINAL:
                terminal(kind, event)
                conversation.newest = event.response.id

    def forget(self, conversation: Conversation) -> None:
        conversation.newest = None

    async def end(self, conversation: Conversation) -> None:
        await conversation.model.close()

    async def finish(self) -> None:
        await self._client.close()
