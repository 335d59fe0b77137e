"""Every named fault, as a client meets it."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import websocket

from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.simulator.client import Client, codes, connected, raw_connection, text_of, types

LOST = (websocket.WebSocketConnectionClosedException, ConnectionError)
TEXT = "x" * 30


def simulator(name: str, *args: Any, **options: Any) -> Simulator:
    return Simulator(lambda turn: Reply.text(TEXT), faults=[FAULTS[name](*args, **options)])


def refused(sim: Simulator) -> websocket.WebSocketBadStatusException:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Client(sim)
    return caught.value


def until_lost(client: Client) -> list[dict[str, Any]]:
    """Return what comes before the connection is lost without a close frame."""
    events: list[dict[str, Any]] = []
    with pytest.raises(LOST):
        while True:
            events.append(client.event())
    return events


def works(sim: Simulator, client: Client | None = None) -> None:
    """The fault has passed: a turn runs, on the same connection or on a new one."""
    if client is not None:
        assert text_of(client.turn()) == TEXT
    else:
        with connected(sim) as fresh:
            assert text_of(fresh.turn()) == TEXT
    assert sim.armed == []


# The handshake.


def test_silent() -> None:
    with simulator("silent") as sim:
        with pytest.raises(websocket.WebSocketTimeoutException):
            Client(sim, timeout=0.2)
        works(sim)
        assert len(sim.handshakes) == 1


def test_silent_comes_before_tls() -> None:
    with Simulator(tls=True, faults=[FAULTS["silent"]()]) as sim:
        with pytest.raises((TimeoutError, websocket.WebSocketTimeoutException)):
            Client(sim, timeout=0.2)
        with connected(sim) as client:
            client.turn()


def test_refuse_upgrade() -> None:
    with simulator("refuse_upgrade", 429, {"Retry-After": "3"}, b'{"error":{}}') as sim:
        error = refused(sim)
        assert error.status_code == 429
        assert error.resp_headers["retry-after"] == "3"
        assert error.resp_body == b'{"error":{}}'
        assert [(one.accepted, one.status) for one in sim.handshakes] == [(False, 429)]
        works(sim)
        sim.wait_for(lambda s: s.closes, within(5))
        assert [close.connection for close in sim.closes] == [1]


@pytest.mark.parametrize("status", [101, 99, 600])
def test_refuse_upgrade_needs_a_status_that_refuses(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        FAULTS["refuse_upgrade"](status)


def test_redirect() -> None:
    with simulator("redirect", "ws://127.0.0.1:9/", status=302) as sim:
        with raw_connection(sim) as raw:
            answer = b"".join(iter(lambda: raw.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 302 Found\r\n")
        assert b"\r\nLocation: ws://127.0.0.1:9/\r\n" in answer
        works(sim)


def test_slow_accept() -> None:
    with simulator("slow_accept", 0.2) as sim:
        started = time.monotonic()
        works(sim)
        assert time.monotonic() - started >= 0.19


def test_never_upgrade() -> None:
    with simulator("never_upgrade") as sim:
        with pytest.raises(websocket.WebSocketTimeoutException):
            Client(sim, timeout=0.2)
        sim.wait_for(lambda s: s.closes, within(5))
        assert [(one.accepted, one.status) for one in sim.handshakes] == [(False, 0)]
        assert (sim.closes[0].code, sim.closes[0].by) == (1006, "client")
        works(sim)


def test_drip_upgrade() -> None:
    with simulator("drip_upgrade", 0.001) as sim, raw_connection(sim) as raw:
        received = []
        while not b"".join(received).endswith(b"\r\n\r\n"):
            received.append(raw.recv(4096))
        assert len(received) > 20
        works(sim)


def test_cut_upgrade() -> None:
    with simulator("cut_upgrade", 30) as sim:
        with raw_connection(sim) as raw:
            assert b"".join(iter(lambda: raw.recv(4096), b"")) == b"HTTP/1.1 101 Switching Protocols\r\n"[:30]
        works(sim)


def test_wrong_accept() -> None:
    with simulator("wrong_accept") as sim:
        with pytest.raises(websocket.WebSocketException):
            Client(sim)
        works(sim)


# The request.


@pytest.mark.parametrize("form", ["nested", "flat", "failed", "message"])
def test_not_found(form: str) -> None:
    with simulator("not_found", form) as sim, connected(sim) as client:
        first = client.response()["id"]
        assert len(sim.armed) == 1, "a request without an id is none of its business"
        event = client.turn(previous_response_id=first)[-1]
        assert {"nested": "status" in event, "flat": "code" in event, "failed": "response" in event, "message": True}[
            form
        ]
        assert ("not_found" in json.dumps(event)) is (form != "message")
        assert ("not found" in json.dumps(event)) is True
        assert len(sim.turns) == 1
        assert codes(client.turn(previous_response_id=first)) == ["previous_response_not_found"], "it is forgotten"
        works(sim, client)


def test_evict() -> None:
    with simulator("evict") as sim, connected(sim) as client:
        first = client.response()["id"]
        assert codes(client.turn(previous_response_id=first)) == ["previous_response_not_found"]
        works(sim, client)


def test_a_message_that_is_taken_for_too_large_does_not_run() -> None:
    with simulator("too_large") as sim:
        with connected(sim) as client:
            client.create()
            assert client.close_frame()[0] == 1009
        assert (len(sim.requests), sim.turns, sim.armed) == (1, [], [])
        works(sim)


def test_connection_limit() -> None:
    with simulator("connection_limit", 25) as sim:
        with connected(sim) as client:
            event = client.turn()[-1]
            assert (event["status"], event["error"]["code"]) == (400, "websocket_connection_limit_reached")
            assert "25 minutes" in event["error"]["message"]
            assert client.close_frame()[0] == 1000
        works(sim)


@pytest.mark.parametrize("where", ["error", "top", "message"])
def test_error_429(where: str) -> None:
    with simulator("error_429", 1.5, where) as sim, connected(sim) as client:
        event = client.turn()[-1]
        assert event["status"] == 429
        places = {
            "error": event["error"].get("headers"),
            "top": event.get("headers"),
            "message": "try again in 1.5s" in event["error"]["message"] or None,
        }
        assert [place for place, found in places.items() if found] == [where]
        works(sim, client)


def test_error_503() -> None:
    with simulator("error_503") as sim, connected(sim) as client:
        event = client.turn()[-1]
        assert (event["status"], event["error"]["code"]) == (503, "server_is_overloaded")
        works(sim, client)


# The reply's end.


@pytest.mark.parametrize(
    ("name", "args", "seen"),
    [
        ("cut_before_first_event", (), []),
        ("cut_within_event", (), ["created", "in_progress"]),
        ("cut_after_first_event", (), ["created"]),
        ("cut_mid_text", (2,), ["output_text.delta", "output_text.delta"]),
        ("cut_after_terminal", (), ["completed"]),
        ("abort_tcp", ("before_first_event",), []),
    ],
)
def test_a_cut(name: str, args: tuple[Any, ...], seen: list[str]) -> None:
    with simulator(name, *args) as sim:
        with connected(sim) as client:
            client.create()
            came = types(until_lost(client))
            assert came[-len(seen) :] == seen if seen else came == []
        sim.wait_for(lambda s: s.closes, within(5))
        assert (sim.closes[0].code, sim.closes[0].clean, sim.closes[0].by) == (1006, False, "server")
        assert sim.turns[0].status == ("completed" if name == "cut_after_terminal" else "disconnected")
        works(sim)


def test_cut_within_event_leaves_half_a_frame() -> None:
    with simulator("cut_within_event") as sim, raw_connection(sim, wait=True) as raw:
        raw.sendall(masked(b'{"type":"response.create","model":"m","input":"x"}'))
        received = b"".join(iter(lambda: raw.recv(65536), b""))
        assert b"response.in_progress" in received
        assert received.endswith(b'"response.output_item.added","sequence_number":2,"output_index":0,"it') or (
            b"output_item.added" in received and not received.endswith(b"}")
        )


def test_a_cut_under_tls_has_no_goodbye() -> None:
    with Simulator(tls=True, faults=[FAULTS["cut_after_first_event"]()]) as sim, connected(sim) as client:
        client.create()
        with pytest.raises((websocket.WebSocketException, OSError)):
            client.events()
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.turns[0].status == "disconnected"


def test_abort_tcp_resets() -> None:
    with simulator("abort_tcp", "before_first_event") as sim, raw_connection(sim, wait=True) as raw:
        raw.sendall(masked(b'{"type":"response.create","model":"m","input":"x"}'))
        with pytest.raises(ConnectionResetError):
            while raw.recv(4096):
                pass


@pytest.mark.parametrize(
    "when", ["before_first_event", "after_first_event", "mid_text", "before_terminal", "after_terminal"]
)
def test_close_with(when: str) -> None:
    with simulator("close_with", 4402, "out of credits", when) as sim:
        with connected(sim) as client:
            client.create()
            opcode, data = client.frame()
            while opcode == websocket.ABNF.OPCODE_TEXT:
                opcode, data = client.frame()
            assert data == struct.pack("!H", 4402) + b"out of credits"
        sim.wait_for(lambda s: s.closes, within(5))
        assert (sim.closes[0].by, sim.turns[0].status == "completed") == ("server", when == "after_terminal")
        works(sim)


def test_close_with_1005_sends_no_code() -> None:
    with simulator("close_with", 1005) as sim, connected(sim) as client:
        client.create()
        client.event()
        assert client.frame() == (websocket.ABNF.OPCODE_CLOSE, b"")


def test_close_with_right_after_the_upgrade() -> None:
    with simulator("close_with", 1008, when="upgrade") as sim:
        with connected(sim) as client:
            assert client.close_frame()[0] == 1008
        works(sim)


def test_close_with_refuses_a_code_that_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="1006"):
        FAULTS["close_with"](1006)


@pytest.mark.parametrize(
    "when", ["upgrade", "before_first_event", "after_first_event", "within_event", "after_terminal"]
)
def test_stall(when: str) -> None:
    with simulator("stall", when) as sim:
        with connected(sim) as client:
            client.create()
            sim.wait_for(lambda s: s.requests, within(5))
            if when == "after_terminal":
                client.events()
                client.create()
            while not client.silent_for():
                pass
            if when != "within_event":  # within a frame no pong can be sent
                client.socket.ping("alive")
                assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"alive")
            assert sim.open_connections == 1
        works(sim)


def test_freeze() -> None:
    with simulator("freeze") as sim:
        with connected(sim) as client:
            client.create()
            assert types([client.event()]) == ["created"]
            client.socket.ping("anyone")
            assert client.silent_for(control=True)
            assert sim.pings == []
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.closes[0].by == "client"
        works(sim)


def test_freeze_takes_no_large_request() -> None:
    with simulator("freeze", "upgrade") as sim:
        with connected(sim, timeout=0.3) as client, pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)):
            client.create("x" * 16_000_000)
        works(sim)


# The reply's events.


def test_huge_terminal() -> None:
    with simulator("huge_terminal", 3_000_000) as sim, connected(sim, skip_utf8_validation=True) as client:
        client.create()
        sizes = [len(client.frame()[1]) for _ in range(11)]
        assert sizes[-1] > 3_000_000
        works(sim, client)


@pytest.mark.parametrize("name", ["invalid_json", "invalid_utf8", "binary_frame"])
def test_a_garbled_event(name: str) -> None:
    with simulator(name) as sim, connected(sim, skip_utf8_validation=True) as client:
        client.create()
        client.event(), client.event()
        opcode, data = client.frame()
        if name == "binary_frame":
            assert opcode == websocket.ABNF.OPCODE_BINARY
            assert json.loads(data)["type"] == "response.output_item.added"
        else:
            assert opcode == websocket.ABNF.OPCODE_TEXT
            with pytest.raises(ValueError, match=r"utf-8|Expecting|delimiter"):
                json.loads(data)
        assert types(client.events())[-1] == "completed"
        works(sim, client)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("oversized_frame_header", b"\x81\x7f" + (2**40).to_bytes(8, "big")),
        ("masked_frame", b"\x81\x82"),
        ("rsv_frame", b"\xf1\x02"),
        ("bad_opcode", b"\x83\x02"),
    ],
)
def test_nonsense(name: str, header: bytes) -> None:
    with simulator(name) as sim:
        with raw_connection(sim, wait=True) as raw:
            raw.sendall(masked(b'{"type":"response.create","model":"m","input":"x"}'))
            received = b""
            while header not in received:
                received += raw.recv(4096)
            assert b"response.in_progress" in received
        works(sim)


def test_unknown_events() -> None:
    with simulator("unknown_events") as sim, connected(sim) as client:
        events = client.turn()
        assert {"codex.rate_limits", "keepalive", "future_event", "metadata"} <= set(types(events))
        assert text_of(events) == TEXT
        works(sim, client)


def test_second_terminal() -> None:
    with simulator("second_terminal") as sim, connected(sim) as client:
        last = client.turn()[-1]
        assert client.event() == last
        works(sim, client)


def test_event_while_idle() -> None:
    with simulator("event_while_idle", 0.01) as sim, connected(sim) as client:
        client.turn()
        assert client.event()["type"] == "response.output_text.delta"
        works(sim, client)


def test_ping_demand_pong() -> None:
    with simulator("ping_demand_pong") as sim, connected(sim) as client:
        assert text_of(client.turn()) == TEXT
        assert len(sim.pongs) == 11
        works(sim, client)


def test_ping_demand_pong_cuts_who_does_not_answer() -> None:
    with simulator("ping_demand_pong", within=0.05) as sim:
        with raw_connection(sim, wait=True) as raw:
            raw.sendall(masked(b'{"type":"response.create","model":"m","input":"x"}'))
            received = b"".join(iter(lambda: raw.recv(4096), b""))
            assert received.endswith(b"\x89\x08demand-0")
        works(sim)


# The reply's bytes.


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server hands to the kernel, one entry for each write."""
    transport: Any = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write, seen = transport.write, []

    def recorded(self: Any, data: bytes) -> None:
        assert self.get_write_buffer_size() == 0, "a write joins the one before"
        seen.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(transport, "write", recorded)
    return seen


def test_split_every_byte(writes: list[bytes]) -> None:
    with simulator("split_every_byte") as sim, connected(sim) as client:
        assert text_of(client.turn()) == TEXT
        assert len(writes) > 1000
        assert {len(data) for data in writes[1:]} == {1}
        works(sim, client)


@pytest.mark.parametrize(("size", "count"), [(None, 1), (4, 3)])
def test_coalesce(writes: list[bytes], size: int | None, count: int) -> None:
    with simulator("coalesce", size) as sim, connected(sim) as client:
        assert text_of(client.turn()) == TEXT
        assert len(writes) == 1 + count
        works(sim, client)


def test_fragment() -> None:
    with simulator("fragment", 4) as sim, connected(sim) as client:
        assert text_of(client.turn()) == TEXT
        sim.wait_for(lambda s: len(s.pongs) == 11 * 3, within(5))
        works(sim, client)


def test_trailing_partial() -> None:
    with simulator("trailing_partial", 0.05) as sim, connected(sim) as client:
        assert text_of(client.turn()) == TEXT
        client.socket.ping("meanwhile")
        assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PING, b"trailing")
        assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"meanwhile")
        works(sim, client)


# The client's pings.


def test_ignore_pings() -> None:
    with simulator("ignore_pings") as sim:
        with connected(sim) as client:
            for _ in range(2):
                client.socket.ping("x")
            assert client.silent_for(control=True)
            assert sim.pings == [(0, b"x"), (0, b"x")]
            assert text_of(client.turn()) == TEXT
        with connected(sim) as client:
            client.socket.ping("y")
            assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"y")


# All.


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_has_a_default_a_description_and_passes(name: str) -> None:
    factory: Callable[..., Any] = FAULTS[name]
    fault = factory()
    assert (fault.name, fault.times) == (name, 1)
    assert factory.__doc__
    assert repr(fault) == f"Fault({name})"
    assert factory(times=None, on_request=3, on_connection=4).on_request == 3
    with pytest.raises(ValueError, match="times=0"):
        factory(times=0)


def test_two_faults_of_one_phase_apply_to_one_reply() -> None:
    with Simulator(faults=[FAULTS["unknown_events"](), FAULTS["huge_terminal"](1000)]) as sim, connected(sim) as client:
        events = client.turn()
        assert "keepalive" in types(events)
        assert len(events[-1]["response"]["metadata"]["padding"]) == 1000
        assert sim.armed == []


def test_only_one_fault_at_a_time_ends_a_reply() -> None:
    with Simulator(faults=[FAULTS["cut_mid_text"](), FAULTS["cut_before_first_event"]()]) as sim:
        for left in (1, 0):
            with connected(sim) as client:
                client.create()
                until_lost(client)
            assert len(sim.armed) == left


def test_two_faults_of_one_reply_apply_together() -> None:
    faults = [FAULTS["unknown_events"](), FAULTS["split_every_byte"](), FAULTS["cut_mid_text"]()]
    with Simulator(lambda turn: Reply.text(TEXT), faults=faults) as sim:
        with connected(sim) as client:
            client.create()
            assert {"keepalive", "output_text.delta"} <= set(types(until_lost(client)))
        works(sim)


def masked(payload: bytes) -> bytes:
    """Return a client's text frame, masked with zeros."""
    return b"\x81" + bytes([0x80 | len(payload)]) + b"\0\0\0\0" + payload
