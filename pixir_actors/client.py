"""The client: what a program uses. Finds the actors, sends them requests, gives events back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from thespian.actors import ActorSystem

from pixir_actors.actors import messages as m
from pixir_actors.arguments import capabilities_of, check_defaults, check_port
from pixir_actors.core.key import Key, canonical
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Purpose
from pixir_actors.dispatch.attached import AttachedLink
from pixir_actors.dispatch.call import Call
from pixir_actors.dispatch.dispatcher import STATUS_TIMEOUT, Dispatcher
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.dispatch.link import Link, RemoteLink
from pixir_actors.dispatch.local import LocalLink
from pixir_actors.dispatch.placement import CANCEL_TIMEOUT
from pixir_actors.errors import (
    AdminNotRunning,
    Delivery,
    ErrorCode,
    Failure,
    InvalidRequest,
    InvalidSettings,
    StreamError,
    SystemStartFailed,
)
from pixir_actors.events import Event
from pixir_actors.request import Request
from pixir_actors.settings import Settings
from pixir_actors.status import ConnectionStatus, SystemStatus
from pixir_actors.stream import Stream
from pixir_actors.system.environment import check_ca_file, check_proxy, connection_environment
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime

A = TypeVar("A")


class Client:
    """The way to the connections of one actor system. Make it with `embedded`, `attach`, `over` or `local`.

    Thread-safe, except for `local`. Streams of different keys run side by side; those of one key queue in the order in
    which they were submitted. A client belongs to the process that made it: after a fork the child makes its own.
    """

    def __init__(self, link: Link, *, settings: Settings | None = None, namespace: str | None = None) -> None:
        """Use `embedded`, `attach`, `over` or `local` instead."""
        check_defaults(settings, namespace)
        self.settings = settings or Settings()
        self.namespace = namespace
        self._dispatcher = Dispatcher(link)
        self._link = link
        self._pid = os.getpid()

    @classmethod
    def embedded(cls, *, settings: Settings | None = None, namespace: str | None = None) -> Self:
        """Start an actor system of this program's own: on loopback, signed, gone with the client or the process.

        Should its admin die, the next request starts it anew.

        Args:
            settings: Defaults for every request.
            namespace: Keeps the keys of two programs apart.

        Raises:
            InvalidSettings: Settings or namespace cannot be used. Nothing was started.
            SystemStartFailed: It did not start; the text says why.
        """
        check_defaults(settings, namespace)
        return cls(EmbeddedLink(), settings=settings, namespace=namespace)

    @classmethod
    def attach(
        cls,
        port: int | None = None,
        *,
        start: bool = False,
        settings: Settings | None = None,
        namespace: str | None = None,
    ) -> Self:
        """Join the admin that all programs of this user share on this host; it goes on when the client is closed.

        Its files are found by this process's environment: see `system.places`. Should the admin be started anew, the client
        finds it again; what ran then ends with `connection_lost`.

        Args:
            port: The port that the admin was started with; None: the one that was started without.
            start: Start an admin if none runs, detached from this process; of several at once one does it.
            settings: Defaults for every request.
            namespace: Keeps the keys of two programs apart.

        Raises:
            InvalidSettings: Port, settings or namespace cannot be used.
            AdminNotRunning: None runs; the text names the command that starts one. A later call of the client raises it as
                well, once the admin has ended.
            AdminMismatch: It has another version, or another cookie.
            CookieUnusable: The cookie cannot be read, or others can read it.
            SystemStartFailed: It does not answer, or does not start.
        """
        check_defaults(settings, namespace)
        check_port(port)
        link = AttachedLink(Places.of(os.environ, port=port), start=start)
        return cls(link, settings=settings, namespace=namespace)

    @classmethod
    def over(cls, actor_system: Any, *, settings: Settings | None = None, namespace: str | None = None) -> Self:
        """Use an actor system that the host app runs; it is left running.

        Args:
            actor_system: A Thespian `ActorSystem` on `multiprocTCPBase`, whose processes can import this package, or on
                `simpleSystemBase`, used from its own thread.
            settings: Defaults for every request.
            namespace: Keeps the keys of two programs apart.

        Raises:
            InvalidSettings: It is no actor system; settings or namespace cannot be used.
            SystemStartFailed: The system has another base, or does not start the supervisor.
        """
        check_defaults(settings, namespace)
        capabilities = capabilities_of(actor_system)
        base = capabilities.get("Thespian ActorSystem Name")
        if base == "simpleSystem":
            return cls(LocalLink(actor_system), settings=settings, namespace=namespace)
        if not capabilities.get("Thespian Watch Supported"):
            raise SystemStartFailed(f"the actor system's base is {base}: only multiprocTCPBase can watch sockets")
        return cls(RemoteLink(actor_system), settings=settings, namespace=namespace)

    @classmethod
    def local(cls, *, settings: Settings | None = None, namespace: str | None = None) -> Self:
        """Run everything in this process and thread: for notebooks and unit tests.

        Actors run only while a stream is read or a method of the client waits. Between two turns nobody answers a server's
        ping, and no key is idle-closed, until the client is used again.
        """
        check_defaults(settings, namespace)
        # Without logDefs=False Thespian would configure the whole program's logging.
        system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
        return cls(LocalLink(system, owned=True), settings=settings, namespace=namespace)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {'closed' if self._dispatcher.closing else 'open'}>"

    @property
    def kind(self) -> str:
        """How it was made, for logs: "embedded", "attached", "over" or "local"."""
        return self._link.kind

    @property
    def admin(self) -> Runtime | None:
        """The admin daemon that this client is attached to, as that said of itself; None for any other client."""
        return self._link.runtime if isinstance(self._link, AttachedLink) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stream(self, key: Key, request: Request, **options: Any) -> Stream:
        """Submit a request and return its events; use it as a context manager.

        Args:
            key: Names the conversation: a str, int or bytes, or a tuple of them.
            request: With the whole conversation in its input.
            options: Settings for this request alone.

        Raises:
            InvalidRequest: The request cannot be sent as it stands. Nothing was sent.
            InvalidSettings: An option is unknown or out of range. Nothing was sent.
            StreamError: No connection took the request; `delivery` is `not_sent` unless the system stopped answering.
        """
        return self._submit(key, request, Purpose.RUN, options)

    def prepare(self, key: Key, request: Request, purpose: Purpose, options: dict[str, Any]) -> Call:
        """Check and encode a request, without sending it: what `stream` submits, and `aio.AsyncStream` on its loop.

        Raises:
            InvalidRequest, InvalidSettings: As `stream`.
        """
        if not isinstance(request, Request):
            raise InvalidRequest("request", f"is a {type(request).__name__}: build it with Request or Request.responses")
        settings = _resolved(self.settings.override(options), request.url)
        ask = m.EnsureStarted.of(self._link.number(), key, settings, namespace=self.namespace)
        submit = m.Submit.of(
            self._link.number(), key, request, settings, channel=self._link.channel, purpose=purpose
        )
        return Call(self._dispatcher, ask, submit)

    def _submit(self, key: Key, request: Request, purpose: Purpose, options: dict[str, Any]) -> Stream:
        call = self.prepare(key, request, purpose, options)
        call.submit()
        return Stream(call)

    def reduce(
        self, key: Key, request: Request, acc: A, fun: Callable[[Event, A], A], **options: Any
    ) -> A:
        """Fold the events of a request: `acc = fun(event, acc)` for each, in this process and thread.

        A provider's in-band error is an event like any other. An exception of `fun` reaches the caller unchanged; the
        request, if it is still running, is cancelled then, and the key's next reset reason is `stream_callback_failed`.

        Raises:
            StreamError: As `Stream`; its `acc` is the accumulator so far.
            InvalidRequest, InvalidSettings: As `stream`.
        """
        try:
            stream = self.stream(key, request, **options)
        except StreamError as error:
            error.acc = acc
            raise
        with stream:
            while True:
                try:
                    event = next(stream)
                except StopIteration:
                    return acc
                except StreamError as error:
                    error.acc = acc
                    raise
                try:
                    acc = fun(event, acc)
                except BaseException:
                    stream.cancel(callback_failed=True)
                    raise

    def respond(self, key: Key, request: Request, **options: Any) -> dict[str, Any]:
        """Run a request to its end and return the response object.

        Raises:
            ProviderError: The response failed. An incomplete one is returned.
            StreamError, InvalidRequest, InvalidSettings: As `stream`.
        """
        with self.stream(key, request, **options) as stream:
            for _ in stream:
                pass
            stream.raise_for_failure()
            return stream.response or {}

    def warm(self, key: Key, request: Request, *, prefill: bool = False, **options: Any) -> dict[str, Any]:
        """Have the key's connection open before its first turn needs it; return the evidence.

        Args:
            key: Names the conversation.
            request: As the first turn will send it.
            prefill: Send it with `generate: false`, once: the provider reads it, and the first turn continues from there
                if it can. A server that sends no terminal event then, or generates an answer all the same, costs the
                connection and nothing else.
            options: As for `stream`.

        Raises:
            StreamError: The connection could not be opened, or the provider refused.
            InvalidRequest, InvalidSettings: As `stream`.
        """
        purpose = Purpose.PREFILL if prefill else Purpose.OPEN
        with self._submit(key, request, purpose, options) as stream:
            for _ in stream:
                pass
            stream.raise_for_failure()
            return stream.metadata

    def status(self, key: Key | None = None) -> list[ConnectionStatus]:
        """Return one status per connection, as each of them last wrote it down; or that of one key, which is asked itself.

        In an actor system that does not fork, which only a host can run, the first is up to about a second old. Asking for a
        key starts no connection: the list is empty if it has none.

        Raises:
            StreamError: `connection_unresponsive` or `shutting_down`.
            InvalidRequest: The key cannot be a key.
        """
        if key is None:
            report = self._dispatcher.ask_supervisor(m.GetStatus(self._link.number()))
            return list(report.connections)
        name = Secret(canonical(key, self.namespace))
        found = self._dispatcher.ask_supervisor(m.FindConnection(self._link.number(), name))
        if found.address is None:
            return []
        report = self._link.ask(found.address, m.GetStatus(self._link.number()), timeout=STATUS_TIMEOUT)
        if report is None:
            raise StreamError(Failure.of(ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.NOT_SENT))
        return list(report.connections)

    def system(self) -> SystemStatus:
        """Return how the actor system is, from its supervisor, at once.

        Raises:
            StreamError: `connection_unresponsive` or `shutting_down`.
        """
        status: SystemStatus = self._dispatcher.ask_supervisor(m.GetSystem(self._link.number())).system
        return status

    def close(self, key: Key | None = None) -> None:
        """Close one key's connection now; without a key, close this client.

        Closing the client ends its streams with `shutting_down`. An embedded or local system ends with it, one that the host
        app runs goes on. Idempotent. In a fork of its process it does nothing: the client is the parent's.

        Raises:
            StreamError: With a key: `connection_unresponsive` or `shutting_down`.
        """
        if key is not None:
            name = Secret(canonical(key, self.namespace))
            # With the admin went all connections: there is none to close, as for a key that has none.
            with contextlib.suppress(AdminNotRunning):
                self._dispatcher.ask_supervisor(m.CloseConnection(self._link.number(), name))
            self._dispatcher.forget(name.reveal())
            return
        if self._dispatcher.closing or os.getpid() != self._pid:
            return
        if self._link.owns_system:
            # So that sockets are closed with a close frame, where the system still answers.
            with contextlib.suppress(StreamError):
                stop = m.StopAll(self._link.number())
                self._link.ask(self._link.supervisor(), stop, timeout=CANCEL_TIMEOUT)
        self._dispatcher.closing = True
        self._link.close()

    def close_connection(self, connection_id: str) -> bool:
        """Close the connection that a status calls so, of whatever key and namespace; return whether it was still there.

        For operators, who see digests and not keys.

        Raises:
            StreamError: `connection_unresponsive` or `shutting_down`.
        """
        question = m.CloseConnection(self._link.number(), None, connection_id)
        return bool(self._dispatcher.ask_supervisor(question).existed)


NO_HTTP: Final = "\"websocket\": the way over HTTP takes an extra: pip install 'pixir_actors[http]'"


@cache
def _http_installed() -> bool:
    return find_spec("httpcore") is not None


def _resolved(settings: Settings, url: str) -> Settings:
    """Fill in what the environment of this process says about the way to `url`; it travels with the request."""
    if settings.transport != "websocket" and not _http_installed():
        raise InvalidSettings("transport", settings.transport, NO_HTTP)
    proxy, ca_file = connection_environment(url, os.environ)
    ca_file, proxy = settings.ca_file or ca_file, settings.proxy or proxy
    check_proxy(proxy)
    # The actors have another working directory.
    absolute = None if ca_file is None else os.path.abspath(ca_file)
    if absolute is not None and url.startswith(("https:", "wss:")):
        check_ca_file(absolute)
    if (proxy, absolute) == (settings.proxy, settings.ca_file):
        return settings
    return _completed(settings, proxy, absolute)


@lru_cache(64)
def _completed(settings: Settings, proxy: str | None, ca_file: str | None) -> Settings:
    return settings.override({"proxy": proxy, "ca_file": ca_file})
