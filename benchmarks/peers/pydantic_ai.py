"""pydantic-ai's model with `openai_transport="websocket"`: given the whole history, it continues by itself where it can."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.asks import MODEL, TOOL, Ask, Item, call_id
from benchmarks.peers.base import AsyncPeer, Incomplete, Seen


class Conversation:
    """One model, which holds one socket, and the history."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.history: list[Any] = []


class PydanticAi(AsyncPeer[Conversation]):
    """One model per conversation: on hosts other than OpenAI's, a model runs one response at a time over its socket."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        openai: Any = import_module("openai")
        self._messages: Any = import_module("pydantic_ai.messages")
        self._models: Any = import_module("pydantic_ai.models.openai")
        tool = import_module("pydantic_ai.tools").ToolDefinition(name=TOOL)
        self._parameters = import_module("pydantic_ai.models").ModelRequestParameters(function_tools=[tool])
        self._client = openai.AsyncOpenAI(api_key="none", base_url=url.replace("ws://", "http://"), websocket_base_url=url)
        self._provider = import_module("pydantic_ai.providers.openai").OpenAIProvider(openai_client=self._client)
        self._delta = self._messages.PartDeltaEvent
        self._start = self._messages.PartStartEvent

    async def open(self, key: str) -> Conversation:
        model = self._models.OpenAIResponsesModel(MODEL, provider=self._provider)
        await model.__aenter__()
        return Conversation(model)

    async def turn(self, conversation: Conversation, ask: Ask, seen: Seen) -> None:
        parts = [self._part(item) for item in ask.items()]
        conversation.history.append(self._messages.ModelRequest(parts=parts))
        settings = {"openai_transport": "websocket", "openai_store": False}
        requested = conversation.model.request_stream(conversation.history, settings, self._parameters, None)
        async with requested as stream:
            async for event in stream:
                if isinstance(event, self._delta):
                    delta = event.delta
                    seen(delta.args_delta if ask.call else delta.content_delta)
                elif isinstance(event, self._start) and not ask.call:
                    seen(event.part.content)  # the first delta comes as the part itself
            response = stream.get()
        if response.state != "complete":
            raise Incomplete(f"the answer is {response.state}")
        conversation.history.append(response)

    def _part(self, item: Item) -> Any:
        if item.call:
            return self._messages.ToolReturnPart(tool_name=TOOL, content=item.text, tool_call_id=call_id(item.call))
        return self._messages.UserPromptPart(content=item.text)

    def forget(self, conversation: Conversation) -> None:
        conversation.history.clear()

    async def end(self, conversation: Conversation) -> None:
        await conversation.model.__aexit__(None, None, None)

    async def finish(self) -> None:
        await self._client.close()
