"""Order among what is submitted for one key on an event loop, where threads do it: what was given first is there first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pixir_actors.errors import ErrorCode, InvalidRequest, InvalidSettings, PixirError, StreamError

LONG: Final = 1.0
"""Seconds behind which it has cost something to find out that the system does not answer."""
NO_ANSWER: Final = frozenset(
    {
        ErrorCode.CONNECTION_UNRESPONSIVE,
        ErrorCode.CONNECTION_LOST,
        ErrorCode.TOO_MANY_CONNECTIONS,
        ErrorCode.WEBSOCKET_START_FAILED,
    }
)
"""What says so. Other failures are one request's own: it was cancelled, its time was over, it cannot be sent."""

R = TypeVar("R")
Over = asyncio.Future[bool]
"""Done when whoever is behind may go; True: and they one behind another."""


class Turns:
    """By key, those who are on their way. Used in the loop's thread.

    Where one has waited long to find out that the system does not answer, all behind it are let go at once: else each would
    wait as long to find out the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last: dict[str, Over] = {}

    def taken(self, key: str) -> bool:
        """Say whether anybody is on the way: who comes now has to line up."""
        return key in self._last

    def run(self, key: str, start: Callable[[], asyncio.Future[R]], *, patience: float | None = None) -> asyncio.Future[R]:
        """Return what comes of `start`, which is called when all before it are there.

        Args:
            key: Whose turn.
            start: Begins what is to be done. What it raises is the result.
            patience: Seconds behind which it is called all the same, None: not before its turn. It has to know why.
        """
        before, over = self._last.get(key), self._loop.create_future()
        self._last[key] = over
        over.add_done_callback(lambda _: self._forget(key, over))
        turn = _Turn(self._loop, start, before, over)
        if before is None:
            turn.go()
        else:
            before.add_done_callback(turn.go)
            if patience is not None:
                turn.timer = self._loop.call_later(patience, turn.go)
        return turn.result

    def _forget(self, key: str, over: Over) -> None:
        if self._last.get(key) is over:
            del self._last[key]


class _Turn:
    """One of those in a line."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, start: Callable[[], asyncio.Future[Any]], before: Over | None, over: Over
    ) -> None:
        self.result: asyncio.Future[Any] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self._loop = loop
        self._start: Callable[[], asyncio.Future[Any]] | None = start
        self._before, self._over = before, over
        self._began = 0.0

    def go(self, _: object = None) -> None:
        """Begin, if it has not begun."""
        start, self._start = self._start, None
        if self.timer is not None:
            self.timer.cancel()
        if start is None:
            return
        self._began = self._loop.time()
        try:
            work = start()
        except BaseException as error:
            self._end(error, None)
            if isinstance(error, Exception):
                return
            raise
        work.add_done_callback(lambda done: self._end(done.exception(), done))
        if self._before is not None and self._before.done() and not self._before.result():
            self._let_go(False)

    def _end(self, error: BaseException | None, done: asyncio.Future[Any] | None) -> None:
        if error is not None:
            self.result.set_exception(error)
            self.result.exception()  # whoever left does not want to know, and asyncio would complain
        elif done is not None:
            self.result.set_result(done.result())
        if self._before is None or self._before.done():
            long = self._loop.time() - self._began >= LONG
            in_order = self._before is None or self._before.result()
            self._let_go(in_order and not (long and _says_that_nobody_answers(error)))
        else:  # it ran out of patience: those behind it have not
            self._before.add_done_callback(lambda before: self._let_go(before.result()))

    def _let_go(self, in_order: bool) -> None:
        if not self._over.done():
            self._over.set_result(in_order)


def _says_that_nobody_answers(error: BaseException | None) -> bool:
    if isinstance(error, StreamError):
        return error.code in NO_ANSWER
    return isinstance(error, PixirError) and not isinstance(error, InvalidRequest | InvalidSettings)
