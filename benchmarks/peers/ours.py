"""pixir_actors, embedded: two process boundaries, held attempts and proofs included. Always given the whole history."""

from __future__ import annotations

from typing import Any

from benchmarks.asks import MODEL, Ask
from benchmarks.peers.base import DELTAS, AsyncPeer, Seen, SyncPeer
from pixir_actors import AsyncClient, Client, Data, Request, Settings

SETTINGS = Settings(max_connections=2000)


class Conversation:
    """What the caller holds: its key and the history."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.history: list[Any] = []


class Actors(SyncPeer[Conversation]):
    """`Client.embedded()`."""

    def __init__(self, url: str, settings: Settings = SETTINGS) -> None:
        super().__init__(url)
        self._client = Client.embedded(settings=settings)

    def open(self, key: str) -> Conversation:
        return Conversation(key)

    def turn(self, conversation: Conversation, ask: Ask, seen: Seen) -> None:
        conversation.history += ask.input()
        request = Request(self.url + "/responses", body={"model": MODEL, "input": conversation.history})
        with self._client.stream(conversation.key, request) as stream:
            for event in stream:
                if isinstance(event, Data) and (parsed := event.json())["type"] in DELTAS:
                    seen(parsed["delta"])
        stream.raise_for_failure()
        conversation.history += stream.output

    def forget(self, conversation: Conversation) -> None:
        conversation.history.clear()

    def end(self, conversation: Conversation) -> None:
        self._client.close(conversation.key)

    def close(self) -> None:
        # The connections end with their system; one by one would be another thing to measure.
        self._conversations.clear()
        self._client.close()


class AsyncActors(AsyncPeer[Conversation]):
    """`AsyncClient.embedded()`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._client = self._runner.run(self._started())

    @staticmethod
    async def _started() -> AsyncClient:
        return await AsyncClient.embedded(settings=SETTINGS)

    async def open(self, key: str) -> Conversation:
        return Conversation(key)

    async def turn(self, conversation: Conversation, ask: Ask, seen: Seen) -> None:
        conversation.history += ask.input()
        request = Request(self.url + "/responses", body={"model": MODEL, "input": conversation.history})
        async with self._client.stream(conversation.key, request) as stream:
            async for event in stream:
                if isinstance(event, Data) and (parsed := event.json())["type"] in DELTAS:
                    seen(parsed["delta"])
        stream.raise_for_failure()
        conversation.history += stream.output

    def forget(self, conversation: Conversation) -> None:
        conversation.history.clear()

    async def end(self, conversation: Conversation) -> None:
        await self._client.close(conversation.key)

    async def finish(self) -> None:
        await self._client.close()

    def close(self) -> None:
        self._conversations.clear()  # as above
        super().close()
