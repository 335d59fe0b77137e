"""Both ends over real sockets in one process."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pixir_actors.channel import (
    ChannelLost,
    ChannelUnavailable,
    Frame,
    FrameType,
    Inbox,
    Listener,
    ListenerClosed,
    Loss,
    Sender,
    local,
)
from pixir_actors.channel import listener as module
from pixir_actors.channel.frame import Decoder, encode, hello
from pixir_actors.errors import SystemStartFailed
from tests.channel.conftest import SLICE, Connect, data, deadline, finished, get
from tests.conftest import until, within

NOT_CLEAN = Loss(clean=False)
BIG = "x" * 1000


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Find descriptors, threads and directories that a test leaves open."""
    before = len(descriptors())
    yield
    assert until(lambda: len(descriptors()) <= before)
    assert not [thread for thread in threading.enumerate() if thread.name == "pixir-channel"]
    assert list(Path(local.tempfile.gettempdir()).glob("pixir-*")) == []


@pytest.fixture
def inbox(listener: Listener) -> Inbox:
    return listener.open(1, max_buffered_bytes=1 << 20)


def take(inbox: Inbox, count: int = 1) -> list[str]:
    """Take `count` frames, in time."""
    taken = []
    for _ in range(count):
        frame = get(inbox, deadline())
        assert frame is not None
        taken.append(frame.payload.decode())
    return taken


def loss(inbox: Inbox) -> Loss:
    with pytest.raises(ChannelLost) as caught:
        get(inbox, deadline())
    return caught.value.loss


def plain(listener: Listener) -> socket.socket:
    """Connect without the sender's manners."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(deadline())
    sock.connect(listener.path)
    return sock


def clog(sender: Sender, request_id: int = 1) -> int:
    """Send until the frames stay with the sender: the listener does not read. Return how many were sent."""
    count = 0

    def stuck() -> bool:
        nonlocal count
        while sender.pending_bytes() < 50_000:
            sender.send(data(request_id, f"{count:0500}"))
            count += 1
        before = sender.pending_bytes()
        time.sleep(0.05)
        sender.flush()
        return sender.pending_bytes() == before

    assert until(stuck)
    return count


def drain(sender: Sender, read: Callable[[], object]) -> None:
    """Flush while `read` makes room."""
    end = time.monotonic() + within(10)
    while sender.pending_bytes():
        read()
        sender.flush()
        assert time.monotonic() < end


# Channels.


def test_frames_arrive_in_order(connect: Connect, inbox: Inbox) -> None:
    connect().send([data(1, "a"), data(1, "b"), finished(1)])

    assert take(inbox, 3) == ["a", "b", ""]
    assert inbox.lost is None


def test_the_greeting_is_answered(listener: Listener, connect: Connect) -> None:
    sender = connect("c-1")
    assert until(lambda: sender.receive() and sender.greeted)

    assert listener.connected("c-1")
    assert not listener.connected("c-2")


def test_many_channels_are_served_side_by_side(listener: Listener, connect: Connect) -> None:
    inboxes = [listener.open(number, max_buffered_bytes=1 << 20) for number in range(1, 51)]
    senders = [connect(f"c-{number}") for number in range(1, 51)]
    for number, sender in enumerate(senders, 1):
        sender.send([data(number, str(number)), finished(number)])

    assert [take(inbox, 2)[0] for inbox in inboxes] == [str(number) for number in range(1, 51)]


def test_one_channel_serves_requests_one_after_another(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    second, sender = listener.open(2, max_buffered_bytes=1 << 20), connect()
    sender.send([data(1, "a"), finished(1), data(2, "b"), finished(2)])

    assert take(second, 2) == ["b", ""]
    assert take(inbox, 2) == ["a", ""]


def test_a_message_of_several_megabytes_arrives_whole(connect: Connect, inbox: Inbox) -> None:
    sender, payload = connect(), os.urandom(5_000_000)
    sender.send(encode(Frame(FrameType.DATA, 3, 1, payload)))
    drain(sender, lambda: time.sleep(0.001))

    assert get(inbox, deadline()) == Frame(FrameType.DATA, 3, 1, payload)


def test_a_payload_beyond_the_limit_ends_the_channel() -> None:
    with closing(Listener(max_frame_bytes=1000)) as listener:
        inbox = listener.open(1, max_buffered_bytes=1 << 20)
        with closing(Sender.connect(listener.path, connection_id="c")) as sender:
            sender.send([data(1, "a"), data(1, "x" * 1001)])

            assert take(inbox) == ["a"]
            assert loss(inbox) == NOT_CLEAN
            assert until(lambda: not sender.receive())


def test_the_end_of_a_channel_is_a_loss_after_all_that_was_sent(connect: Connect, inbox: Inbox) -> None:
    sender = connect()
    sender.send(data(1, str(number)) for number in range(100))
    sender.close()

    assert take(inbox, 100) == list(map(str, range(100)))
    assert loss(inbox) == inbox.lost == NOT_CLEAN


def test_what_was_written_and_closed_before_it_was_accepted_arrives(
    listener: Listener, connect: Connect, inbox: Inbox
) -> None:
    with listener._exchange.lock:  # nothing is accepted meanwhile
        sender = connect()
        sender.send([data(1, "a"), data(1, "b")])
        sender.close()

    assert take(inbox, 2) == ["a", "b"]
    assert loss(inbox) == NOT_CLEAN


def test_a_goodbye_is_no_loss_for_what_has_finished(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    bound, lost = listener.open(2, max_buffered_bytes=1 << 20), []
    listener.on_lost = lost.append
    sender = connect("c-1")
    sender.send([data(1, "a"), finished(1)])
    assert take(inbox, 2) == ["a", ""]
    bound.bind("c-1")
    sender.close(goodbye=True)

    assert loss(bound) == Loss(clean=True)
    assert inbox.lost is None
    assert until(lambda: lost == ["c-1"])
    assert not listener.connected("c-1")


def test_a_connection_may_say_goodbye_and_connect_again(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    sender = connect("c-1")
    assert until(lambda: listener.connected("c-1"))
    sender.close(goodbye=True)
    assert until(lambda: not listener.connected("c-1"))
    inbox.bind("c-1")
    connect("c-1").send([data(1, "a"), finished(1)])

    assert take(inbox, 2) == ["a", ""]


def test_a_goodbye_in_the_middle_is_out_of_place(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    sender = connect()
    sender.send(data(1, "a") + encode(Frame(FrameType.GOODBYE, 0, 0, b"")) + data(1, "b"))

    assert take(inbox) == ["a"]
    assert loss(inbox) == NOT_CLEAN


def test_a_channel_that_broke_is_reported_once_the_inboxes_know(
    listener: Listener, connect: Connect, inbox: Inbox
) -> None:
    seen: list[tuple[str, Loss | None, str]] = []
    listener.on_lost = lambda name: seen.append((name, inbox.lost, threading.current_thread().name))
    sender = connect("c-1")
    sender.send(data(1, "a"))
    sender.close()

    assert until(lambda: seen == [("c-1", NOT_CLEAN, "pixir-channel")])


def test_a_channel_that_was_replaced_is_not_reported(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    lost: list[str] = []
    listener.on_lost = lost.append
    old, new = connect("c-1"), connect("c-1")
    assert until(lambda: len(listener._by_channel) == 2)
    old.close()
    assert until(lambda: len(listener._by_channel) == 1)
    new.send(data(1, "a"))

    assert take(inbox) == ["a"]
    assert lost == []
    assert listener.connected("c-1")


def test_a_callback_that_raises_does_not_end_the_thread(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    def fail(_name: str) -> None:
        raise ValueError

    listener.on_lost = fail
    inbox.on_ready = lambda: fail("")
    connect("c-1").close()
    connect("c-2").send(data(1, "a"))

    assert take(inbox) == ["a"]


def test_closing_from_the_threads_own_callback_does_not_hang(connect: Connect, listener: Listener) -> None:
    listener.on_lost = lambda _name: listener.close()
    connect().close()

    assert until(lambda: not listener._thread.is_alive())


# To the connection.


SUBMIT = Frame(FrameType.SUBMIT, 0, 1, b"{}")


def submits(sender: Sender, count: int) -> list[Frame]:
    """Read until so many frames have come to the connection."""
    taken: list[Frame] = []

    def come() -> bool:
        assert sender.receive()
        taken.extend(sender.take())
        return len(taken) >= count

    assert until(come)
    return taken


def up(listener: Listener, sender: Sender) -> Sender:
    """Wait until a channel is up at both ends."""
    assert until(lambda: sender.receive() and sender.greeted and "c-1" in listener._by_connection)
    return sender


def test_a_frame_to_a_connection_goes_over_its_channel(listener: Listener, connect: Connect) -> None:
    assert not listener.send("c-1", encode(SUBMIT)), "it has none"
    sender, other = up(listener, connect("c-1")), connect("c-2")

    assert listener.send("c-1", encode(SUBMIT))
    assert submits(sender, 1) == [SUBMIT]
    assert other.receive()
    assert other.take() == []
    sender.close()
    assert until(lambda: not listener.send("c-1", encode(SUBMIT)))


def test_it_goes_over_the_newest_channel(listener: Listener, connect: Connect) -> None:
    old = up(listener, connect("c-1"))
    (first,) = listener._by_connection.values()
    new = connect("c-1")
    assert until(lambda: listener._by_connection["c-1"] is not first)
    listener.send("c-1", encode(SUBMIT))
    assert submits(new, 1) == [SUBMIT]
    old.close()
    assert until(lambda: len(listener._lines) == 1)

    assert listener.send("c-1", encode(SUBMIT)), "the end of the old one is not that of the new one"


def test_a_request_is_not_sent_when_its_inbox_was_closed(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    sender = up(listener, connect("c-1"))
    assert listener.send("c-1", encode(SUBMIT), request_id=1)
    inbox.close()

    assert not listener.send("c-1", encode(SUBMIT), request_id=1)
    assert not listener.send("c-1", encode(SUBMIT), request_id=2)
    assert submits(sender, 1) == [SUBMIT]
    assert sender.receive()
    assert sender.take() == []


def test_a_request_is_lost_with_the_channel_that_took_it(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    sender = up(listener, connect("c-1"))
    inbox.bind("c-1")
    assert listener.send("c-1", encode(SUBMIT), request_id=1)
    connect("c-1")
    assert until(lambda: len(listener._by_channel) == 2)
    sender.close(goodbye=True)

    assert loss(inbox) == Loss(clean=True)


def test_many_threads_send_whole_frames_each_in_its_order(listener: Listener, connect: Connect) -> None:
    sender = up(listener, connect("c-1"))
    sizes = [10, 100_000, 300_000, 1000]

    def send(thread: int) -> None:
        for number in range(12):
            payload = bytes([thread]) * sizes[(thread + number) % 4]
            listener.send("c-1", encode(Frame(FrameType.SUBMIT, number, thread, payload)))

    threads = [threading.Thread(target=send, args=[number]) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    taken = submits(sender, 8 * 12)
    for thread in threads:
        thread.join()

    for thread_id in range(1, 9):
        mine = [frame for frame in taken if frame.request_id == thread_id]
        assert [frame.kind for frame in mine] == list(range(12))
        assert all(set(frame.payload) == {thread_id} for frame in mine)


def test_sending_does_not_wait_for_a_connection_that_does_not_read(listener: Listener, connect: Connect) -> None:
    sender = up(listener, connect("c-1"))
    large = SUBMIT._replace(payload=os.urandom(5_000_000))
    began = time.monotonic()
    for frame in (large, SUBMIT, large):
        assert listener.send("c-1", encode(frame))
    assert time.monotonic() - began < within(1)

    assert submits(sender, 3) == [large, SUBMIT, large]
    (line,) = listener._lines
    assert until(lambda: not line.writing), "the poller would show a socket that can be written for ever"


def test_a_channel_that_is_held_for_a_slow_consumer_takes_frames_all_the_same(
    listener: Listener, connect: Connect, inbox: Inbox
) -> None:
    sender = up(listener, connect("c-1"))
    count = clog(sender)
    large = SUBMIT._replace(payload=os.urandom(2_000_000))
    assert listener.send("c-1", encode(large))

    assert submits(sender, 1) == [large]
    (line,) = listener._lines
    assert until(lambda: not line.writing)
    assert not line.reading, "it is not read for that"
    received: list[str] = []
    drain(sender, lambda: received.extend(take(inbox)))
    assert received + take(inbox, count - len(received)) == [f"{number:0500}" for number in range(count)]


def test_a_held_channel_whose_connection_dies_does_not_keep_the_thread_busy(
    listener: Listener, connect: Connect, inbox: Inbox
) -> None:
    sender = up(listener, connect("c-1"))
    clog(sender)
    listener.send("c-1", encode(SUBMIT._replace(payload=bytes(2_000_000))))
    sender.close()
    (line,) = listener._lines

    assert until(lambda: not line.outgoing and not line.writing)
    used = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - used < 0.1


@pytest.mark.parametrize("ends", ["connection", "listener"])
def test_an_end_in_the_middle_of_a_frame_loses_the_request_and_leaves_nothing(
    listener: Listener, connect: Connect, inbox: Inbox, ends: str
) -> None:
    sender = up(listener, connect("c-1"))
    inbox.bind("c-1")
    assert listener.send("c-1", encode(SUBMIT._replace(payload=bytes(40_000_000))), request_id=1)
    if ends == "connection":
        sender.close()
    else:
        listener.close()
        assert not listener.send("c-1", encode(SUBMIT))
        assert until(lambda: not sender.receive())
        assert sender.take() == []

    assert loss(inbox) == NOT_CLEAN


# Strangers.


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        encode(Frame(FrameType.HELLO, 0, 0, b"wrong/ch\0\x01c")),
        encode(Frame(FrameType.HELLO, 0, 0, b"pixir/ch\0\x01c")),
        data(1, "stranger"),
        encode(Frame(FrameType.GOODBYE, 0, 0, b"")),
        bytes(100),
    ],
    ids=["http", "magic", "version", "no greeting", "goodbye", "zeros"],
)
def test_what_is_not_our_protocol_is_refused_and_disturbs_nobody(
    listener: Listener, connect: Connect, inbox: Inbox, greeting: bytes
) -> None:
    lost: list[str] = []
    listener.on_lost = lost.append
    sender = connect()
    sender.send(data(1, "a"))
    with plain(listener) as stranger:
        stranger.send(greeting)
        assert read_to_end(stranger) == b""
    sender.send(data(1, "b"))

    assert take(inbox, 2) == ["a", "b"]
    assert listener.refused == 1
    assert lost == []


def read_to_end(sock: socket.socket) -> bytes:
    """Read what comes before the end; a reset is one too."""
    received = b""
    try:
        while part := sock.recv(4096):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_a_second_greeting_on_a_channel_ends_it(listener: Listener) -> None:
    with plain(listener) as sock:
        sock.send(hello("c") + hello("c"))

        assert len(Decoder().feed(read_to_end(sock))) == 1


def test_a_channel_that_does_not_greet_in_time_is_closed() -> None:
    with closing(Listener(greeting_timeout=within(0.2))) as listener:
        # The polite one greets before it can be accepted, so that a slow machine does not make it late.
        with listener._exchange.lock:
            polite, silent, slow = plain(listener), plain(listener), plain(listener)
            polite.send(hello("d"))
            slow.send(hello("c")[:-1])
        with polite, silent, slow:
            assert read_to_end(silent) == read_to_end(slow) == b""
            assert listener.connected("d")
            assert listener.refused == 2


def test_the_time_to_greet_is_five_seconds(listener: Listener) -> None:
    with plain(listener):
        assert until(lambda: listener._lines)
        (line,) = listener._lines
        assert 4 < line.deadline - time.monotonic() <= 5


def test_another_users_process_is_refused(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_UCRED", Foreign())
    with plain(listener) as stranger:
        with suppress(BrokenPipeError):
            stranger.send(hello("c"))
        assert read_to_end(stranger) == b""

    assert listener.refused == 1


class Foreign:
    """The credentials of somebody else."""

    size = struct.calcsize("iII")

    def unpack(self, _data: bytes) -> tuple[int, int, int]:
        return 1, os.geteuid() + 1, 1


# Back-pressure.


def test_a_consumer_that_does_not_read_stops_the_sender_and_loses_nothing(connect: Connect, inbox: Inbox) -> None:
    sender = connect()
    count = clog(sender)
    assert SLICE < inbox.unread_bytes < SLICE + module._READ_BYTES + 14

    received: list[str] = []
    drain(sender, lambda: received.extend(take(inbox)))
    received += take(inbox, count - len(received))

    assert received == [f"{number:0500}" for number in range(count)]


def test_a_clogged_channel_resumes_when_its_inbox_is_closed(connect: Connect, inbox: Inbox) -> None:
    sender = connect()
    clog(sender)
    inbox.close()

    drain(sender, lambda: time.sleep(0.001))


def test_a_clogged_channel_resumes_for_a_second_request(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    second, sender = listener.open(2, max_buffered_bytes=1 << 20), connect("c-1")
    clog(sender)
    sender.send(data(2, "b"))
    second.bind("c-1")
    drain(sender, lambda: time.sleep(0.001))

    assert take(second) == ["b"]
    assert inbox.lost is None


def test_a_slow_consumer_does_not_hold_up_another_channel(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    second = listener.open(2, max_buffered_bytes=1 << 20)
    clog(connect("c-1"))
    connect("c-2").send(data(2, "b"))

    assert take(second) == ["b"]
    assert inbox.held


def test_beyond_its_limit_a_slow_request_fails_and_the_next_gets_through(listener: Listener, connect: Connect) -> None:
    slow = listener.open(1, max_buffered_bytes=2 * SLICE)
    second, sender = listener.open(2, max_buffered_bytes=1 << 20), connect("c-1")
    second.bind("c-1")
    for _ in range(1000):
        sender.send(data(1, BIG))
    sender.send([finished(1), data(2, "b")])
    drain(sender, lambda: time.sleep(0.001))
    assert take(second) == ["b"]

    frames = []
    while not frames or frames[-1].type < FrameType.FINISHED:
        frames.append(get(slow, deadline()))
    assert frames[-1].type == FrameType.FAILED
    assert b'"slow_consumer"' in frames[-1].payload
    assert len(frames) < 2 * SLICE / 1000 + module._READ_BYTES / 1000 + 2


def test_the_end_of_a_clogged_channel_is_seen_after_its_frames(connect: Connect, inbox: Inbox) -> None:
    sender = connect()
    clog(sender)
    sender.close()
    received = 0
    with pytest.raises(ChannelLost):
        while get(inbox, deadline()):
            received += 1

    assert received > SLICE / 514


def test_on_ready_comes_from_the_listeners_thread(connect: Connect, inbox: Inbox) -> None:
    names: set[str] = set()
    inbox.on_ready = lambda: names.add(threading.current_thread().name)
    connect().send(data(1, "a"))
    take(inbox)

    assert until(lambda: names == {"pixir-channel"})


# The listener itself.


def test_the_socket_lies_in_a_directory_of_the_users_alone(listener: Listener) -> None:
    directory = Path(listener.path).parent

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert directory.name.startswith(f"pixir-{os.getpid()}-")


def test_closing_ends_all_of_it(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    sender, directory = connect(), Path(listener.path).parent
    sender.send(data(1, "a"))
    alone = listener.open(2, max_buffered_bytes=1 << 20)
    assert until(lambda: inbox.started)
    listener.close()
    listener.close()

    assert take(inbox) == ["a"]
    assert loss(inbox) == loss(alone) == NOT_CLEAN
    assert until(lambda: not sender.receive())
    assert not directory.exists()
    assert not listener._thread.is_alive()
    with pytest.raises(ListenerClosed, match="is closed"):
        listener.open(3, max_buffered_bytes=1)
    with pytest.raises(ChannelUnavailable, match="gone"):
        Sender.connect(listener.path, connection_id="c")


def test_inboxes_may_be_used_after_closing(listener: Listener, connect: Connect, inbox: Inbox) -> None:
    clog(connect("c-1"))
    listener.close()
    while inbox.unread_bytes:
        get(inbox, 0)
    inbox.bind("c-1")
    inbox.close()


def test_closing_wakes_a_waiting_consumer(listener: Listener, inbox: Inbox) -> None:
    timer = threading.Timer(0.05, listener.close)
    timer.start()

    assert loss(inbox) == NOT_CLEAN
    timer.join()


def test_a_thread_that_ends_by_a_fault_takes_all_down_in_order(
    listener: Listener, connect: Connect, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    monkeypatch.setattr(listener, "_greet", None)
    connect()

    assert loss(inbox) == NOT_CLEAN
    assert until(lambda: not Path(listener.path).exists())


@pytest.mark.parametrize("step", ["eventfd", "thread"])
def test_a_listener_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files") if step == "eventfd" else RuntimeError("can't start new thread")

    monkeypatch.setattr(*((os, "eventfd", fail) if step == "eventfd" else (threading.Thread, "start", fail)))
    with pytest.raises(SystemStartFailed, match="could not start"):
        Listener()
    monkeypatch.undo()

    assert len(module._LISTENERS) == 0
