"""An independent client: websocket-client as its users use it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import websocket

from pixir_actors.simulator import Simulator
from pixir_actors.simulator.operation import TERMINAL_TYPES
from tests.conftest import within

Event = dict[str, Any]
TOOL = {"type": "function", "name": "read_file", "parameters": {"type": "object"}}


class Client:
    """One socket. Text and close frames are read raw, so that close codes can be seen; pings are answered."""

    def __init__(self, sim: Simulator, **options: Any) -> None:
        sslopt = {"ca_certs": sim.ca_file} if sim.ca_file else {}
        defaults = {"timeout": within(5), "sslopt": sslopt, "http_no_proxy": ["127.0.0.1", "localhost"]}
        self.socket = websocket.create_connection(sim.url, **(defaults | options))

    def create(self, input: object = "hello", **fields: Any) -> None:
        self.send({"type": "response.create", "model": "m", "input": input} | fields)

    def send(self, event: object) -> None:
        self.socket.send(json.dumps(event))

    def frame(self) -> tuple[int, bytes]:
        """Return the next data or close frame's opcode and payload."""
        opcode, data = self.socket.recv_data()
        return opcode, data

    def event(self) -> Event:
        opcode, data = self.frame()
        assert opcode == websocket.ABNF.OPCODE_TEXT, (opcode, data[:80])
        event: Event = json.loads(data)
        return event

    def events(self) -> list[Event]:
        """Return the events up to and including a terminal one."""
        events = [self.event()]
        while events[-1]["type"] not in TERMINAL_TYPES:
            events.append(self.event())
        return events

    def turn(self, input: object = "hello", **fields: Any) -> list[Event]:
        self.create(input, **fields)
        return self.events()

    def response(self, input: object = "hello", **fields: Any) -> Event:
        """Run a turn that must not be refused and return its final response."""
        response: Event = self.turn(input, **fields)[-1]["response"]
        return response

    def close_frame(self) -> tuple[int, str]:
        """Read a close frame and return its code and reason."""
        opcode, data = self.frame()
        assert opcode == websocket.ABNF.OPCODE_CLOSE, (opcode, data[:80])
        return int.from_bytes(data[:2], "big"), data[2:].decode()

    def silent_for(self, seconds: float = 0.1, *, control: bool = False) -> bool:
        """Say whether no message, or with `control` no frame at all, comes for a while."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv_data(control_frame=control)
        except websocket.WebSocketTimeoutException:
            return True
        finally:
            self.socket.settimeout(within(5))
        return False

    def leave(self) -> None:
        """Close TCP without a word."""
        self.socket.shutdown()


@contextmanager
def connected(sim: Simulator, **options: Any) -> Iterator[Client]:
    client = Client(sim, **options)
    try:
        yield client
    finally:
        client.leave()


def types(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def text_of(events: list[Event]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def codes(events: list[Event]) -> list[Any]:
    return [event["error"]["code"] for event in events if event["type"] == "error"]


def raw_connection(sim: Simulator, *, upgrade: bool = True, wait: bool = False) -> socket.socket:
    """Return a plain TCP connection to the simulator, with a valid upgrade request sent, and its answer read."""
    raw = socket.create_connection(("127.0.0.1", sim.port), timeout=within(5))
    if upgrade:
        raw.sendall(
            b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    answer = b""
    while wait and not answer.endswith(b"\r\n\r\n"):
        answer += raw.recv(1)
    return raw
