"""The client for event loops: as `client.Client`, with `await`, `async with` and `async for`.

Nothing here blocks the loop. What asks an actor, or starts one, is done by a few threads of the client; a request whose
connection has a channel open is sent from the loop's own. Events come from the listener's thread straight to the task that
waits for them. A stream costs no thread.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from pixir_actors.arguments import capabilities_of, check_defaults, check_port, label_of
from pixir_actors.channel.frame import Frame
from pixir_actors.client import Client
from pixir_actors.core.key import Key, canonical
from pixir_actors.core.payload import is_ready
from pixir_actors.core.state import Purpose
from pixir_actors.dispatch.dispatcher import client_closed
from pixir_actors.dispatch.loop import LoopReader, LoopSide, Submission, being_cancelled, result_of
from pixir_actors.errors import Delivery, ErrorCode, Failure, PixirError, StreamError, SystemStartFailed, WrongProcess
from pixir_actors.events import Event
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from pixir_actors.status import ConnectionStatus, SystemStatus
from pixir_actors.stream import Received
from pixir_actors.system.runtime import Runtime

AT_ONCE: Final = 1024 * 1024
"""Bytes of a body up to which a request is built and sent in the loop's thread, where that is only to copy it."""
PARSED_AT_ONCE: Final = 16 * 1024
"""The same for one that has to be parsed: less than half a millisecond, whatever is in it."""

A = TypeVar("A")
R = TypeVar("R")


class AsyncClient:
    """The way to the connections of one actor system, from one event loop. Make it with `embedded`, `attach` or `over`.

    It opens with `async with`, or with `await`, and belongs to that loop and process from then on. Streams of different keys
    run side by side; those of one key queue in the order in which they were entered, each after the one before it was.
    """

    def __init__(
        self, make: Callable[..., Client], *, settings: Settings | None = None, namespace: str | None = None
    ) -> None:
        """Use `embedded`, `attach` or `over` instead.

        Args:
            make: Makes the client that this one speaks for, of settings and namespace; called in a thread, as it blocks.
            settings: Defaults for every request.
            namespace: Keeps the keys of two programs apart.
        """
        check_defaults(settings, namespace)
        self.settings = settings or Settings()
        self.namespace = namespace
        self._make = partial(make, settings=settings, namespace=namespace)
        self._client: Client | None = None
        self._side: LoopSide | None = None
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def embedded(cls, *, settings: Settings | None = None, namespace: str | None = None) -> Self:
        """As `Client.embedded`; the system starts when the client is opened."""
        return cls(Client.embedded, settings=settings, namespace=namespace)

    @classmethod
    def attach(
        cls,
        port: int | None = None,
        *,
        start: bool = False,
        settings: Settings | None = None,
        namespace: str | None = None,
    ) -> Self:
        """As `Client.attach`; the admin is looked for when the client is opened."""
        check_port(port)
        return cls(partial(Client.attach, port, start=start), settings=settings, namespace=namespace)

    @classmethod
    def over(cls, actor_system: Any, *, settings: Settings | None = None, namespace: str | None = None) -> Self:
        """As `Client.over`, on `multiprocTCPBase` alone.

        Raises:
            InvalidSettings: It is no actor system.
            SystemStartFailed: It is a `simpleSystemBase`: its actors would run in the loop's thread, and hold it up.
        """
        if capabilities_of(actor_system).get("Thespian ActorSystem Name") == "simpleSystem":
            raise SystemStartFailed("the actor system's base is simpleSystem: an AsyncClient needs multiprocTCPBase")
        return cls(partial(Client.over, actor_system), settings=settings, namespace=namespace)

    def __await__(self) -> Generator[Any, None, Self]:
        """Open the client: `client = await AsyncClient.embedded()`; close it with `await client.close()`."""
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        if self._side is not None or self._closed:
            self.opened()
            return self
        self._pid = os.getpid()
        self._side = LoopSide(asyncio.get_running_loop())
        try:
            await result_of(self._side.run(self._open))
        except BaseException:
            # What a thread has made meanwhile, or makes yet, is not left behind.
            self._closed = True
            if self._client is not None:
                self._side.run(self._client.close)
            self._side.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._client else "not open"
        return f"<{type(self).__name__} {self._client.kind + ' ' if self._client else ''}{state}>"

    @property
    def admin(self) -> Runtime | None:
        """As `Client.admin`; None while the client is not open."""
        return None if self._client is None else self._client.admin

    def stream(self, key: Key, request: Request, **options: Any) -> AsyncStream:
        """Return the events of a request; it is submitted by `async with`, by `await`, or by reading it.

        These raise what `Client.stream` raises. Arguments as there.
        """
        return AsyncStream(self, key, request, Purpose.RUN, options)

    async def reduce(
        self, key: Key, request: Request, acc: A, fun: Callable[[Event, A], A | Awaitable[A]], **options: Any
    ) -> A:
        """As `Client.reduce`; `fun` is called in this task and may be async.

        An exception of `fun` reaches the caller unchanged. A task that is cancelled in it has not failed: the key's next
        reset reason is `cancelled` then.
        """
        stream = self.stream(key, request, **options)
        try:
            await stream
        except StreamError as error:
            error.acc = acc
            raise
        async with stream:
            while True:
                try:
                    event = await anext(stream)
                except StopAsyncIteration:
                    return acc
                except StreamError as error:
                    error.acc = acc
                    raise
                try:
                    folded = fun(event, acc)
                    acc = await folded if inspect.isawaitable(folded) else folded
                except asyncio.CancelledError:
                    raise
                except BaseException:
                    await stream.cancel(callback_failed=True)
                    raise

    async def respond(self, key: Key, request: Request, **options: Any) -> dict[str, Any]:
        """As `Client.respond`."""
        async with self.stream(key, request, **options) as stream:
            async for _ in stream:
                pass
            stream.raise_for_failure()
            return stream.response or {}

    async def warm(self, key: Key, request: Request, *, prefill: bool = False, **options: Any) -> dict[str, Any]:
        """As `Client.warm`."""
        purpose = Purpose.PREFILL if prefill else Purpose.OPEN
        async with AsyncStream(self, key, request, purpose, options) as stream:
            async for _ in stream:
                pass
            stream.raise_for_failure()
            return stream.metadata

    async def status(self, key: Key | None = None) -> list[ConnectionStatus]:
        """As `Client.status`."""
        return await self._in_thread(lambda client: client.status(key))

    async def system(self) -> SystemStatus:
        """As `Client.system`."""
        return await self._in_thread(Client.system)

    async def close(self, key: Key | None = None) -> None:
        """As `Client.close`: close one key's connection now; without a key, close this client.

        Closing the client goes on if this task is cancelled meanwhile.
        """
        if key is not None:
            await self._in_thread(lambda client: client.close(key))
        elif self._side is None:
            self._closed = True
        elif not self._closed and os.getpid() == self._pid:
            client, side = self.opened()
            self._closed = True
            closing = side.run(client.close)
            side.close()
            await result_of(closing)

    async def close_connection(self, connection_id: str) -> bool:
        """As `Client.close_connection`."""
        return await self._in_thread(lambda client: client.close_connection(connection_id))

    # For AsyncStream.

    def opened(self) -> tuple[Client, LoopSide]:
        """Return what the client works with.

        Raises:
            StreamError: `shutting_down`: it is closed.
            WrongProcess: It belongs to the process that this one was forked from.
            PixirError: It is not open, or belongs to another loop.
        """
        if os.getpid() != self._pid:
            raise WrongProcess(self._pid)
        if self._client is None or self._side is None:
            raise PixirError("this client is not open: use `async with` on what `embedded`, `attach` or `over` returned")
        if asyncio.get_running_loop() is not self._side.loop:
            raise PixirError("this client belongs to another event loop: make one in each loop")
        if self._closed:
            raise client_closed(Delivery.NOT_SENT)
        return self._client, self._side

    async def _in_thread(self, use: Callable[[Client], R]) -> R:
        client, side = self.opened()
        return await result_of(side.run(partial(use, client)))

    def _open(self) -> None:
        """Make the client, in a thread; nobody may be waiting for it any more."""
        self._client = self._make()
        if self._closed:
            self._client.close()


class AsyncStream(Received):
    """As `Stream`, for a task: an async iterator over `Metadata`, `Status` and `Data`. Made by `AsyncClient.stream`.

    The request is under way from `async with`, from `await stream`, or from the first event that is asked for. Leaving the
    block early, an exception in it, the cancellation of its task, and dropping the stream cancel the request. A task that is
    cancelled while it waits for an event has not ended the stream by that: another one can go on reading. Read by one task
    at a time; `cancel` may be called by any task of the loop.
    """

    def __init__(
        self, client: AsyncClient, key: Key, request: Request, purpose: Purpose, options: dict[str, Any]
    ) -> None:
        super().__init__()
        self._client = client
        self._asked: tuple[Any, Any, Purpose, dict[str, Any]] = (key, request, purpose, options)
        self._way: Submission | None = None
        self._begun: asyncio.Future[None] | None = None
        self._refused: PixirError | None = None
        self._reader: LoopReader | None = None

    def __repr__(self) -> str:
        return self._shown(label_of(self._asked[0], self._asked[3], self._client), begun=self._way is not None)

    def __await__(self) -> Generator[Any, None, Self]:
        """Submit the request: `stream = await client.stream(...)`."""
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            self._cancel_soon()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, waiting for it.

        Raises:
            StopAsyncIteration: After the terminal event; also when that was the provider's error: see `raise_for_failure`.
            StreamError: The request ended without a terminal event.
            InvalidRequest, InvalidSettings: It is submitted only now, and cannot be.
        """
        if self._ended:
            raise StopAsyncIteration
        event = self._event(next(self._frames, None) or await self._fetch())
        if event is None:
            self._leave()
            raise StopAsyncIteration
        return event

    async def text_deltas(self) -> AsyncIterator[str]:
        """As `Stream.text_deltas`."""
        seen = len(self._deltas)
        async for _ in self:
            text = self._new_text(seen)
            seen = len(self._deltas)
            if text is not None:
                yield text

    async def cancel(self, *, callback_failed: bool = False) -> None:
        """As `Stream.cancel`. The connection is told at once; this waits until it has heard, at most about two seconds, and
        may itself be cancelled meanwhile.
        """
        told = self._cancel_soon(callback_failed=callback_failed)
        if told is not None:
            await asyncio.wait([told])

    async def _begin(self) -> None:
        """Submit the request, if it was not, and wait until it is."""
        if self._reader is not None:
            return
        if self._ended:
            raise self._refused or StreamError(Failure.of(ErrorCode.CANCELLED, Delivery.NOT_SENT))
        try:
            if self._way is None:
                self._way, self._begun = self._sent_off()
            if self._begun is not None:
                await result_of(self._begun)
        except PixirError as error:
            self._refused = self._failed(error)
            raise
        if self._reader is None:  # of several tasks that waited for it, one is the first
            assert self._way.call is not None
            self._reader = LoopReader(self._way.call, self._way.side)

    def _sent_off(self) -> tuple[Submission, asyncio.Future[None] | None]:
        client, side = self._client.opened()
        key, request, _, options = self._asked
        way = Submission(side, partial(client.prepare, *self._asked))
        timeout = _number(options.get("timeout", client.settings.timeout))
        return way, way.begin(canonical(key, client.namespace), quick=_is_quick(request), timeout=timeout)

    async def _fetch(self) -> Frame:
        """Wait for frames; return the first one and leave the others to be read."""
        self._waited_for = True
        await self._begin()
        assert self._reader is not None
        try:
            self._frames = iter(await self._reader.frames())
        except PixirError as error:
            self._failed(error)
            self._leave()
            raise
        self._waited_for = False
        return next(self._frames)

    def _cancel_soon(self, *, callback_failed: bool = False) -> asyncio.Future[None] | None:
        """Give the request up, if it has not ended, without waiting; return what tells the connection so, if need be."""
        if self._ended:
            return None
        self._cancelled()
        self._leave()
        return None if self._way is None else self._way.give_up(callback_failed=callback_failed)

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.stop()

    def __del__(self) -> None:
        way = getattr(self, "_way", None)
        if getattr(self, "_ended", True) or way is None:
            return
        way.drop()
        if not being_cancelled():
            self._warn_of_drop()


def _is_quick(request: object) -> bool:
    """Say whether to build a request, or to find out that it is none, takes no time that others on the loop would notice."""
    if not isinstance(request, Request):
        return True
    return len(request.body) <= (AT_ONCE if is_ready(request.field_names) else PARSED_AT_ONCE)


def _number(timeout: object) -> float | None:
    """Return a limit in seconds; None for none, and for what will be found to be no limit when the request is made."""
    return timeout if isinstance(timeout, int | float) and 0 < timeout < 1e9 else None
