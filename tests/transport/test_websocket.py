"""An open socket: what arrives, what leaves, how it ends. The peer is the other end of a TCP connection."""

from __future__ import annotations

import gc
import logging
import os
import random
import select
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.server import ServerConnection, serve

from pixir_actors.core.text import Pieces
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Received
from pixir_actors.transport.websocket import WebSocketTransport
from tests.conftest import within
from tests.transport.peer import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Pair,
    abort,
    close_frame,
    collect,
    connection,
    frame,
    opened,
    read_frame,
    readable,
    target,
    text,
    wait_for_end,
)
from tests.transport.reference import FRAMES

Connect = Callable[..., Pair]
SLICE = {"max_messages": 64, "max_bytes": 1 << 18}
CLOSED = (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1000})


def received(data: bytes, *, limit: int = 1 << 20) -> Received:
    """Return all that a server's bytes give, the end of the connection included."""
    with connection(limit) as (transport, server):
        server.sendall(data)
        server.shutdown(socket.SHUT_WR)
        return collect(transport)


def fault_of(whole: Received) -> tuple[ErrorCode, dict[str, object]]:
    assert whole.fault is not None
    return whole.fault.code, dict(whole.fault.details)


def settle(transport: WebSocketTransport, data: bytes) -> None:
    """Wait until bytes that the other end sent have arrived."""
    assert readable(transport.fileno(), 5)
    deadline = time.monotonic() + within(5)
    while len(transport._sock.recv(1 << 20, socket.MSG_PEEK)) < len(data):
        assert time.monotonic() < deadline


# What arrives.


def test_coalesced_frames_come_out_as_messages_in_order() -> None:
    sent = [b"%d" % n * (n % 7) for n in range(500)]
    whole = received(b"".join(map(text, sent)) + close_frame(1000))
    assert whole.messages == sent
    assert (whole.frames, fault_of(whole)) == (501, CLOSED)


def test_frames_cut_at_every_byte_come_out_the_same(connected: Connect) -> None:
    transport, server = connected()
    stream = text(b"ab") + frame(TEXT, b"c", fin=False) + frame(PING, b"p") + frame(CONT, b"d") + frame(TEXT, b"e", wide=8)
    messages: list[bytes] = []
    for byte in stream + close_frame(1000):
        server.sendall(bytes([byte]))
        assert readable(transport.fileno(), 5)
        part = transport.receive(**SLICE)
        messages += part.messages
    assert messages == [b"ab", b"cd", b"e"]
    assert part.fault is not None and part.fault.code == ErrorCode.WEBSOCKET_CLOSED
    assert read_frame(server) == (PONG, b"p")


def test_bytes_of_an_unfinished_frame_are_no_sign_of_life(connected: Connect) -> None:
    transport, server = connected()
    server.sendall(text(b"whole")[:-1])
    assert readable(transport.fileno(), 5)
    assert transport.receive(**SLICE) == Received()
    server.sendall(b"e")
    assert collect(transport, messages=1).frames == 1


def test_nothing_there_gives_nothing_at_once(connected: Connect) -> None:
    transport, _ = connected()
    assert transport.receive(**SLICE) == Received()


def test_a_slice_is_bounded_in_messages_and_says_that_more_is_there(connected: Connect) -> None:
    transport, server = connected()
    data = text(b"x") * 10
    server.sendall(data)
    settle(transport, data)
    parts = [transport.receive(max_messages=4, max_bytes=1 << 18) for _ in range(3)]
    assert [(len(part.messages), part.more) for part in parts] == [(4, True), (4, True), (2, False)]


def test_a_slice_is_bounded_in_bytes_and_leaves_the_rest_where_poll_shows_it(connected: Connect) -> None:
    transport, server = connected()
    data = text(b"x" * 98) * 10
    server.sendall(data)
    settle(transport, data)
    part = transport.receive(max_messages=64, max_bytes=250)
    assert (len(part.messages), part.more) == (2, False)
    assert readable(transport.fileno(), 0)
    assert len(transport.receive(**SLICE).messages) == 8


def test_a_full_slice_with_nothing_behind_it_promises_no_more(connected: Connect) -> None:
    transport, server = connected()
    data = text(b"x") * 4
    server.sendall(data)
    settle(transport, data)
    part = transport.receive(max_messages=4, max_bytes=1 << 18)
    assert (len(part.messages), part.more) == (4, False)


def test_a_flood_of_pings_does_not_escape_the_slice(connected: Connect) -> None:
    transport, server = connected()
    data = frame(PING) * 1000
    server.sendall(data)
    settle(transport, data)
    part = transport.receive(max_messages=10, max_bytes=1 << 18)
    assert (part.frames, part.more) == (10, True)


def test_invalid_utf_8_is_passed_on_for_the_json_parser_to_judge() -> None:
    assert received(text(b'"\xff\xfe"')).messages == [b'"\xff\xfe"']


def test_pongs_are_reported_with_their_payload() -> None:
    whole = received(frame(PONG, b"one") + text(b"m") + frame(PONG, b""))
    assert (whole.pongs, whole.messages, whole.frames) == ([b"one", b""], [b"m"], 3)


# How it ends.


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (close_frame(1000), CLOSED),
        (frame(CLOSE), (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1005})),
        (close_frame(1013, b"later"), (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1013, "close_reason": "later"})),
        (
            close_frame(4999, "Größe".encode() + b"\xff"),
            (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 4999, "close_reason": "Größe\N{REPLACEMENT CHARACTER}"}),
        ),
        (
            close_frame(1001, b"r" * 123),
            (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1001, "close_reason": "r" * 120}),
        ),
        (close_frame(1005), (ErrorCode.WEBSOCKET_FAILED, {"reason": "protocol_error"})),
        (frame(TEXT, b"", rsv=4), (ErrorCode.WEBSOCKET_FAILED, {"reason": "protocol_error"})),
        (frame(BINARY, b"{}"), (ErrorCode.WEBSOCKET_FAILED, {"reason": "binary_frame"})),
        (
            b"\x81\x7f" + struct.pack("!Q", 1 << 40),
            (ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"bytes": 1 << 40, "limit": 1 << 20}),
        ),
        (b"", (ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "eof"})),
        (text(b"cut")[:3], (ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "eof"})),
    ],
)
def test_an_end_is_reported_in_the_slice_of_the_messages_before_it(
    connected: Connect, data: bytes, fault: tuple[ErrorCode, dict[str, object]]
) -> None:
    transport, server = connected(1 << 20)
    stream = text(b"one") + text(b"two") + data
    server.sendall(stream)
    server.shutdown(socket.SHUT_WR)
    settle(transport, stream)
    first = transport.receive(**SLICE)
    if first.fault is None:  # the end of the stream may take a moment longer than its bytes
        assert readable(transport.fileno(), 5)
        last = transport.receive(**SLICE)
        assert data in (b"", text(b"cut")[:3])
        first.fault = last.fault
    assert (first.messages, fault_of(first), first.more) == ([b"one", b"two"], fault, False)


def test_messages_before_an_end_that_do_not_fit_the_slice_come_before_it(connected: Connect) -> None:
    transport, server = connected()
    data = text(b"x") * 5 + close_frame(1000)
    server.sendall(data)
    settle(transport, data)
    first = transport.receive(max_messages=5, max_bytes=1 << 18)
    assert (len(first.messages), first.more, first.fault) == (5, True, None)
    assert fault_of(transport.receive(max_messages=5, max_bytes=1 << 18)) == CLOSED


def test_a_reset_is_reported(connected: Connect) -> None:
    transport, server = connected()
    abort(server)
    assert fault_of(collect(transport)) == (ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "reset"})
    transport.close()


def test_a_close_frame_is_answered_with_its_code(connected: Connect) -> None:
    transport, server = connected()
    server.sendall(close_frame(1001, b"going away"))
    collect(transport)
    assert read_frame(server) == (CLOSE, (1001).to_bytes(2, "big"))


def test_after_a_fault_every_call_is_harmless_and_says_the_same(connected: Connect) -> None:
    transport, server = connected()
    server.sendall(close_frame(1000) + text(b"after the end"))
    fault = collect(transport).fault
    assert fault is not None
    for closed in (False, True):
        assert transport.send_text(b"x") == transport.ping(b"x") == transport.flush() == fault
        assert transport.receive(**SLICE) == Received(fault=fault)
        assert transport.pending_bytes() == 0
        transport.close(1000)
        assert (transport.fileno() == -1) or not closed


def test_a_write_that_fails_does_not_hide_the_servers_last_words(connected: Connect) -> None:
    transport, server = connected()
    data = text(b"the reason") + close_frame(1009, b"too big")
    server.sendall(data)
    settle(transport, data)
    transport._sock.shutdown(socket.SHUT_WR)
    fault = transport.send_text(b"x")
    assert fault is not None and fault.details == {"reason": "reset"}
    whole = transport.receive(**SLICE)
    assert whole.messages == [b"the reason"]
    assert fault_of(whole) == (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1009, "close_reason": "too big"})


def test_a_write_that_failed_is_reported_by_receive_too(connected: Connect) -> None:
    transport, _ = connected()
    transport._sock.shutdown(socket.SHUT_WR)
    fault = transport.send_text(b"x")
    assert transport.receive(**SLICE) == Received(fault=fault)
    assert transport.flush() == fault


def test_an_announced_length_takes_no_memory(connected: Connect) -> None:
    transport, server = connected(1 << 30)
    server.sendall(b"\x81\x7f" + struct.pack("!Q", 1 << 29) + b"x" * 100)
    assert readable(transport.fileno(), 5)
    tracemalloc.start()
    transport.receive(**SLICE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


# What leaves.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_000])
def test_a_text_of_any_size_arrives_whole(connected: Connect, size: int) -> None:
    transport, server = connected()
    data = os.urandom(size)
    assert transport.send_text(data) is None
    arrived: list[tuple[int, bytes]] = []

    reader = threading.Thread(target=lambda: arrived.append(read_frame(server)))
    reader.start()
    flush_all(transport)
    reader.join(within(10))
    assert arrived == [(TEXT, data)]
    framing = 4 + (2 if size < 126 else 4 if size < 65536 else 10)
    assert transport.written_bytes() == size + framing


def flush_all(transport: WebSocketTransport) -> None:
    """Write as an actor does: poll for writing while anything is pending."""
    poller = select.poll()
    poller.register(transport.fileno(), select.POLLOUT)
    while transport.pending_bytes():
        assert poller.poll(within(10) * 1000)
        assert transport.flush() is None


def test_a_reader_that_is_slow_leaves_bytes_pending_and_gets_them_all_in_the_end(connected: Connect) -> None:
    transport, server = connected(buffer=8192)
    data = os.urandom(2_000_000)
    assert transport.send_text(data) is None
    pending = transport.pending_bytes()
    assert 0 < pending < len(data)
    assert pending + transport.written_bytes() == len(data) + 14
    assert transport.flush() is None
    arrived = bytearray()
    while transport.pending_bytes():
        arrived += server.recv(65536)
        transport.flush()
    assert transport.written_bytes() == len(data) + 14
    while len(arrived) < len(data) + 14:
        arrived += server.recv(65536)
    key = arrived[10:14]
    assert bytes(byte ^ key[n % 4] for n, byte in enumerate(arrived[14:50_014])) == data[:50_000]


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
def test_pings_under_a_full_socket_put_no_pong_into_another_frame_and_hold_no_memory(
    connected: Connect, in_pieces: bool
) -> None:
    transport, server = connected(buffer=8192)
    large = random.randbytes(1_000_000)
    said = Pieces(large[:3], memoryview(large)[3:500_001], large[500_001:]) if in_pieces else large
    assert transport.send_text(said) is None
    before = transport.pending_bytes()
    pings = b"".join(frame(PING, b"%03d" % n) for n in range(500))
    server.sendall(pings)
    settle(transport, pings)
    while transport.receive(**SLICE).more:
        pass
    assert transport.pending_bytes() - before <= 2 * 9, "one pong, or two at the most, may wait"
    assert transport.send_text(b"after") is None
    server.sendall(frame(PING, b"last"))
    assert readable(transport.fileno(), 5)
    transport.receive(**SLICE)
    frames = []
    with_flush = FlushingReader(transport, server)
    while not frames or frames[-1] != (PONG, b"last"):
        frames.append(read_frame(with_flush))
    assert [item for item in frames if item[0] == TEXT] == [(TEXT, large), (TEXT, b"after")]
    assert [item for item in frames if item[0] == PONG] == [(PONG, b"499"), (PONG, b"last")]


def test_a_pong_that_waits_gives_way_to_the_next_one(connected: Connect) -> None:
    transport, server = connected(buffer=8192)
    assert transport.send_text(b"x" * 1_000_000) is None
    pending = []
    for payload in (b"one", b"two"):
        server.sendall(frame(PING, payload))
        assert readable(transport.fileno(), 5)
        transport.receive(**SLICE)
        pending.append(transport.pending_bytes())

    assert pending[0] == pending[1]
    reader = FlushingReader(transport, server)
    assert [read_frame(reader)[0], read_frame(reader)] == [TEXT, (PONG, b"two")]


def test_a_pong_that_has_become_the_first_in_line_is_not_replaced(connected: Connect) -> None:
    transport, server = connected(buffer=8192)
    assert transport.send_text(b"x" * 1_000_000) is None
    server.sendall(frame(PING, b"a" * 125))
    assert readable(transport.fileno(), 5)
    transport.receive(**SLICE)
    while len(transport._outbound) > 1:
        server.recv(4096)
        transport.flush()
    front = bytes(transport._front)
    server.sendall(frame(PING, b"b"))
    assert readable(transport.fileno(), 5)
    transport.receive(**SLICE)
    assert not front or bytes(transport._front) == front[-len(transport._front) :]


class FlushingReader:
    """The server's end of a socket, whose reads let the client write on."""

    def __init__(self, transport: WebSocketTransport, sock: socket.socket) -> None:
        self._transport, self._sock = transport, sock

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        assert self._transport.flush() is None
        return data


def test_every_ping_is_answered_when_the_socket_takes_it(connected: Connect) -> None:
    transport, server = connected()
    data = b"".join(frame(PING, b"%d" % n) for n in range(20))
    server.sendall(data)
    settle(transport, data)
    assert transport.receive(**SLICE).frames == 20
    assert [read_frame(server) for _ in range(20)] == [(PONG, b"%d" % n) for n in range(20)]


def test_a_ping_of_ours_carries_its_payload(connected: Connect) -> None:
    transport, server = connected()
    assert transport.ping(b"token") is None
    assert read_frame(server) == (PING, b"token")


def test_close_with_a_code_sends_a_close_frame_and_ends_at_once(connected: Connect) -> None:
    transport, server = connected()
    before = time.monotonic()
    transport.close(1000)
    transport.close(1000)
    assert time.monotonic() - before < within(0.5)
    assert read_frame(server) == (CLOSE, b"\x03\xe8")
    assert server.recv(1) == b""
    assert transport.fileno() == -1


def test_close_without_a_code_sends_nothing(connected: Connect) -> None:
    transport, server = connected()
    transport.close()
    assert server.recv(1) == b""


def test_close_never_puts_its_frame_into_another(connected: Connect) -> None:
    transport, server = connected(buffer=8192)
    assert transport.send_text(b"x" * 1_000_000) is None
    written = transport.written_bytes()
    transport.close(1000)
    assert transport.written_bytes() == written
    wait_for_end(server)


def test_a_repr_shows_no_payload(connected: Connect) -> None:
    transport, _ = connected(buffer=8192)
    transport.send_text(b"CANARY" * 200_000)
    assert "CANARY" not in repr(transport)
    transport.close()
    assert "fd=-1" in repr(transport)


def test_a_server_written_by_others_understands_and_is_understood() -> None:
    quiet = logging.Logger("quiet")  # outside the tree: the library's own log is not ours

    def handle(connection: ServerConnection) -> None:
        connection.ping(b"are you there").wait(within(5))
        for size in (0, 125, 126, 65536, 1_000_000):
            data = connection.recv(decode=False)
            assert isinstance(data, bytes) and len(data) == size
            connection.send(data, text=True)
        connection.send(iter(["in ", "three ", "fragments"]))
        connection.close(4000, "done")

    with serve(handle, "127.0.0.1", 0, logger=quiet) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        transport = opened(target(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"))
        whole = Received()
        for count, size in enumerate((0, 125, 126, 65536, 1_000_000)):
            transport.send_text(b"x" * size)
            flush_all(transport)
            whole.messages += collect(transport, messages=1).messages
            assert len(whole.messages) > count
        last = collect(transport)
        assert (whole.messages + last.messages)[5:] == [b"in three fragments"], "it may come with the fifth echo"
        assert fault_of(last) == (ErrorCode.WEBSOCKET_CLOSED, {"close_code": 4000, "close_reason": "done"})
        transport.close()
        server.shutdown()
        running.join(within(5))
    for end in (server.shutdown_watcher, server.shutdown_notifier):
        if isinstance(end, int):  # versions before 17, which the peers of the benchmarks want, leave their pipe open
            os.close(end)
    del server
    gc.collect()  # the library leaves its selector to the collector
    assert [len(message) for message in whole.messages[:5]] == [0, 125, 126, 65536, 1_000_000]


# Whatever a server sends.


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=400), st.lists(FRAMES, max_size=8).map(b"".join)), st.randoms(use_true_random=False))
def test_no_bytes_make_receive_raise_or_hang(data: bytes, chance: random.Random) -> None:
    faults = []
    with connection(1 << 10) as (transport, server):
        while data:
            cut = chance.randint(1, len(data))
            server.sendall(data[:cut])
            data = data[cut:]
            part = transport.receive(max_messages=chance.randint(1, 4), max_bytes=chance.randint(1, 500))
            faults.append(part.fault)
        server.shutdown(socket.SHUT_WR)
        faults.append(collect(transport, max_messages=3, max_bytes=100).fault)
        transport.close(1000)
    first = next(index for index, fault in enumerate(faults) if fault)
    assert faults[first] is not None and len({repr(fault) for fault in faults[first:]}) == 1
