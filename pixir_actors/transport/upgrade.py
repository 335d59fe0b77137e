"""The two HTTP exchanges before a WebSocket: CONNECT through a proxy, and the upgrade itself.

Both read the answer's head byte by byte, so that what the peer sent behind it stays in the socket, and never its body:
a refusal is known by its status, and a body could drip for ever.
"""

from __future__ import annotations

import re
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from websocket import WebSocket, WebSocketException

from pixir_actors.core.secret import Secret
from pixir_actors.errors import Details, ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused, connect_fault
from pixir_actors.version import __version__

MAX_HEAD_BYTES: Final = 64 * 1024
DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
OURS: Final = frozenset(
    {"host", "connection", "upgrade", "content-type", "content-length", "accept", "transfer-encoding"}
)
"""Caller's headers that the handshake sets itself, or that speak of a body it has not; `sec-websocket-*` are others."""
_HEAD_ENDS: Final = (b"\n\r\n", b"\n\n")
_JUDGED: Final = frozenset({b"upgrade", b"connection", b"sec-websocket-accept"})
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_NOWHERE: Final = "ws://upgrade.invalid/"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that tunnels with CONNECT."""

    host: str
    port: int
    authorization: str | None = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `[http://][user:password@]host[:port]`; the port is 80 where none is given.

        Raises:
            Refused: Another scheme (reason "proxy_unsupported"), or no URL at all ("proxy_invalid").
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or 80
        except ValueError:
            raise Refused(_proxy_fault("proxy_invalid")) from None
        if parts.scheme != "http":
            raise Refused(_proxy_fault("proxy_unsupported"))
        if not parts.hostname:
            raise Refused(_proxy_fault("proxy_invalid"))
        return cls(parts.hostname, port, _basic(parts))


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(credentials.encode()).decode()


def _proxy_fault(reason: str, status: int | None = None) -> Fault:
    details = {"reason": reason, "step": "proxy"}
    return Fault(ErrorCode.WEBSOCKET_CONNECT_FAILED, details if status is None else details | {"status": status})


def tunnel(sock: socket.socket, proxy: Proxy, authority: str, timeout: float | None) -> None:
    """Ask the proxy at the other end of `sock` for a tunnel. Blocks.

    Args:
        authority: Host and port behind the proxy.
        timeout: Seconds for the whole exchange, or None.

    Raises:
        Refused: The proxy said no (reason "proxy_refused", with its status).
        OSError, EOFError: The socket broke.
    """
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    sock.settimeout(timeout)
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    try:
        status = _status(read_head(sock, timeout))
    except ValueError:
        raise Refused(_proxy_fault("head_too_large")) from None
    if status is None or not 200 <= status < 300:
        raise Refused(_proxy_fault("proxy_refused", status))


def upgrade(
    sock: socket.socket, endpoint: str, headers: Secret[tuple[tuple[str, str], ...]], timeout: float | None
) -> None:
    """Turn an HTTP connection into a WebSocket. Blocks; afterwards the socket stands at the server's first frame.

    Args:
        timeout: Seconds for the whole exchange, or None.

    Raises:
        Refused: The server said no, or the socket broke.
    """
    exchange = _Exchange(sock, _request_start(endpoint, headers.reveal()), timeout)
    try:
        # With a socket of ours, neither the environment's proxies nor its CA bundle are looked at.
        WebSocket(enable_multithread=False, skip_utf8_validation=True).connect(  # type: ignore[no-untyped-call]
            _NOWHERE, socket=exchange, redirect_limit=0, suppress_host=True, suppress_origin=True
        )
    except WebSocketException:
        # Its text holds the answer, and `from` would keep it within reach of a traceback.
        raise Refused(_refusal(exchange.head)) from None
    if any(name == b"sec-websocket-extensions" for name, _ in _fields(exchange.head)):
        raise Refused(_handshake_fault("bad_upgrade"))  # none was offered: its frames could not be read


class _Exchange:
    """Stands in for the socket while websocket-client does its handshake.

    websocket-client writes what it sends and receives to its trace and its exceptions, keeps one cookie jar for the whole
    process, sends without a loop and reads refusals without a limit. So it gets to see the skeleton of the upgrade only:
    the request's target, host and headers are put in on the way out; of the answer it gets the lines it judges by.
    """

    def __init__(self, sock: socket.socket, request_start: bytes, timeout: float | None) -> None:
        self._sock, self._request_start, self._timeout = sock, request_start, timeout
        self._answer = BytesIO()
        self.head = b""

    def gettimeout(self) -> None:
        """Say that no wait is websocket-client's."""

    def send(self, skeleton: bytes) -> int:
        own = (line for line in skeleton.split(b"\r\n")[1:] if not line.lower().startswith(b"cookie:"))
        try:
            self._sock.settimeout(self._timeout)
            self._sock.sendall(self._request_start + b"\r\n".join(own))
            self.head = read_head(self._sock, self._timeout)
        except (OSError, EOFError) as error:
            raise Refused(connect_fault(error, "upgrade")) from error
        except ValueError:
            raise Refused(_handshake_fault("head_too_large")) from None
        self._answer = BytesIO(_judged_part(self.head))
        return len(skeleton)

    def recv(self, size: int) -> bytes:
        return self._answer.read(size)

    def close(self) -> None:
        """Leave the socket to the connector, whose `abandon` may be using it."""


def _request_start(endpoint: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    parts = urlsplit(endpoint)
    kept = [(name, value) for name, value in headers if not _set_by_handshake(name.lower())]
    if not any(name.lower() == "user-agent" for name, _ in kept):
        kept.append(("User-Agent", f"pixir-actors/{__version__}"))
    lines = [f"GET {resource(parts)} HTTP/1.1", f"Host: {host_header(parts)}", *(f"{name}: {value}" for name, value in kept)]
    if any("\r" in line or "\n" in line for line in lines):
        raise Refused(_handshake_fault("invalid_header"))
    try:
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    except UnicodeEncodeError:
        raise Refused(_handshake_fault("invalid_header")) from None


def _set_by_handshake(name: str) -> bool:
    return name in OURS or name.startswith("sec-websocket-")


def resource(parts: SplitResult) -> str:
    """Return path and query of a URL as they go on the wire, never a fragment."""
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PRINTABLE)


def host_header(parts: SplitResult) -> str:
    """Return the value of the Host header for a `ws` or `wss` URL."""
    host, port = ascii_host(parts.hostname or ""), parts.port
    shown = f"[{host}]" if ":" in host else host
    return shown if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f"{shown}:{port}"


def ascii_host(host: str) -> str:
    """Return a host name as it goes on the wire; UnicodeError where IDNA has none for it."""
    return host if host.isascii() else host.encode("idna").decode()


def read_head(sock: socket.socket, timeout: float | None) -> bytes:
    """Read an answer's status line and header fields, and no byte more.

    Args:
        timeout: Seconds for all of it, or None: a peer that drips does not start the clock anew.

    Raises:
        ValueError: No end within `MAX_HEAD_BYTES`.
        OSError, EOFError: The socket broke.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    head = bytearray()
    while not head.endswith(_HEAD_ENDS):
        if len(head) == MAX_HEAD_BYTES:
            raise ValueError("head too large")
        if deadline is not None:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = sock.recv(1)
        if not byte:
            raise EOFError
        head += byte
    return bytes(head)


def _status(head: bytes) -> int | None:
    found = re.match(rb"HTTP/\d\.\d (\d{3})\b", head)
    return int(found[1]) if found else None


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in head.split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        yield name.strip().lower(), value.strip()


def _judged_part(head: bytes) -> bytes:
    """Return the answer without what websocket-client would keep, print, or stumble over."""
    kept = [name + b": " + _text(value) for name, value in _fields(head) if name in _JUDGED]
    return b"\r\n".join([_text(head.partition(b"\n")[0].strip()), *kept, b"", b""])


def _text(line: bytes) -> bytes:
    return line.decode("ascii", "replace").encode()


def _refusal(head: bytes) -> Fault:
    status = _status(head)
    if status in (None, 101):
        return _handshake_fault("bad_upgrade")
    named = (value for name, value in _fields(head) if name == b"retry-after")
    details: Details = {"reason": "upgrade_refused", "status": status}
    return Fault(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, details, retry_after_seconds(next(named, b"").decode("latin-1")))


def _handshake_fault(reason: str) -> Fault:
    return Fault(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, {"reason": reason})


def retry_after_seconds(retry_after: str) -> float | None:
    """Read a Retry-After value: seconds, or an HTTP date by this host's clock; None for neither."""
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
