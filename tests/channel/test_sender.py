"""The connection actor's end, against a plain socket on the other side."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pixir_actors.channel import ChannelUnavailable, Frame, FrameType, Sender
from pixir_actors.channel import sender as module
from pixir_actors.channel.frame import GOODBYE, HEADER_BYTES, Decoder, encode, hello, hello_from
from tests.channel.conftest import data, deadline
from tests.conftest import within


class Peer:
    """A listening socket, and the first channel made to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(path)
        self.listening.listen(5)
        self.decoder = Decoder()

    def accept(self) -> socket.socket:
        self.listening.settimeout(deadline())
        self.sock, _address = self.listening.accept()
        self.sock.settimeout(deadline())
        return self.sock

    def read(self, size: int = 65536) -> list[Frame]:
        return self.decoder.feed(self.sock.recv(size))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def peer(stack: ExitStack, tmp_path: Path) -> Peer:
    peer = Peer(str(tmp_path / "s"))
    stack.enter_context(peer.listening)
    return peer


@pytest.fixture
def sender(stack: ExitStack, peer: Peer) -> Sender:
    sender = Sender.connect(peer.path, connection_id="c-1")
    stack.callback(sender.close)
    stack.enter_context(peer.accept())
    return sender


def readable(sender: Sender) -> None:
    assert select.select([sender.fileno()], [], [], deadline())[0]


def fill(sender: Sender) -> list[bytes]:
    """Send numbered frames until the kernel takes no more; return them."""
    sent = []
    while sender.pending_bytes() < 100_000:
        sent.append(data(1, f"{len(sent):01000}"))
        sender.send(sent[-1])
    return sent


def test_the_first_frame_is_the_greeting(sender: Sender, peer: Peer) -> None:
    (greeting,) = peer.read()

    assert hello_from(greeting) == "c-1"


def test_the_descriptor_does_not_block_and_is_not_inherited(sender: Sender) -> None:
    assert not os.get_blocking(sender.fileno())
    assert not os.get_inheritable(sender.fileno())


def test_frames_may_be_sent_one_by_one_or_many_at_once(sender: Sender, peer: Peer) -> None:
    sender.send(data(1, "a"))
    sender.send(data(1, text) for text in "bc")
    sender.send([])

    assert [frame.payload for frame in peer.read()[1:]] == [b"a", b"b", b"c"]
    assert sender.pending_bytes() == 0


def test_it_is_greeted_by_the_answer(sender: Sender, peer: Peer) -> None:
    assert sender.receive()  # nothing there yet
    assert not sender.greeted
    for part in (hello("c-1")[:5], hello("c-1")[5:]):
        peer.sock.send(part)
        readable(sender)
        assert sender.receive()

    assert sender.greeted


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        data(1, "x"),
        hello("c") + hello("c"),
        hello("c") + data(1, "x"),
        encode(Frame(FrameType.HELLO, 0, 0, b"pixir/ch\0\x09c")),
        encode(Frame(FrameType.HELLO, 0, 0, bytes(2000)))[:14],
    ],
)
def test_an_answer_that_is_no_greeting_ends_the_channel(sender: Sender, peer: Peer, answer: bytes) -> None:
    peer.sock.send(answer)
    readable(sender)

    assert not sender.receive()
    assert sender.closed


def test_a_second_greeting_ends_the_channel(sender: Sender, peer: Peer) -> None:
    for expected in (True, False):
        peer.sock.send(hello("c"))
        readable(sender)
        assert sender.receive() is expected


def test_what_the_kernel_does_not_take_is_kept_and_comes_in_order(sender: Sender, peer: Peer) -> None:
    sent = fill(sender)
    received: list[Frame] = []
    while len(received) < len(sent) + 1:
        received += peer.read(7001)
        sender.flush()

    assert list(map(encode, received[1:])) == sent
    assert sender.pending_bytes() == 0


def test_a_large_frame_passes_in_parts(sender: Sender, peer: Peer) -> None:
    payload = os.urandom(3_000_000)
    sender.send(encode(Frame(FrameType.DATA, 0, 1, payload)))
    received: list[Frame] = []
    before = sender.pending_bytes()
    while len(received) < 2:
        received += peer.read()
        sender.flush()
        assert sender.pending_bytes() <= before
        before = sender.pending_bytes()

    assert received[1].payload == payload


def test_a_long_backlog_of_small_frames_costs_linear_time(sender: Sender, peer: Peer) -> None:
    fill(sender)
    one = data(1, "x" * 20)
    began = time.process_time()
    sender.send([one] * 200_000)
    for _ in range(2000):
        sender.send(one)
    while sender.pending_bytes():
        peer.sock.recv(1 << 20)
        sender.flush()

    assert time.process_time() - began < within(3)


def test_a_dead_peer_closes_it_without_an_error(sender: Sender, peer: Peer) -> None:
    peer.sock.close()
    sender.send(data(1, "a"))
    sender.send(data(1, "b"))
    sender.flush()

    assert sender.closed
    assert not sender.receive()
    assert sender.pending_bytes() == 0


def test_a_peer_that_dies_with_a_full_socket_lets_go_of_what_was_kept(sender: Sender, peer: Peer) -> None:
    fill(sender)
    peer.sock.close()
    sender.flush()

    assert (sender.closed, sender.pending_bytes()) == (True, 0)
    assert not sender._pending


def test_the_end_of_the_peer_is_read(sender: Sender, peer: Peer) -> None:
    peer.sock.close()
    readable(sender)

    assert not sender.receive()
    assert sender.closed


def test_the_descriptor_stays_open_until_it_is_closed(sender: Sender, peer: Peer) -> None:
    peer.sock.close()
    sender.receive()
    assert os.fstat(sender.fileno())

    sender.close()
    sender.close()

    assert sender.fileno() == -1
    assert not sender.receive()


def test_a_goodbye_is_the_last_frame(sender: Sender, peer: Peer) -> None:
    sender.send(data(1, "a"))
    sender.close(goodbye=True)

    assert [frame.type for frame in peer.read()] == [FrameType.HELLO, FrameType.DATA, FrameType.GOODBYE]
    assert peer.sock.recv(1) == b""


def test_without_a_goodbye_it_just_ends(sender: Sender, peer: Peer) -> None:
    sender.close()

    assert [frame.type for frame in peer.read()] == [FrameType.HELLO]
    assert peer.sock.recv(1) == b""


def test_after_close_frames_are_dropped(sender: Sender) -> None:
    sender.close()
    sender.send(data(1, "a"))
    sender.flush()
    sender.close(goodbye=True)

    assert sender.pending_bytes() == 0


# What the client sends.


SUBMIT = Frame(FrameType.SUBMIT, 0, 1, b"{}")
CANCEL = Frame(FrameType.CANCEL, 1, 1, b"")


@pytest.fixture
def greeted(sender: Sender, peer: Peer) -> Sender:
    peer.sock.send(hello("c-1"))
    readable(sender)
    assert sender.receive()
    return sender


def test_requests_and_cancels_are_given_out_once_and_in_order(greeted: Sender, peer: Peer) -> None:
    assert greeted.take() == []
    second = SUBMIT._replace(request_id=2)
    peer.sock.send(b"".join(map(encode, [SUBMIT, CANCEL, second])))
    readable(greeted)

    assert greeted.receive()
    assert greeted.take() == [SUBMIT, CANCEL, second]
    assert greeted.take() == []


@pytest.mark.parametrize("first", [SUBMIT, CANCEL])
def test_nothing_is_taken_before_the_greeting(sender: Sender, peer: Peer, first: Frame) -> None:
    peer.sock.send(encode(first) + hello("c-1"))
    readable(sender)

    assert not sender.receive()
    assert sender.closed
    assert sender.take() == []


def test_they_may_come_right_behind_the_greeting(sender: Sender, peer: Peer) -> None:
    peer.sock.send(hello("c-1") + encode(SUBMIT))
    readable(sender)

    assert sender.receive()
    assert sender.take() == [SUBMIT]


@pytest.mark.parametrize(
    "noise",
    [
        hello("c-1"),
        GOODBYE,
        data(1, "x"),
        encode(SUBMIT._replace(request_id=0)),
        encode(Frame(12, 0, 1, b"")),
        encode(SUBMIT)[:HEADER_BYTES].replace(bytes([0, 0, 0, 2]), (module.MAX_REQUEST + 1).to_bytes(4, "big"), 1),
    ],
    ids=["greeting", "goodbye", "data", "number 0", "unknown", "too long"],
)
def test_what_a_client_does_not_send_ends_the_channel_after_what_came_before(
    greeted: Sender, peer: Peer, noise: bytes
) -> None:
    peer.sock.send(encode(SUBMIT) + noise)
    readable(greeted)

    assert not greeted.receive()
    assert greeted.closed
    assert greeted.take() in ([SUBMIT], []), "a decoder gives nothing out of bytes in which there is a fault"
    peer.sock.send(encode(SUBMIT))
    assert not greeted.receive()
    assert greeted.take() == []


def test_a_large_request_is_read_in_one_go_while_it_keeps_coming(greeted: Sender, peer: Peer) -> None:
    """Going round the actor's loop for each piece would cost more than the pieces."""
    large = SUBMIT._replace(payload=os.urandom(3_000_000))
    writer = threading.Thread(target=peer.sock.sendall, args=[encode(large) + encode(CANCEL)])
    writer.start()
    taken: list[Frame] = []
    calls = 0
    while len(taken) < 2:
        readable(greeted)
        assert greeted.receive()
        taken += greeted.take()
        calls += 1
    writer.join()

    assert taken == [large, CANCEL]
    assert calls < 30


def test_the_rest_of_a_request_is_waited_for_a_moment(
    greeted: Sender, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, more_comes = encode(SUBMIT), greeted._more_comes

    def now() -> bool:
        peer.sock.send(encoded[-1:])
        return more_comes()

    monkeypatch.setattr(greeted, "_more_comes", now)
    peer.sock.send(encoded[:-1])
    readable(greeted)

    assert greeted.receive()
    assert greeted.take() == [SUBMIT]


def test_a_request_that_does_not_go_on_is_not_waited_for(greeted: Sender, peer: Peer) -> None:
    peer.sock.send(encode(SUBMIT)[:-1])
    readable(greeted)
    began = time.monotonic()

    assert greeted.receive()
    assert time.monotonic() - began < within(0.2)
    assert greeted.take() == []
    peer.sock.send(encode(SUBMIT)[-1:])
    readable(greeted)
    assert greeted.receive()
    assert greeted.take() == [SUBMIT]


def test_a_client_that_never_comes_to_an_end_does_not_hold_the_actor_up(greeted: Sender, peer: Peer) -> None:
    """It always leaves a frame unfinished, and goes on before anybody loses patience."""
    done = threading.Event()
    unfinished = encode(SUBMIT._replace(payload=bytes(1_000_000)))

    def trickle() -> None:
        for start in range(len(unfinished)):
            peer.sock.send(unfinished[start : start + 1])
            if done.wait(0.0005):
                return

    trickling = threading.Thread(target=trickle)
    trickling.start()
    try:
        readable(greeted)
        began = time.monotonic()
        assert greeted.receive()
        assert time.monotonic() - began < within(1)
    finally:
        done.set()
        trickling.join()


# No channel.


def reason(path: str) -> str:
    with pytest.raises(ChannelUnavailable) as caught:
        Sender.connect(path, connection_id="c-1")
    assert path[:20] not in str(caught.value)
    return caught.value.reason


def test_a_path_where_nobody_listens_is_gone(peer: Peer, tmp_path: Path) -> None:
    peer.listening.close()

    assert reason(peer.path) == "gone"
    assert reason(str(tmp_path / "nothing")) == "gone"
    assert reason(str(tmp_path / ("long" * 50))) == "gone"
    assert reason(str(tmp_path) + "\0") == "gone"


def test_a_full_backlog_is_busy(peer: Peer, stack: ExitStack) -> None:
    peer.listening.listen(0)
    stack.callback(Sender.connect(peer.path, connection_id="c-1").close)

    assert reason(peer.path) == "busy"


def test_another_users_socket_is_foreign(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)

    assert reason(peer.path) == "foreign"


def test_no_descriptor_left_is_said(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert reason(peer.path) == "descriptors"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_refused_connection_leaves_no_descriptor(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    reason(peer.path + "x")
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    reason(peer.path)

    assert os.listdir("/proc/self/fd") == before


def test_a_connection_id_that_is_none_is_the_callers_error(peer: Peer) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        Sender.connect(peer.path, connection_id="")
