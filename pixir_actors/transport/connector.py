"""Opening a socket in a helper thread, with a way out of every step.

The steps up to TLS are done here and not by websocket-client, which is handed the finished socket for the upgrade: only
so `abandon` can reach the socket in each step, every address of a name is tried whatever error the one before gave
(websocket-client goes on after two errors only), and nothing is read from the environment.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault, Target, Transport
from pixir_actors.transport.faults import Refused, connect_fault
from pixir_actors.transport.tls import client_context
from pixir_actors.transport.upgrade import DEFAULT_PORTS, Proxy, ascii_host, tunnel, upgrade

THREAD_NAME: Final = "websocket-connector"


class _Abandoned(Exception):
    """Nobody waits for this attempt any more."""


class HelperThread:
    """A `Connector`: one daemon thread that opens one socket and ends.

    The thread touches nothing of the actor: it leaves the outcome under a lock and writes a byte to a socket pair.
    A name look-up cannot be interrupted; its thread ends when the resolver gives up, and opens nothing then.

    Args:
        target: Where to connect.
        adopt: Makes the transport of the open socket; runs in the helper thread.
        upgrades: Make a WebSocket of the connection before it is adopted.

    Raises:
        OSError: No descriptors are left for the socket pair.
    """

    def __init__(
        self, target: Target, adopt: Callable[[socket.socket, Target], Transport], *, upgrades: bool = True
    ) -> None:
        self._target, self._adopt, self._upgrades = target, adopt, upgrades
        self._step = "name"
        self._host: str | None = None  # whom the step is about: the provider, or the proxy
        self._abandoned = False
        self._sock: socket.socket | None = None  # what the thread is opening
        self._outcome: Transport | Fault | None = None
        self._lock = threading.Lock()  # guards the three above, and that no descriptor is closed while it is shut down
        self._ready, self._wake = socket.socketpair()
        try:
            threading.Thread(target=self._run, name=THREAD_NAME, daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._finish(Fault(ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": "no_thread"}))

    def fileno(self) -> int:
        """Return the descriptor that becomes readable at the end; -1 after `abandon`."""
        return self._ready.fileno()

    def result(self) -> Transport | Fault:
        """Hand over the outcome; the transport is the caller's from now on. `abandon` then only frees `fileno`.

        Raises:
            RuntimeError: The attempt has not ended, was abandoned, or its result was taken before.
        """
        with self._lock:
            outcome, self._outcome = self._outcome, None
        if outcome is None:
            raise RuntimeError("the connector has no result to give")
        return outcome

    def abandon(self) -> None:
        """Give up; returns at once. The thread wakes from whatever it waits for, but for a name look-up."""
        with self._lock:
            if self._abandoned:
                return
            self._abandoned = True
            outcome, self._outcome = self._outcome, None
            if self._sock is not None:
                # Not SSLSocket.shutdown: it takes the TLS layer off, and the thread's next write would be plain text.
                with suppress(OSError):
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            self._ready.close()
        if outcome is not None and not isinstance(outcome, Fault):
            outcome.close()

    def __del__(self) -> None:
        if hasattr(self, "_wake"):
            self.abandon()

    # In the helper thread, from here on.

    def _run(self) -> None:
        self._finish(self._attempt())

    def _finish(self, outcome: Transport | Fault) -> None:
        with self._lock:
            self._sock = None
            abandoned = self._abandoned
            if not abandoned:
                self._outcome = outcome
                self._wake.send(b"\0")
            self._wake.close()
        if abandoned and not isinstance(outcome, Fault):
            outcome.close()

    def _attempt(self) -> Transport | Fault:
        try:
            return self._adopt(self._open(), self._target)
        except Refused as refused:
            fault = refused.fault
        except Exception as error:  # a thread has nobody above it: whatever this is, the actor must hear of it
            fault = connect_fault(error, self._step)
        self._drop()
        return fault if self._host is None else replace(fault, details={**fault.details, "host": self._host})

    def _open(self) -> socket.socket:
        target, timeout = self._target, self._target.step_timeout
        host, port, secure = server_of(urlsplit(target.endpoint))
        # Both before anything is opened: a wrong setting costs no connection.
        context = client_context(target.ca_file) if secure else None
        proxy = Proxy.parse(target.proxy.reveal()) if target.proxy is not None else None
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._host = authority if proxy is None else f"{proxy.host}:{proxy.port}"
        sock = self._dial(proxy.host if proxy else host, proxy.port if proxy else port)
        if proxy is not None:
            self._step = "proxy"
            tunnel(sock, proxy, authority, timeout)
            self._host = authority
        if context is not None:
            self._step = "tls"
            sock = self._secure(sock, context, host)
        if self._upgrades:
            self._step = "upgrade"
            upgrade(sock, target.endpoint, target.headers, timeout)
        return sock

    def _dial(self, host: str, port: int) -> socket.socket:
        """Connect to the first address that answers; the step's time is shared among those not yet tried."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        self._step = "tcp"
        timeout = self._target.step_timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        last: OSError = ConnectionRefusedError()
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                sock = socket.socket(family, kind, protocol)
                self._hold(sock)
                if deadline is not None:
                    sock.settimeout(max((deadline - time.monotonic()) / (len(addresses) - tried), 0.001))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                return sock
            except OSError as error:
                last = error
                self._drop()
        raise last

    def _secure(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> socket.socket:
        # Wrapping moves the descriptor to another object, and `abandon` must find the right one. A socket that is shut
        # down already is not wrapped: `ssl` would leave the new object unclosed behind its exception.
        with self._lock:
            if self._abandoned:
                raise _Abandoned
            self._sock = secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        secured.settimeout(self._target.step_timeout)
        secured.do_handshake()
        return secured

    def _hold(self, sock: socket.socket) -> None:
        """Put a socket within reach of `abandon`, which may have been called already."""
        with self._lock:
            self._sock = sock
            if self._abandoned:
                raise _Abandoned

    def _drop(self) -> None:
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None


def server_of(parts: SplitResult) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is spoken; ValueError for a URL that has none of these."""
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not a WebSocket URL")
    return ascii_host(parts.hostname), parts.port or DEFAULT_PORTS[parts.scheme], parts.scheme == "wss"
