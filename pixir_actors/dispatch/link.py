"""How a client's process reaches the actors: questions with deadlines, and sources of frames.

`RemoteLink` talks to a multi-process system from many threads. Thespian's own `ask` returns any message that comes to its
endpoint and its `tell` may wait for a minute; here every question has a context of its own while it lasts, only its answer
counts, and a context that did not get one in time is thrown away. `local.LocalLink` runs everything in the caller's thread.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Protocol

from thespian.actors import ActorSystemException

from pixir_actors.actors.messages import SUPERVISOR_NAME, answers
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.channel.frame import Frame
from pixir_actors.channel.inbox import Loss
from pixir_actors.channel.listener import Listener
from pixir_actors.errors import PixirError, SystemStartFailed

ASK_SLICE: Final = 0.1
"""Seconds after which a waiting question looks whether it still makes sense to wait."""
CREATE_TIMEOUT: Final = 15.0
"""Seconds for finding or starting the supervisor; Thespian alone would wait for 50."""
POOLED_CONTEXTS: Final = 32


class Source(Protocol):
    """Where the frames of one request come from; `channel.inbox.Inbox` is one."""

    @property
    def lost(self) -> Loss | None:
        """How the channel ended, if it did before the request."""

    @property
    def started(self) -> bool:
        """Whether a frame has come."""

    def get(self, timeout: float | None = None) -> Frame | None:
        """Return the next frame, or None after `timeout` seconds."""

    def bind(self, connection_id: str) -> None:
        """Say which connection the frames come from."""

    def close(self) -> None:
        """Want no more frames."""

    def drop(self) -> None:
        """As `close`, for destructors: waits for nothing, not even a lock."""


class Link(Protocol):
    """The way to one actor system."""

    channel: str | None
    owns_system: bool
    """Whether the system ends with the client."""

    def number(self) -> int:
        """Return a number that this link has not given out yet."""

    def ask(
        self, address: Any, question: Any, *, timeout: float, give_up: Callable[[], bool] = lambda: False
    ) -> Any | None:
        """Send a question and return its answer; None after `timeout` seconds, when nobody is there, or on `give_up`."""

    def supervisor(self, *, again: bool = False) -> Any:
        """Return the supervisor's address; `again` asks the system anew, because the known one did not answer."""

    def restart(self, supervisor: Any) -> bool:
        """End a system whose supervisor, known by this address, answers nothing any more, and start it anew.

        Returns:
            False where that is not this link's to do, or cannot be done.
        """

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Source:
        """Return where the frames of a request will come from; call before the request is submitted."""

    def connected(self, connection_id: str) -> bool:
        """Say whether that connection is known to be alive without asking."""

    def met(self, connection_id: str, address: Any) -> None:
        """Take note of a connection's address."""

    def close(self) -> None:
        """Let go of everything but the actor system. Idempotent."""


class RemoteLink:
    """To a multi-process system. Thread-safe.

    Args:
        actor_system: On `multiprocTCPBase`, or the signed base of `system.signed`.

    Raises:
        SystemStartFailed: No listener, or no supervisor.
    """

    owns_system = False

    def __init__(self, actor_system: Any) -> None:
        self._system = actor_system
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._contexts: list[tuple[Any, Any]] = []
        self.closed = False
        self._supervisor: Any = None
        self._listener = Listener()
        self.channel: str | None = self._listener.path
        try:
            self.supervisor()
        except BaseException:
            self._listener.close()
            raise

    def number(self) -> int:
        return next(self._numbers)

    def ask(
        self, address: Any, question: Any, *, timeout: float, give_up: Callable[[], bool] = lambda: False
    ) -> Any | None:
        self._check_process()
        manager, context = self._borrow()
        answer = None
        try:
            answer = _ask_in(context, address, question, timeout, give_up)
        finally:
            # Without its answer a context still has something under way: the next question must not meet it.
            if answer is None or not self._put_back(manager, context):
                with contextlib.suppress(Exception):
                    manager.__exit__(None, None, None)
        return answer

    def supervisor(self, *, again: bool = False) -> Any:
        self._check_process()
        if self._supervisor is None or again:
            self._supervisor = _bounded(lambda: supervisor_of(self._system), CREATE_TIMEOUT)
        return self._supervisor

    def restart(self, supervisor: Any) -> bool:
        return False  # others use it, too

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Source:
        return self._listener.open(request_id, max_buffered_bytes=max_buffered_bytes)

    def connected(self, connection_id: str) -> bool:
        return self._listener.connected(connection_id)

    def met(self, connection_id: str, address: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self._drop_contexts()
        self._listener.close()

    def moved_to(self, actor_system: Any) -> None:
        """Talk to another system from now on."""
        self._system = actor_system
        self._supervisor = None
        self._drop_contexts()

    def _drop_contexts(self) -> None:
        with self._lock:
            contexts, self._contexts = self._contexts, []
        for manager, _ in contexts:
            with contextlib.suppress(Exception):
                manager.__exit__(None, None, None)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise PixirError(f"this client belongs to process {self._pid}: a forked process has to make its own")

    def _borrow(self) -> tuple[Any, Any]:
        with self._lock:
            if self._contexts:
                return self._contexts.pop()
        manager = self._system.private()
        return manager, manager.__enter__()

    def _put_back(self, manager: Any, context: Any) -> bool:
        with self._lock:
            if self.closed or len(self._contexts) >= POOLED_CONTEXTS:
                return False
            self._contexts.append((manager, context))
            return True


def _ask_in(context: Any, address: Any, question: Any, timeout: float, give_up: Callable[[], bool]) -> Any | None:
    deadline = time.monotonic() + timeout
    first = True
    while (left := deadline - time.monotonic()) > 0:
        patience = timedelta(seconds=min(left, ASK_SLICE))
        began = time.monotonic()
        try:
            reply = context.ask(address, question, patience) if first else context.listen(patience)
        except ActorSystemException:
            return None
        if answers(reply, question):
            return reply
        if reply is None:
            # Thespian says that nobody is there by not waiting.
            nobody = first and time.monotonic() - began < patience.total_seconds() / 2
            if nobody or give_up():
                return None
        first = False
    return None


def supervisor_of(actor_system: Any) -> Any:
    """Return the address of a system's supervisor, which is started if there is none.

    Raises:
        SystemStartFailed: It cannot be started; the text says why.
    """
    try:
        return actor_system.createActor(SupervisorActor, globalName=SUPERVISOR_NAME)
    except ImportError as error:
        raise SystemStartFailed("the actor system cannot import pixir_actors: start it where it is installed") from error
    except ActorSystemException as error:
        raise SystemStartFailed(f"the actor system does not start the supervisor: {type(error).__name__}") from error


def _bounded(call: Callable[[], Any], timeout: float) -> Any:
    """Run a call that may block for long in a thread, and wait for it no longer than `timeout` seconds."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="pixir-create", daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome:
        raise SystemStartFailed(f"the actor system did not answer within {timeout:g} seconds: is its admin alive?")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
