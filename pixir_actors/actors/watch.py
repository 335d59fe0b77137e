"""One descriptor for all that an actor waits for.

Thespian watches descriptor numbers, for reading only, and dies of duplicates and of numbers that were closed and given
out again. So an actor hands it a single epoll descriptor, which is readable when any socket registered in it is readable,
or writable where that was asked for. It stays the same for the actor's life.
"""

from __future__ import annotations

import contextlib
import os
import select
import weakref
from collections.abc import Callable
from typing import Any

Handler = Callable[[bool], None]
"""Called with True when the descriptor can be read (or has failed), False when it can only be written."""


class Attended(int):
    """The number of a watch's descriptor, by which `system.polling` finds who sees to what comes."""

    attendant: Any = None


class Watch:
    """The set of descriptors an actor waits for. Used from the actor's thread only."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._writing: set[int] = set()
        self._again: list[Callable[[], None]] = []
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, select.EPOLLIN)
        # Nobody tells an actor of a host's own `simpleSystemBase` that its system has been dropped.
        self._close_alarm = weakref.finalize(self, os.close, self._alarm)

    def fileno(self) -> int:
        """Return the descriptor to give to `ThespianWatch`."""
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._handlers) + len(self._again)

    def add(self, fd: int, handler: Handler) -> None:
        """Call `handler` in `dispatch` whenever `fd` is readable."""
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def writing(self, fd: int, wanted: bool) -> None:
        """Wait for `fd` to be writable as well, or no more. It costs nothing where that is so already."""
        if wanted == (fd in self._writing):
            return
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))
        (self._writing.add if wanted else self._writing.discard)(fd)

    def remove(self, fd: int) -> None:
        """Forget `fd`; call before it is closed."""
        self._writing.discard(fd)
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # it is closed already, and the kernel has forgotten it
                self._epoll.unregister(fd)

    def only_readable(self, fd: int) -> bool:
        """Say whether `fd` can be read, and nothing else is to be done."""
        return not self._again and self._epoll.poll(0) == [(fd, select.EPOLLIN)]

    def again(self, call: Callable[[], None]) -> None:
        """Have `call` called in the next `dispatch`, which comes at once: for work left in user space."""
        if call not in self._again:
            self._again.append(call)
            os.eventfd_write(self._alarm, 1)

    def dispatch(self, timeout: float = 0.0) -> None:
        """Call the handlers of what is ready, each once.

        Args:
            timeout: Seconds to wait until something is.
        """
        polled = self._epoll.poll(timeout)
        again, self._again = self._again, []
        # Paired at once: a handler may close another's descriptor, and its number may be given out again meanwhile.
        ready = [(fd, events, self._handlers.get(fd)) for fd, events in polled]
        try:
            for fd, events, handler in ready:
                if fd == self._alarm:
                    os.eventfd_read(fd)
                elif handler is not None and self._handlers.get(fd) is handler:
                    handler(bool(events & ~select.EPOLLOUT))
            while again:
                again.pop(0)()
        finally:
            # After a handler that raised, what was still to be called is called in the next round: no poll repeats it.
            for call in again:
                self.again(call)

    def close(self) -> None:
        """Close the descriptor. The process's end does it too; never while Thespian watches it. Idempotent."""
        self._epoll.close()
        self._close_alarm()
