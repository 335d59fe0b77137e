"""How the processes of an actor system begin: plain forks, in place of those of `multiprocessing`.

A page of memory stops being shared when either side of a fork writes to it, and to look at a value of Python's is to
write its reference count. `multiprocessing` keeps two descriptors and a finalizer for each child, and has every new child
take apart what its parent kept for all the others; Thespian goes through all children to find the newest. So the more
actors there were, the more memory did the next one take. Of its children Thespian wants to know only whether they live.
"""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn


class Fork:
    """One child of this process. Of a `multiprocessing.Process` it has what Thespian uses."""

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...] = (), name: str = "") -> None:
        self._work: tuple[Callable[..., object], tuple[Any, ...]] | None = (target, args)
        self._ended = False
        self.name = name
        self.daemon = False
        self.pid = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} pid={self.pid}>"

    def start(self) -> None:
        """Fork; the child does its work and ends.

        Raises:
            OSError: The system has no room for another process.
        """
        assert self._work is not None
        work, self._work = self._work, None  # it holds on to what belongs to the child
        _flush()
        self.pid = os.fork()
        if self.pid == 0:
            _end_after(*work)
        if not self.daemon:
            # Where Thespian takes it out again at once, to have a child that no parent waits for when it ends.
            _children().add(self)

    def is_alive(self) -> bool:
        """Say whether it runs, or is stopped; one that has ended is collected. To be asked by its parent."""
        if not self._ended and self.pid:
            try:
                self._ended = os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
            except ChildProcessError:  # somebody else has collected it
                self._ended = True
        return bool(self.pid) and not self._ended

    def join(self, timeout: float | None = None) -> None:
        """Return at once: only those are joined that have ended."""


class ForkContext:
    """What Thespian starts processes with: a `multiprocessing` context, as far as it uses one."""

    Process = Fork


def find_newest_first(replicator: Any) -> None:
    """Have Thespian look for a child that says it is up among the newest first, and not among the oldest.

    Args:
        replicator: The class of whatever has children. Changing it twice changes nothing.
    """
    connected = replicator.h_EndpointConnected
    if hasattr(connected, "found_from"):
        return

    def found(self: Any, envelope: Any) -> Any:
        number = envelope.message.childInstance
        for child in reversed(getattr(self, "_child_procs", ())):
            if child.childNum == number:
                child.childRealAddr = envelope.sender
                self._pendingActorReady(number, envelope.sender)
                return True
        return connected(self, envelope)  # which says that there is no such child

    vars(found)["found_from"] = "newest"
    replicator.h_EndpointConnected = found


def make_plainly(manager: ModuleType) -> None:
    """Have an actor made without a look at what its class may want to be told, where the class says that by itself.

    Thespian looks in each new process, in three ways, two of which fail: on the way it writes to a hundred pages.

    Args:
        manager: Thespian's module that makes actors. Changing it twice changes nothing.
    """
    looks: Any = manager.withPossibleInitArgs

    class Plainly:
        """In place of `withPossibleInitArgs`."""

        original = getattr(looks, "original", looks)

        def __init__(self, **known: Any) -> None:
            self._known = known

        def create(self, actor: Any) -> Any:
            """Return a new actor of that class."""
            if vars(actor).get("takes_capabilities"):  # one that inherits it may take something else
                return actor(capabilities=self._known.get("capabilities"))
            return self.original(**self._known).create(actor)

    vars(manager)["withPossibleInitArgs"] = Plainly


def _children() -> set[Any]:
    children: set[Any] = vars(multiprocessing.process)["_children"]
    return children


def _end_after(work: Callable[..., object], arguments: tuple[Any, ...]) -> NoReturn:
    """Do the work of a new process, wait for the threads that it has left, then end it.

    What `multiprocessing` and `atexit` were told is left undone, here as in the parent.
    """
    code = 1
    try:
        work(*arguments)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        vars(threading)["_shutdown"]()
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
