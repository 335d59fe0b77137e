"""What Thespian's transport waits with, in place of `selectors`.

The transport makes a selector anew in each round of its loop, and registers all its descriptors. With epoll these are a
dozen system calls for one message; with poll(2) it is one. What is registered is few: an actor has one watch, and sockets
live as long as one message.
"""

from __future__ import annotations

import errno
import math
import os
import select
import time
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

EVENT_READ: Final = 1
EVENT_WRITE: Final = 2


LONGEST: Final = 24 * 3600.0
"""Seconds after which a wait ends with nothing, to be repeated: poll(2) knows no more than 24 days."""


def milliseconds(timeout: float | None) -> int | None:
    """Return a wait as poll(2) takes it; rounded up, because one that is too short is repeated again and again."""
    return None if timeout is None else max(0, math.ceil(min(timeout, LONGEST) * 1000))


class Attendant(Protocol):
    """Sees to what comes while an actor waits, so that it need not go through Thespian; of the actor's one watch."""

    watch: int
    """The watch's descriptor."""

    @property
    def due(self) -> float | None:
        """When `rang` is to be called (monotonic seconds); None: not at all."""

    def rang(self) -> None:
        """Do what is due, or see to it that the watch is ready."""

    def ready(self) -> bool:
        """Settle what has come to the watch, or return False: then the actor is told."""


def attendant_of(descriptors: Iterable[int]) -> Attendant | None:
    """Return who sees to one of these, which says so itself."""
    return next((found for each in descriptors if (found := getattr(each, "attendant", None)) is not None), None)


def wait(poll: select.poll, timeout: float | None, attendant: Attendant | None) -> list[tuple[int, int]]:
    """Return what is ready, at the latest after so many seconds, as `poll` does; but nothing that is settled."""
    if attendant is None:
        return poll.poll(milliseconds(timeout))
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        due = attendant.due
        moments = [moment for moment in (until, due) if moment is not None]
        found = poll.poll(milliseconds(min(moments) - time.monotonic() if moments else None))
        if found and (found != [(attendant.watch, select.POLLIN)] or not attendant.ready()):
            return found
        now = time.monotonic()
        if due is not None and due <= now and not found:
            attendant.rang()
        elif until is not None and until <= now:
            return []


class Key(NamedTuple):
    """Of a `selectors.SelectorKey`, what the transport looks at."""

    fd: int


class DefaultSelector:
    """As `selectors.DefaultSelector`, for one wait: `register`, `select`, `close`."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, events: int) -> None:
        """Wait for a descriptor to be readable or writable; for both, register it twice.

        Raises:
            ValueError: The number is negative.
        """
        if fd < 0:
            raise ValueError(f"not a descriptor: {fd}")
        self._wanted[fd] = self._wanted.get(fd, 0) | events

    def select(self, timeout: float | None = None) -> list[tuple[Key, int]]:
        """Wait until a descriptor is ready, at most `timeout` seconds, and a day.

        Raises:
            OSError: EBADF, when one of the descriptors is closed.
        """
        poll = select.poll()
        for fd, events in self._wanted.items():
            poll.register(fd, select.POLLIN * bool(events & EVENT_READ) | select.POLLOUT * bool(events & EVENT_WRITE))
        found = wait(poll, timeout, attendant_of(self._wanted))
        return [(Key(fd), self._meaning(fd, events)) for fd, events in found]

    def close(self) -> None:
        """Nothing is held."""

    def _meaning(self, fd: int, events: int) -> int:
        if events & select.POLLNVAL:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # A failure counts as whatever was waited for: the attempt will tell.
        readable, writable = bool(events & ~select.POLLOUT), bool(events & ~select.POLLIN)
        return (EVENT_READ * readable | EVENT_WRITE * writable) & self._wanted[fd]
