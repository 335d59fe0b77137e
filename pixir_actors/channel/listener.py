"""The client's end of the event channels: one listening socket, and one thread that reads them all.

The thread does the I/O and nothing else: what frames mean for inboxes and channels is the exchange's. It selects with
level-triggered polling and reads one slice of a channel at a time, so no channel starves another.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from pixir_actors.channel import local
from pixir_actors.channel.exchange import Channel, Exchange, ListenerClosed
from pixir_actors.channel.frame import MAX_PAYLOAD, ChannelProtocolError, Decoder, Frame, FrameType, hello, hello_from
from pixir_actors.channel.inbox import Inbox, call
from pixir_actors.channel.line import Line
from pixir_actors.core.text import Piece
from pixir_actors.errors import SystemStartFailed

_BACKLOG: Final = 1024
_READ_BYTES: Final = 128 * 1024
_SEND_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of a large request that the kernel takes at once, as far as it allows: for each further piece two processes have to
take turns."""
_ACCEPT_PAUSE: Final = 0.1
_JOIN_TIMEOUT: Final = 5.0


class Listener:
    """Takes event channels from connection actors and hands their frames to inboxes.

    Its methods may be called from any thread. It belongs to the process that made it: a forked child closes the
    inherited descriptors, so that it keeps no channel alive, and gets `WrongProcess` from it.

    Args:
        slice_bytes: Unread bytes of a stream beyond which its channel is read no further, if it is the only one there.
        max_frame_bytes: Bytes of the largest payload accepted.
        greeting_timeout: Seconds within which a new channel must have greeted.

    Attributes:
        path: Where senders connect.
        refused: Connections not accepted or not kept: no descriptor was left (counted at each try), another user's
            process, not our protocol, or no greeting in time.
        on_lost: Called from the listener's thread with the connection's id when its channel has ended, with a goodbye
            or without one, after the inboxes know. It must not block. Not called by `close`.

    Raises:
        SystemStartFailed: No socket, directory or thread was to be had.
    """

    def __init__(
        self,
        slice_bytes: int = 256 * 1024,
        *,
        max_frame_bytes: int = MAX_PAYLOAD,
        greeting_timeout: float = 5.0,
        directory: str | None = None,
    ) -> None:
        self.refused = 0
        self.on_lost: Callable[[str], None] | None = None
        self._max_frame_bytes = max_frame_bytes
        self._greeting_timeout = greeting_timeout
        self._directory = directory
        self._pid = os.getpid()
        self._closing = False
        self._exchange = Exchange(slice_bytes, self._released)
        self._lines: dict[Line, None] = {}
        self._by_channel: dict[Channel, Line] = {}
        self._by_connection: dict[str, Line] = {}  # their newest; under the lock
        self._greeting: deque[Line] = deque()
        self._resumed: deque[Channel] = deque()
        self._blocked: deque[Line] = deque()  # with something to write
        self._accept_at: float | None = None
        with self._exchange.lock:  # a fork waits until all descriptors are known
            _LISTENERS.add(self)
            try:
                self._start()
            except BaseException:
                _LISTENERS.discard(self)
                raise
        atexit.register(self.close)

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Inbox:
        """Register a request, before it is submitted.

        Args:
            request_id: From 1 to 2**64 - 1, unique among the open ones.
            max_buffered_bytes: Unread bytes beyond which the stream fails with `slow_consumer` where its channel cannot
                be held back.

        Raises:
            ListenerClosed: Closed.
            WrongProcess: This is a forked process.
            ValueError: The id is out of range or in use.
        """
        return self._exchange.open(request_id, max_buffered_bytes=max_buffered_bytes)

    def connected(self, connection_id: str) -> bool:
        """Return whether that connection has a channel open to this process."""
        self._exchange.check_process()
        return self._exchange.connected(connection_id)

    def send(self, connection_id: str, *parts: Piece, request_id: int = 0) -> bool:
        """Send an encoded frame to a connection, whole or in its parts.

        Never blocks: what the channel does not take at once the listener's thread writes. What is on its way when the
        channel ends is lost, with the channel.

        Args:
            connection_id: Of the connection.
            parts: One or more frames.
            request_id: Of the request that they submit: its inbox is lost with the very channel that it goes over.

        Returns:
            False if nothing was sent: the connection has no channel, or the request's inbox can be given nothing any more.

        Raises:
            WrongProcess: This is a forked process.
        """
        self._exchange.check_process()
        with self._exchange.lock:
            line = self._by_connection.get(connection_id)
            if line is None or line.channel is None or self._closing:
                return False
            if request_id and not self._exchange.submitted(request_id, line.channel):
                return False
            line.outgoing.append((parts, []))
            if not line.write():
                self._blocked.append(line)
                os.eventfd_write(self._wake, 1)
        return True

    def close(self) -> None:
        """End the thread, close all channels, remove the directory; open inboxes get `ChannelLost`. Idempotent.

        In a forked child it does nothing: the directory is the parent's.
        """
        if os.getpid() != self._pid:
            return
        with self._exchange.lock:
            if not self._closing:
                self._closing = True
                os.eventfd_write(self._wake, 1)
        atexit.unregister(self.close)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_TIMEOUT)

    def _start(self) -> None:
        """Make the socket, the wake-up, the poller and the thread: all of them or none."""
        with contextlib.ExitStack() as undo:
            self.path, self._socket = local.listen(_BACKLOG, self._directory)
            undo.callback(local.remove, self.path)
            undo.enter_context(self._socket)
            try:
                self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                undo.callback(os.close, self._wake)
                self._selector = undo.enter_context(selectors.DefaultSelector())
                self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
                self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
                self._thread = threading.Thread(target=self._run, name="pixir-channel", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError) as error:
                raise SystemStartFailed(f"the event channel's listener could not start: {error}") from error
            undo.pop_all()

    def _released(self, channel: Channel) -> None:
        """Have the thread read a held channel again. Called under the exchange's lock, from any thread."""
        if not self._closing:
            self._resumed.append(channel)
            os.eventfd_write(self._wake, 1)

    # From here on: the listener's thread only.

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, _events in self._selector.select(self._patience()):
                    key.data()
                self._expire()
        finally:
            self._shut()

    def _woken(self) -> None:
        os.eventfd_read(self._wake)
        while self._resumed:
            line = self._by_channel.get(self._resumed.popleft())
            if line is not None:
                line.reading = True
                self._watch(line)
        while self._blocked:
            line = self._blocked.popleft()
            if line in self._lines:
                self._watch(line)

    def _watch(self, line: Line) -> None:
        """Have the poller say when the line can be read, if it is to be, and written, if something waits for that."""
        line.writing = bool(line.outgoing)
        wanted = selectors.EVENT_READ * line.reading | selectors.EVENT_WRITE * line.writing
        key = self._selector.get_map().get(line.sock)
        if not wanted:
            if key is not None:
                self._selector.unregister(line.sock)
        elif key is None:
            self._selector.register(line.sock, wanted, partial(self._ready, line))
        elif key.events != wanted:
            self._selector.modify(line.sock, wanted, key.data)

    def _ready(self, line: Line) -> None:
        if line.writing:
            with self._exchange.lock:
                written = line.write()
            if written:
                self._watch(line)
        if line.reading:
            self._receive(line)

    def _accept(self) -> None:
        """Accept what is waiting; pause where that fails, for want of descriptors: the poller would not."""
        for _ in range(64):
            try:
                with self._exchange.lock:
                    sock, _address = self._socket.accept()
                    line = Line(sock, Decoder(self._max_frame_bytes), time.monotonic() + self._greeting_timeout)
                    self._lines[line] = None
            except BlockingIOError:
                return
            except OSError:
                self.refused += 1
                self._selector.unregister(self._socket)
                self._accept_at = time.monotonic() + _ACCEPT_PAUSE
                return
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            if local.peer_is_ours(sock):
                self._greeting.append(line)
                self._watch(line)
            else:
                self._close_line(line)

    def _receive(self, line: Line) -> None:
        """Read one slice of a channel and hand it on."""
        try:
            data = line.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset: what the peer wrote before it was read before
            data = b""
        if not data:
            self._close_line(line)
            return
        try:
            frames, fault = line.decoder.feed(data), False
        except ChannelProtocolError as error:
            frames, fault = error.frames, True
        try:
            self._hand_on(line, frames, fault)
        except ChannelProtocolError:
            self._close_line(line)

    def _hand_on(self, line: Line, frames: list[Frame], fault: bool) -> None:
        """Deliver a slice: greeting first, goodbye last; end the channel with a goodbye or a fault."""
        if frames and line.channel is None:
            self._greet(line, frames.pop(0))
        goodbye = bool(frames) and frames[-1].type == FrameType.GOODBYE
        if goodbye:
            frames.pop()
        reading = line.channel is None or self._exchange.deliver(line.channel, frames)
        if goodbye or fault:
            self._close_line(line, goodbye=goodbye and not fault)
        elif not reading:
            line.reading = False
            self._watch(line)

    def _greet(self, line: Line, frame: Frame) -> None:
        """Check the greeting and answer it.

        Raises:
            ChannelProtocolError: It is none, or not of this version.
        """
        connection_id = hello_from(frame)
        line.channel = self._exchange.join(connection_id)
        self._by_channel[line.channel] = line
        with contextlib.suppress(OSError):  # its process may have died; what it wrote is still to be read
            line.sock.send(hello(connection_id), socket.MSG_NOSIGNAL)
        with self._exchange.lock:
            self._by_connection[connection_id] = line

    def _close_line(self, line: Line, *, goodbye: bool = False) -> None:
        """Close a socket and report the end of its channel, if it had become one."""
        self.refused += line.channel is None
        with self._exchange.lock:
            del self._lines[line]
            if line.sock in self._selector.get_map():
                self._selector.unregister(line.sock)
            line.sock.close()
            if line.channel is not None and self._by_connection.get(line.channel.connection_id) is line:
                del self._by_connection[line.channel.connection_id]
        if line.channel is None:
            return
        del self._by_channel[line.channel]
        if self._exchange.leave(line.channel, goodbye=goodbye) and self.on_lost is not None:
            call(self.on_lost, line.channel.connection_id)

    def _patience(self) -> float | None:
        """Return the seconds until something is due, or None."""
        due = [line.deadline for line in list(self._greeting)[:1]]
        if self._accept_at is not None:
            due.append(self._accept_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _expire(self) -> None:
        """Close what has not greeted in time; accept again after a pause."""
        if not self._greeting and self._accept_at is None:
            return
        now = time.monotonic()
        # All have the same time to greet, so they are in the order of their deadlines.
        while self._greeting:
            line = self._greeting[0]
            silent = line.channel is None and line in self._lines
            if silent and now < line.deadline:
                break
            self._greeting.popleft()
            if silent:
                self._close_line(line)
        if self._accept_at is not None and now >= self._accept_at:
            self._accept_at = None
            self._selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def _shut(self) -> None:
        """Close everything, whatever ended the thread, so that nobody waits for it."""
        with self._exchange.lock:
            self._closing = True
            self._close_descriptors()
            local.remove(self.path)
        self._exchange.shut()

    def _close_descriptors(self) -> None:
        """Close everything, once: afterwards the numbers are others', in a fork of this process too."""
        _LISTENERS.discard(self)
        for line in self._lines:
            line.sock.close()
        self._lines.clear()
        self._by_channel.clear()
        self._by_connection.clear()
        self._selector.close()
        self._socket.close()
        os.close(self._wake)

    # After a fork.

    def _abandon(self) -> None:
        """In a forked child: close the inherited descriptors. The poller is not told, it is shared with the parent."""
        self._closing = True
        self._exchange.abandon()
        self._close_descriptors()


_LISTENERS: Final[weakref.WeakSet[Listener]] = weakref.WeakSet()
_LOCKED: Final[list[threading.Lock]] = []


def _before_fork() -> None:
    """Wait until no listener is between getting a descriptor and writing it down."""
    for listener in list(_LISTENERS):
        lock = listener._exchange.lock
        # Not for ever: a signal handler may fork inside the lock.
        if lock.acquire(timeout=1.0):
            _LOCKED.append(lock)


def _after_fork_in_parent() -> None:
    while _LOCKED:
        _LOCKED.pop().release()


def _after_fork_in_child() -> None:
    _LOCKED.clear()
    for listener in list(_LISTENERS):
        listener._abandon()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

__all__ = ["Listener", "ListenerClosed"]
