"""What a connection actor needs of a transport.

Two steps: a `Connector` opens a socket in a helper thread (name look-up, TCP, proxy, TLS and upgrade all block, each with
a clock of its own), and the `Transport` it yields never blocks: reads drain, writes are buffered and flushed when the
socket takes more. Neither logs, and neither puts a header, a URL's query or a payload into an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pixir_actors.core.secret import Secret
from pixir_actors.core.text import Text
from pixir_actors.errors import Details, ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect, and how.

    Attributes:
        endpoint: `ws://` or `wss://` URL with path and query.
        headers: The caller's headers for the upgrade; those that the handshake itself sets are left out by the transport.
        ca_file: PEM file of authorities to trust, or None for the system's.
        proxy: URL of an HTTP proxy (it may hold a password), or None to connect directly. The environment is not read.
        step_timeout: Seconds each blocking step may take; the whole is bounded by who abandons the connector.
        send_timeout: Seconds for writing the request, where the transport itself has to see to that: over HTTP.
        max_message_bytes: Limit of one incoming message, over all its fragments.
    """

    endpoint: str
    headers: Secret[tuple[tuple[str, str], ...]]
    ca_file: str | None
    proxy: Secret[str] | None
    step_timeout: float | None
    max_message_bytes: int
    send_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a socket was not had, or is no more.

    Attributes:
        code: `websocket_connect_failed`, `websocket_handshake_failed`, `websocket_connect_timeout`,
            `websocket_read_failed`, `websocket_closed`, `websocket_failed` or `websocket_frame_too_large`.
        details: `reason` (a word such as "refused", "reset", "eof", "certificate_verify_failed", "invalid_json"), `status`
            of a refused upgrade, `host` (name and port of whom no socket was had from), `close_code` and `close_reason` of
            the server's close frame, `bytes` and `limit`.
        retry_after: Seconds from a refused upgrade's Retry-After header, if it had one.
    """

    code: ErrorCode
    details: Details = field(default_factory=dict)
    retry_after: float | None = None


@dataclass(slots=True)
class Received:
    """What one slice of reading brought.

    Attributes:
        messages: Complete text messages in order. Their UTF-8 and JSON are not checked here: the JSON parser judges.
        frames: Frames of any kind seen; each is a sign of life. Bytes of an unfinished frame are none.
        pongs: Payloads of pongs seen.
        more: The slice was full and bytes are left in user space, which no poll shows: receive again.
        fault: The socket is no more, after these messages.
    """

    messages: list[bytes] = field(default_factory=list)
    frames: int = 0
    pongs: list[bytes] = field(default_factory=list)
    more: bool = False
    fault: Fault | None = None


class Transport(Protocol):
    """One open WebSocket. Used from one thread. No method blocks and none raises for what the peer or network does."""

    def fileno(self) -> int:
        """Return the descriptor to poll."""

    def receive(self, *, max_messages: int, max_bytes: int) -> Received:
        """Read what is there, TLS records included, at most about the given slice.

        Call it once after opening as well: over TLS, what came behind the upgrade may be in user space already.
        Answers pings (the pong is buffered whole, so no partial frame ever stands between two others). A binary message is
        a fault (`websocket_failed`, reason "binary_frame"): a word may have been lost in it.
        """

    def limit(self, max_message_bytes: int) -> None:
        """Bound each incoming message from now on: a socket serves requests with limits of their own."""

    def send_text(self, data: Text) -> Fault | None:
        """Buffer one text message and write as much of it as the socket takes."""

    def ping(self, payload: bytes) -> Fault | None:
        """Buffer a ping of at most 125 bytes and write what the socket takes."""

    def flush(self) -> Fault | None:
        """Write what is buffered, as far as the socket takes it."""

    def pending_bytes(self) -> int:
        """Return the bytes buffered and not yet taken by the socket; poll for writing while it is not 0."""

    def written_bytes(self) -> int:
        """Return the bytes the socket has taken since it was opened, pings and pongs included."""

    def close(self, code: int | None = None) -> None:
        """Close at once, without waiting for the peer; with a code, try to write a close frame first. Idempotent."""


class Connector(Protocol):
    """One attempt to open a socket, running in a helper thread that ends by itself."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the attempt has ended."""

    def result(self) -> Transport | Fault:
        """Return the outcome once `fileno` is readable. Call once, from the thread that started the connector."""

    def abandon(self) -> None:
        """Give up: the thread's socket is shut down, whatever it opens later is closed, `fileno` is closed. Idempotent."""
