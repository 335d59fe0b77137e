"""Both kinds of receivers: one batch at a time, and a channel with a real listener at its other end."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pixir_actors.actors.messages import Batch
from pixir_actors.actors.sink import UNACKNOWLEDGED, ChannelSink, MessageSink
from pixir_actors.actors.watch import Watch
from pixir_actors.channel import Listener, Sender
from pixir_actors.channel.frame import Frame, FrameType, encode
from tests.channel.conftest import get
from tests.conftest import until, within

SLICE = 32 * 1024
MIB = 1024 * 1024
Open = Callable[..., ChannelSink]


def data(request_id: int, payload: bytes) -> bytes:
    return encode(Frame(FrameType.DATA, 0, request_id, payload))


# --- an actor that takes batches ----------------------------------------------------------------------------------------


@pytest.fixture
def sent() -> list[tuple[Any, Batch]]:
    return []


@pytest.fixture
def sink(sent: list[tuple[Any, Batch]]) -> MessageSink:
    return MessageSink("requester", "c-1", lambda to, batch: sent.append((to, batch)))


def test_the_first_batch_goes_at_once_and_the_next_when_it_was_acknowledged(sink: MessageSink, sent) -> None:
    sink.write(data(1, b"one"))
    sink.pass_on(10.0)
    sink.write(data(1, b"two"))
    sink.pass_on(10.1)
    sink.write(data(2, b"three"))
    sink.pass_on(10.2)

    [(to, first)] = sent
    assert (to, first.connection_id, first.sequence) == ("requester", "c-1", 1)
    assert [frame.payload for frame in first.frames()] == [b"one"]

    sink.acknowledged(1, 10.3)

    [_, (_, second)] = sent
    assert second.sequence == 2
    assert [(frame.request_id, frame.payload) for frame in second.frames()] == [(1, b"two"), (2, b"three")]


def test_nothing_is_sent_where_there_is_nothing_to_send(sink: MessageSink, sent) -> None:
    sink.pass_on(10.0)
    sink.write(data(1, b"one"))
    sink.pass_on(10.0)
    sink.acknowledged(1, 10.1)
    sink.acknowledged(1, 10.1)

    assert len(sent) == 1
    assert not sink.gone(10.1 + 2 * UNACKNOWLEDGED)


@pytest.mark.parametrize("sequence", [0, 1, 3, 99])
def test_an_acknowledgement_of_another_batch_is_ignored(sink: MessageSink, sent, sequence: int) -> None:
    sink.write(data(1, b"one"))
    sink.pass_on(10.0)
    sink.write(data(1, b"two"))
    sink.acknowledged(1, 10.0)
    sink.write(data(1, b"three"))

    sink.acknowledged(sequence, 10.1)

    assert [batch.sequence for _, batch in sent] == [1, 2]


def test_what_waits_for_the_next_batch_is_buffered(sink: MessageSink) -> None:
    sink.write(data(1, b"one"))
    sink.pass_on(10.0)
    assert sink.buffered() == 0
    sink.write(b"x" * 100)
    sink.write(b"y" * 23)
    assert sink.buffered() == 123

    sink.acknowledged(1, 10.1)

    assert sink.buffered() == 0


def test_a_requester_that_does_not_acknowledge_counts_as_gone_after_a_minute(sink: MessageSink) -> None:
    assert not sink.gone(1e6), "nothing was sent"
    sink.write(data(1, b"one"))
    sink.pass_on(10.0)

    assert not sink.gone(10.0 + UNACKNOWLEDGED)
    assert sink.gone(10.1 + UNACKNOWLEDGED)
    sink.acknowledged(1, 80.0)
    assert not sink.gone(1e6)


def test_a_closed_one_sends_nothing_more(sink: MessageSink, sent) -> None:
    sink.write(data(1, b"one"))
    sink.pass_on(10.0)
    sink.write(data(1, b"two"))
    sink.close()
    sink.acknowledged(1, 10.1)

    assert len(sent) == 1
    assert sink.buffered() == 0


# --- a client's channel -------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener(SLICE)
    yield listener
    listener.close()


@pytest.fixture
def gone() -> list[ChannelSink]:
    return []


@pytest.fixture
def drained() -> list[ChannelSink]:
    return []


@pytest.fixture
def heard() -> list[Frame]:
    return []


@pytest.fixture
def open_sink(
    listener: Listener, watch: Watch, gone: list[ChannelSink], drained: list[ChannelSink], heard: list[Frame]
) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_one(connection_id: str = "c-1") -> ChannelSink:
            sender = Sender.connect(listener.path, connection_id=connection_id)
            sink = ChannelSink(
                sender,
                watch,
                on_gone=gone.append,
                on_drained=drained.append,
                on_frame=lambda _, frame: heard.append(frame),
            )
            stack.callback(sink.close)
            return sink

        yield open_one


def settled(watch: Watch, condition: Callable[[], object]) -> bool:
    """Let the watch's handlers run until something holds."""

    def holds() -> object:
        watch.dispatch()
        return condition()

    return until(holds)


def test_frames_reach_the_inbox_in_order(open_sink: Open, listener: Listener, watch: Watch) -> None:
    inbox = listener.open(1, max_buffered_bytes=MIB)
    sink = open_sink()
    inbox.bind("c-1")

    sink.write(data(1, b"one") + data(1, b"two"))
    sink.write(encode(Frame(FrameType.FINISHED, 0, 1, b"")))

    got = [get(inbox, within(5)) for _ in range(3)]
    assert [frame.payload for frame in got if frame] == [b"one", b"two", b""]
    assert sink.buffered() == 0
    watch.dispatch()  # the listener's greeting
    assert not sink.gone(0.0)


def test_a_consumer_that_does_not_read_fills_the_buffer_until_it_does(
    open_sink: Open, listener: Listener, watch: Watch, drained: list[ChannelSink]
) -> None:
    inbox = listener.open(1, max_buffered_bytes=64 * MIB)
    sink = open_sink()
    inbox.bind("c-1")
    piece = data(1, b"x" * 10_000)
    for _ in range(400):
        sink.write(piece)
        watch.dispatch()

    assert settled(watch, lambda: inbox.unread_bytes >= SLICE)
    before = sink.buffered()
    assert before > MIB
    drained.clear()
    watch.dispatch()
    assert sink.buffered() == before, "who does not read is not sent more"
    assert drained == []

    received = 0
    while received < 400:
        watch.dispatch()
        if get(inbox, 0.001) is not None:
            received += 1
    assert sink.buffered() == 0
    assert drained[0] is sink
    assert not never_sleeps(watch)


def never_sleeps(watch: Watch) -> bool:
    """Say whether the watch shows something although nothing is to do: an actor would never sleep."""
    watch.dispatch()
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def test_the_end_of_the_client_is_told_once_and_not_from_within_a_write(
    open_sink: Open, listener: Listener, watch: Watch, gone: list[ChannelSink]
) -> None:
    sink = open_sink()
    listener.close()
    sink.write(data(1, b"into the void"))
    sink.write(data(1, b"again"))
    assert gone == [], "the connection hears it when it is done with what it is doing"

    assert settled(watch, lambda: gone)

    assert gone == [sink]
    assert sink.gone(0.0)
    assert sink.buffered() == 0
    watch.dispatch()
    assert gone == [sink]


def test_the_end_of_the_client_is_seen_without_a_write(
    open_sink: Open, listener: Listener, watch: Watch, gone: list[ChannelSink]
) -> None:
    sink = open_sink()
    listener.close()

    assert settled(watch, lambda: gone == [sink])


def test_a_closed_sink_says_goodbye(open_sink: Open, listener: Listener, watch: Watch) -> None:
    lost: list[str] = []
    listener.on_lost = lost.append
    inbox = listener.open(1, max_buffered_bytes=MIB)
    sink = open_sink("c-7")
    inbox.bind("c-7")
    sink.write(data(1, b"one"))
    assert get(inbox, within(5)) is not None
    later = listener.open(2, max_buffered_bytes=MIB)
    later.bind("c-7")

    sink.close()
    sink.close()

    assert until(lambda: lost == ["c-7"])
    assert later.lost is not None
    assert later.lost.clean, "a request that it had not taken may go elsewhere"
    assert len(watch) == 0


SUBMIT = Frame(FrameType.SUBMIT, 0, 1, b"{}")


def up(listener: Listener, watch: Watch) -> None:
    """Wait until the channel is up, and its greeting read."""
    assert until(lambda: "c-1" in listener._by_connection)
    watch.dispatch()


def test_what_the_client_sends_is_handed_on_in_order(
    open_sink: Open, listener: Listener, watch: Watch, heard: list[Frame], gone: list[ChannelSink]
) -> None:
    open_sink()
    up(listener, watch)
    cancel = Frame(FrameType.CANCEL, 1, 1, b"")
    for frame in (SUBMIT, cancel):
        listener.send("c-1", encode(frame))

    assert settled(watch, lambda: len(heard) >= 2)
    assert heard == [SUBMIT, cancel]
    assert gone == []
    assert not never_sleeps(watch)


def test_what_is_there_can_be_read_before_the_watch_shows_it(
    open_sink: Open, listener: Listener, watch: Watch, heard: list[Frame]
) -> None:
    sink = open_sink()
    up(listener, watch)
    listener.send("c-1", encode(SUBMIT))

    assert until(lambda: sink.read() and heard)
    assert heard == [SUBMIT]


def test_a_frame_that_cannot_be_dealt_with_does_not_cost_the_others(
    listener: Listener, watch: Watch
) -> None:
    """A defect is answered to those it is about; who came behind is waiting, too."""
    heard: list[int] = []

    def deal(_: ChannelSink, frame: Frame) -> None:
        heard.append(frame.request_id)
        if frame.request_id == 1:
            raise RuntimeError

    sender = Sender.connect(listener.path, connection_id="c-1")
    sink = ChannelSink(sender, watch, on_gone=lambda _: None, on_drained=lambda _: None, on_frame=deal)
    try:
        up(listener, watch)
        listener.send("c-1", b"".join(encode(SUBMIT._replace(request_id=number)) for number in (1, 2, 3)))
        with pytest.raises(RuntimeError):
            assert settled(watch, lambda: False)
        assert heard == [1]

        watch.dispatch()
        assert heard == [1, 2, 3]
    finally:
        sink.close()


@pytest.mark.parametrize("how", ["a fault", "the end"])
def test_an_end_that_is_found_between_two_rounds_of_the_watch_is_told(
    open_sink: Open, listener: Listener, watch: Watch, heard: list[Frame], gone: list[ChannelSink], how: str
) -> None:
    """The poll may not show it: all that there was to read has been read."""
    sink = open_sink()
    up(listener, watch)
    listener.send("c-1", encode(SUBMIT))
    if how == "a fault":
        listener.send("c-1", b"\xff" * 50)
    else:
        listener.close()

    assert until(lambda: not sink.read())
    assert gone == [], "not from within what asked"
    watch.dispatch()
    assert gone == [sink]
    assert heard in ([SUBMIT], [])


def test_what_was_written_is_delivered_when_the_kernel_has_it_for_a_client_that_is_there(
    open_sink: Open, listener: Listener, watch: Watch
) -> None:
    sink = open_sink()
    assert sink.delivered()
    sink.write(data(1, b"x" * 3 * MIB))
    assert not sink.delivered()
    assert settled(watch, lambda: not sink.buffered())
    assert sink.delivered()
    listener.close()
    sink.write(data(1, b"x"))

    assert sink.buffered() == 0
    assert not sink.delivered(), "it went nowhere"
