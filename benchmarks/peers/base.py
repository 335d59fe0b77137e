"""The interface of all peers, for those that wait on threads and those that wait on an event loop.

Whatever the peer, its adapter looks at the type of every event, as any caller must to see the end, and hands the text of
every delta to `seen`. A turn in which a delta is missing is an error, not a measurement.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar

from benchmarks.asks import Ask

C = TypeVar("C")
Seen = Callable[[str], None]
TERMINAL: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})
DELTAS: Final = frozenset({"response.output_text.delta", "response.function_call_arguments.delta"})


class Incomplete(Exception):
    """A turn did not bring what was asked for."""


class Record:
    """One turn, as its caller saw it. Times are seconds of `perf_counter`.

    Attributes:
        first: When the first delta came.
        delays: Seconds from the server's write to the caller's hands, of each delta, where the ask has a rate.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.started = self.first = self.ended = 0.0
        self.delays: list[float] = []
        self._count = 0
        self.seen: Seen = self._timed if ask.rate else self._counted

    def begin(self) -> None:
        self.ask.items()  # a caller has what it says: to make a megabyte of it takes a millisecond, which is not the peer's
        self.started = time.perf_counter()

    def finish(self, *, check: bool = True) -> None:
        """End the turn.

        Raises:
            Incomplete: Deltas are missing.
        """
        self.ended = time.perf_counter()
        if check and self._count != self.ask.deltas:
            raise Incomplete(f"{self._count} of {self.ask.deltas} deltas came")

    @property
    def seconds(self) -> float:
        """From the request to the end of the answer."""
        return self.ended - self.started

    @property
    def first_after(self) -> float:
        """From the request to the first delta."""
        return self.first - self.started

    def _counted(self, text: str) -> None:
        if not self._count:
            self.first = time.perf_counter()
        self._count += 1

    def _timed(self, text: str) -> None:
        # CLOCK_MONOTONIC is the same in all processes
        self.delays.append(time.monotonic() - int(text) / 1e9)
        self._counted(text)


class Peer(ABC):
    """One way to hold conversations with the server. Conversations are named by keys and open with their first turn."""

    counts = True
    """Whether it looks at every event."""

    @abstractmethod
    def play(self, key: str, asks: Sequence[Ask]) -> list[Record]:
        """Run turns of one conversation, one after another."""

    @abstractmethod
    def together(self, keys: Sequence[str], ask: Ask, width: int) -> list[Record]:
        """Run one turn of each conversation, at most `width` at once."""

    @abstractmethod
    def idle(self, seconds: float) -> None:
        """Wait, as a program does that uses this peer and has nothing to do."""

    @abstractmethod
    def start_over(self, key: str) -> None:
        """Let the key's next turn be the first one of a new conversation, on the connection that there is."""

    @abstractmethod
    def shut(self, key: str) -> None:
        """End a conversation."""

    @abstractmethod
    def close(self) -> None:
        """End all of them, and whatever the peer runs. Idempotent."""


class SyncPeer(Peer, Generic[C]):
    """A peer that waits on threads; `C` is a conversation."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._conversations: dict[str, C] = {}

    @abstractmethod
    def open(self, key: str) -> C:
        """Begin a conversation."""

    @abstractmethod
    def turn(self, conversation: C, ask: Ask, seen: Seen) -> None:
        """Run one turn."""

    @abstractmethod
    def forget(self, conversation: C) -> None:
        """Forget the turns of a conversation; its connection stays."""

    @abstractmethod
    def end(self, conversation: C) -> None:
        """End a conversation."""

    def play(self, key: str, asks: Sequence[Ask]) -> list[Record]:
        return [self._turn(key, ask) for ask in asks]

    def together(self, keys: Sequence[str], ask: Ask, width: int) -> list[Record]:
        with ThreadPoolExecutor(width) as threads:
            return list(threads.map(lambda key: self._turn(key, ask), keys))

    def idle(self, seconds: float) -> None:
        time.sleep(seconds)

    def start_over(self, key: str) -> None:
        self.forget(self._conversations[key])

    def shut(self, key: str) -> None:
        self.end(self._conversations.pop(key))

    def close(self) -> None:
        while self._conversations:
            self.end(self._conversations.popitem()[1])

    def _turn(self, key: str, ask: Ask) -> Record:
        record = Record(ask)
        record.begin()
        conversation = self._conversations.get(key)
        if conversation is None:
            conversation = self._conversations[key] = self.open(key)
        self.turn(conversation, ask, record.seen)
        record.finish(check=self.counts)
        return record


class AsyncPeer(Peer, Generic[C]):
    """A peer that waits on an event loop, which runs only while something is asked of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._conversations: dict[str, C] = {}
        self._runner = asyncio.Runner()
        self._closed = False

    @abstractmethod
    async def open(self, key: str) -> C:
        """Begin a conversation."""

    @abstractmethod
    async def turn(self, conversation: C, ask: Ask, seen: Seen) -> None:
        """Run one turn."""

    @abstractmethod
    def forget(self, conversation: C) -> None:
        """Forget the turns of a conversation; its connection stays."""

    @abstractmethod
    async def end(self, conversation: C) -> None:
        """End a conversation."""

    async def finish(self) -> None:
        """End what the conversations share."""

    def play(self, key: str, asks: Sequence[Ask]) -> list[Record]:
        async def run() -> list[Record]:
            return [await self._turn(key, ask) for ask in asks]

        return self._runner.run(run())

    def together(self, keys: Sequence[str], ask: Ask, width: int) -> list[Record]:
        async def run() -> list[Record]:
            places = asyncio.Semaphore(width)

            async def one(key: str) -> Record:
                async with places:
                    return await self._turn(key, ask)

            return await asyncio.gather(*map(one, keys))

        return self._runner.run(run())

    def idle(self, seconds: float) -> None:
        self._runner.run(asyncio.sleep(seconds))

    def start_over(self, key: str) -> None:
        self.forget(self._conversations[key])

    def shut(self, key: str) -> None:
        self._runner.run(self.end(self._conversations.pop(key)))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        async def run() -> None:
            while self._conversations:
                await self.end(self._conversations.popitem()[1])
            await self.finish()

        with self._runner:
            self._runner.run(run())

    async def _turn(self, key: str, ask: Ask) -> Record:
        record = Record(ask)
        record.begin()
        conversation = self._conversations.get(key)
        if conversation is None:
            conversation = self._conversations[key] = await self.open(key)
        await self.turn(conversation, ask, record.seen)
        record.finish(check=self.counts)
        return record


def terminal(kind: str | None, event: Any) -> None:
    """Check how an answer ended.

    Raises:
        Incomplete: It is not complete, so there is nothing to measure.
    """
    if kind != "response.completed":
        raise Incomplete(f"the answer ended with {kind}: {str(event)[:300]}")
