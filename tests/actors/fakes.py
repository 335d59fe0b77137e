"""A transport and a connector that do what a test says, and a system in which actors run step by step.

Everything runs in the test's own process and thread: on `simpleSystemBase`, where a message is handled while the test tells
or listens, and where a test sees what an actor was given.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson
from thespian.actors import Actor, ActorSystem

from pixir_actors.actors import messages as m
from pixir_actors.channel.frame import Frame, FrameType, failure_from, metadata_from
from pixir_actors.core.report import Facts
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Statistics
from pixir_actors.errors import ErrorCode, Failure
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from pixir_actors.status import ConnectionStatus
from pixir_actors.transport.base import Fault, Received, Target
from tests.conftest import within

URL = "ws://127.0.0.1:9/v1/responses"
STATUS = ConnectionStatus(
    key="digest",
    connection_id="c-1",
    pid=1,
    state="idle",
    model=None,
    host=None,
    queue_length=0,
    age_s=None,
    idle_s=0.0,
    degraded_for_s=0.0,
    next_wakeup_s=None,
    turns=0,
    delta_turns=0,
    sockets=0,
    replays=0,
    failures=0,
    wire_bytes=0,
    full_bytes=0,
    last_reset_reason=None,
    last_error=None,
)
FACTS = Facts("idle", None, None, 0, False, False, None, 0.0, None, None, None, tuple(vars(Statistics()).values()))
"""What one reports that has done nothing, and is idle since 0."""
RESET = Fault(ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "reset"})
REFUSED = Fault(ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": "refused"})


class FakeTransport:
    """A socket: what it gives to read is pushed, what it takes is kept.

    Attributes:
        sent: The texts it was given.
        pings: The payloads of pings it was given.
        limits: The bounds of a message that it was given, one per request.
        room: Bytes it takes before it is full, or None for any number.
        write_fault: What the next write runs into.
        closed: Whether it was closed, and `close_code` with which code.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._script: deque[Received] = deque()
        self._pending = self._taken = self._owed = 0
        self.sent: list[bytes] = []
        self.pings: list[bytes] = []
        self.limits: list[int] = []
        self.room: int | None = None
        self.write_fault: Fault | None = None
        self.closed = False
        self.close_code: int | None = None

    # What a test does

    def push(self, *messages: dict[str, Any] | bytes, fault: Fault | None = None, more: bool = False) -> None:
        """Have this read next; it shows as readable."""
        self.hide(*messages, fault=fault, more=more)
        self._theirs.send(b".")

    def hide(self, *messages: dict[str, Any] | bytes, fault: Fault | None = None, more: bool = False) -> None:
        """Have this read next, from user space: no poll shows it."""
        raw = [item if isinstance(item, bytes) else orjson.dumps(item) for item in messages]
        self._script.append(Received(messages=raw, frames=max(1, len(raw)) if fault is None else len(raw), fault=fault))
        self._script[-1].more = more

    def owe(self, count: int) -> None:
        """Buffer a pong of that many bytes with the next read."""
        self._owed = count

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [orjson.loads(data) for data in self.sent]

    # Transport

    def fileno(self) -> int:
        return self._ours.fileno()

    def receive(self, *, max_messages: int, max_bytes: int) -> Received:
        with suppress(BlockingIOError):
            self._ours.recv(1)
        self._pending, self._owed = self._pending + self._owed, 0
        return self._script.popleft() if self._script else Received()

    def limit(self, max_message_bytes: int) -> None:
        self.limits.append(max_message_bytes)

    def send_text(self, data: bytes) -> Fault | None:
        self.sent.append(data)
        self._pending += len(data)
        return self.flush()

    def ping(self, payload: bytes) -> Fault | None:
        self.pings.append(payload)
        return self.flush()

    def flush(self) -> Fault | None:
        if self.write_fault is not None:
            return self.write_fault
        taken = self._pending if self.room is None else min(self.room, self._pending)
        self._pending -= taken
        self._taken += taken
        if self.room is not None:
            self.room -= taken
        return None

    def pending_bytes(self) -> int:
        return self._pending

    def written_bytes(self) -> int:
        return self._taken

    def close(self, code: int | None = None) -> None:
        if not self.closed:
            self.closed, self.close_code = True, code
            self._ours.close()
            self._theirs.close()


class FakeConnector:
    """One attempt, which ends when the test says so."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._outcome: FakeTransport | Fault | None = None
        self.abandoned = False

    def end(self, outcome: FakeTransport | Fault) -> None:
        self._outcome = outcome
        os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        return self._fd

    def result(self) -> Any:
        assert self._outcome is not None
        self._free()
        return self._outcome

    def abandon(self) -> None:
        self.abandoned = True
        self._free()

    def _free(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Dialer:
    """Stands in for `open_websocket`. Every attempt yields a transport at once, unless told otherwise.

    Attributes:
        outcomes: What the next attempts end with; None leaves one open.
    """

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.connectors: list[FakeConnector] = []
        self.transports: list[FakeTransport] = []
        self.outcomes: deque[Fault | None] = deque()

    def __call__(self, target: Target) -> FakeConnector:
        self.targets.append(target)
        connector = FakeConnector()
        self.connectors.append(connector)
        outcome = self.outcomes.popleft() if self.outcomes else self._new()
        if outcome is not None:
            connector.end(outcome)
        return connector

    @property
    def transport(self) -> FakeTransport:
        """The newest transport."""
        return self.transports[-1]

    def _new(self) -> FakeTransport:
        self.transports.append(FakeTransport())
        return self.transports[-1]

    def open(self) -> FakeTransport:
        """Let the newest attempt succeed."""
        self.connectors[-1].end(self._new())
        return self.transports[-1]

    def close(self) -> None:
        for connector in self.connectors:
            connector.abandon()
        for transport in self.transports:
            transport.close()


class Courier(Actor):
    """Another requester: sends what it is given to send, and keeps what comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Any] = []

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, tuple) and message[0] == "send":
            self.send(message[1], message[2])
        elif isinstance(message, tuple) and message[0] == "received":
            self.send(sender, ("received", list(self.received)))
        else:
            self.received.append(message)


class Room:
    """A `simpleSystemBase` with the test as one of those who send and receive.

    Attributes:
        unread: Messages that came to the test and were not taken yet; batches are taken apart into `frames`.
        frames: Frames by request id.
        acknowledge: Whether batches are acknowledged as they come.
    """

    def __init__(self) -> None:
        self.system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
        self.unread: list[Any] = []
        self.batches: list[m.Batch] = []
        self.frames: dict[int, list[Frame]] = {}
        self.acknowledge = True
        self._sources: dict[str, Any] = {}

    def tell(self, address: Any, *messages: Any) -> None:
        """Send, and let the actors run as far as they come."""
        for message in messages:
            self.system.tell(address, message)
        self.run()

    def knows(self, connection_id: str, address: Any) -> None:
        """Acknowledge batches of that connection there."""
        self._sources[connection_id] = address

    def run(self, until: Callable[[], Any] | None = None) -> Any:
        """Let the actors run until something holds; without it until nobody has anything to do for the moment."""
        deadline = time.monotonic() + within(5)
        while True:
            began = time.monotonic()
            message = self.system.listen(timedelta(seconds=0.005))
            if message is not None:
                self._take(message)
                continue
            if until is None:
                return None
            if value := until():
                return value
            assert time.monotonic() < deadline, f"it did not come; unread: {[type(one).__name__ for one in self.unread]}"
            if time.monotonic() - began < 0.001:
                time.sleep(0.001)

    def wait_for(self, kind: type, **fields: Any) -> Any:
        """Return, and take, the first message of a kind with these fields."""

        def found() -> Any:
            for message in self.unread:
                if type(message) is kind and all(getattr(message, name) == value for name, value in fields.items()):
                    self.unread.remove(message)
                    return message
            return None

        return self.run(found)

    def has(self, kind: type) -> bool:
        return any(type(message) is kind for message in self.unread)

    def ask(self, address: Any, question: Any) -> Any:
        """Send a question and return its answer."""
        self.system.tell(address, question)

        def answered() -> Any:
            for message in self.unread:
                if m.answers(message, question):
                    self.unread.remove(message)
                    return message
            return None

        return self.run(answered)

    def received(self, courier: Any) -> list[Any]:
        """Return what a `Courier` was sent."""
        self.system.tell(courier, ("received",))

        def told() -> Any:
            for message in self.unread:
                if isinstance(message, tuple) and message[:1] == ("received",):
                    self.unread.remove(message)
                    return message
            return None

        messages: list[Any] = self.run(told)[1]
        return messages

    def types(self, request_id: int) -> list[str]:
        """Return the names of a request's frames so far, without those about its way."""
        names = [FrameType(frame.type).name for frame in self.frames.get(request_id, [])]
        return [name for name in names if name not in ("QUEUED", "SENDING")]

    def ends(self, request_id: int) -> list[Frame]:
        """Return the frames that ended a request: one, if all is well."""
        last = (FrameType.FINISHED, FrameType.FAILED)
        return [frame for frame in self.frames.get(request_id, []) if frame.type in last]

    def failure(self, request_id: int) -> Failure:
        """Wait for a request to fail."""
        self.run(lambda: self.ends(request_id))
        [frame] = self.ends(request_id)
        assert frame.type == FrameType.FAILED
        return failure_from(frame.payload)

    def finished(self, request_id: int) -> bool:
        """Wait for a request to finish."""
        self.run(lambda: self.ends(request_id))
        [frame] = self.ends(request_id)
        return frame.type == FrameType.FINISHED

    def evidence(self, request_id: int) -> dict[str, Any]:
        """Return the evidence of a request so far."""
        merged: dict[str, Any] = {}
        for frame in self.frames.get(request_id, []):
            if frame.type == FrameType.METADATA:
                merged.update(metadata_from(frame.payload))
        return merged

    def close(self) -> None:
        self.system.shutdown()

    def _take(self, message: Any) -> None:
        if not isinstance(message, m.Batch):
            self.unread.append(message)
            return
        self.batches.append(message)
        for frame in message.frames():
            self.frames.setdefault(frame.request_id, []).append(frame)
        source = self._sources.get(message.connection_id)
        if self.acknowledge and source is not None:
            self.system.tell(source, m.BatchAck(message.sequence))


def submit(request_id: int, *items: Any, settings: Settings | None = None, url: str = URL, **options: Any) -> m.Submit:
    """Return a request of a conversation as `Submit.of` builds it."""
    request = Request.responses(model="gpt", input=list(items) or [user("hello")], api_key="sk-canary", base_url=url)
    request = Request(url, request.headers, request.body)
    return m.Submit.of(request_id, "session", request, (settings or Settings()).override(options))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def created(response_id: str = "resp_1") -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": response_id}}


def delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text}


def completed(response_id: str = "resp_1", text: str = "hi") -> dict[str, Any]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return {"type": "response.completed", "response": {"id": response_id, "status": "completed", "output": [item]}}


def key(name: str) -> Secret[str]:
    """Return a canonical key."""
    return m.EnsureStarted.of(0, name, Settings()).key
