"""The connection actor's end of an event channel. One thread, no policy, never blocks."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final, Literal

from pixir_actors.channel.frame import GOODBYE, ChannelProtocolError, Decoder, Frame, FrameType, hello, hello_from
from pixir_actors.channel.local import peer_is_ours

_MAX_BUFFERS: Final = 512  # of the kernel's 1024 per call
_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_READ_BYTES: Final = 64 * 1024
_PATIENCE_MS: Final = 2
"""How long the rest of a frame is waited for that has begun to come: shorter than going round the actor's loop takes."""
_LONGEST: Final = 0.05
"""Seconds after which reading leaves the rest for later, so that nobody holds the actor up."""
MAX_REQUEST: Final = 256 * 1024 * 1024
"""Bytes of the largest request that comes over a channel: `max_request_bytes` has less, and headers come on top."""

Unavailable = Literal["gone", "busy", "foreign", "descriptors"]

_REASONS: Final[dict[int | None, Unavailable]] = {
    errno.EAGAIN: "busy",
    errno.EACCES: "foreign",
    errno.EPERM: "foreign",
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
    errno.ENOBUFS: "descriptors",
    errno.ENOMEM: "descriptors",
}


class ChannelUnavailable(OSError):
    """There is no channel to that client.

    Attributes:
        reason: "gone" (nobody listens there), "busy" (its queue of new channels is full: try again in a moment),
            "foreign" (another user's process, or directory) or "descriptors" (this process or the host has none left).
    """

    def __init__(self, reason: Unavailable) -> None:
        super().__init__(f"no event channel to the client: {reason}")
        self.reason = reason


class Sender:
    """An open channel. Make it with `connect`; it is used from one thread.

    No method blocks, and once connected none raises for what the peer does: a channel whose peer is gone becomes
    `closed` and takes and drops everything. Its descriptor stays open until `close`, so that its number is not given to
    another socket while a poller still watches it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._pending: deque[bytes | memoryview] = deque()
        self._pending_bytes = 0
        self._decoder = Decoder(MAX_REQUEST, to_connection=True)
        self._received: list[Frame] = []
        self._greeted = False
        self._closed = False

    @classmethod
    def connect(cls, path: str, *, connection_id: str) -> Sender:
        """Connect to a listener and send the greeting; frames may follow at once.

        Args:
            path: `Listener.path` of the client.
            connection_id: The id of this connection, 1 to 255 bytes.

        Raises:
            ChannelUnavailable: With the reason.
        """
        greeting = hello(connection_id)
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.connect(path)
            ours = peer_is_ours(sock)
        except (OSError, ValueError) as error:  # ValueError: no path at all
            if sock is not None:
                sock.close()
            raise ChannelUnavailable(_REASONS.get(getattr(error, "errno", None), "gone")) from error
        if not ours:
            sock.close()
            raise ChannelUnavailable("foreign")
        sender = cls(sock)
        sender.send(greeting)
        return sender

    def fileno(self) -> int:
        """Return the descriptor to poll, for writing too while `pending_bytes` is not 0; -1 after `close`."""
        return self._socket.fileno()

    @property
    def greeted(self) -> bool:
        """Whether the client has answered the greeting."""
        return self._greeted

    @property
    def closed(self) -> bool:
        """Whether the peer is gone, or `close` was called."""
        return self._closed

    def send(self, frames: bytes | Iterable[bytes]) -> None:
        """Buffer encoded frames and write as much as the socket takes."""
        if self._closed:
            return
        if isinstance(frames, bytes):
            frames = (frames,)
        for frame in frames:
            self._pending.append(frame)
            self._pending_bytes += len(frame)
        self.flush()

    def flush(self) -> None:
        """Write what is buffered, as far as the socket takes it."""
        while self._pending_bytes:
            batch = list(islice(self._pending, _MAX_BUFFERS))
            try:
                taken = self._socket.sendmsg(batch, (), _FLAGS)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                    self._end()
                return
            self._forget(taken)
            if taken < sum(map(len, batch)):
                return

    def pending_bytes(self) -> int:
        """Return the bytes buffered here; what the kernel has taken reaches the client even if this process dies."""
        return self._pending_bytes

    def receive(self) -> bool:
        """Read what the client sent; call it when the descriptor is readable. `take` has the frames.

        Returns:
            False when the client is gone, or is not speaking this protocol, which comes to the same.
        """
        until = time.monotonic() + _LONGEST
        while not self._closed:
            try:
                there = self._read()
            except BlockingIOError:
                if self._decoder.missing and self._more_comes():
                    continue
                return True
            if not there:
                self._end()
            elif not self._decoder.missing or time.monotonic() > until:
                return True
        return False

    def _read(self) -> bool:
        """Read once; say whether the client is there, and speaks this protocol.

        Raises:
            BlockingIOError: There is nothing to read.
        """
        room = self._decoder.room
        try:
            if room:
                count = self._socket.recv_into(room, 0, socket.MSG_DONTWAIT)
                room.release()
                return bool(count) and self._accept(self._decoder.filled(count))
            data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            return bool(data) and self._accept(self._decoder.feed(data))
        except BlockingIOError:
            raise
        except (OSError, ChannelProtocolError):
            return False

    def take(self) -> list[Frame]:
        """Return the frames about requests that have come, once."""
        taken, self._received = self._received, []
        return taken

    def close(self, goodbye: bool = False) -> None:
        """Close the descriptor; what is still buffered here is lost. Idempotent.

        Args:
            goodbye: Say that this is on purpose, no request being under way. Works only if nothing is buffered.
        """
        if goodbye:
            self.send(GOODBYE)
        self._end()
        self._socket.close()

    def _more_comes(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(_PATIENCE_MS))

    def _accept(self, frames: list[Frame]) -> bool:
        """Take frames from the client: one greeting, then those about requests; say whether that is what they are.

        Raises:
            ChannelProtocolError: The first one is no greeting.
        """
        for frame in frames:
            if not self._greeted:
                hello_from(frame)
                self._greeted = True
            elif frame.type < FrameType.SUBMIT:
                return False
            else:
                self._received.append(frame)
        return True

    def _forget(self, taken: int) -> None:
        """Take written bytes off the front."""
        self._pending_bytes -= taken
        while taken:
            size = len(self._pending[0])
            if taken < size:
                self._pending[0] = memoryview(self._pending[0])[taken:]
                return
            taken -= size
            self._pending.popleft()

    def _end(self) -> None:
        self._closed = True
        self._pending.clear()
        self._pending_bytes = 0
