"""A link and its sources without an actor system: what comes back is what the test says."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from pixir_actors.actors import messages as m
from pixir_actors.channel import ChannelLost, Frame, FrameType, InboxClosed, Loss
from pixir_actors.channel.frame import Decoder, failure_payload
from pixir_actors.errors import Delivery, ErrorCode, Failure

MOVED = failure_payload(Failure.of(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, moved=1))
BROKEN = Loss(clean=False)
GOODBYE = Loss(clean=True)


def frame(kind: FrameType, payload: bytes = b"", tag: int = 0) -> Frame:
    """Return a frame of whichever request it is put in for."""
    return Frame(kind, tag, 1, payload)


class FakeSource:
    """Where frames come from; `take` waits for nothing.

    Attributes:
        script: Frames, one by one or in lists, None for a wait in which nothing comes, and exceptions to raise.
        takes: Seconds that the next waits take, where a test has a clock.
    """

    def __init__(self, link: FakeLink, request_id: int) -> None:
        self.request_id = request_id
        self.script: deque[Frame | list[Frame] | Exception | None] = deque()
        self.bound: list[str] = []
        self.waits: list[float | None] = []
        self.takes: list[float] = []
        self.lost: Loss | None = None
        self.started = False
        self.closed = self.dropped = False

    def take(self, timeout: float | None = None) -> list[Frame] | None:
        self.waits.append(timeout)
        if self.closed:
            raise InboxClosed
        if not self.script:
            if self.lost is not None:
                raise ChannelLost(self.lost)
            raise AssertionError("the test's script has come to its end")
        item = self.script.popleft()
        if isinstance(item, Exception):
            raise item
        return [item] if isinstance(item, Frame) else item

    # For those who read on an event loop.

    on_ready: Callable[[], None] | None = None
    to_resume = False

    def take_ready(self) -> list[Frame] | None:
        return self.take(0.0)

    def resume(self, *, wait: bool = True) -> bool:
        return True

    def bind(self, connection_id: str) -> None:
        self.bound.append(connection_id)

    def close(self) -> None:
        self.closed = True

    def drop(self) -> None:
        self.dropped = self.closed = True


class FakeLink:
    """A way to a supervisor and its connections, which answer as the test says.

    Attributes:
        asked: What was asked: address, question, timeout.
        answer: Answers a question; None is no answer in time.
        sources: In the order in which they were opened.
        alive: Ids of connections whose channel is up.
        channels_take: Whether those channels take frames, too; `taken` are those that they took, each with the connection
            and the request that it submits.
        restarts: The supervisors that were said to answer nothing; `restartable` says whether that helps.
    """

    kind = "over"
    channel: str | None = "/channel"
    owns_system = False

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any, float]] = []
        self.answer: Callable[[Any, Any], Any] = lambda address, question: None
        self.sources: list[FakeSource] = []
        self.alive: set[str] = set()
        self.channels_take = False
        self.taken: list[tuple[str, Frame, int]] = []
        self.known: dict[str, Any] = {}
        self.lookups: list[bool] = []
        self.restarts: list[Any] = []
        self.restartable = False
        self.closed = 0
        self._numbers = itertools.count(1)

    def number(self) -> int:
        return next(self._numbers)

    def ask(
        self, address: Any, question: Any, *, timeout: float, give_up: Callable[[], bool] = lambda: False
    ) -> Any | None:
        self.asked.append((address, question, timeout))
        return self.answer(address, question)

    def supervisor(self, *, again: bool = False) -> Any:
        self.lookups.append(again)
        return "supervisor"

    def restart(self, supervisor: Any) -> bool:
        self.restarts.append(supervisor)
        return self.restartable

    def open(self, request_id: int, *, max_buffered_bytes: int) -> FakeSource:
        self.sources.append(FakeSource(self, request_id))
        return self.sources[-1]

    def connected(self, connection_id: str) -> bool:
        return connection_id in self.alive

    def send(self, connection_id: str, *parts: bytes, request_id: int = 0) -> bool:
        if not self.channels_take:
            return False
        self.taken += [(connection_id, one, request_id) for one in Decoder(to_connection=True).feed(b"".join(parts))]
        return True

    def met(self, connection_id: str, address: Any) -> None:
        self.known[connection_id] = address

    def close(self) -> None:
        self.closed += 1

    def questions(self, kind: type) -> list[Any]:
        """Return what was asked of that kind, in order."""
        return [question for _, question, _ in self.asked if isinstance(question, kind)]


class Town:
    """A supervisor and connections behind a `FakeLink`, all well unless told otherwise.

    Attributes:
        names: Ids of the connections that the supervisor gives out, the last one for ever.
        submitted: Called with every `Submit` and the source of its frames; what it returns is the answer.
        probed: The answers to `Probe`, in order.
        examined: What the supervisor says of connections that did not answer, in order; None is no answer.
    """

    def __init__(self, link: FakeLink) -> None:
        self.link = link
        self.names: deque[str] = deque(["c-1"])
        self.submitted: Callable[[m.Submit, FakeSource], Any] = self.accept
        self.probed: deque[Any] = deque()
        self.examined: deque[bool | None] = deque()
        link.answer = self._answer

    def accept(self, submit: m.Submit, source: FakeSource) -> Any:
        return m.Accepted(submit.request_id, source.bound[-1])

    def _answer(self, address: Any, question: Any) -> Any:
        match question:
            case m.EnsureStarted():
                name = self.names.popleft() if len(self.names) > 1 else self.names[0]
                return m.Started(question.ask_id, name, f"address of {name}")
            case m.Submit():
                source = self.link.sources[-1]
                assert source.request_id == question.request_id, "frames may come before the answer"
                return self.submitted(question, source)
            case m.Probe():
                held = self.probed.popleft()
                return None if held is None else m.Probed(question.request_id, held)
            case m.Suspect():
                ended = self.examined.popleft()
                return None if ended is None else m.Examined(question.ask_id, ended)
            case m.Cancel():
                return m.Probed(question.request_id, False)
        return None
