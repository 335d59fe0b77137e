"""The OpenAI SDK's `client.responses.connect()`: the continuation is the caller's, written by hand."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.asks import MODEL, Ask
from benchmarks.peers.base import DELTAS, TERMINAL, Seen, SyncPeer, terminal


class Conversation:
    """One connection of the SDK."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.newest: str | None = None


class Sdk(SyncPeer[Conversation]):
    """One connection per conversation, one client for all of them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        # By name, as it is not installed everywhere where this file is checked.
        openai: Any = import_module("openai")
        self._client = openai.OpenAI(api_key="none", base_url=url.replace("ws://", "http://"), websocket_base_url=url)

    def open(self, key: str) -> Conversation:
        return Conversation(self._client.responses.connect().enter())

    def turn(self, conversation: Conversation, ask: Ask, seen: Seen) -> None:
        body: dict[str, Any] = {"model": MODEL, "store": False}
        if conversation.newest is not None:
            body["previous_response_id"] = conversation.newest
        conversation.connection.send({"type": "response.create", **body, "input": ask.input()})
        for event in conversation.connection:
            if (kind := event.type) in DELTAS:
                seen(event.delta)
            elif kind in TERMINAL:
                terminal(kind, event)
                conversation.newest = event.response.id
                return

    def forget(self, conversation: Conversation) -> None:
        conversation.newest = None

    def end(self, conversation: Conversation) -> None:
        conversation.connection.close()

    def close(self) -> None:
        super().close()
        self._client.close()
