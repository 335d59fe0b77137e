"""An admin that is not there: what its client answers is what the test says."""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from pixir_actors.channel.frame import Frame, FrameType, failure_payload, metadata_payload, status_payload
from pixir_actors.core.server_event import Tag
from pixir_actors.errors import Failure, PixirError
from pixir_actors.request import Request
from pixir_actors.status import ConnectionStatus, SystemStatus
from pixir_actors.stream import Stream
from pixir_actors.system.runtime import Runtime

ANSWER = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Seven."}]}


def connection(key: str = "97d0d24dd07f", **values: Any) -> ConnectionStatus:
    """Return a connection that is idle after four turns."""
    usual: dict[str, Any] = {
        "connection_id": "c1",
        "pid": 4711,
        "state": "idle",
        "model": "gpt-5.5",
        "host": "api.openai.com",
        "queue_length": 0,
        "age_s": 192.0,
        "idle_s": 4.2,
        "degraded_for_s": 0.0,
        "next_wakeup_s": 20.8,
        "turns": 4,
        "delta_turns": 3,
        "sockets": 1,
        "replays": 0,
        "failures": 0,
        "wire_bytes": 1000,
        "full_bytes": 13345,
        "last_reset_reason": None,
        "last_error": None,
    }
    return ConnectionStatus(key=key, **usual | values)


def system(**values: Any) -> SystemStatus:
    """Return an actor system that is well."""
    usual: dict[str, Any] = {
        "pid": 43,
        "version": "0.1.0",
        "connections": 1,
        "max_descriptors": 1024,
        "refusals": 0,
        "draining": False,
        "uptime_s": 11520.0,
    }
    return SystemStatus(**usual | values)


def runtime(**values: Any) -> Runtime:
    """Return the runtime of an admin with the pid 42."""
    usual: dict[str, Any] = {
        "pid": 42,
        "born": 1,
        "boot_id": "b",
        "port": 1900,
        "system_id": "s1",
        "proof": "canary-proof",
        "version": "0.1.0",
        "thespian": "4.0.1",
        "started_at": 1.0,
        "log": "/var/log/admin.log",
    }
    return Runtime(**usual | values)


class FakeCall:
    """Gives out frames, and raises what stands among them; counts the cancels."""

    def __init__(self, *script: Frame | BaseException) -> None:
        self.script = deque(script)
        self.cancels = 0

    def next_frames(self) -> list[Frame]:
        item = self.script.popleft()
        if isinstance(item, BaseException):
            raise item
        return [item]

    def cancel(self, *, callback_failed: bool = False) -> None:
        self.cancels += 1

    def abandon(self) -> None:
        self.cancels += 1


class FakeClient:
    """The client of an admin. A context manager, like the real one.

    Attributes:
        script: What the next stream gives out.
        requests: Key and request of every stream.
        closed: Keys that were closed, and None for the client itself.
        closed_connections: Ids of those that were closed by their id.
        texts: Whether what is shown of a connection is its key, as a text.
        trouble: Raised by the next calls of `status`, one each.
    """

    def __init__(self, *connections: ConnectionStatus) -> None:
        self.connections = list(connections)
        self.admin = runtime()
        self.script: list[Frame | BaseException] = answer("Sev", "en.")
        self.requests: list[tuple[Any, Request]] = []
        self.calls: list[FakeCall] = []
        self.closed: list[Any] = []
        self.closed_connections: list[str] = []
        self.texts = True
        self.trouble: deque[PixirError | BaseException | None] = deque()
        self.attached_with: list[dict[str, Any]] = []

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def status(self, key: Any = None) -> list[ConnectionStatus]:
        trouble = self.trouble.popleft() if self.trouble else None
        if trouble is not None:
            raise trouble
        return [each for each in self.connections if key is None or (self.texts and key == each.key)]

    def system(self) -> SystemStatus:
        return system(connections=len(self.connections))

    def stream(self, key: Any, request: Request, **options: Any) -> Stream:
        self.requests.append((key, request))
        first = self.script[0]
        if isinstance(first, PixirError):
            raise first
        self.calls.append(FakeCall(*self.script))
        return Stream(self.calls[-1])  # type: ignore[arg-type]

    def close(self, key: Any = None) -> None:
        self.closed.append(key)

    def close_connection(self, connection_id: str) -> bool:
        self.closed_connections.append(connection_id)
        return True

    @property
    def body(self) -> dict[str, Any]:
        """The body of the newest request."""
        return orjson.loads(self.requests[-1][1].body)


def data(tag: Tag, **event: Any) -> Frame:
    """Return one event of the provider."""
    return Frame(FrameType.DATA, tag, 1, orjson.dumps(event))


def delta(text: str) -> Frame:
    """Return a piece of the answer's text."""
    return data(Tag.TEXT_DELTA, type="response.output_text.delta", delta=text)


def metadata(**values: Any) -> Frame:
    """Return evidence."""
    return Frame(FrameType.METADATA, 0, 1, metadata_payload(values))


def opening() -> list[Frame | BaseException]:
    """Return what comes before the first event, of a turn that went out as a delta."""
    evidence = metadata(
        continuation_attempted=True,
        continuation_reset_reason=None,
        wire_bytes=169,
        full_bytes=412,
        connection_age_ms=3200,
        delivery_attempts=1,
        active_transport="websocket",
    )
    return [evidence, Frame(FrameType.STATUS, 0, 1, status_payload(200))]


def answer(*texts: str, status: str = "completed", output: Any = None, **fields: Any) -> list[Frame | BaseException]:
    """Return the frames of a whole turn."""
    listed = [ANSWER] if output is None else output
    response = {"id": "resp_1", "status": status, "output": listed, **fields}
    last = data(Tag.TERMINAL, type=f"response.{status}", response=response)
    return [*opening(), *map(delta, texts), last, Frame(FrameType.FINISHED, 0, 1, b"")]


def failed(failure: Failure, *texts: str) -> list[Frame | BaseException]:
    """Return the frames of a turn that ends without a terminal event."""
    return [*opening(), *map(delta, texts), Frame(FrameType.FAILED, 0, 1, failure_payload(failure))]


def refused(failure: Failure) -> list[Frame | BaseException]:
    """Return the frames of a turn that the provider's own error ends."""
    last = data(Tag.TERMINAL, type="error", error=dict(failure.error or {}))
    return [*opening(), last, Frame(FrameType.FINISHED, 0, 1, failure_payload(failure))]
