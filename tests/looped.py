"""An `AsyncClient` as a `Client`, so that what is tested of the one is tested of the other, too.

Every call is a coroutine on a loop that runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from pixir_actors import AsyncClient, AsyncStream, Client, Event, Request
from tests.conftest import within

R = TypeVar("R")


@contextmanager
def looped(client: AsyncClient) -> Iterator[Client]:
    """Open a client on a loop, which ends with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="looped")
    thread.start()
    try:
        with Looped(client, loop) as opened:
            # It is used as one; that it has the same methods is the point of the tests.
            yield cast(Client, opened)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Looped:
    """What a `Client` can do, but for what only threads can."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self.client, self.loop = client, loop
        self.settings, self.namespace = client.settings, client.namespace

    @property
    def _link(self) -> Any:
        assert self.client._client is not None
        return self.client._client._link

    def run(self, awaitable: Awaitable[R]) -> R:
        """Await something on the loop; its outcome is the same here."""

        async def outcome() -> R:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(outcome(), self.loop).result(within(60))

    def __enter__(self) -> Self:
        self.run(self.client)
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def stream(self, key: Any, request: Request, **options: Any) -> LoopedStream:
        return LoopedStream(self, self.run(self.client.stream(key, request, **options)))

    def reduce(self, key: Any, request: Request, acc: Any, fun: Callable[[Event, Any], Any], **options: Any) -> Any:
        return self.run(self.client.reduce(key, request, acc, fun, **options))

    def respond(self, key: Any, request: Request, **options: Any) -> dict[str, Any]:
        return self.run(self.client.respond(key, request, **options))

    def warm(self, key: Any, request: Request, **options: Any) -> dict[str, Any]:
        return self.run(self.client.warm(key, request, **options))

    def status(self, key: Any = None) -> Any:
        return self.run(self.client.status(key))

    def system(self) -> Any:
        return self.run(self.client.system())

    def close(self, key: Any = None) -> None:
        self.run(self.client.close(key))

    def close_connection(self, connection_id: str) -> Any:
        return self.run(self.client.close_connection(connection_id))


class LoopedStream:
    """What a `Stream` can do; its values are those of the `AsyncStream`."""

    def __init__(self, client: Looped, stream: AsyncStream) -> None:
        self._client, self._stream = client, stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.run(self._stream.__aexit__(kind, error, trace))

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return self._client.run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def text_deltas(self) -> Iterator[str]:
        texts = self._stream.text_deltas()
        while (text := self._client.run(anext(texts, None))) is not None:
            yield text

    def cancel(self, *, callback_failed: bool = False) -> None:
        self._client.run(self._stream.cancel(callback_failed=callback_failed))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
