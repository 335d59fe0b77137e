"""One TCP connection with control over every byte. Libraries do the protocols, this file the sending.

A connection that begins with "POST ", or with another word of capitals but GET, is HTTP's (`http_parser.py`, h11), any
other the `websockets` library's, which answers other methods only from its version 17 on.

Everything here runs in the server's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
from typing import Final, Protocol, cast

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from pixir_actors.simulator.http_parser import HttpParser, Post
from pixir_actors.simulator.operation import frame

CLOSE_TIMEOUT: Final = 2.0
"""Seconds a client has to finish the closing handshake before its connection is reset."""
TLS_TIMEOUT: Final = 10.0
"""Seconds a client has to finish the TLS handshake."""
_YIELD_EVERY: Final = 16
"""Writes between two looks at what the client sent meanwhile."""
_POLL: Final = 0.02
_TCP_ESTABLISHED: Final = 1
_UNDECIDED: Final = re.compile(rb"[A-Z]{0,20}")
_NO_GET: Final = re.compile(rb"(?!GET )[A-Z]{1,20} ")

# websockets logs headers and payloads when its logger is at DEBUG: this one belongs to no hierarchy and says nothing.
_SILENT: Final = logging.Logger("simulator", level=logging.CRITICAL + 1)


class Gone(Exception):
    """The connection has ended. Whoever used it stops."""


class Receiver(Protocol):
    """What is told about a wire. The methods do not block."""

    def on_open(self) -> None:
        """TCP is there; nothing is read before `Wire.listen` or `Wire.secure`."""

    def on_upgrade(self, request: Request) -> None:
        """An HTTP request came, perhaps for an upgrade."""

    def on_post(self, post: Post, parser: HttpParser) -> None:
        """An HTTP request came, on a connection that does not begin with a GET; the next comes after `Wire.go_on`."""

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """A whole message came."""

    def on_ping(self, payload: bytes) -> bool:
        """A ping came; answer whether it gets a pong."""

    def on_pong(self, payload: bytes) -> None:
        """A pong came."""

    def on_lost(self) -> None:
        """The connection has ended; called once."""


class Wire(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, receiver: Receiver, max_message_bytes: int) -> None:
        self.gone = asyncio.Event()
        self._receiver = receiver
        self._limit = max_message_bytes
        self._first: bytes | None = b""  # what came, until it is known which way it is
        self._http: HttpParser | None = None
        self._protocol = ServerProtocol(max_size=max_message_bytes, logger=_SILENT)
        self._writable = asyncio.Event()
        self._writable.set()
        self._held: list[bytes] | None = []  # control frames that wait; None when they may go at once
        self._message = bytearray()
        self._text = True
        self._writes = 0
        self._ended_by_server = False
        self._frozen = False
        self._ended = False

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self._receiver.on_open()

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            data = self._first + data
            if _UNDECIDED.fullmatch(data):
                self._first = data
                return
            self._first = None
            if _NO_GET.match(data):
                self._http = HttpParser(self._limit)
        if self._http is None:
            self._on_websocket_data(data)
        else:
            self._on_http_data(self._http, data)

    def _on_http_data(self, parser: HttpParser, data: bytes = b"") -> None:
        interim, post = parser.receive(data)
        if interim:
            self._transport.write(interim)
        if post is not None:
            self._receiver.on_post(post, parser)

    def _on_websocket_data(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._receiver.on_upgrade(event)
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._flush_control()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._protocol.data_to_send()  # an end answers an end: asyncio closes the transport after this call

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._protocol.data_to_send()
        self._writable.set()
        self.gone.set()
        # asyncio closes the socket after this call only, and what is recorded as ended has to have ended for the client.
        asyncio.get_running_loop().call_soon(self._receiver.on_lost)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Opening.

    def listen(self) -> None:
        """Begin to read."""
        self._uncork()
        self._transport.resume_reading()

    async def secure(self, context: ssl.SSLContext) -> None:
        """Do the TLS handshake and begin to read.

        Raises:
            OSError: The handshake failed; `ssl.SSLError` is one.
        """
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(
            self._raw,
            self,
            context,
            server_side=True,
            ssl_handshake_timeout=TLS_TIMEOUT,
            ssl_shutdown_timeout=CLOSE_TIMEOUT,
        )
        if transport is None:
            raise ConnectionResetError("the client left during the TLS handshake")
        self._transport = transport
        self._uncork()

    def accept(self, request: Request) -> Response:
        """Return what RFC 6455 answers to this request: 101, or a refusal."""
        return self._protocol.accept(request)

    def answer(self, response: Response) -> bytes:
        """Commit to a response and return its bytes, to be written by the caller."""
        self._protocol.send_response(response)
        return b"".join(self._protocol.data_to_send())

    def go_on(self) -> None:
        """An HTTP answer was sent: look for the next request, which may be here already."""
        if self._http is not None:
            self._on_http_data(self._http)

    # Sending.

    async def write(self, data: bytes, *, partial: bool = False) -> None:
        """Write bytes as one send, and wait while the client takes none.

        Args:
            data: Bytes; never empty.
            partial: They end within a frame: control frames wait until the next write.

        Raises:
            Gone: The connection has ended or is ending.
        """
        self._check_open()
        self._transport.write(data)
        if partial:
            self._cork()
        else:
            self._uncork()
        await self._drained()

    async def write_bytewise(self, data: bytes, every: float = 0.0) -> None:
        """Write each byte by itself, with `every` seconds between them. Raises Gone.

        A client that leaves megabytes unread, more than the kernel takes, gets what waited in one piece.
        """
        for index in range(len(data)):
            self._check_open()
            self._cork()
            self._transport.write(data[index : index + 1])
            await self._drained()
            await (self.pause(every) if every else asyncio.sleep(0))
        self._uncork()

    def post(self, frames: bytes) -> None:
        """Write whole frames from outside the reply: now, or after the frame that is being written. Raises Gone."""
        self._check_open()
        self._send_control([frames])

    async def pause(self, seconds: float) -> None:
        """Wait; reading and pongs go on. Raises Gone as soon as the connection ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)
        self._check_open()

    # Ending.

    async def until_gone(self) -> None:
        """Wait until the connection has ended. Always raises Gone."""
        await self.gone.wait()
        raise Gone

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, if none was sent, and reset the connection unless the client finishes in time."""
        if self._protocol.state is not State.OPEN:
            return
        self._protocol.send_close(None if code == 1005 else code, reason)
        self._flush_control()
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._abandon)

    async def half_close(self) -> None:
        """After a refused upgrade or HTTP's last answer: end the stream and wait for the client's end. Raises Gone."""
        self._end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), CLOSE_TIMEOUT)
        self._abandon()
        await self.until_gone()

    def cut(self) -> None:
        """End TCP (FIN) after what was written, without a close frame and without TLS's goodbye."""
        self._ended_by_server = True
        self._raw.close()

    def abort(self) -> None:
        """Reset TCP (RST). What was not delivered is lost. May be called again."""
        if self.gone.is_set() or not hasattr(self, "_raw"):
            return
        self._ended_by_server = True
        with contextlib.suppress(OSError):
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._raw.abort()

    async def freeze(self) -> None:
        """Neither read nor write until the client leaves. Always raises Gone.

        A request larger than the kernel's buffers (some MiB) cannot be written by the client. As nothing is read, its
        leaving is seen by asking the kernel for the state of the connection.
        """
        self._frozen = True
        self._raw.pause_reading()
        sock = self._socket()
        while not self.gone.is_set():
            if sock.fileno() < 0:
                break
            if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_ESTABLISHED:
                self._raw.abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gone.wait(), _POLL)
        raise Gone

    def ending(self) -> tuple[Close | None, bool]:
        """Return the client's close frame, if one came, and whether the server began to close."""
        received = self._protocol.close_rcvd
        if received is None:
            return None, self._ended_by_server or self._protocol.close_sent is not None
        return received, self._protocol.close_rcvd_then_sent is False

    # Private.

    def _on_frame(self, event: Frame) -> None:
        data = bytes(event.data)
        match event.opcode:
            case Opcode.PING:
                if not self._receiver.on_ping(data):
                    self._protocol.writes.remove(frame(data, Opcode.PONG))
            case Opcode.PONG:
                self._receiver.on_pong(data)
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if event.opcode is not Opcode.CONT:
                    self._text = event.opcode is Opcode.TEXT
                self._message += data
                if event.fin:
                    message, self._message = bytes(self._message), bytearray()
                    self._receiver.on_message(message, text=self._text)

    def _flush_control(self) -> None:
        """Send what the protocol wants sent: pongs, a close frame, the end of the stream."""
        self._send_control(self._protocol.data_to_send())

    def _send_control(self, chunks: list[bytes]) -> None:
        if self._held is not None:
            self._held += chunks
            if SEND_EOF in chunks and self._protocol.state is not State.CONNECTING:
                self._raw.close()  # the client is leaving in the middle of our frame, which will not be finished
            return
        for chunk in chunks:
            if chunk == SEND_EOF:
                self._end()
            elif not self._ended and not self._transport.is_closing():
                self._transport.write(chunk)

    def _cork(self) -> None:
        if self._held is None:
            self._held = []

    def _uncork(self) -> None:
        held, self._held = self._held, None
        if held:
            self._send_control(held)

    def _end(self) -> None:
        """Half-close where the transport can: a full close could reset what the client has not read yet."""
        if self._transport.is_closing():
            return
        self._ended = True
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has reset the connection, which asyncio has not seen yet
                self._transport.write_eof()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._abandon)
        else:
            self._transport.close()

    def drop(self) -> None:
        """End TCP at once, without resetting it. May be called again."""
        if not self.gone.is_set():
            self._ended_by_server = True
            self._raw.abort()

    def _abandon(self) -> None:
        if not self.gone.is_set():
            self._raw.abort()

    async def _drained(self) -> None:
        self._writes += 1
        if self._writes % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        if not self._writable.is_set():
            await self._writable.wait()

    def _check_open(self) -> None:
        closing = self._protocol.state in (State.CLOSING, State.CLOSED)
        if self.gone.is_set() or closing or self._ended or self._frozen or self._transport.is_closing():
            raise Gone

    def _socket(self) -> socket.socket:
        return cast(socket.socket, self._raw.get_extra_info("socket"))
