"""Where a connection's frames go: the caller's event channel, or messages to a requester that is itself an actor.

Both take encoded frames, never block, say how much is still buffered, and say when the receiver is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from pixir_actors.actors.messages import Batch
from pixir_actors.actors.watch import Watch
from pixir_actors.channel.frame import Frame
from pixir_actors.channel.sender import Sender
from pixir_actors.core.secret import Secret

UNACKNOWLEDGED: Final = 60.0
"""Seconds after which a requester that does not acknowledge a batch counts as gone."""


class Sink(Protocol):
    """One receiver of frames."""

    def write(self, encoded: bytes) -> None:
        """Take encoded frames and pass on what the receiver takes now."""

    def buffered(self) -> int:
        """Return the bytes that the receiver has not taken yet."""

    def taken(self) -> bool:
        """Say whether nothing would be lost if this process ended now."""

    def gone(self, now: float) -> bool:
        """Say whether nobody receives any more."""

    def close(self) -> None:
        """Let the receiver know that nothing more comes, if it still listens."""


class ChannelSink:
    """Frames to a client process, over its event channel."""

    def __init__(
        self,
        sender: Sender,
        watch: Watch,
        *,
        on_gone: Callable[[ChannelSink], None],
        on_drained: Callable[[ChannelSink], None],
        on_frame: Callable[[ChannelSink, Frame], None],
    ) -> None:
        self._sender, self._watch = sender, watch
        self._on_gone, self._on_drained, self._on_frame = on_gone, on_drained, on_frame
        self._heard: deque[Frame] = deque()
        watch.add(sender.fileno(), self._ready)
        self._wait_for_room()

    def write(self, encoded: bytes) -> None:
        if not self._sender.closed:
            self._sender.send(encoded)
            self._wait_for_room()

    def buffered(self) -> int:
        return 0 if self._sender.closed else self._sender.pending_bytes()

    def delivered(self) -> bool:
        """Say whether the client is there and has, or its kernel has for it, all that was written.

        Of one that has gone it is heard next, and its requests are cancelled then.
        """
        return not self._sender.closed and not self.buffered()

    def taken(self) -> bool:
        return not self.buffered()

    def gone(self, now: float) -> bool:
        return self._sender.closed

    def close(self) -> None:
        fd = self._sender.fileno()
        if fd >= 0:
            self._watch.remove(fd)
            self._sender.close(goodbye=True)

    def read(self) -> bool:
        """Hand on what the client has sent; say whether it is still there."""
        there = self._sender.receive()
        self._heard.extend(self._sender.take())
        self._hand_on()
        if not there:
            self._lost()
        return there

    def _hand_on(self) -> None:
        try:
            while self._heard:
                self._on_frame(self, self._heard.popleft())
        except Exception:
            self._watch.again(self._hand_on)  # what one frame ran into is not the others' fault
            raise

    def _ready(self, readable: bool) -> None:
        if readable and not self.read():
            return
        if self._sender.closed:  # by what has just come
            return
        self._sender.flush()
        self._wait_for_room()
        if not self.buffered():
            self._on_drained(self)

    def _wait_for_room(self) -> None:
        if self._sender.closed:
            self._lost()
            return
        self._watch.writing(self._sender.fileno(), self.buffered() > 0)

    def _lost(self) -> None:
        # Only noted here: the connection deals with it when it is done with what it is doing.
        self._watch.remove(self._sender.fileno())
        self._watch.again(self._tell)

    def _tell(self) -> None:
        self._on_gone(self)


class MessageSink:
    """Frames to an actor: one batch on its way, the rest coalesced into the next.

    More than one message on its way to a requester that does not listen would in the end freeze this actor for everybody.
    """

    def __init__(self, requester: Any, connection_id: str, send: Callable[[Any, Batch], None]) -> None:
        self.requester = requester
        self._connection_id, self._send = connection_id, send
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._sequence = 0
        self._sent_at: float | None = None

    def write(self, encoded: bytes) -> None:
        self._waiting.append(encoded)
        self._bytes += len(encoded)

    def pass_on(self, now: float) -> None:
        """Send the next batch if the last one was acknowledged."""
        if self._waiting and self._sent_at is None:
            self._sequence += 1
            self._sent_at = now
            encoded, self._waiting, self._bytes = b"".join(self._waiting), [], 0
            self._send(self.requester, Batch(self._connection_id, self._sequence, Secret(encoded)))

    def acknowledged(self, sequence: int, now: float) -> None:
        """Take note that the requester has a batch; anything but the newest is stale."""
        if sequence == self._sequence:
            self._sent_at = None
            self.pass_on(now)

    def buffered(self) -> int:
        return self._bytes

    def taken(self) -> bool:
        return not self._waiting and self._sent_at is None

    def gone(self, now: float) -> bool:
        return self._sent_at is not None and now - self._sent_at > UNACKNOWLEDGED

    def close(self) -> None:
        self._waiting, self._bytes = [], 0
