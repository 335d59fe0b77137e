"""One open WebSocket over websocket-client, without a blocking call: `open_websocket` is the way to get one.

websocket-client does the upgrade's handshake; frames are read and written by `frames`. The library's `recv`, `send` and
`close` are not used: they answer pings on a non-blocking socket (half a pong may be left between two frames), take two or
three system calls per frame, know no limit, and wait three seconds for the peer's close.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import Final

from pixir_actors.core.text import Text
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Connector, Fault, Received, Target, Transport
from pixir_actors.transport.connector import HelperThread
from pixir_actors.transport.faults import Refused, broken
from pixir_actors.transport.frames import CLOSE, PING, PONG, TEXT, ClientFrame, MessageReader, frame

READ_BYTES: Final = 64 * 1024
NO_STATUS: Final = 1005
MAX_REASON: Final = 120
_WOULD_BLOCK: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def open_websocket(target: Target) -> Connector:
    """Start opening a socket, in a helper thread.

    Call `receive` once when it is open: bytes that came right behind the upgrade may be in user space already (TLS), where
    no poll shows them.

    Raises:
        OSError: This process has no descriptors left.
    """
    return HelperThread(target, _adopt)


def _adopt(sock: socket.socket, target: Target) -> Transport:
    return WebSocketTransport(sock, target.max_message_bytes)


class WebSocketTransport:
    """A `Transport` over an upgraded socket, plain or TLS. Used from one thread.

    A failed write does not end the reading: the server's last words (an error event, a close frame) may still be there,
    and say more than "reset". After the first fault every call is harmless and says the same again.

    Args:
        sock: Upgraded, and owned by the transport from now on.
        max_message_bytes: Limit of one incoming message, over all its fragments.
    """

    def __init__(self, sock: socket.socket, max_message_bytes: int) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = MessageReader(max_message_bytes)
        self._outbound: deque[ClientFrame] = deque()  # the first one may have begun
        self._front = memoryview(b"")  # what of it was masked and not written
        self._pending = 0
        self._written = 0
        self._pong_waits = False  # the last of `_outbound` is a pong
        self._closed = False
        self._end: Fault | None = None  # nothing more will be read
        self._write_fault: Fault | None = None

    def __repr__(self) -> str:
        fault = self._end or self._write_fault
        return f"<{type(self).__name__} fd={self.fileno()} pending={self._pending} fault={fault}>"

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 after `close`."""
        return self._sock.fileno()

    def receive(self, *, max_messages: int, max_bytes: int) -> Received:
        """Read a slice; see `Transport.receive`.

        Args:
            max_messages: Bound of the frames parsed, of any kind; at least 1.
            max_bytes: Bound of the bytes read from the socket; at least 1.
        """
        received = Received()
        room = max(max_bytes, 1)
        while self._end is None:
            if self._reader.unread() and not self._parse(received, max(max_messages, 1)):
                received.more = self._reader.unread() > 0 or self._hidden_bytes() > 0
                break
            if room <= 0:
                received.more = self._hidden_bytes() > 0
                break
            count = self._read(min(READ_BYTES, room))
            if count is None:
                received.fault = self._write_fault
                break
            room -= count
        if self._end is not None:
            received.fault, received.more = self._end, False
        return received

    def limit(self, max_message_bytes: int) -> None:
        """Bound each incoming message from now on; see `Transport.limit`."""
        self._reader.limit(max_message_bytes)

    def send_text(self, data: Text) -> Fault | None:
        """Buffer one text message; see `Transport.send_text`."""
        return self._send(TEXT, data)

    def ping(self, payload: bytes) -> Fault | None:
        """Buffer a ping; see `Transport.ping`."""
        return self._send(PING, payload)

    def flush(self) -> Fault | None:
        """Write what is buffered, as far as the socket takes it."""
        if self._end is None and self._write_fault is None:
            self._write()
        return self._end or self._write_fault

    def pending_bytes(self) -> int:
        """Return the bytes waiting for the socket; 0 after a fault, when there is nothing left to poll for."""
        return 0 if self._end or self._write_fault else self._pending

    def written_bytes(self) -> int:
        """Return the bytes the socket has taken: payload and framing, before TLS."""
        return self._written

    def close(self, code: int | None = None) -> None:
        """Close at once; a close frame is tried only where it does not land within another frame."""
        if self._closed:
            return
        self._closed = True
        if code is not None and not self._outbound and self.flush() is None:
            self._enqueue(CLOSE, code.to_bytes(2, "big"))
            self._write()
        self._end = self._end or Fault(ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "closed"})
        self._outbound.clear()
        self._front = memoryview(b"")
        with suppress(OSError):
            # Ends the connection even if a forked process has a copy of the descriptor.
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _parse(self, received: Received, max_frames: int) -> bool:
        """Move what was read into `received`; False when the slice is full or the socket is no more."""
        try:
            while room := max_frames - received.frames:
                count = self._reader.texts(received.messages, room)
                received.frames += count
                if count == room:
                    break
                item = self._reader.next()
                if item is None:
                    return True
                received.frames += 1
                self._sort(item[0], item[1], received)
        except Refused as refused:
            self._end = refused.fault
        return False

    def _sort(self, opcode: int, payload: bytes, received: Received) -> None:
        if opcode == TEXT:
            received.messages.append(payload)
        elif opcode == PING:
            self._pong(payload)
        elif opcode == PONG:
            received.pongs.append(payload)
        elif opcode == CLOSE:
            self._send(CLOSE, payload[:2])
            raise Refused(_closed_by_server(payload))

    def _read(self, size: int) -> int | None:
        """Read once; None where nothing is there, or will ever be."""
        try:
            data = self._sock.recv(size)
        except _WOULD_BLOCK:
            return None
        except OSError as error:
            self._end = broken(error)
            return None
        if not data:
            self._end = broken(EOFError())
            return None
        self._reader.feed(data)
        return len(data)

    def _hidden_bytes(self) -> int:
        """Return the bytes that TLS has decrypted and not yet handed out: no poll shows them."""
        return self._sock.pending() if self._end is None and isinstance(self._sock, ssl.SSLSocket) else 0

    def _pong(self, payload: bytes) -> None:
        # RFC 6455 5.5.3: only the latest ping needs an answer, so a server that pings and does not read takes no memory.
        # What stands in front may be written in part, or be known to TLS: it stays.
        if self._pong_waits and len(self._outbound) > 1:
            self._pending -= self._outbound.pop().size
        self._send(PONG, payload)
        self._pong_waits = bool(self._outbound)

    def _send(self, opcode: int, payload: Text) -> Fault | None:
        if self._end is None and self._write_fault is None:
            self._enqueue(opcode, payload)
            self._write()
        return self._end or self._write_fault

    def _enqueue(self, opcode: int, payload: Text) -> None:
        self._outbound.append(frame(opcode, payload))
        self._pending += self._outbound[-1].size
        self._pong_waits = False

    def _write(self) -> None:
        """Write from the front. TLS demands the same bytes again after a full socket; the front is just that."""
        while self._front or self._next_chunk():
            try:
                count = self._sock.send(self._front)
            except _WOULD_BLOCK:
                return
            except OSError as error:
                self._write_fault = broken(error)
                return
            self._written += count
            self._pending -= count
            self._front = self._front[count:]

    def _next_chunk(self) -> bool:
        while self._outbound:
            if chunk := next(self._outbound[0].chunks, b""):
                self._front = memoryview(chunk)
                return True
            self._outbound.popleft()
        return False


def _closed_by_server(payload: bytes) -> Fault:
    code = int.from_bytes(payload[:2], "big") if payload else NO_STATUS
    details: dict[str, str | int] = {"close_code": code}
    if len(payload) > 2:
        details["close_reason"] = payload[2:].decode("utf-8", "replace")[:MAX_REASON]
    return Fault(ErrorCode.WEBSOCKET_CLOSED, details)
