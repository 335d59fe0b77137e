"""One connection: what it takes, refuses, records and how it ends."""

from __future__ import annotations

import threading

import pytest
import websocket

from pixir_actors.simulator import FAULTS, Reply, Simulator
from pixir_actors.simulator.peer import INBOX_LIMIT
from tests.conftest import within
from tests.simulator.client import Client, codes, connected, raw_connection, text_of, types


def test_a_handshake_is_recorded_with_its_headers_in_order() -> None:
    with Simulator() as sim, connected(sim, header=["X-One: 1", "x-one: 2"]):
        handshake = sim.handshakes[0]
        assert (handshake.connection, handshake.path, handshake.accepted, handshake.status) == (
            0,
            "/v1/responses",
            True,
            101,
        )
        assert [pair for pair in handshake.headers if pair[0].lower() == "x-one"] == [("X-One", "1"), ("x-one", "2")]


@pytest.mark.parametrize(
    ("key", "header", "status"),
    [("k", "Bearer k", 101), ("k", "Bearer wrong", 401), ("k", "bearer", 401), ("k", None, 401), (None, None, 101)],
)
def test_only_the_right_bearer_enters(key: str | None, header: str | None, status: int) -> None:
    headers = [] if header is None else [f"Authorization: {header}"]
    with Simulator(api_key=key) as sim:
        if status == 101:
            with connected(sim, header=headers):
                pass
        else:
            with pytest.raises(websocket.WebSocketBadStatusException):
                Client(sim, header=headers)
        assert sim.handshakes[0].status == status


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /v1/chat HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (b"PUT /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"OPTIONS /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"HEAD /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"PROPFIND /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"PUT /x HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    ],
)
def test_what_is_no_upgrade_is_refused(request_text: bytes, status: bytes) -> None:
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        raw.sendall(request_text)
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
        assert answer.split(b" ")[1] == status
        assert status != b"405" or b"Allow: POST" in answer
        assert sim.open_connections == 0


@pytest.mark.parametrize(("method", "status"), [("PUT", b"405"), ("GET", b"426")])
def test_a_method_that_comes_byte_by_byte_is_known_in_the_end(method: str, status: bytes) -> None:
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        for byte in f"{method} /v1/responses HTTP/1.1\r\nHost: x\r\n\r\n".encode():
            raw.sendall(bytes([byte]))
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
        assert answer.split(b" ")[1] == status


def test_what_is_no_http_ends_the_connection() -> None:
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        raw.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert raw.recv(4096) == b""
        assert sim.handshakes == []


def test_a_query_is_taken_and_another_path_is_not_found() -> None:
    with Simulator() as sim:
        websocket.create_connection(f"{sim.url}?model=m", timeout=within(5)).shutdown()
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            websocket.create_connection(f"ws://127.0.0.1:{sim.port}/responses", timeout=within(5))
        seen = [(one.path, one.accepted) for one in sim.handshakes]
        assert seen == [("/v1/responses?model=m", True), ("/responses", False)]


def test_a_request_is_recorded_with_its_size() -> None:
    with Simulator() as sim, connected(sim) as client:
        text = '{"type":"response.create","model":"m","input":"äö"}'
        client.socket.send(text)
        client.events()
        received = sim.requests[0]
        assert (received.index, received.connection, received.wire_bytes) == (0, 0, len(text.encode()))
        assert received.payload["input"] == "äö"


def test_a_request_in_many_frames_is_one_message() -> None:
    with Simulator() as sim, connected(sim) as client:
        pieces = [b'{"type":"response.create",', b'"model":"m",', b'"input":"x"}']
        for number, piece in enumerate(pieces):
            opcode = websocket.ABNF.OPCODE_CONT if number else websocket.ABNF.OPCODE_TEXT
            client.socket.send_frame(websocket.ABNF.create_frame(piece, opcode, int(number == 2)))
        assert text_of(client.events()) == "You said: x"
        assert sim.requests[0].wire_bytes == len(b"".join(pieces))


@pytest.mark.parametrize("event", [{"type": "response.cancel"}, {"type": "response.processed"}, {"no": "type"}])
def test_an_unknown_event_type_is_answered_and_the_connection_stays(event: object) -> None:
    with Simulator() as sim, connected(sim) as client:
        client.send(event)
        assert codes([client.event()]) == ["unknown_event_type"]
        assert text_of(client.turn("x")) == "You said: x"
        assert len(sim.requests) == 1


@pytest.mark.parametrize("message", ["{", "[]", "1", b'{"type":"response.create"}'])
def test_what_is_no_object_in_a_text_frame_is_answered(message: str | bytes) -> None:
    with Simulator() as sim, connected(sim) as client:
        if isinstance(message, bytes):
            client.socket.send_binary(message)
        else:
            client.socket.send(message)
        assert codes([client.event()]) == ["invalid_json"]
        assert sim.requests == []


def test_a_second_request_waits_for_the_first_and_is_recorded_as_an_overlap() -> None:
    go = threading.Event()
    with Simulator([Reply.text("one").held(go)]) as sim, connected(sim) as client:
        client.create("a")
        client.create("b")
        sim.wait_for(lambda s: len(s.requests) == 2 and s.turns, within(5))
        assert [received.index for received in sim.overlaps] == [1]
        assert len(sim.turns) == 1
        go.set()
        assert [text_of(client.events()), text_of(client.events())] == ["one", "You said: b"]


def test_a_request_after_the_terminal_event_is_no_overlap() -> None:
    with Simulator() as sim, connected(sim) as client:
        for _ in range(50):
            client.turn()
        client.turn(previous_response_id="unknown")
        client.turn(model=None)
        client.turn()
        assert sim.overlaps == []


def test_too_many_waiting_messages_close_the_connection() -> None:
    go = threading.Event()
    with Simulator([Reply.text("x").held(go, "created")]) as sim, connected(sim) as client:
        for _ in range(INBOX_LIMIT + 2):
            client.create()
        assert client.close_frame()[0] == 1013


def test_a_message_that_is_too_large_is_closed_with_1009() -> None:
    with Simulator(max_message_bytes=1000) as sim:
        with connected(sim) as client:
            client.create("x" * 2000)
            assert client.close_frame()[0] == 1009
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.requests == []


def test_pings_are_answered_also_in_the_middle_of_a_response() -> None:
    go = threading.Event()
    with Simulator([Reply.text("x").held(go)]) as sim, connected(sim) as client:
        client.create()
        client.event(), client.event()
        client.socket.ping("now")
        assert client.socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"now")
        assert sim.pings == [(0, b"now")]
        go.set()
        client.events()


def test_the_clients_close_is_recorded() -> None:
    with Simulator() as sim:
        client = Client(sim)
        client.socket.close(4001, b"bye", timeout=1)
        sim.wait_for(lambda s: s.closes, within(5))
        close = sim.closes[0]
        assert (close.connection, close.code, close.reason, close.clean, close.by) == (0, 4001, "bye", True, "client")


def test_a_clients_leaving_without_a_word_is_recorded() -> None:
    with Simulator() as sim:
        with connected(sim):
            assert sim.open_connections == 1
        sim.wait_for(lambda s: s.open_connections == 0, within(5))
        assert (sim.closes[0].code, sim.closes[0].clean, sim.closes[0].by) == (1006, False, "client")


def test_a_client_that_leaves_mid_stream_ends_its_turn() -> None:
    with Simulator([Reply.text("x").held(threading.Event())]) as sim:
        with connected(sim) as client:
            client.create()
            client.create()
            sim.wait_for(lambda s: s.turns and len(s.requests) == 2, within(5))
        sim.wait_for(lambda s: s.closes, within(5))
        assert [turn.status for turn in sim.turns] == ["disconnected"]


def test_the_lifetime_ends_an_idle_connection_with_a_notice() -> None:
    with Simulator(lifetime=0.05) as sim:
        with connected(sim) as client:
            event = client.event()
            assert (event["status"], codes([event])) == (400, ["websocket_connection_limit_reached"])
            assert client.close_frame()[0] == 1000
        sim.wait_for(lambda s: s.closes, within(5))
        assert sim.closes[0].by == "server"


def test_the_lifetime_waits_for_a_response_in_flight() -> None:
    go = threading.Event()
    with Simulator([Reply.text("x").held(go)], lifetime=0.05) as sim, connected(sim) as client:
        client.create()
        client.event(), client.event()
        assert client.silent_for(0.15)
        go.set()
        assert types(client.events())[-1] == "completed"
        assert codes([client.event()]) == ["websocket_connection_limit_reached"]


def test_a_script_that_raises_closes_with_1011_and_is_raised_at_the_end() -> None:
    def script(turn: object) -> Reply:
        raise KeyError("broken script")

    with pytest.raises(KeyError, match="broken script"), Simulator(script) as sim, connected(sim) as client:
        client.create()
        assert client.close_frame()[0] == 1011
        assert isinstance(sim.errors[0], KeyError)


def test_an_abandoned_closing_handshake_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixir_actors.simulator.wire.CLOSE_TIMEOUT", 0.05)
    with Simulator(faults=[FAULTS["close_with"](when="upgrade")]) as sim, connected(sim):
        sim.wait_for(lambda s: s.closes, within(5))
        assert (sim.closes[0].code, sim.closes[0].by) == (1006, "server")
