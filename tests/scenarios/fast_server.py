"""A Responses server written by others, as a program: fastresponses, with an agent that tells what it sees.

Prints one line of JSON: the port of one that wants a key, and of one whose connections live for a second. Ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastresponses.adapter import AdapterError, AdapterEvent, AgentAdapter, AgentRun, Incomplete, TextDelta
from fastresponses.server import create_app

from tests.scenarios.witness import account, text_of

LIFETIME = 1.0
KEY = "k"


class Witness(AgentAdapter):
    """Answers with `account` of its whole context; the last text may tell it to fail."""

    name = "witness"
    default_model = "witness-1"

    async def run(self, run: AgentRun) -> AsyncIterator[AdapterEvent]:
        seen = [text_of(item.model_dump()) for item in run.context_items]
        if seen[-1] == "fail at once":
            raise AdapterError("It broke.", type="server_error", code="server_error")
        for word in account(seen).split(" "):
            yield TextDelta(word + " ")
        if seen[-1] == "fail midway":
            raise AdapterError("It broke.", type="server_error", code="server_error")
        if seen[-1] == "stop early":
            yield Incomplete("max_output_tokens")


def watched(app: Any, extensions: list[str | None]) -> Any:
    """Note which WebSocket extensions each upgrade offers."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            extensions.append(dict(scope["headers"]).get(b"sec-websocket-extensions", b"").decode() or None)
        await app(scope, receive, send)

    return asgi


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


async def main() -> None:
    extensions: list[str | None] = []
    guarded = create_app(Witness(), api_key=KEY)
    guarded.get("/extensions")(lambda: extensions)
    apps = [guarded, create_app(Witness(), ws_connection_limit_seconds=LIFETIME)]
    sockets = [listening() for _ in apps]
    servers = [uvicorn.Server(uvicorn.Config(watched(app, extensions), log_level="critical")) for app in apps]
    serving = [asyncio.create_task(s.serve(sockets=[sock])) for s, sock in zip(servers, sockets, strict=True)]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
    print(json.dumps([sock.getsockname()[1] for sock in sockets]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.should_exit = server.force_exit = True
    await asyncio.gather(*serving)


if __name__ == "__main__":
    asyncio.run(main())
