"""The requests a connection has not answered yet, and the frames on their way to those who asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pixir_actors.actors.messages import Batch, Submit
from pixir_actors.actors.sink import ChannelSink, MessageSink, Sink
from pixir_actors.actors.watch import Watch
from pixir_actors.channel.frame import Frame, FrameType, encode, encode_events
from pixir_actors.channel.sender import Sender
from pixir_actors.core.server_event import Tag

UNUSED: Final = 60.0
"""Seconds without a request after which a channel, or a requester, is let go of with the next sweep."""
CHANNEL_SWEEP: Final = UNUSED + 1.0
"""Seconds between two sweeps while only channels are open: their ends are heard at once."""
REQUESTER_SWEEP: Final = 15.0
"""The same while there are requesters, of whom nothing is heard when they end."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that is held here."""

    number: int
    submit: Submit
    sink: Sink


class Outbox:
    """Tickets by number, sinks by receiver. Used from the actor's thread only.

    Args:
        connection_id: Goes into greetings and batches.
        watch: Where channels are registered.
        send: Sends a message to an actor.
        on_gone: Called when the receiver of a sink has gone; its tickets are still held then.
        on_drained: Called when a channel has taken all that was buffered for it.
        on_frame: Called with a channel's path and a frame that came over it.
    """

    def __init__(
        self,
        connection_id: str,
        watch: Watch,
        *,
        send: Callable[[Any, Batch], None],
        on_gone: Callable[[Sink], None],
        on_drained: Callable[[Sink], None],
        on_frame: Callable[[str, Frame], None],
    ) -> None:
        self._connection_id, self._watch = connection_id, watch
        self._send, self._on_gone, self._on_drained, self._on_frame = send, on_gone, on_drained, on_frame
        self._tickets: dict[int, Ticket] = {}
        self._channels: dict[str, ChannelSink] = {}
        self._requesters: list[MessageSink] = []
        self._frames: dict[Sink, list[bytes]] = {}
        self._used_at: dict[Sink, float] = {}  # of the sinks that are here
        self._newest: tuple[int, str | None, Sink] | None = None  # of those that have ended: id, channel, receiver
        self._count = 0
        self._hearing = False

    def __iter__(self) -> Iterator[Ticket]:
        return iter(list(self._tickets.values()))

    def hold(self, submit: Submit, sender: Any) -> Ticket:
        """Take a request in; its receiver's channel is opened if it is not.

        Raises:
            ChannelUnavailable: The channel cannot be opened.
        """
        self._count += 1
        ticket = Ticket(self._count, submit, self._sink(submit.channel, sender))
        self._tickets[ticket.number] = ticket
        return ticket

    def find(self, request_id: int, channel: str | None, sender: Any) -> Ticket | None:
        """Return the ticket of a sender's request, if it is still held."""
        for ticket in self._tickets.values():
            if (ticket.submit.request_id, ticket.submit.channel) == (request_id, channel) and _receives(ticket.sink, sender):
                return ticket
        return None

    def refuse(self, channel: str, request_id: int, failure: bytes) -> None:
        """Answer a request that came over a channel and was not taken in."""
        sink = self._channels.get(channel)
        if sink is not None:
            sink.write(encode(Frame(FrameType.FAILED, 0, request_id, failure)))

    def listen(self, channel: str | None) -> None:
        """Read what a client has sent over its channel by now, before something is said about it."""
        sink = self._channels.get(channel or "")
        if sink is not None:
            sink.read()

    def hear(self) -> None:
        """Read what all clients have sent by now. From within itself it does nothing: what was read may lead here."""
        if not self._hearing:
            self._hearing = True
            try:
                for sink in list(self._channels.values()):
                    sink.read()
            finally:
                self._hearing = False

    def ended_last(self, request_id: int, channel: str | None, sender: Any) -> bool:
        """Say whether of all requests that have ended this one was the last, and none has come since."""
        if self._newest is None or self._tickets:
            return False
        newest_id, newest_channel, sink = self._newest
        return (newest_id, newest_channel) == (request_id, channel) and _receives(sink, sender)

    def __getitem__(self, number: int) -> Ticket:
        return self._tickets[number]

    def put(self, number: int, kind: FrameType, payload: bytes = b"", tag: int = 0) -> None:
        """Put a frame on its way; it leaves with the next `flush`. After the last frame of a request the ticket is gone."""
        ticket = self._tickets.get(number)
        if ticket is None:
            return
        self._frames.setdefault(ticket.sink, []).append(encode(Frame(kind, tag, ticket.submit.request_id, payload)))
        if kind in (FrameType.FINISHED, FrameType.FAILED):
            del self._tickets[number]
            self._newest = (ticket.submit.request_id, ticket.submit.channel, ticket.sink)

    def put_events(self, number: int, events: Iterable[tuple[Tag, bytes]]) -> None:
        """Put events of the provider on their way, as `put` would one by one."""
        ticket = self._tickets.get(number)
        if ticket is not None:
            self._frames.setdefault(ticket.sink, []).append(encode_events(ticket.submit.request_id, events))

    def flush(self, now: float) -> None:
        """Hand the frames to their sinks."""
        frames, self._frames = self._frames, {}
        for sink, encoded in frames.items():
            if sink in self._used_at:  # or it has gone, and its requests are answered to nobody
                self._used_at[sink] = now
                sink.write(b"".join(encoded))
        for requester in self._requesters:
            requester.pass_on(now)

    def overfull(self) -> Iterator[Ticket]:
        """Yield the tickets whose receiver has left more unread than their request allows."""
        for ticket in list(self._tickets.values()):
            if ticket.sink.buffered() > ticket.submit.settings.max_buffered_bytes:
                yield ticket

    def all_taken(self) -> bool:
        """Say whether every receiver that is still here has taken all that it was sent."""
        sinks: list[Sink] = [*self._channels.values(), *self._requesters]
        return not self._frames and all(sink.taken() for sink in sinks)

    def of_sink(self, sink: Sink) -> list[Ticket]:
        """Return the tickets of one receiver."""
        return [ticket for ticket in self._tickets.values() if ticket.sink is sink]

    def acknowledged(self, requester: Any, sequence: int, now: float) -> None:
        """Take note of a `BatchAck`."""
        for sink in self._requesters:
            if sink.requester == requester:
                sink.acknowledged(sequence, now)

    def drop(self, sink: Sink) -> None:
        """Forget a sink that has gone; it is closed."""
        sink.close()
        self._channels = {path: other for path, other in self._channels.items() if other is not sink}
        self._requesters = [other for other in self._requesters if other is not sink]
        self._frames.pop(sink, None)
        self._used_at.pop(sink, None)

    @property
    def sweep_interval(self) -> float:
        """Seconds until the next sweep. A connection that only clients use, and that is left alone, wakes seldom for it."""
        return REQUESTER_SWEEP if self._requesters else CHANNEL_SWEEP

    def sweep(self, now: float) -> bool:
        """Close sinks that nobody waits at, and report those that have gone; say whether any is left.

        Args:
            now: Monotonic seconds.
        """
        sinks: list[Sink] = [*self._channels.values(), *self._requesters]
        for sink in sinks:
            if sink.gone(now):
                self._on_gone(sink)
            elif not self.of_sink(sink) and not sink.buffered() and now - self._used_at[sink] >= UNUSED:
                self.drop(sink)
        return bool(self._channels or self._requesters)

    def close(self) -> None:
        """Close every sink; what is buffered in them is lost."""
        sinks: list[Sink] = [*self._channels.values(), *self._requesters]
        for sink in sinks:
            sink.close()

    def _sink(self, channel: str | None, sender: Any) -> Sink:
        if channel is None:
            return self._requester(sender)
        sink = self._channels.get(channel)
        if sink is None:
            sender_end = Sender.connect(channel, connection_id=self._connection_id)
            sink = self._channels[channel] = ChannelSink(
                sender_end,
                self._watch,
                on_gone=self._on_gone,
                on_drained=self._on_drained,
                on_frame=lambda _, frame: self._on_frame(channel, frame),
            )
            self._used_at[sink] = float("-inf")
        return sink

    def _requester(self, sender: Any) -> MessageSink:
        for sink in self._requesters:
            if sink.requester == sender:
                return sink
        sink = MessageSink(sender, self._connection_id, self._send)
        self._requesters.append(sink)
        self._used_at[sink] = float("-inf")
        return sink


def _receives(sink: Sink, sender: Any) -> bool:
    return not isinstance(sink, MessageSink) or bool(sink.requester == sender)
