"""Which frame goes where, who is lost, when a channel is held: without sockets or threads."""

from __future__ import annotations

import pytest

from pixir_actors.channel import (
    ChannelLost,
    ChannelProtocolError,
    Frame,
    FrameType,
    Inbox,
    InboxClosed,
    ListenerClosed,
    Loss,
)
from pixir_actors.channel import exchange as module
from pixir_actors.channel.exchange import Channel, Exchange
from pixir_actors.channel.frame import failure_from
from pixir_actors.channel.inbox import MOST
from pixir_actors.errors import Delivery, ErrorCode
from tests.channel.conftest import frame, get

SLICE = 1000
NOT_CLEAN = Loss(clean=False)


class Desk:
    """An exchange, and the channels it has let go."""

    def __init__(self, slice_bytes: int = SLICE) -> None:
        self.released: list[Channel] = []
        self.exchange = Exchange(slice_bytes, self.released.append)

    def open(self, request_id: int, limit: int = 5000) -> Inbox:
        return self.exchange.open(request_id, max_buffered_bytes=limit)

    def join(self, connection_id: str = "c") -> Channel:
        return self.exchange.join(connection_id)

    def deliver(self, channel: Channel, *frames: Frame) -> bool:
        return self.exchange.deliver(channel, list(frames))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def end(request_id: int, type: int = FrameType.FINISHED) -> Frame:
    return frame(request_id, type=type)


def queued(request_id: int) -> Frame:
    return frame(request_id, type=FrameType.QUEUED)


def texts(inbox: Inbox) -> list[str]:
    """Take all that is there."""
    taken = []
    while inbox.unread_bytes:
        taken += [one.payload.decode() for one in inbox.take(0) or ()]
    return taken


def loss(inbox: Inbox) -> Loss:
    while True:
        try:
            assert get(inbox, 0) is not None
        except ChannelLost as lost:
            assert lost.loss == inbox.lost
            return lost.loss


# Handing out.


def test_frames_go_to_the_inbox_of_their_request(desk: Desk) -> None:
    first, second, channel = desk.open(1), desk.open(2), desk.join()
    desk.deliver(channel, frame(1, "a"), frame(2, "b"), frame(1, "c"), frame(3, "nobody's"))

    assert (texts(first), texts(second)) == (["a", "c"], ["b"])


def test_each_inbox_is_woken_once_for_a_slice(desk: Desk) -> None:
    inbox, channel, woken = desk.open(1), desk.join(), []
    inbox.on_ready = lambda: woken.append(desk.exchange.lock.locked())
    desk.deliver(channel, *[frame(1, "a")] * 50)

    assert woken == [False]


def test_frames_before_one_that_is_out_of_place_are_delivered(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    with pytest.raises(ChannelProtocolError, match="out of place"):
        desk.deliver(channel, frame(1, "a"), Frame(FrameType.GOODBYE, 0, 0, b""), frame(1, "b"))

    assert texts(inbox) == ["a"]
    assert not desk.exchange.lock.locked()


def test_frames_after_the_end_are_dropped(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    desk.deliver(channel, end(1))
    desk.deliver(channel, frame(1, "late"))

    assert texts(inbox) == [""]


def test_a_request_is_fed_by_one_channel_only(desk: Desk) -> None:
    inbox, first, second = desk.open(1), desk.join("a"), desk.join("b")
    desk.deliver(first, frame(1, "a"))
    desk.deliver(second, frame(1, "b"))
    desk.deliver(first, frame(1, "c"))

    assert texts(inbox) == ["a", "c"]


def test_the_first_frame_counts_whatever_the_request_was_bound_to(desk: Desk) -> None:
    inbox, first, second = desk.open(1), desk.join("a"), desk.join("b")
    inbox.bind("a")
    desk.deliver(second, frame(1, "b"))
    inbox.bind("a")
    desk.exchange.leave(first, goodbye=False)

    assert inbox.lost is None
    desk.exchange.leave(second, goodbye=False)
    assert inbox.lost == NOT_CLEAN


def test_a_closed_inbox_takes_nothing_and_its_id_is_free(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    inbox.close()
    inbox.close()
    inbox.bind("c")
    desk.deliver(channel, frame(1, "a"))
    again = desk.open(1)
    inbox.close()
    desk.deliver(channel, frame(1, "b"))

    assert inbox.unread_bytes == 0
    assert texts(again) == ["b"]


def test_a_consumer_that_is_called_is_called_when_its_inbox_is_closed(desk: Desk) -> None:
    inbox, called = desk.open(1), []
    inbox.on_ready = lambda: called.append(desk.exchange.lock.locked())
    inbox.close()

    assert called == [False]
    with pytest.raises(InboxClosed):
        inbox.take_ready()


def test_an_id_is_open_once_and_within_64_bits(desk: Desk) -> None:
    desk.open(1)
    desk.open(2**64 - 1)

    for request_id in (1, 0, -1, 2**64):
        with pytest.raises(ValueError, match="request"):
            desk.open(request_id)


def test_a_finished_request_keeps_its_id_until_it_is_closed(desk: Desk) -> None:
    desk.open(1)
    desk.deliver(desk.join(), end(1))

    with pytest.raises(ValueError, match="open already"):
        desk.open(1)


# Losing.


def test_a_finished_request_loses_nothing(desk: Desk) -> None:
    done, failed, channel = desk.open(1), desk.open(2), desk.join()
    desk.deliver(channel, frame(1, "a"), end(1), end(2, FrameType.FAILED))
    desk.exchange.leave(channel, goodbye=False)

    assert done.lost is failed.lost is None
    assert texts(done) == ["a", ""]


def test_the_running_request_is_lost_and_those_behind_it_know_that_it_was_there(desk: Desk) -> None:
    running, behind, bound, other, channel = *map(desk.open, (1, 2, 3, 4)), desk.join()
    bound.bind("c")
    desk.deliver(channel, frame(1, "a"), queued(2))
    assert desk.exchange.leave(channel, goodbye=False)

    assert loss(running) == NOT_CLEAN
    assert loss(behind) == loss(bound) == Loss(clean=False)
    assert other.lost is None


def test_the_end_of_the_earlier_request_brings_the_next_to_the_front(desk: Desk) -> None:
    first, second, channel = desk.open(1), desk.open(2), desk.join()
    desk.deliver(channel, queued(1), queued(2), end(1))
    desk.exchange.leave(channel, goodbye=False)

    assert first.lost is None
    assert loss(second) == NOT_CLEAN


def test_a_request_that_nobody_reads_any_more_still_stands_in_front(desk: Desk) -> None:
    first, second, channel = desk.open(1), desk.open(2), desk.join()
    desk.deliver(channel, queued(1), queued(2))
    first.close()
    desk.deliver(channel, frame(1, "dropped"))
    desk.exchange.leave(channel, goodbye=False)

    assert loss(second) == Loss(clean=False)


def test_a_bound_request_alone_on_its_channel_has_none_before_it(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    inbox.bind("c")
    desk.exchange.leave(channel, goodbye=False)

    assert loss(inbox) == NOT_CLEAN


def test_a_goodbye_is_a_clean_loss_for_a_request_without_a_frame(desk: Desk) -> None:
    bound, running, channel = desk.open(1), desk.open(2), desk.join()
    bound.bind("c")
    desk.deliver(channel, frame(2, "a"))
    desk.exchange.leave(channel, goodbye=True)

    assert loss(bound) == Loss(clean=True)
    assert loss(running) == NOT_CLEAN


def test_after_a_clean_loss_binding_again_waits_for_the_connection(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    inbox.bind("c")
    desk.exchange.leave(channel, goodbye=True)
    inbox.bind("c")
    assert inbox.lost is None
    assert get(inbox, 0) is None
    channel = desk.join()
    desk.exchange.leave(channel, goodbye=False)

    assert loss(inbox) == NOT_CLEAN


def test_a_frame_takes_a_clean_loss_back(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    inbox.bind("c")
    desk.exchange.leave(channel, goodbye=True)
    desk.deliver(desk.join(), frame(1, "a"))

    assert inbox.lost is None
    assert texts(inbox) == ["a"]


def test_other_losses_are_for_good(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    desk.deliver(channel, frame(1, "a"))
    desk.exchange.leave(channel, goodbye=False)
    channel = desk.join()
    inbox.bind("c")
    desk.deliver(channel, frame(1, "b"))

    assert texts(inbox) == ["a"]
    assert loss(inbox) == NOT_CLEAN


def test_binding_to_a_connection_whose_channel_broke_is_a_loss_at_once(desk: Desk) -> None:
    inbox, woken = desk.open(1), []
    inbox.on_ready = lambda: woken.append(1)
    desk.exchange.leave(desk.join(), goodbye=False)
    inbox.bind("c")

    assert loss(inbox) == NOT_CLEAN
    assert woken == [1]


def test_binding_to_a_connection_that_said_goodbye_or_is_yet_to_come_waits(desk: Desk) -> None:
    first, second = desk.open(1), desk.open(2)
    desk.exchange.leave(desk.join("a"), goodbye=True)
    first.bind("a")
    second.bind("b")
    assert first.lost is second.lost is None
    for name in "ab":
        desk.exchange.leave(desk.join(name), goodbye=False)

    assert loss(first) == loss(second) == NOT_CLEAN


def test_a_connection_that_connects_again_is_no_longer_broken(desk: Desk) -> None:
    inbox = desk.open(1)
    desk.exchange.leave(desk.join(), goodbye=False)
    desk.exchange.leave(desk.join(), goodbye=True)
    inbox.bind("c")

    assert inbox.lost is None


def test_only_the_newest_broken_connections_are_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BROKEN", 2)
    for name in "abc":
        desk.exchange.leave(desk.join(name), goodbye=False)
    inboxes = [desk.open(number) for number in (1, 2, 3)]
    for inbox, name in zip(inboxes, "abc", strict=True):
        inbox.bind(name)

    assert [inbox.lost for inbox in inboxes] == [None, NOT_CLEAN, NOT_CLEAN]


def test_a_newer_channel_of_a_connection_takes_over_what_has_not_begun(desk: Desk) -> None:
    begun, bound, old = desk.open(1), desk.open(2), desk.join()
    bound.bind("c")
    desk.deliver(old, frame(1, "a"))
    new = desk.join()

    assert not desk.exchange.leave(old, goodbye=False)
    assert desk.exchange.connected("c")
    assert loss(begun) == NOT_CLEAN
    assert bound.lost is None
    desk.exchange.leave(new, goodbye=False)
    assert loss(bound) == NOT_CLEAN
    assert not desk.exchange.connected("c")


def submitted(desk: Desk, request_id: int, channel: Channel) -> bool:
    with desk.exchange.lock:
        return desk.exchange.submitted(request_id, channel)


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_request_that_went_over_a_channel_is_lost_with_it_whatever_came_since(desk: Desk, goodbye: bool) -> None:
    """The newer channel knows nothing of it: nobody would answer."""
    inbox, old = desk.open(1), desk.join()
    inbox.bind("c")
    assert submitted(desk, 1, old)
    desk.join()
    desk.exchange.leave(old, goodbye=goodbye)

    assert loss(inbox) == Loss(clean=goodbye)


@pytest.mark.parametrize("first", ["leaves", "is replaced"])
def test_a_request_shares_the_fate_of_the_channel_it_went_over_not_of_the_one_it_was_bound_to(
    desk: Desk, first: str
) -> None:
    """Between binding and sending one channel may have gone and another come: its request is under way, and not lost."""
    inbox, old = desk.open(1), desk.join()
    inbox.bind("c")
    if first == "leaves":
        desk.exchange.leave(old, goodbye=True)
    new = desk.join()
    assert submitted(desk, 1, new)
    if first == "is replaced":
        desk.exchange.leave(old, goodbye=False)

    assert inbox.lost is None
    desk.deliver(new, frame(1, "a"))
    assert texts(inbox) == ["a"]
    desk.exchange.leave(new, goodbye=False)
    assert loss(inbox) == NOT_CLEAN


def test_a_request_whose_inbox_has_come_to_its_end_is_not_to_be_sent(desk: Desk) -> None:
    """Its caller has been told, and may be on the way to another connection with it."""
    closed, broken, channel = desk.open(1), desk.open(2), desk.join()
    closed.close()
    broken.bind("c")
    desk.exchange.leave(channel, goodbye=False)
    newer = desk.join()

    assert [submitted(desk, number, newer) for number in (1, 2, 3)] == [False] * 3
    assert loss(broken) == NOT_CLEAN


def test_a_request_that_is_sent_over_a_held_channel_lets_it_go(desk: Desk) -> None:
    slow, inbox, channel = desk.open(1), desk.open(2), desk.join()
    assert not desk.deliver(channel, frame(1, "x" * 2 * SLICE))
    assert submitted(desk, 2, channel)

    assert desk.released == [channel]
    assert not slow.held
    assert inbox.place is channel


def test_shutting_loses_all_that_has_not_ended(desk: Desk) -> None:
    running, behind, bound, alone, done, channel = *map(desk.open, (1, 2, 3, 4, 5)), desk.join()
    bound.bind("not yet")
    desk.deliver(channel, queued(1), queued(2), end(5))
    desk.exchange.shut()

    assert loss(behind) == NOT_CLEAN
    assert loss(running) == loss(bound) == loss(alone) == NOT_CLEAN
    assert done.lost is None
    with pytest.raises(ListenerClosed, match="is closed"):
        desk.open(6)


# Back-pressure.


def big(request_id: int, size: int = 500) -> Frame:
    return frame(request_id, "x" * (size - 14))


def test_a_single_consumer_holds_its_channel_and_lets_it_go_at_half() -> None:
    desk = Desk(slice_bytes=5000)
    inbox, channel = desk.open(1, limit=9000), desk.join()
    for _ in range(MOST):
        assert desk.deliver(channel, frame(1))
    assert not desk.deliver(channel, *[big(1)] * 3)
    assert not desk.deliver(channel, *[big(1)] * 3)
    assert len(inbox.take(0) or ()) == MOST
    assert desk.released == [], "more than half a slice is left"
    assert len(inbox.take(0) or ()) == 6
    assert desk.released == [channel]

    assert desk.deliver(channel, big(1))
    assert desk.released == [channel]


def test_one_that_may_not_wait_for_the_lock_lets_its_channel_go_when_the_lock_is_free(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    assert not desk.deliver(channel, big(1), big(1), big(1))
    assert len(inbox.take_ready() or ()) == 3
    assert inbox.to_resume

    with desk.exchange.lock:
        assert not inbox.resume(wait=False)
    assert desk.released == []
    assert inbox.resume(wait=False)

    assert desk.released == [channel]
    assert not inbox.to_resume


@pytest.mark.parametrize("arrival", ["bound", "first frame"])
def test_a_channel_with_two_consumers_is_not_held(desk: Desk, arrival: str) -> None:
    slow, prompt, channel = desk.open(1), desk.open(2), desk.join()
    if arrival == "bound":
        prompt.bind("c")
    else:
        desk.deliver(channel, queued(2))

    assert desk.deliver(channel, big(1), big(1), big(1))
    assert slow.lost is None


def test_a_second_consumer_on_a_held_channel_lets_it_go(desk: Desk) -> None:
    slow, second, channel = desk.open(1), desk.open(2), desk.join()
    assert not desk.deliver(channel, big(1), big(1), big(1))
    second.bind("c")

    assert desk.released == [channel]
    assert not slow.held


def test_a_second_consumer_that_leaves_has_the_channel_held_again(desk: Desk) -> None:
    _slow, second, channel = desk.open(1), desk.open(2), desk.join()
    second.bind("c")
    assert desk.deliver(channel, big(1), big(1), big(1))
    second.close()

    assert not desk.deliver(channel, big(1))


def test_closing_the_inbox_lets_the_channel_go(desk: Desk) -> None:
    inbox, channel = desk.open(1), desk.join()
    assert not desk.deliver(channel, big(1), big(1), big(1))
    inbox.close()

    assert desk.released == [channel]
    assert desk.deliver(channel, *[big(1)] * 20)


def test_a_finished_request_does_not_hold_its_channel(desk: Desk) -> None:
    done, running, channel = desk.open(1), desk.open(2), desk.join()

    assert desk.deliver(channel, *[big(1)] * 4, end(1))
    assert not desk.deliver(channel, *[big(2)] * 3)
    assert not done.held
    assert running.held


def test_what_is_unread_beyond_the_limit_fails_the_slow_one_only(desk: Desk) -> None:
    slow, waiting, channel = desk.open(1, limit=2000), desk.open(2), desk.join()
    desk.deliver(channel, queued(2))
    for _ in range(8):
        desk.deliver(channel, big(1))
    desk.deliver(channel, end(1), frame(2, "b"))

    frames = [get(slow, 0) for _ in range(6)]
    failure = failure_from(frames[-1].payload)  # type: ignore[union-attr]
    assert frames[:5] == [big(1)] * 5
    assert frames[-1].type == FrameType.FAILED  # type: ignore[union-attr]
    assert (failure.code, failure.delivery) == (ErrorCode.SLOW_CONSUMER, Delivery.ACCEPTED)
    assert failure.details == {"unread_bytes": 2500, "limit": 2000}
    assert slow.unread_bytes == 0
    assert texts(waiting) == ["", "b"]


def test_one_frame_beyond_the_limit_does_not_fail_a_prompt_consumer(desk: Desk) -> None:
    prompt, other, channel = desk.open(1, limit=2000), desk.open(2), desk.join()
    other.bind("c")
    for _ in range(3):
        desk.deliver(channel, big(1, 9000))
        assert get(prompt, 0) == big(1, 9000)


def test_a_limit_below_a_slice_holds_rather_than_fails(desk: Desk) -> None:
    inbox, channel = desk.open(1, limit=600), desk.join()

    assert not desk.deliver(channel, big(1), big(1))
    assert texts(inbox) == ["x" * 486] * 2
    assert desk.released == [channel]


def test_a_failed_slow_request_still_stands_before_the_next(desk: Desk) -> None:
    _slow, second, channel = desk.open(1, limit=400), desk.open(2), desk.join()
    desk.deliver(channel, queued(1), queued(2))
    desk.deliver(channel, big(1))
    desk.deliver(channel, big(1))
    desk.exchange.leave(channel, goodbye=False)

    assert loss(second) == Loss(clean=False)


def test_what_is_dropped_is_closed_at_once_where_nobody_holds_the_lock(desk: Desk) -> None:
    inbox = desk.exchange.open(1, max_buffered_bytes=1000)
    inbox.drop()
    inbox.drop()

    with pytest.raises(InboxClosed):
        get(inbox, 0)
    assert desk.exchange.open(1, max_buffered_bytes=1000) is not inbox


def test_what_is_dropped_under_the_lock_is_closed_with_the_next_request(desk: Desk) -> None:
    """As by the garbage collector, which may run a destructor wherever something is allocated."""
    inbox = desk.exchange.open(1, max_buffered_bytes=1000)
    with desk.exchange.lock:
        inbox.drop()
    assert get(inbox, 0) is None, "it waits for nothing"

    assert desk.exchange.open(1, max_buffered_bytes=1000) is not inbox
    with pytest.raises(InboxClosed):
        get(inbox, 0)
