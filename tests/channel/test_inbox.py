"""Waiting for the frames of one request; the owner's side is played by the test."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pixir_actors.channel import ChannelLost, FrameType, Inbox, InboxClosed, Loss
from pixir_actors.channel.inbox import MOST, call
from tests.channel.conftest import deadline, frame, get
from tests.conftest import until, within

LOSS = Loss(clean=False)


class Owner:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def check_process(self) -> None:
        self.told.append("check")

    def bind(self, inbox: Inbox, connection_id: str) -> None:
        self.told.append(f"bind {connection_id}")

    def close(self, inbox: Inbox) -> None:
        self.told.append("close")

    def drop(self, inbox: Inbox) -> None:
        self.told.append("drop")

    def resume(self, inbox: Inbox, *, wait: bool) -> bool:
        inbox.held = False
        self.told.append(f"resume wait={wait}")
        return True


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def inbox(owner: Owner) -> Inbox:
    return Inbox(1, max_buffered_bytes=1000, slice_bytes=400, owner=owner)


def put(inbox: Inbox, *texts: str, ended: bool = False) -> None:
    inbox.put([frame(1, text) for text in texts], ended=ended)
    inbox.wake()


def waiting(inbox: Inbox) -> bool:
    """Whether a consumer waits: then the signal is held, and acquired again by nobody."""
    return "check" in inbox._owner.told  # type: ignore[attr-defined]


def test_frames_come_in_order(inbox: Inbox) -> None:
    put(inbox, "a", "b")
    put(inbox, "c")

    assert [get(inbox) for _ in range(3)] == [frame(1, text) for text in "abc"]


def test_no_lock_is_needed_while_frames_are_waiting(inbox: Inbox, owner: Owner) -> None:
    put(inbox, "a")
    get(inbox)

    assert owner.told == []


def test_a_timeout_gives_none(inbox: Inbox) -> None:
    began = time.monotonic()

    assert get(inbox, 0) is None
    assert get(inbox, 0.05) is None
    assert get(inbox, -1) is None
    assert time.monotonic() - began >= 0.05


def test_a_timeout_beyond_what_the_platform_can_wait_is_taken(inbox: Inbox) -> None:
    with ThreadPoolExecutor() as pool:
        got = pool.submit(get, inbox, 1e12)
        assert until(lambda: waiting(inbox))
        put(inbox, "a")

        assert got.result(deadline()) == frame(1, "a")


def test_a_waiting_consumer_is_woken_by_a_frame(inbox: Inbox) -> None:
    with ThreadPoolExecutor() as pool:
        got = pool.submit(get, inbox)
        assert until(lambda: waiting(inbox))
        put(inbox, "a")

        assert got.result(deadline()) == frame(1, "a")


def test_a_wake_for_nothing_does_not_end_a_wait(inbox: Inbox) -> None:
    inbox.wake()
    inbox.wake()

    assert get(inbox, 0.01) is None


def test_a_loss_comes_after_the_frames(inbox: Inbox) -> None:
    put(inbox, "a")
    inbox.lose(LOSS)

    assert inbox.lost == LOSS
    assert get(inbox) == frame(1, "a")
    for _ in range(2):
        with pytest.raises(ChannelLost) as caught:
            get(inbox)
        assert caught.value.loss == LOSS


def test_a_loss_wakes_every_waiting_thread(inbox: Inbox, owner: Owner) -> None:
    with ThreadPoolExecutor() as pool:
        got = [pool.submit(get, inbox) for _ in range(3)]
        assert until(lambda: owner.told.count("check") == 3)
        inbox.lose(LOSS)
        inbox.wake()

        assert {type(future.exception(deadline())) for future in got} == {ChannelLost}


def test_closing_wakes_a_waiting_consumer(inbox: Inbox) -> None:
    with ThreadPoolExecutor() as pool:
        got = pool.submit(get, inbox)
        assert until(lambda: waiting(inbox))
        inbox.discard()
        inbox.nudge()

        assert isinstance(got.exception(deadline()), InboxClosed)


def test_after_the_last_frame_there_is_nothing_to_wait_for(inbox: Inbox) -> None:
    put(inbox, "a", ended=True)
    get(inbox)

    with pytest.raises(InboxClosed, match="has ended"):
        get(inbox)


def test_a_closed_inbox_has_let_go_of_its_frames(inbox: Inbox) -> None:
    put(inbox, "a")
    inbox.discard()

    with pytest.raises(InboxClosed, match="is closed"):
        get(inbox)


def test_all_frames_that_are_there_come_at_once_and_are_unread_no_more(inbox: Inbox) -> None:
    put(inbox, "a" * 100, "b" * 50)
    put(inbox, "c")
    assert inbox.unread_bytes == 193

    assert [len(one.payload) for one in inbox.take() or ()] == [100, 50, 1]
    assert inbox.unread_bytes == 0


def test_what_comes_at_once_has_an_end_and_slices_stay_whole(inbox: Inbox) -> None:
    for _ in range(3):
        put(inbox, *["x"] * (MOST - 1))

    assert [len(inbox.take(0) or ()) for _ in range(2)] == [2 * (MOST - 1), MOST - 1]
    assert inbox.unread_bytes == 0


def test_a_consumer_that_has_caught_up_says_so_once(inbox: Inbox, owner: Owner) -> None:
    put(inbox, *["x"] * MOST)
    put(inbox, *["x" * 87] * 2)
    put(inbox, "x")
    inbox.held = True
    told = []
    for _ in range(2):
        inbox.take(0)
        told.append(owner.told.count("resume wait=True"))
    put(inbox, "x")
    inbox.take(0)

    assert told == [0, 1], "217 bytes are left at first: more than half of the slice"
    assert owner.told.count("resume wait=True") == 1


def test_one_that_may_not_wait_gets_what_is_there_and_says_itself_that_it_has_caught_up(
    inbox: Inbox, owner: Owner
) -> None:
    assert inbox.take_ready() is None
    put(inbox, "a")
    inbox.held = True

    assert inbox.take_ready() == [frame(1, "a")]
    assert inbox.to_resume
    assert "resume wait=True" not in owner.told
    assert inbox.resume(wait=False)
    assert owner.told[-1] == "resume wait=False"
    assert not inbox.to_resume


@pytest.mark.parametrize("what", ["closed", "ended", "lost"])
def test_one_that_may_not_wait_is_told_of_an_end_as_well(inbox: Inbox, what: str) -> None:
    put(inbox, "a", ended=what == "ended")
    if what == "lost":
        inbox.lose(LOSS)
    if what == "closed":
        inbox.discard()
    else:
        assert inbox.take_ready() == [frame(1, "a")]

    with pytest.raises(ChannelLost if what == "lost" else InboxClosed):
        inbox.take_ready()


def test_a_limit_below_a_slice_is_the_slice(owner: Owner) -> None:
    assert Inbox(1, max_buffered_bytes=100, slice_bytes=400, owner=owner).hold_bytes == 100


def test_on_ready_is_called_with_frames_and_loss(inbox: Inbox) -> None:
    seen: list[tuple[int, Loss | None]] = []
    inbox.on_ready = lambda: seen.append((inbox.unread_bytes, inbox.lost))
    put(inbox, "a")
    inbox.lose(LOSS)
    inbox.wake()

    assert seen == [(15, None), (15, LOSS)]


def test_asking_after_a_loss_does_not_call_on_ready(inbox: Inbox) -> None:
    seen: list[int] = []
    inbox.lose(LOSS)
    inbox.on_ready = lambda: seen.append(1)
    with pytest.raises(ChannelLost):
        get(inbox)

    assert seen == []


def test_a_callback_that_raises_is_named_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise KeyError("sk-canary")

    with caplog.at_level(logging.DEBUG):
        call(fail)

    assert "KeyError" in caplog.text
    assert "sk-canary" not in caplog.text


def test_binding_and_closing_are_the_owners(inbox: Inbox, owner: Owner) -> None:
    inbox.bind("c")
    inbox.close()
    inbox.drop()

    assert owner.told == ["bind c", "close", "drop"]


@pytest.mark.parametrize("what", ["closed", "ended", "lost"])
def test_it_is_final_when_nothing_can_come(inbox: Inbox, what: str) -> None:
    assert not inbox.final
    inbox.lose(Loss(clean=True))
    assert not inbox.final
    if what == "closed":
        inbox.discard()
    elif what == "ended":
        inbox.put([frame(1, type=FrameType.FINISHED)], ended=True)
    else:
        inbox.lose(LOSS)

    assert inbox.final


def test_two_threads_hand_over_without_loss_or_hang(inbox: Inbox) -> None:
    count = 20_000

    def produce() -> None:
        for number in range(count):
            put(inbox, str(number))
        put(inbox, "end", ended=True)

    producer = threading.Thread(target=produce)
    producer.start()
    received = []
    while (got := get(inbox, within(5))) is not None and got.payload != b"end":
        received.append(int(got.payload))
    producer.join()

    assert received == list(range(count))
    assert inbox.unread_bytes == 0
