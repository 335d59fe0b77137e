"""Plain websocket-client with its defaults: what one writes by hand. With the continuation, and without."""

from __future__ import annotations

from typing import Any

import orjson
import websocket

from benchmarks.asks import MODEL, Ask
from benchmarks.peers.base import DELTAS, TERMINAL, Seen, SyncPeer, terminal


class Conversation:
    """One socket, and what is needed to continue on it."""

    def __init__(self, url: str) -> None:
        self.socket = websocket.create_connection(url, timeout=60)
        self.newest: str | None = None
        self.history: list[Any] = []


class Plain(SyncPeer[Conversation]):
    """One socket per conversation; only what is new goes out, which its author has to get right."""

    def open(self, key: str) -> Conversation:
        return Conversation(self.url + "/responses")

    def turn(self, conversation: Conversation, ask: Ask, seen: Seen) -> None:
        socket = conversation.socket
        socket.send(orjson.dumps(self.body(conversation, ask)).decode())
        while (kind := (event := orjson.loads(socket.recv()))["type"]) not in TERMINAL:
            if kind in DELTAS:
                seen(event["delta"])
        terminal(kind, event)
        self.keep(conversation, event["response"])

    def body(self, conversation: Conversation, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {"type": "response.create", "model": MODEL, "store": False}
        if conversation.newest is not None:
            body["previous_response_id"] = conversation.newest
        return body | {"input": ask.input()}

    def keep(self, conversation: Conversation, response: dict[str, Any]) -> None:
        conversation.newest = response["id"]

    def forget(self, conversation: Conversation) -> None:
        conversation.newest = None
        conversation.history.clear()

    def end(self, conversation: Conversation) -> None:
        conversation.socket.close()


class Replay(Plain):
    """The same without a continuation: every turn sends the whole conversation."""

    def body(self, conversation: Conversation, ask: Ask) -> dict[str, Any]:
        conversation.history += ask.input()
        return {"type": "response.create", "model": MODEL, "store": False, "input": conversation.history}

    def keep(self, conversation: Conversation, response: dict[str, Any]) -> None:
        conversation.history += response["output"]
