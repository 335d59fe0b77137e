"""Requests that are held, and the frames on their way to those who asked."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pixir_actors.actors.messages import Batch, Submit
from pixir_actors.actors.outbox import UNUSED, Outbox
from pixir_actors.actors.sink import UNACKNOWLEDGED, Sink
from pixir_actors.actors.watch import Watch
from pixir_actors.channel import ChannelUnavailable, Listener
from pixir_actors.channel.frame import Frame, FrameType, encode
from pixir_actors.core.server_event import Tag
from tests.actors.fakes import submit
from tests.channel.conftest import get
from tests.conftest import until, within

NOW = 100.0



class Box:
    """An outbox, and everything that left it for requesters."""

    def __init__(self, watch: Watch) -> None:
        self.sent: list[tuple[Any, Batch]] = []
        self.gone: list[Sink] = []
        self.drained: list[Sink] = []
        self.heard: list[tuple[str, Frame]] = []
        self.on_frame: Callable[[], object] = lambda: None
        self.outbox = Outbox(
            "c-1",
            watch,
            send=lambda to, batch: self.sent.append((to, batch)),
            on_gone=self.gone.append,
            on_drained=self.drained.append,
            on_frame=self._hear,
        )

    def _hear(self, channel: str, frame: Frame) -> None:
        self.heard.append((channel, frame))
        self.on_frame()

    def frames(self, requester: str) -> list[Frame]:
        return [frame for to, batch in self.sent if to == requester for frame in batch.frames()]


@pytest.fixture
def box(watch: Watch) -> Iterator[Box]:
    box = Box(watch)
    yield box
    box.outbox.close()


def on_channel(request_id: int, listener: Listener) -> Submit:
    made = submit(request_id)
    return Submit(**{name: getattr(made, name) for name in Submit.__slots__} | {"channel": listener.path})


def test_a_request_is_held_until_its_last_frame_was_put(box: Box) -> None:
    outbox = box.outbox
    first, second = outbox.hold(submit(7), "asker"), outbox.hold(submit(8), "asker")
    assert [ticket.number for ticket in outbox] == [first.number, second.number]
    assert first.number != second.number
    assert outbox[first.number].submit.request_id == 7

    outbox.put(first.number, FrameType.DATA, b"x")
    assert outbox.find(7, None, "asker") is first
    outbox.put(first.number, FrameType.FINISHED)
    outbox.put(second.number, FrameType.FAILED, b"{}")

    assert outbox.find(7, None, "asker") is None
    assert list(outbox) == []
    with pytest.raises(KeyError):
        outbox[first.number]


def test_frames_leave_in_order_with_the_flush_and_carry_the_sender_s_own_number(box: Box) -> None:
    ticket = box.outbox.hold(submit(7), "asker")
    box.outbox.put(ticket.number, FrameType.QUEUED, b"0")
    box.outbox.put(ticket.number, FrameType.DATA, b"one", Tag.TEXT_DELTA)
    box.outbox.put(ticket.number, FrameType.DATA, b"two")
    assert box.sent == []

    box.outbox.flush(NOW)

    assert box.frames("asker") == [
        (FrameType.QUEUED, 0, 7, b"0"),
        (FrameType.DATA, Tag.TEXT_DELTA, 7, b"one"),
        (FrameType.DATA, 0, 7, b"two"),
    ]


def test_nothing_follows_a_request_s_last_frame(box: Box) -> None:
    ticket = box.outbox.hold(submit(7), "asker")
    box.outbox.put(ticket.number, FrameType.FINISHED)
    box.outbox.put(ticket.number, FrameType.DATA, b"late")
    box.outbox.put(ticket.number, FrameType.FAILED, b"{}")
    box.outbox.put(99, FrameType.DATA, b"never held")
    box.outbox.flush(NOW)

    assert [frame.type for frame in box.frames("asker")] == [FrameType.FINISHED]


def test_requesters_are_told_apart_and_have_one_batch_each(box: Box) -> None:
    mine, yours = box.outbox.hold(submit(7), "me"), box.outbox.hold(submit(7), "you")
    assert box.outbox.find(7, None, "me") is mine
    assert box.outbox.find(7, None, "you") is yours
    assert box.outbox.find(7, None, "nobody") is None
    assert box.outbox.find(7, "/some/channel", "me") is None

    for text in (b"one", b"two"):
        for ticket in (mine, yours):
            box.outbox.put(ticket.number, FrameType.DATA, text)
        box.outbox.flush(NOW)
    assert [to for to, _ in box.sent] == ["me", "you"], "the second batch waits for an acknowledgement"

    box.outbox.acknowledged("you", 1, NOW)
    box.outbox.acknowledged("stranger", 1, NOW)

    assert [to for to, _ in box.sent] == ["me", "you", "you"]
    assert [frame.payload for frame in box.frames("you")] == [b"one", b"two"]


def test_a_ticket_is_overfull_when_its_receiver_leaves_more_unread_than_it_allows(box: Box) -> None:
    strict = box.outbox.hold(submit(1, max_buffered_bytes=2000), "asker")
    lax = box.outbox.hold(submit(2, max_buffered_bytes=200_000), "asker")
    box.outbox.put(strict.number, FrameType.DATA, b"taken")
    box.outbox.flush(NOW)
    box.outbox.put(strict.number, FrameType.DATA, b"x" * 1500)
    box.outbox.flush(NOW)
    assert list(box.outbox.overfull()) == []

    box.outbox.put(lax.number, FrameType.DATA, b"x" * 1500)
    box.outbox.flush(NOW)

    assert list(box.outbox.overfull()) == [strict]
    box.outbox.acknowledged("asker", 1, NOW)
    assert list(box.outbox.overfull()) == []


def test_all_is_taken_when_the_last_batch_was_acknowledged(box: Box) -> None:
    outbox = box.outbox
    assert outbox.all_taken()
    first, second = outbox.hold(submit(7), "one"), outbox.hold(submit(7), "other")
    outbox.put(first.number, FrameType.FINISHED)
    assert not outbox.all_taken(), "it has not even left"
    outbox.flush(NOW)
    assert not outbox.all_taken()
    outbox.acknowledged("one", 1, NOW)
    assert outbox.all_taken(), "the other one was sent nothing"
    outbox.put(second.number, FrameType.DATA, b"{}")
    outbox.flush(NOW)
    outbox.put(second.number, FrameType.FINISHED)
    outbox.flush(NOW)
    outbox.acknowledged("other", 1, NOW)
    assert not outbox.all_taken(), "what waited for the first batch is the second"
    outbox.acknowledged("other", 2, NOW)
    assert outbox.all_taken()


def test_a_requester_that_has_gone_takes_nothing_and_is_not_waited_for(box: Box) -> None:
    ticket = box.outbox.hold(submit(7), "one")
    box.outbox.put(ticket.number, FrameType.FINISHED)
    box.outbox.flush(NOW)
    box.outbox.drop(ticket.sink)

    assert box.outbox.all_taken()


def test_a_requester_that_does_not_acknowledge_is_reported_by_the_sweep(box: Box) -> None:
    ticket = box.outbox.hold(submit(1), "asker")
    box.outbox.put(ticket.number, FrameType.DATA, b"x")
    box.outbox.flush(NOW)
    assert box.outbox.sweep(NOW + UNACKNOWLEDGED) is True
    assert box.gone == []

    assert box.outbox.sweep(NOW + UNACKNOWLEDGED + 1) is True

    [sink] = box.gone
    assert box.outbox.of_sink(sink) == [ticket], "it is still held: who listens decides what becomes of it"
    box.outbox.drop(sink)
    assert box.outbox.sweep(NOW + 1000) is False


def test_the_sweep_drops_whom_nobody_has_owed_anything_for_a_while(box: Box) -> None:
    ticket = box.outbox.hold(submit(1), "asker")
    box.outbox.put(ticket.number, FrameType.FINISHED)
    box.outbox.flush(NOW)
    box.outbox.acknowledged("asker", 1, NOW)
    assert box.outbox.sweep(NOW + UNUSED - 0.1) is True, "the next request may come soon"

    again = box.outbox.hold(submit(2), "asker")
    assert again.sink is ticket.sink
    box.outbox.put(again.number, FrameType.FINISHED)
    box.outbox.flush(NOW + 30)
    box.outbox.acknowledged("asker", 2, NOW + 30)
    assert box.outbox.sweep(NOW + 30 + UNUSED - 0.1) is True, "it was used in between"

    assert box.outbox.sweep(NOW + 30 + UNUSED) is False
    assert box.gone == []


def test_sweeps_are_seldom_while_only_clients_are_there(box: Box, listener: Listener) -> None:
    """The end of a channel is heard at once; that of an actor is not."""
    box.outbox.hold(replace(submit(1), channel=listener.path), None)
    assert box.outbox.sweep_interval > UNUSED
    box.outbox.hold(submit(2), "asker")

    assert box.outbox.sweep_interval * 2 < UNACKNOWLEDGED


def test_the_sweep_leaves_a_receiver_that_has_not_taken_everything(box: Box) -> None:
    tickets = [box.outbox.hold(submit(number), "asker") for number in (1, 2)]
    for ticket in tickets:
        box.outbox.put(ticket.number, FrameType.FINISHED)
        box.outbox.flush(NOW)  # the second batch waits until the first is acknowledged
    assert box.outbox.sweep(NOW + UNACKNOWLEDGED) is True

    box.outbox.acknowledged("asker", 1, NOW + 10)
    assert [frame.request_id for frame in box.frames("asker")] == [1, 2]


def test_receivers_that_have_gone_do_not_add_up(box: Box) -> None:
    """Their requests are answered all the same, to nobody."""
    gone = []
    for asker in ("one", "two", "three"):
        ticket = box.outbox.hold(submit(1), asker)
        box.outbox.drop(ticket.sink)
        box.outbox.put(ticket.number, FrameType.FAILED, b"{}")
        box.outbox.flush(NOW)
        gone.append(weakref.ref(ticket.sink))
    del ticket
    gc.collect()

    assert [sink() for sink in gone[:-1]] == [None, None]
    assert box.sent == []


def test_a_channel_that_cannot_be_opened_holds_nothing(box: Box) -> None:
    made = submit(1)
    nowhere = Submit(**{name: getattr(made, name) for name in Submit.__slots__} | {"channel": "/nonexistent/channel"})

    with pytest.raises(ChannelUnavailable) as caught:
        box.outbox.hold(nowhere, "asker")

    assert caught.value.reason == "gone"
    assert list(box.outbox) == []
    assert box.outbox.sweep(NOW) is False


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def test_requests_of_one_client_share_a_channel(box: Box, listener: Listener, watch: Watch) -> None:
    inboxes = [listener.open(number, max_buffered_bytes=100_000) for number in (1, 2)]
    tickets = [box.outbox.hold(on_channel(number, listener), "any sender") for number in (1, 2)]
    assert tickets[0].sink is tickets[1].sink
    assert box.outbox.find(2, listener.path, "another endpoint of that client") is tickets[1]

    for inbox, ticket in zip(inboxes, tickets, strict=True):
        inbox.bind("c-1")
        box.outbox.put(ticket.number, FrameType.DATA, b"for %d" % ticket.number)
        box.outbox.put(ticket.number, FrameType.FINISHED)
    box.outbox.flush(NOW)

    for number, inbox in enumerate(inboxes, 1):
        frame = get(inbox, within(5))
        assert frame is not None
        assert frame.payload == b"for %d" % number


def test_the_sweep_closes_a_channel_that_nobody_waits_at(box: Box, listener: Listener, watch: Watch) -> None:
    lost: list[str] = []
    listener.on_lost = lost.append
    inbox = listener.open(1, max_buffered_bytes=100_000)
    inbox.bind("c-1")
    ticket = box.outbox.hold(on_channel(1, listener), None)
    assert box.outbox.sweep(NOW + 1000) is True, "a request waits at it"

    box.outbox.put(ticket.number, FrameType.FINISHED)
    box.outbox.flush(NOW + 1000)
    assert box.outbox.sweep(NOW + 1000 + UNUSED - 0.1) is True, "the next request may come soon"
    assert lost == []
    assert box.outbox.sweep(NOW + 1000 + UNUSED) is False

    assert until(lambda: lost == ["c-1"])
    assert len(watch) == 0
    assert inbox.lost is None, "it had its last frame first"


def test_the_end_of_a_client_names_its_sink_and_the_next_request_opens_another(
    box: Box, listener: Listener, watch: Watch
) -> None:
    ticket = box.outbox.hold(on_channel(1, listener), None)
    listener.close()

    def told() -> bool:
        watch.dispatch()
        return bool(box.gone)

    assert until(told)
    assert box.gone == [ticket.sink]
    assert box.outbox.of_sink(ticket.sink) == [ticket]
    box.outbox.drop(ticket.sink)
    box.outbox.put(ticket.number, FrameType.FAILED, b"{}")
    box.outbox.flush(NOW)
    assert list(box.outbox) == []
    assert len(watch) == 0


def test_what_a_client_sends_comes_with_the_name_of_its_channel(box: Box, listener: Listener, watch: Watch) -> None:
    box.outbox.hold(on_channel(1, listener), None)
    assert until(lambda: "c-1" in listener._by_connection)
    cancel = Frame(FrameType.CANCEL, 0, 1, b"")
    listener.send("c-1", encode(cancel))

    def come() -> bool:
        watch.dispatch()
        return bool(box.heard)

    assert until(come)
    assert box.heard == [(listener.path, cancel)]


def test_what_a_client_has_sent_by_now_is_heard_when_it_is_listened_to(
    box: Box, listener: Listener, watch: Watch
) -> None:
    """A question by message must not overtake what went over the channel before it."""
    box.outbox.hold(on_channel(1, listener), None)
    assert until(lambda: "c-1" in listener._by_connection)
    listener.send("c-1", encode(Frame(FrameType.CANCEL, 0, 1, b"")))
    for other in (None, "/another"):
        box.outbox.listen(other)
    assert box.heard == []

    box.outbox.listen(listener.path)
    assert [frame.request_id for _, frame in box.heard] == [1]


def test_a_request_that_was_not_taken_in_is_answered_over_its_channel(
    box: Box, listener: Listener, watch: Watch
) -> None:
    refused = listener.open(7, max_buffered_bytes=100_000)
    box.outbox.hold(on_channel(1, listener), None)
    box.outbox.refuse("/another", 7, b"{}")
    box.outbox.refuse(listener.path, 7, b'{"a": 1}')

    frame = get(refused, within(5))
    assert frame == Frame(FrameType.FAILED, 0, 7, b'{"a": 1}')
    assert len(list(box.outbox)) == 1


def test_what_all_clients_have_sent_by_now_can_be_heard_at_any_time_but_not_from_within(
    box: Box, listener: Listener
) -> None:
    box.outbox.hold(on_channel(1, listener), None)
    assert until(lambda: "c-1" in listener._by_connection)
    cancel = Frame(FrameType.CANCEL, 0, 1, b"")
    box.on_frame = box.outbox.hear  # what is heard may lead there again
    listener.send("c-1", encode(cancel))

    def come() -> bool:
        box.outbox.hear()
        return bool(box.heard)

    assert until(come)
    assert box.heard == [(listener.path, cancel)]
