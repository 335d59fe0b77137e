"""The simulator: a server in a thread of its own, with everything it saw at hand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from websockets.frames import Opcode

from pixir_actors.simulator.arming import FaultBox
from pixir_actors.simulator.cache import CacheMode
from pixir_actors.simulator.door import PATH, Door
from pixir_actors.simulator.fault import Fault
from pixir_actors.simulator.operation import Emit, check_close_code, frame
from pixir_actors.simulator.peer import Peer
from pixir_actors.simulator.record import ClientClose, Handshake, HttpRequest, Ledger, Received, Turn
from pixir_actors.simulator.script import Player, Reply, Script
from pixir_actors.simulator.tls import Authority
from pixir_actors.simulator.turn import Stage, WarmUp

_CALL_TIMEOUT: Final = 5.0
_SHUTDOWN_TIMEOUT: Final = 2.0
_T = TypeVar("_T")


@dataclass(eq=False, repr=False)
class Simulator:
    """A Responses API server on 127.0.0.1, for tests. A context manager; safe to use from any thread.

    It speaks WebSocket and HTTP on one port and path. A POST with `stream: true` is answered by server-sent events, any
    other by one JSON object; an error before the first event is an HTTP status with `{"error": {...}}`. Scripts, faults,
    `requests` and `turns` are the same for both ways; over HTTP only a stored response can be continued.

    The lists (`handshakes`, `requests`, `turns`, ...) are live: read them, wait for them with `wait_for`, never change
    them. If the simulator itself breaks, or a script function raises, the exception is in `errors`, the client is
    closed with 1011, and leaving the context raises it, so that no test passes over a broken simulator.

    Attributes:
        script: What to answer: None (`coding_agent`, the default script), a list of `Reply` played in order over the
            whole simulator and then the default, or a function from `TurnContext` to `Reply`, called in the server's
            thread, where it must not block.
        tls: Serve wss with a certificate of an own authority; see `ca_file`.
        faults: Faults that are armed from the start.
        lifetime: Seconds after which a connection gets `websocket_connection_limit_reached` and a close with 1000, as
            soon as no request is in flight on it; None for ever.
        api_key: Refuse an upgrade or a POST with 401 unless its bearer is this.
        cache: What a WebSocket connection remembers: its "latest" response, "all" (the newest 1,024), or "none".
        port: Port to listen on; 0 for a free one.
        max_message_bytes: A larger message of the client is answered with close code 1009, a larger body with 413.
        keep: Each list keeps at least the newest so many records.
        sse_done: End each stream over HTTP with `data: [DONE]`.
        warm_up: What becomes of a request with `generate: false`: "answered", as documented; "no_id", answered with an empty
            id; "created", begun by `response.created` and never ended; "generated", run like any other.
    """

    script: Script | Iterable[Reply] | None = None
    _: KW_ONLY
    tls: bool = False
    faults: Iterable[Fault] = ()
    lifetime: float | None = None
    api_key: str | None = None
    cache: CacheMode = "latest"
    port: int = 0
    max_message_bytes: int = 16 * 1024 * 1024
    keep: int = 100_000
    sse_done: bool = False
    warm_up: WarmUp = "answered"

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.keep)
        self._stage = Stage(self._ledger, FaultBox(self.faults), Player(self.script), self.cache, self.warm_up)
        self._authority: Authority | None = None
        self._peers: set[Peer] = set()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    # What it saw.

    @property
    def handshakes(self) -> list[Handshake]:
        """Every request for an upgrade. Without any HTTP, the index is the number of the connection."""
        return self._ledger.handshakes

    @property
    def http_requests(self) -> list[HttpRequest]:
        """Every HTTP request that came on a connection that began with a POST, also those that were refused."""
        return self._ledger.http_requests

    @property
    def requests(self) -> list[Received]:
        """Every request of either way, in the order of arrival, also those that were refused or never answered.

        A POST whose path, bearer or body is bad, or which the faults `refuse` or `redirect` met, is none.
        """
        return self._ledger.requests

    @property
    def overlaps(self) -> list[Received]:
        """Those that arrived while another was in flight on their connection. They are queued and answered in order."""
        return self._ledger.overlaps

    @property
    def turns(self) -> list[Turn]:
        """The oracle: one for each request that ran, with the history that the model saw."""
        return self._ledger.turns

    @property
    def pings(self) -> list[tuple[int, bytes]]:
        """The client's pings: connection, payload."""
        return self._ledger.pings

    @property
    def pongs(self) -> list[tuple[int, bytes]]:
        """The client's pongs: connection, payload."""
        return self._ledger.pongs

    @property
    def closes(self) -> list[ClientClose]:
        """How each WebSocket connection ended whose upgrade was not refused."""
        return self._ledger.closes

    @property
    def errors(self) -> list[BaseException]:
        """What broke in the simulator, or was raised by its script."""
        return self._ledger.errors

    @property
    def open_connections(self) -> int:
        """WebSocket connections: those that are upgraded and have not ended."""
        return self._ledger.open_connections

    @property
    def open_http_connections(self) -> int:
        """Connections that began with a POST and have not ended."""
        return self._ledger.open_http_connections

    @property
    def tls_failures(self) -> int:
        """TLS handshakes that failed, such as that of a client that does not trust the authority."""
        return self._ledger.tls_failures

    @property
    def armed(self) -> list[Fault]:
        """The faults that still wait for their point."""
        return self._stage.faults.armed()

    @property
    def url(self) -> str:
        """The endpoint, ws or wss."""
        return f"ws{self._origin()}{PATH}"

    @property
    def base_url(self) -> str:
        """What an SDK takes as base URL, http or https."""
        return f"http{self._origin()}{PATH.rpartition('/')[0]}"

    @property
    def ca_file(self) -> str | None:
        """PEM file of the authority to trust, while the simulator runs; None without TLS."""
        return None if self._authority is None else self._authority.ca_file

    def wait_for(self, predicate: Callable[[Simulator], object], timeout: float = 5.0) -> None:
        """Wait until `predicate(self)` is true. It is called in this thread and must not block.

        Raises:
            TimeoutError: It was not, within `timeout` seconds; the text says what was seen.
            RuntimeError: The simulator broke; the cause is chained.
        """
        self._ledger.wait_for(lambda: predicate(self), timeout)

    # What it can be told.

    def inject(self, fault: Fault) -> None:
        """Arm a fault for the next point that it fits; until then it is in `armed`.

        Raises:
            TypeError: It is no fault, such as a factory of `FAULTS` that was not called.
        """
        self._stage.faults.arm(fault)

    def push(self, event: Mapping[str, Any] | bytes, connection: int | None = None) -> None:
        """Send an event, or bytes as one text message, that nobody asked for.

        Args:
            connection: Its number; None is the newest open one.

        Raises:
            LookupError: It is not open.
        """
        data = Emit(event).encoded()
        self._call(lambda: self._peer(connection).wire.post(data))

    def ping(self, payload: bytes = b"", connection: int | None = None) -> None:
        """Send a ping; its pong will be in `pongs`. Raises LookupError as `push`."""
        data = frame(payload, Opcode.PING)
        self._call(lambda: self._peer(connection).wire.post(data))

    def close_connection(
        self,
        code: int = 1001,
        reason: str = "going away",
        connection: int | None = None,
        *,
        behind: Mapping[str, Any] | bytes | None = None,
    ) -> None:
        """Close a connection with a close frame, also in the middle of a response. Raises LookupError as `push`.

        Args:
            code: Of the close frame.
            reason: Of the close frame.
            connection: As in `push`.
            behind: What is sent right before, as by `push`; its reader has no time to close the connection first.
        """
        check_close_code(code)

        def close() -> None:
            wire = self._peer(connection).wire
            if behind is not None:
                wire.post(Emit(behind).encoded())
            wire.close(code, reason)

        self._call(close)

    def abort_connection(self, connection: int | None = None) -> None:
        """Reset a connection (RST), also in the middle of a response; it has left when this returns. Raises LookupError as
        `push`."""
        self._call(lambda: self._peer(connection).wire.abort())
        self._call(lambda: None)  # asyncio closes the socket in its next round

    def evict(self, response_id: str | None = None) -> None:
        """Forget a response, or all, on every connection and in the store of `store: true`."""

        def forget() -> None:
            self._stage.store.evict(response_id)
            for peer in self._peers:
                if peer.upgraded:
                    peer.conversation.cache.evict(response_id)

        self._call(forget)

    # Its life.

    def start(self) -> None:
        """Start to listen; returns when clients can connect. `with` does it.

        Raises:
            OSError: The port is taken.
            ImportError: `tls` needs the package `trustme`.
            RuntimeError: It was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a Simulator can be started once")
        self._authority = Authority() if self.tls else None
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._main, args=(started,), name="simulator", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every connection and the thread, and remove the CA file. May be called again, and from any thread."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                with contextlib.suppress(RuntimeError):  # the loop has just closed by itself
                    self._loop.call_soon_threadsafe(self._stop.set)
                self._thread.join(2 * _SHUTDOWN_TIMEOUT + _CALL_TIMEOUT)
                if self._thread.is_alive():
                    raise RuntimeError("the simulator's thread did not end")
            if self._authority is not None:
                self._authority.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self.errors and error is None:
            raise self.errors[0]
        if self.errors and error is not None:
            error.add_note(f"the simulator had broken before: {self.errors[0]!r}")

    def __repr__(self) -> str:
        return f"<Simulator: {self._ledger.summary()}>"

    def _origin(self) -> str:
        return f"s://localhost:{self.port}" if self.tls else f"://127.0.0.1:{self.port}"

    def _peer(self, connection: int | None) -> Peer:
        peers = [peer for peer in self._peers if peer.upgraded and connection in (None, peer.number)]
        if not peers:
            which = "no connection" if connection is None else f"connection {connection}"
            raise LookupError(f"{which} is open" if connection is None else f"{which} is not open")
        return max(peers, key=lambda peer: peer.number or 0)

    def _call(self, function: Callable[[], _T]) -> _T:
        """Call a function in the server's thread and return what it returned. Raises what it raised."""
        if self._thread is None or not self._thread.is_alive():
            raise RuntimeError("the simulator is not running")
        if threading.current_thread() is self._thread:
            return function()
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result(_CALL_TIMEOUT)

    # In the thread.

    def _main(self, started: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            if started.done():
                self._ledger.add(self._ledger.errors, error)
            else:
                started.set_exception(error)

    async def _serve(self, started: concurrent.futures.Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_loop_error)
        self._stop = asyncio.Event()
        context = None if self._authority is None else self._authority.context
        door = Door(context, self.api_key, self.lifetime, self.max_message_bytes, self.sse_done)
        server = await self._loop.create_server(
            lambda: Peer(self._stage, door, self._peers).wire, "127.0.0.1", self.port, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set_result(None)
        await self._stop.wait()
        server.close()
        await self._end_peers()

    async def _end_peers(self) -> None:
        tasks = [peer.task for peer in self._peers if peer.task is not None]
        for peer in list(self._peers):
            peer.wire.drop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_SHUTDOWN_TIMEOUT)
            for task in late:
                task.cancel()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what asyncio would log. A peer's broken connection is no failure of ours."""
        error = context.get("exception") or RuntimeError(context["message"])
        if not isinstance(error, OSError):
            self._ledger.add(self._ledger.errors, error)
