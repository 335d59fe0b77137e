"""The way to a server step by step, for whoever asks why a connection does not come about.

It takes the steps that `connector.py` takes, with the same parts, but one by one: each is timed, says what it found, and
ends within its timeout. Nothing is sent beyond the upgrade, so no request is run.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pixir_actors.transport.base import Fault, Target
from pixir_actors.transport.connector import server_of
from pixir_actors.transport.faults import Refused, connect_fault, reason_of
from pixir_actors.transport.tls import client_context
from pixir_actors.transport.upgrade import Proxy, tunnel, upgrade
from pixir_actors.transport.websocket import WebSocketTransport

THREAD_NAME: Final = "probe-name"
CURIOSITY: Final = 1.0
"""Seconds at most for each further address once one has answered: that one's server waits."""
NORMAL_CLOSURE: Final = 1000

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step, taken.

    Attributes:
        name: "name", "tcp", "proxy", "tls" or "upgrade".
        seconds: How long it took.
        facts: What it found, as JSON can hold it; never a secret. `name`: host, addresses. `tcp`: host, port, attempts
            (address, ms, and reason where it failed). `proxy`: host, port. `tls`: host, version, cipher, issuer,
            expires (Unix time), ca. `upgrade`: status.
        fault: Why it failed; None if it did not.
    """

    name: str
    seconds: float
    facts: Facts = field(default_factory=dict)
    fault: Fault | None = None


class Probe:
    """One attempt to reach a server. Used from one thread; as a context manager it leaves nothing open.

    Args:
        target: As for a connector. Each step may take its `step_timeout`, which has to be a number.

    Raises:
        ValueError: The endpoint is no WebSocket URL, or its host cannot be encoded.
        Refused: The proxy's URL is none.
    """

    def __init__(self, target: Target) -> None:
        if target.step_timeout is None:
            raise ValueError("a probe has a step_timeout")
        self._target, self._timeout = target, target.step_timeout
        self.host, self.port, self.secure = server_of(urlsplit(target.endpoint))
        self.proxy = Proxy.parse(target.proxy.reveal()) if target.proxy is not None else None
        self._addresses: list[Any] = []
        self._sock: socket.socket | None = None
        self._facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The steps, in the order in which they have to be taken; none after one that failed."""
        proxy = ("proxy",) if self.proxy is not None else ()
        return ("name", "tcp", *proxy, *(("tls",) if self.secure else ()), "upgrade")

    def take(self, name: str) -> Step:
        """Take one step. Never raises for what network or peer do."""
        steps: Mapping[str, Callable[[], None]] = {
            "name": self._look_up,
            "tcp": self._dial,
            "proxy": self._tunnel,
            "tls": self._secure,
            "upgrade": self._upgrade,
        }
        self._facts, fault, started = {}, None, time.monotonic()
        try:
            steps[name]()
        except Refused as refused:
            fault = refused.fault
        except Exception as error:
            fault = connect_fault(error, name)
        return Step(name, time.monotonic() - started, self._facts, fault)

    def close(self) -> None:
        """Close what is open. May be called again."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _look_up(self) -> None:
        host, port = (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)
        self._facts["host"] = host
        self._addresses = _bounded(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP), self._timeout
        )
        self._facts["addresses"] = [_shown(info[4]) for info in self._addresses]

    def _dial(self) -> None:
        """Try every address; keep the first that answers. The step's time is shared among those not yet tried."""
        attempts: list[dict[str, Any]] = []
        self._facts |= {"port": self._addresses[0][4][1], "attempts": attempts}
        deadline = time.monotonic() + self._timeout
        last: OSError = ConnectionRefusedError()
        for tried, info in enumerate(self._addresses):
            started = time.monotonic()
            share = max((deadline - started) / (len(self._addresses) - tried), 0.001)
            attempt: dict[str, Any] = {"address": _shown(info[4])}
            try:
                sock = _connected(info, share if self._sock is None else min(share, CURIOSITY))
            except OSError as error:
                last, attempt["reason"] = error, reason_of(error)
            else:
                self._keep(sock)
            attempts.append(attempt | {"ms": _milliseconds(time.monotonic() - started)})
        if self._sock is None:
            raise last

    def _keep(self, sock: socket.socket) -> None:
        if self._sock is None:
            self._sock = sock
        else:
            sock.close()

    def _tunnel(self) -> None:
        assert self.proxy is not None
        assert self._sock is not None
        self._facts |= {"host": self.proxy.host, "port": self.proxy.port}
        tunnel(self._sock, self.proxy, _authority(self.host, self.port), self._timeout)

    def _secure(self) -> None:
        assert self._sock is not None
        self._facts |= {"host": self.host, "ca": self._target.ca_file or ssl.get_default_verify_paths().openssl_cafile}
        context = client_context(self._target.ca_file)
        self._sock.settimeout(self._timeout)
        secured = context.wrap_socket(self._sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._sock = secured
        secured.do_handshake()
        self._facts |= {"version": secured.version(), "cipher": (secured.cipher() or ("",))[0], **_of_certificate(secured)}

    def _upgrade(self) -> None:
        assert self._sock is not None
        upgrade(self._sock, self._target.endpoint, self._target.headers, self._timeout)
        self._facts["status"] = 101
        transport = WebSocketTransport(self._sock, self._target.max_message_bytes)
        self._sock = None
        transport.close(NORMAL_CLOSURE)


def _bounded(work: Callable[[], Any], timeout: float) -> Any:
    """Run a name look-up, which nothing can interrupt, and leave it behind when its time is over."""
    outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, name=THREAD_NAME, daemon=True).start()
    try:
        result, error = outcome.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result


def _connected(info: Any, timeout: float) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _of_certificate(secured: ssl.SSLSocket) -> dict[str, Any]:
    """Return what the verified certificate says: who issued it, and its end as a Unix time."""
    certificate: Mapping[str, Any] = secured.getpeercert() or {}
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    facts: dict[str, Any] = {"issuer": names.get("organizationName") or names.get("commonName")}
    with suppress(KeyError, ValueError):
        facts["expires"] = ssl.cert_time_to_seconds(certificate["notAfter"])
    return facts


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(address: Any) -> str:
    return str(address[0])


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)
