"""An HTTP client: http.client of the standard library, and an own reader of server-sent events."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pixir_actors.simulator import Simulator
from pixir_actors.simulator.operation import TERMINAL_TYPES
from tests.conftest import within

Event = dict[str, Any]
PATH = "/v1/responses"


class Poster:
    """One kept-alive connection."""

    def __init__(self, sim: Simulator, *, timeout: float = 5) -> None:
        self.connection: http.client.HTTPConnection
        if sim.ca_file is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=within(timeout))
        else:
            context = ssl.create_default_context(cafile=sim.ca_file)
            self.connection = http.client.HTTPSConnection(
                "localhost", sim.port, timeout=within(timeout), context=context
            )

    def send(self, body: object, *, path: str = PATH, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request("POST", path, data, {"Content-Type": "application/json"} | (headers or {}))

    def create(self, input: object = "hello", **fields: Any) -> None:
        self.send({"model": "m", "input": input, "stream": True} | fields)

    def answer(self) -> http.client.HTTPResponse:
        return self.connection.getresponse()

    def refused(self, input: object = "hello", **fields: Any) -> tuple[int, Event]:
        """Run a request that must be refused with an error, and return the status and the error."""
        self.create(input, **fields)
        response = self.answer()
        assert response.headers["content-type"] == "application/json"
        return response.status, json.loads(response.read())["error"]

    def opened(self) -> Iterator[Event]:
        """Read the head, which must be a stream's, and yield the events as they come."""
        response = self.answer()
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
        return events_of(response)

    def turn(self, input: object = "hello", **fields: Any) -> list[Event]:
        self.create(input, **fields)
        return list(self.opened())

    def response(self, input: object = "hello", **fields: Any) -> Event:
        """Run a turn and return its final response."""
        events = self.turn(input, **fields)
        assert [event["type"] in TERMINAL_TYPES for event in events] == [False] * (len(events) - 1) + [True]
        response: Event = events[-1]["response"]
        return response

    def text(self, input: object = "hello", **fields: Any) -> str:
        return "".join(
            event["delta"] for event in self.turn(input, **fields) if event["type"] == "response.output_text.delta"
        )


@contextmanager
def posting(sim: Simulator, **options: Any) -> Iterator[Poster]:
    poster = Poster(sim, **options)
    try:
        yield poster
    finally:
        poster.connection.close()


def events_of(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Yield the events; the name of each must be its type."""
    for block in blocks_of(response):
        name, data = block
        event: Event = json.loads(data)
        assert event["type"] == name
        yield event


def blocks_of(response: http.client.HTTPResponse) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the data of each event, by the rules of the HTML standard; one that is not ended is none."""
    name, data = "", []
    for line in _lines(response):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode()
        elif field == b"data":
            data.append(value)
        elif not line and data:
            yield name, b"\n".join(data)
            name, data = "", []


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield whole lines. Raises IncompleteRead where the body is not ended (`HTTPResponse.readline` would not)."""
    rest = b""
    while piece := response.read1(65536):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)
