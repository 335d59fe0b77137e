"""Where a consumer waits for the frames of one request.

An inbox has two sides. Its owner (the exchange) puts slices of frames in, from the listener's thread and under its own
lock. One consumer at a time takes them out, all that are there at once and without a lock: on any thread, where it waits
in `take`, or on an event loop, where it calls `take_ready` whenever `on_ready` was called.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pixir_actors.channel.frame import HEADER_BYTES, Frame

_log = logging.getLogger(__name__)

MOST: Final = 256
"""Frames beyond which no further slice is taken out together with what came before it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How a channel ended under a request that was not finished.

    Attributes:
        clean: The connection said goodbye before any frame of this request: it had not taken it by then.
    """

    clean: bool


class ChannelLost(Exception):
    """The channel ended before the request did; all frames received before were consumed.

    Attributes:
        loss: How it ended.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss)
        self.loss = loss


class InboxClosed(Exception):
    """Nothing can come any more: the inbox was closed, or its last frame (FINISHED or FAILED) was taken before."""


class Owner(Protocol):
    """What an inbox needs of its exchange."""

    def check_process(self) -> None:
        """Raise if this is a process forked from the one that owns the listener."""

    def bind(self, inbox: Inbox, connection_id: str) -> None:
        """See `Inbox.bind`."""

    def close(self, inbox: Inbox) -> None:
        """See `Inbox.close`."""

    def drop(self, inbox: Inbox) -> None:
        """See `Inbox.drop`."""

    def resume(self, inbox: Inbox, *, wait: bool) -> bool:
        """See `Inbox.resume`."""


class Inbox:
    """The frames of one request, in order. Made by `Listener.open`.

    Attributes:
        request_id: Whose frames these are.
        max_buffered_bytes: Unread bytes beyond which the stream fails with `slow_consumer`, where holding the channel
            back would hold up other requests.
        on_ready: Called when frames or a loss have come in, or the inbox was closed, for consumers that cannot wait in
            `take`: in the listener's thread (a loss known at once: in that of `bind`; a close: in that of `close`),
            without locks. It must not block.
        held: The channel is not read until this inbox has been read (set by the owner).
        place: What it is to be fed by (the owner's).
        submitted: Its request went over the channel that is its place (the owner's).
        started: At least one frame has come.
        ended: FINISHED or FAILED has come.
    """

    def __init__(self, request_id: int, *, max_buffered_bytes: int, slice_bytes: int, owner: Owner) -> None:
        self.request_id = request_id
        self.max_buffered_bytes = max_buffered_bytes
        self.on_ready: Callable[[], None] | None = None
        self.held = False
        self.place: object = None
        self.submitted = False
        self.started = False
        self.ended = False
        self.hold_bytes = min(slice_bytes, max_buffered_bytes)
        self._owner = owner
        self._slices: deque[tuple[int, list[Frame]]] = deque()
        self._loss: Loss | None = None
        self._closed = False
        # Two counters, each with one writer, instead of one that would need a lock.
        self._delivered = 0
        self._consumed = 0
        # Held while there is nothing new: waiting is acquiring it, waking is releasing it.
        self._signal = threading.Lock()
        self._signal.acquire()

    def take(self, timeout: float | None = None) -> list[Frame] | None:
        """Return the frames that are there, waiting for the first one. One consumer at a time.

        Args:
            timeout: Seconds to wait; None waits until there is a frame or a loss.

        Returns:
            At least one frame, or None when the time has passed. They are no longer unread, and the caller's to change.

        Raises:
            ChannelLost: The channel ended before the request; all frames that came before were returned.
            InboxClosed: The inbox is closed (perhaps by another thread, just now), or was read to its end.
            WrongProcess: This process was forked from the listener's.
        """
        frames = self.take_ready()
        while frames is None:
            if not self._wait(timeout):
                return None
            frames = self.take_ready()
        if self.to_resume:
            self.resume()
        return frames

    def take_ready(self) -> list[Frame] | None:
        """Return the frames that are there, or None; as `take`, but waits for nothing, not even a lock.

        A channel that was held for this inbox is left so: look at `to_resume`.
        """
        slices = self._slices
        try:
            size, frames = slices.popleft()  # not asked first: another thread may close the inbox meanwhile
            while slices and len(frames) < MOST:
                more, following = slices.popleft()
                size += more
                frames += following
        except IndexError:
            self._owner.check_process()
            self._check_open()
            return None
        self._consumed += size
        return frames

    @property
    def to_resume(self) -> bool:
        """Whether the channel is held for this inbox, which has been read as far as to have more."""
        # The owner sets `held`, then looks at the counters; this side the other way round: one of them sees.
        return self.held and self.caught_up

    def resume(self, *, wait: bool = True) -> bool:
        """Have the channel read again; without `wait`, say whether no other thread was in the way of that."""
        return self._owner.resume(self, wait=wait)

    def bind(self, connection_id: str) -> None:
        """Say which connection the request was sent to, so that the end of its channel is this request's loss.

        A connection that has no channel yet, or has closed it with a goodbye, may connect later: the inbox waits. One
        whose channel broke is lost at once. Binding again after a clean loss takes that loss back, as does a frame that
        comes all the same. Once a frame has come, its channel is the one that counts and this does nothing.
        """
        self._owner.bind(self, connection_id)

    def close(self) -> None:
        """Let go of the unread frames, and of all that come later. Idempotent, from any thread."""
        self._owner.close(self)

    def drop(self) -> None:
        """Close, without ever waiting: for destructors. If need be it takes effect with the next request that is opened."""
        self._owner.drop(self)

    @property
    def lost(self) -> Loss | None:
        """How the channel ended, if it ended before the request did; frames may be left to `get` first."""
        return self._loss

    @property
    def unread_bytes(self) -> int:
        """Bytes received and not yet taken, headers included."""
        return self._delivered - self._consumed

    @property
    def caught_up(self) -> bool:
        """Whether so little is left unread that more may be fetched."""
        return self.unread_bytes <= self.hold_bytes // 2

    def _wait(self, timeout: float | None) -> bool:
        """Return whether frames are there, after waiting for them; raise where none can come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._check_open():
            left = -1.0 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
            if not self._signal.acquire(timeout=left):
                return self._check_open()
        return True

    def _check_open(self) -> bool:
        """Say whether frames are there; raise where there are none and none can come."""
        # What ends the stream is read first: whatever it is, it was set after the last frame was put in.
        closed, loss, ended = self._closed, self._loss, self.ended
        if self._slices:
            return True
        if closed or ended:
            self.nudge()
            raise InboxClosed("the inbox is closed" if closed else "the request has ended, its last frame was taken")
        if loss is not None:
            self.nudge()
            raise ChannelLost(loss)
        return False

    # The owner's side, under its lock, but for wake and nudge.

    def put(self, frames: list[Frame], *, ended: bool) -> None:
        """Add a slice, a list that becomes this inbox's; with `ended` it is the last one."""
        size = HEADER_BYTES * len(frames) + sum([len(frame[3]) for frame in frames])
        self._delivered += size
        self._slices.append((size, frames))
        self.started = True
        self.ended = ended

    def lose(self, loss: Loss | None) -> None:
        """Set the loss, or take it back."""
        self._loss = loss

    def discard(self) -> None:
        """Let go of everything."""
        self._closed = True
        self._slices.clear()

    @property
    def final(self) -> bool:
        """Whether nothing can come any more: closed, ended, or lost for good."""
        return self._closed or self.ended or (self._loss is not None and not self._loss.clean)

    def wake(self) -> None:
        """Wake the consumer. Outside the owner's lock, as it calls `on_ready`."""
        self.nudge()
        ready = self.on_ready
        if ready is not None:
            call(ready)

    def nudge(self) -> None:
        """End one wait; after an end each waiter passes it on to the next, so that none is left behind."""
        with contextlib.suppress(RuntimeError):  # it is awake, or about to be
            self._signal.release()


def call(callback: Callable[..., None], *args: object) -> None:
    """Call a host's callback so that what it raises cannot end the listener's thread."""
    try:
        callback(*args)
    except Exception as error:
        # Only the class: the text is the host's and may quote what it was given.
        _log.error("a callback of the event channel raised %s", type(error).__name__)
