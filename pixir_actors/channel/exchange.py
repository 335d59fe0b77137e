"""Which frame goes to which inbox, who is lost with a channel, and when a channel is left unread.

State under one lock, without I/O. The listener's thread brings slices of frames and the ends of channels; consumers, on
their threads, open, bind and close inboxes and say when they have caught up.

    a channel with one unfinished inbox    held back while that has more than a slice unread: the kernel's flow control
                                           reaches the sender
    a channel with several                 read on, so that none waits for another's consumer; an inbox with more than
                                           its max_buffered_bytes unread fails with slow_consumer
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Final

from pixir_actors.channel.frame import ChannelProtocolError, Frame, FrameType, failure_payload
from pixir_actors.channel.inbox import Inbox, Loss
from pixir_actors.errors import Delivery, ErrorCode, Failure, PixirError, WrongProcess

_REQUEST_ID: Final = itemgetter(2)
_MAX_BROKEN: Final = 4096


class ListenerClosed(PixirError, RuntimeError):
    """The listener is closed."""


@dataclass(eq=False, slots=True)
class Channel:
    """What is known of one greeted channel.

    Attributes:
        connection_id: From its greeting.
        inboxes: Open inboxes of requests that have not ended, by request id: bound to this channel or fed by it.
        held_by: The inbox for whose consumer the channel is left unread.
    """

    connection_id: str
    inboxes: dict[int, Inbox] = field(default_factory=dict)
    held_by: Inbox | None = None


class Exchange:
    """All inboxes and channels of one listener.

    Args:
        slice_bytes: Unread bytes of an inbox beyond which its channel is held back.
        on_release: Called under the lock, from any thread, when a held channel may be read again.
    """

    def __init__(self, slice_bytes: int, on_release: Callable[[Channel], None]) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self._slice_bytes = slice_bytes
        self._on_release = on_release
        self._pid = os.getpid()
        self._inboxes: dict[int, Inbox] = {}
        self._channels: dict[str, Channel] = {}
        self._waiting: dict[str, dict[int, Inbox]] = {}
        self._dropped: deque[Inbox] = deque()
        # Connections whose channel broke: the newest few thousand, as ids are never used again.
        self._broken: dict[str, None] = {}

    # From any thread.

    def check_process(self) -> None:
        """Raise WrongProcess in a forked child."""
        if os.getpid() != self._pid:
            raise WrongProcess(self._pid)

    def open(self, request_id: int, *, max_buffered_bytes: int) -> Inbox:
        """Register a request.

        Raises:
            ListenerClosed: Closed.
            WrongProcess: Forked.
            ValueError: The id is 0 or beyond 64 bits, or its inbox is open already.
        """
        self.check_process()
        if not 0 < request_id < 2**64:
            raise ValueError(f"a request id is from 1 to 2**64 - 1, not {request_id}")
        inbox = Inbox(request_id, max_buffered_bytes=max_buffered_bytes, slice_bytes=self._slice_bytes, owner=self)
        with self.lock:
            if self.closed:
                raise ListenerClosed("the event channel's listener is closed")
            self._close_dropped()
            if request_id in self._inboxes:
                raise ValueError(f"the inbox of request {request_id} is open already")
            self._inboxes[request_id] = inbox
        return inbox

    def bind(self, inbox: Inbox, connection_id: str) -> None:
        """See `Inbox.bind`."""
        self.check_process()
        with self.lock:
            if inbox.final or inbox.started:
                return
            self._detach(inbox)
            inbox.lose(None)
            channel = self._channels.get(connection_id)
            if channel is not None:
                self._attach(inbox, channel)
            elif connection_id in self._broken:
                inbox.lose(Loss(clean=False))
            else:
                self._waiting.setdefault(connection_id, {})[inbox.request_id] = inbox
                inbox.place = connection_id
        if inbox.lost is not None:
            inbox.wake()

    def close(self, inbox: Inbox) -> None:
        """See `Inbox.close`."""
        if os.getpid() != self._pid:
            return
        with self.lock:
            self._close(inbox)
        inbox.wake()

    def drop(self, inbox: Inbox) -> None:
        """See `Inbox.drop`. A destructor may run in the middle of anything, even while its own thread holds the lock."""
        if os.getpid() != self._pid:
            return
        self._dropped.append(inbox)
        if self.lock.acquire(blocking=False):
            try:
                self._close_dropped()
            finally:
                self.lock.release()

    def resume(self, inbox: Inbox, *, wait: bool = True) -> bool:
        """Read the inbox's channel again, if it is held for it; see `Inbox.resume`."""
        if not self.lock.acquire(blocking=wait):
            return False
        try:
            channel = inbox.place
            if isinstance(channel, Channel) and channel.held_by is inbox:
                self._release(channel)
        finally:
            self.lock.release()
        return True

    def connected(self, connection_id: str) -> bool:
        """Return whether that connection has a channel."""
        with self.lock:
            return connection_id in self._channels

    def submitted(self, request_id: int, channel: Channel) -> bool:
        """Have an inbox share the fate of the channel that its request goes over; call it under the lock.

        Returns:
            Whether there is an inbox that has not come to its end: else the request must not go there.
        """
        inbox = self._inboxes.get(request_id)
        if inbox is None or inbox.final:
            return False
        if inbox.place is not channel:  # another one has ended, or begun, since it was bound
            self._detach(inbox)
            self._attach(inbox, channel)
            inbox.lose(None)
        inbox.submitted = True
        return True

    # From the listener's thread.

    def join(self, connection_id: str) -> Channel:
        """Return a new channel for a connection; it replaces an older one, which may still be read to its end."""
        channel = Channel(connection_id)
        with self.lock:
            self._channels[connection_id] = channel
            self._broken.pop(connection_id, None)
            for inbox in list(self._waiting.get(connection_id, {}).values()):
                self._detach(inbox)
                self._attach(inbox, channel)
        return channel

    def deliver(self, channel: Channel, frames: list[Frame]) -> bool:
        """Hand a slice of frames to their inboxes, under one lock and with one wake for each.

        Returns:
            Whether the channel is to be read on.

        Raises:
            ChannelProtocolError: A HELLO or GOODBYE is among the frames; those before it were delivered.
        """
        fed: list[Inbox] = []
        try:
            with self.lock:
                for request_id, run in groupby(frames, _REQUEST_ID):
                    inbox = self._take(channel, request_id, list(run))
                    if inbox is not None:
                        fed.append(inbox)
                return not self._hold(channel)
        finally:
            for inbox in fed:
                inbox.wake()

    def leave(self, channel: Channel, *, goodbye: bool) -> bool:
        """Take an ended channel out, and tell the inboxes that lose by it.

        Returns:
            Whether the connection is without a channel now: it may have a newer one.
        """
        lost: list[Inbox] = []
        with self.lock:
            newer = self._channels.get(channel.connection_id)
            if newer is channel:
                newer = None
                del self._channels[channel.connection_id]
                if not goodbye:
                    self._remember_broken(channel.connection_id)
            for inbox in list(channel.inboxes.values()):
                self._detach(inbox)
                if newer is not None and not inbox.started and not inbox.submitted:
                    self._attach(inbox, newer)
                    continue
                inbox.lose(Loss(clean=goodbye and not inbox.started))
                lost.append(inbox)
        for inbox in lost:
            inbox.wake()
        return newer is None

    def shut(self) -> None:
        """Lose every inbox that has not ended, and open no more."""
        with self.lock:
            self.closed = True
            self._channels.clear()
            self._waiting.clear()
            unfinished = [inbox for inbox in self._inboxes.values() if not inbox.final]
            for inbox in unfinished:
                inbox.lose(Loss(clean=False))
        for inbox in unfinished:
            inbox.wake()

    # In a forked child, where no other thread is.

    def abandon(self) -> None:
        """Forget the frames, which are the parent's, and the lock, which nobody may be left to release."""
        self.lock = threading.Lock()
        for inbox in self._inboxes.values():
            inbox.discard()

    # Under the lock.

    def _close(self, inbox: Inbox) -> None:
        self._detach(inbox)
        if self._inboxes.get(inbox.request_id) is inbox:
            del self._inboxes[inbox.request_id]
        inbox.discard()

    def _close_dropped(self) -> None:
        while self._dropped:
            self._close(self._dropped.popleft())

    def _take(self, channel: Channel, request_id: int, run: list[Frame]) -> Inbox | None:
        """Give consecutive frames of one request to its inbox; return the inbox if it took them."""
        if request_id == 0:
            raise ChannelProtocolError("a frame about the channel itself came out of place")
        ended = run[-1][0] >= FrameType.FINISHED
        inbox = self._inboxes.get(request_id)
        if inbox is None or not self._feeds(channel, inbox):
            return None
        # Judged by what was left unread before, so that one large frame is not held against a prompt consumer.
        if inbox.unread_bytes > inbox.max_buffered_bytes:
            run, ended = [_slow_consumer(inbox)], True
        inbox.put(run, ended=ended)
        if ended:
            self._detach(inbox)
        return inbox

    def _feeds(self, channel: Channel, inbox: Inbox) -> bool:
        """Whether frames of this channel are the inbox's; its first frame decides, whatever it was bound to."""
        if inbox.final:
            return False
        if inbox.place is channel:
            return True
        if inbox.started:
            return False
        self._detach(inbox)
        self._attach(inbox, channel)
        inbox.lose(None)
        return True

    def _attach(self, inbox: Inbox, channel: Channel) -> None:
        inbox.place = channel
        channel.inboxes[inbox.request_id] = inbox
        if channel.held_by is not None:
            self._release(channel)

    def _detach(self, inbox: Inbox) -> None:
        """Take the inbox from the channel, or the connection, that it was to be fed by."""
        place, inbox.place = inbox.place, None
        if isinstance(place, Channel):
            place.inboxes.pop(inbox.request_id, None)
            if place.held_by is inbox:
                self._release(place)
        elif isinstance(place, str):
            self._waiting[place].pop(inbox.request_id, None)
            if not self._waiting[place]:
                del self._waiting[place]

    def _hold(self, channel: Channel) -> bool:
        """Decide whether to leave the channel unread until the only consumer there is has caught up."""
        if len(channel.inboxes) != 1:
            return False
        (inbox,) = channel.inboxes.values()
        if inbox.unread_bytes <= inbox.hold_bytes:
            return False
        inbox.held = True
        if inbox.caught_up:  # just now, so the consumer may not have seen `held`
            inbox.held = False
            return False
        channel.held_by = inbox
        return True

    def _release(self, channel: Channel) -> None:
        if channel.held_by is not None:
            channel.held_by.held = False
            channel.held_by = None
            self._on_release(channel)

    def _remember_broken(self, connection_id: str) -> None:
        self._broken[connection_id] = None
        if len(self._broken) > _MAX_BROKEN:
            del self._broken[next(iter(self._broken))]


def _slow_consumer(inbox: Inbox) -> Frame:
    """Return the end of a stream whose consumer left too much unread."""
    failure = Failure.of(
        ErrorCode.SLOW_CONSUMER, Delivery.ACCEPTED, unread_bytes=inbox.unread_bytes, limit=inbox.max_buffered_bytes
    )
    return Frame(FrameType.FAILED, 0, inbox.request_id, failure_payload(failure))
