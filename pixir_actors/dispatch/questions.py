"""Questions to the actors of one system, each with a deadline.

Thespian's own `ask` returns any message that comes to its endpoint and its `tell` may wait for a minute; here every question
has a context of its own while it lasts, only its answer counts, and a context that did not get one in time is thrown away.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from thespian.actors import ActorSystemException

from pixir_actors.actors.messages import SUPERVISOR_NAME, answers
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.errors import SystemStartFailed, WrongProcess

ASK_SLICE: Final = 0.1
"""Seconds after which a waiting question looks whether it still makes sense to wait."""
CREATE_TIMEOUT: Final = 15.0
"""Seconds for finding or starting the supervisor; Thespian alone would wait for 50."""
POOLED_CONTEXTS: Final = 32


class Questions:
    """To the actors of a multi-process system, from any thread of the process that made it.

    Args:
        actor_system: On `multiprocTCPBase`, or the signed base of `system.signed`.
        create_timeout: Seconds for finding or starting the supervisor; None: `CREATE_TIMEOUT`.
    """

    def __init__(self, actor_system: Any, *, create_timeout: float | None = None) -> None:
        self._system = actor_system
        self._create_timeout = create_timeout
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._contexts: list[tuple[Any, Any]] = []
        self.closed = False
        self._supervisor: Any = None

    def number(self) -> int:
        """Return a number that this has not given out yet."""
        return next(self._numbers)

    def ask(
        self, address: Any, question: Any, *, timeout: float, give_up: Callable[[], bool] = lambda: False
    ) -> Any | None:
        """Send a question and return its answer; None after `timeout` seconds, when nobody is there, or on `give_up`."""
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
        """Return the supervisor's address; `again` asks the system anew, because the known one did not answer.

        Raises:
            SystemStartFailed: The system does not start it.
        """
        self._check_process()
        if self._supervisor is None or again:
            system = self._system
            timeout = self._create_timeout or CREATE_TIMEOUT
            self._supervisor = bounded(lambda: supervisor_of(system), timeout, give_up=self._superseded)
        return self._supervisor

    def _superseded(self) -> bool:
        """Say whether there is no point in waiting for the system any longer, since another has taken its place."""
        return False

    def close(self) -> None:
        """Ask nothing more. Idempotent; the actor system goes on."""
        self.closed = True
        self._drop_contexts()

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
            raise WrongProcess(self._pid)

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


def bounded(call: Callable[[], Any], timeout: float, *, give_up: Callable[[], bool] = lambda: False) -> Any:
    """Run a call that may block for long in a thread, and wait for it at most `timeout` seconds, and not beyond `give_up`.

    Raises:
        SystemStartFailed: It did not return in time.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="pixir-create", daemon=True)
    thread.start()
    deadline = time.monotonic() + timeout
    while thread.is_alive() and (left := deadline - time.monotonic()) > 0 and not give_up():
        thread.join(min(left, ASK_SLICE))
    if not outcome:
        raise SystemStartFailed(f"the actor system did not answer within {timeout:g} seconds: is its admin alive?")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
