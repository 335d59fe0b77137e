"""Bytes and endings, over a socket that the test reads by hand."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.simulator.client import connected, raw_connection, text_of

CREATE = b'{"type":"response.create","model":"m","input":"x"}'
CREATE_FRAME = b"\x81" + bytes([0x80 | len(CREATE)]) + b"\0\0\0\0" + CREATE


def test_an_event_while_a_frame_is_being_split_waits_for_the_frames_end() -> None:
    faults = [FAULTS["split_every_byte"]()]
    with Simulator(lambda turn: Reply.text("y" * 2000), faults=faults) as sim, connected(sim) as client:
        client.create()
        sim.wait_for(lambda s: s.turns, within(5))
        sim.push({"type": "keepalive"})
        sim.ping(b"within")
        events = client.events()
        if "keepalive" not in [event["type"] for event in events]:  # the reply was quicker than the push
            assert client.event() == {"type": "keepalive"}
        assert text_of(events) == "y" * 2000


def test_a_reader_that_stops_and_goes_on_loses_nothing() -> None:
    text = "z" * 5_000_000
    with (
        Simulator([Reply.text(text, deltas=50).no_items()]) as sim,
        connected(sim, skip_utf8_validation=True) as client,
    ):
        client.create()
        sim.wait_for(lambda s: s.turns, within(5))
        assert sim.turns[0].status == "in_progress"
        assert text_of(client.events()) == text


def test_a_reader_that_stops_can_leave() -> None:
    text = "z" * 5_000_000
    with Simulator([Reply.text(text, deltas=50)]) as sim:
        with connected(sim) as client:
            client.create()
            sim.wait_for(lambda s: s.turns, within(5))
        sim.wait_for(lambda s: s.open_connections == 0, within(5))
        assert sim.turns[0].status == "disconnected"


def test_a_client_that_closes_within_a_frame_is_let_go() -> None:
    with Simulator(faults=[FAULTS["stall"]("within_event")]) as sim:
        with raw_connection(sim, wait=True) as raw:
            raw.sendall(CREATE_FRAME)
            sim.wait_for(lambda s: s.turns, within(5))
            received = b""
            while b"output_item.added" not in received:
                received += raw.recv(4096)
            raw.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
            sim.wait_for(lambda s: s.closes, within(5))
        assert (sim.closes[0].code, sim.closes[0].by) == (1000, "client")


def test_a_half_closed_client_is_let_go() -> None:
    with Simulator() as sim, raw_connection(sim) as raw:
        sim.wait_for(lambda s: s.open_connections, within(5))
        raw.shutdown(1)
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.closes[0].clean is False


def test_a_frame_of_a_client_that_is_not_masked_is_closed_with_1002() -> None:
    with Simulator() as sim:
        with raw_connection(sim, wait=True) as raw:
            raw.sendall(b"\x81\x02{}")
            assert b"\x03\xea" in b"".join(iter(lambda: raw.recv(4096), b""))
        sim.wait_for(lambda s: s.closes, within(5))


def test_a_client_that_does_not_wait_for_the_upgrade_to_break_the_protocol_harms_nobody() -> None:
    with Simulator() as sim:
        with raw_connection(sim) as raw:
            raw.sendall(b"\x81\x02{}")
            raw.shutdown(1)
            while raw.recv(4096):
                pass
        sim.wait_for(lambda s: s.open_connections == 0, within(5))


def test_a_close_frame_is_followed_by_the_end_of_tcp() -> None:
    with Simulator() as sim, raw_connection(sim) as raw:
        sim.wait_for(lambda s: s.open_connections, within(5))
        sim.close_connection(1012, "restart")
        received = b""
        while not received.endswith(b"restart"):
            received += raw.recv(4096)
        raw.sendall(b"\x88\x82\0\0\0\0\x03\xf4")
        assert raw.recv(4096) == b""


def test_no_compression_is_agreed() -> None:
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        raw.sendall(
            b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
        assert b"extensions" not in raw.recv(4096).lower()


def test_many_connections_are_served_at_once() -> None:
    with Simulator() as sim:
        answers: list[str] = []

        def converse(number: int) -> None:
            with connected(sim) as client:
                answers.append(text_of(client.turn(str(number))))

        threads = [threading.Thread(target=converse, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(within(10))
        assert sorted(answers) == sorted(f"You said: {number}" for number in range(20))


def test_closing_does_not_wait_for_anybody() -> None:
    replies = [Reply.text("x" * 5_000_000), Reply.text("x").held(threading.Event())]
    faults = [FAULTS["freeze"]("upgrade", on_connection=2), FAULTS["never_upgrade"](on_connection=3)]
    sim = Simulator(replies, faults=faults)
    with sim, connected(sim) as one, connected(sim) as two, connected(sim), raw_connection(sim):
        one.create()
        two.create()
        sim.wait_for(lambda s: len(s.turns) == 2 and len(s.handshakes) == 4, within(5))
        started = time.monotonic()
        sim.close()
        assert time.monotonic() - started < within(1)
    assert sim.open_connections == 0


@pytest.mark.parametrize("at", range(1, 6))
def test_the_way_is_found_wherever_the_first_bytes_are_cut(at: int) -> None:
    body = b'{"model":"m"}'
    request = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n" + body
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(request[:at])
        time.sleep(0.02)
        raw.sendall(request[at:])
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("data", [b"", b"P", b"POST", b"POST /v1/resp"])
def test_a_client_that_leaves_before_its_request_is_whole_leaves_nothing(data: bytes) -> None:
    with Simulator() as sim:
        with raw_connection(sim, upgrade=False) as raw:
            raw.sendall(data)
        with connected(sim) as client:
            client.turn()
        assert (len(sim.handshakes), sim.http_requests, sim.open_http_connections) == (1, [], 0)
