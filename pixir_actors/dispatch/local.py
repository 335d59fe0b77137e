"""A link into an actor system in this very process and thread: notebooks and unit tests."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from thespian.actors import ActorExitRequest

from pixir_actors.actors.messages import Batch, BatchAck, answers
from pixir_actors.channel.frame import Frame
from pixir_actors.channel.inbox import Loss
from pixir_actors.core.text import Piece
from pixir_actors.dispatch.link import Source
from pixir_actors.dispatch.questions import ASK_SLICE, supervisor_of
from pixir_actors.errors import PixirError, WrongProcess

MAX_ADDRESSES: Final = 4096


class LocalLink:
    """To a `simpleSystemBase`, in the thread that made it: actors run while somebody asks or waits.

    Args:
        actor_system: The system.
        owned: Shut it down with the link.

    Raises:
        SystemStartFailed: The supervisor cannot be started.
    """

    channel: str | None = None

    def __init__(self, actor_system: Any, *, owned: bool = False) -> None:
        self._system = actor_system
        self.kind = "local" if owned else "over"
        self.owns_system = owned
        self._numbers = itertools.count(1)
        self._thread, self._pid = threading.get_ident(), os.getpid()
        self._sources: dict[int, LocalSource] = {}
        self._addresses: dict[str, Any] = {}
        self._supervisor = supervisor_of(actor_system)

    def number(self) -> int:
        return next(self._numbers)

    def ask(
        self, address: Any, question: Any, *, timeout: float, give_up: Callable[[], bool] = lambda: False
    ) -> Any | None:
        self._check_thread()
        deadline = time.monotonic() + timeout
        reply = self._system.ask(address, question, timedelta(seconds=ASK_SLICE))
        while not answers(reply, question):
            self._take(reply)
            left = deadline - time.monotonic()
            if give_up() or left <= 0:
                return None
            reply = self._listen(min(ASK_SLICE, left))
        return reply

    def supervisor(self, *, again: bool = False) -> Any:
        if again:
            self._supervisor = supervisor_of(self._system)
        return self._supervisor

    def restart(self, supervisor: Any) -> bool:
        return False  # it is this very thread

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Source:
        source = self._sources[request_id] = LocalSource(self, request_id)
        return source

    def connected(self, connection_id: str) -> bool:
        return False  # asking costs next to nothing here

    def send(self, connection_id: str, *parts: Piece, request_id: int = 0) -> bool:
        return False  # there are no channels here

    def met(self, connection_id: str, address: Any) -> None:
        self._addresses[connection_id] = address
        if len(self._addresses) > MAX_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]

    def close(self) -> None:
        self._sources.clear()
        if self.owns_system:
            # The base ends no actors as it shuts down, and theirs are descriptors of this process.
            self._system.tell(self._supervisor, ActorExitRequest())
            self._system.shutdown()

    def forget(self, request_id: int) -> None:
        """Drop the frames of a request from now on."""
        self._sources.pop(request_id, None)

    def pump(self, timeout: float) -> None:
        """Let the actors run until a message comes, at most `timeout` seconds."""
        self._check_thread()
        self._take(self._listen(timeout))

    def _listen(self, timeout: float) -> Any | None:
        began = time.monotonic()
        message = self._system.listen(timedelta(seconds=timeout))
        if message is None and time.monotonic() - began < timeout / 2:
            # No wakeup is due in that time and `listen` has not waited; a socket may become ready all the same.
            time.sleep(min(timeout, 0.001))
        return message

    def _take(self, message: Any) -> None:
        if isinstance(message, Batch):
            for frame in message.frames():
                source = self._sources.get(frame.request_id)
                if source is not None:
                    source.put(frame)
            address = self._addresses.get(message.connection_id)
            if address is not None:
                self._system.tell(address, BatchAck(message.sequence))

    def _check_thread(self) -> None:
        if os.getpid() != self._pid:  # in a fork its thread has the same id, and its sockets are the parent's
            raise WrongProcess(self._pid)
        if threading.get_ident() != self._thread:
            raise PixirError("a local client belongs to the thread that made it: use Client.embedded() for several")


class LocalSource:
    """Frames of one request, pumped out of a local system."""

    lost: Loss | None = None

    def __init__(self, link: LocalLink, request_id: int) -> None:
        self._link, self._request_id = link, request_id
        self._frames: list[Frame] = []
        self.started = False

    def put(self, frame: Frame) -> None:
        """Take a frame in."""
        self.started = True
        self._frames.append(frame)

    def take(self, timeout: float | None = None) -> list[Frame] | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._frames:
            left = ASK_SLICE if deadline is None else min(ASK_SLICE, deadline - time.monotonic())
            if left <= 0:
                return None
            self._link.pump(left)
        frames, self._frames = self._frames, []
        return frames

    def bind(self, connection_id: str) -> None:
        pass

    def close(self) -> None:
        self._link.forget(self._request_id)

    def drop(self) -> None:
        self.close()
