from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import websocket

from benchmarks.asks import Ask
from benchmarks.peers.base import DELTAS, TERMINAL
from benchmarks.peers.reader import masked
from benchmarks.server.answers import END, answer
from benchmarks.server.frames import Incoming, Refused, frame, unmask
from benchmarks.server.loop import stats
from tests.conftest import within


@pytest.fixture
def client(url: str) -> Iterator[websocket.WebSocket]:
    made = websocket.create_connection(url + "/responses", timeout=within(10))
    yield made
    made.close()


def turn(client: websocket.WebSocket, ask: Ask, **fields: Any) -> list[dict[str, Any]]:
    client.send(orjson.dumps({"type": "response.create", **fields, "input": ask.input()}).decode())
    events = [orjson.loads(client.recv())]
    while events[-1]["type"] not in TERMINAL:
        events.append(orjson.loads(client.recv()))
    return events


@pytest.mark.parametrize("ask", [Ask(), Ask(deltas=1992), Ask(call=5), Ask(deltas=3, rate=200), Ask(deltas=1, size=70_000)])
def test_an_answer_has_the_events_that_were_asked_for(client: websocket.WebSocket, ask: Ask) -> None:
    events = turn(client, ask)

    assert len(events) == ask.events
    assert sum(event["type"] in DELTAS for event in events) == ask.deltas
    assert events[-1]["type"] == "response.completed"


@pytest.mark.parametrize("call", [0, 5])
def test_the_deltas_are_the_text_of_the_item(client: websocket.WebSocket, call: int) -> None:
    events = turn(client, Ask(call=call))

    text = "".join(event["delta"] for event in events if event["type"] in DELTAS)
    [item] = events[-1]["response"]["output"]
    assert text == (item["arguments"] if call else item["content"][0]["text"])
    if call:
        assert item["call_id"] == "call_00000005"
        assert orjson.loads(text).keys() == {"path"}


def test_every_response_has_an_id_of_its_own_in_all_its_events(client: websocket.WebSocket) -> None:
    first, second = turn(client, Ask()), turn(client, Ask())

    assert first[0]["response"]["id"] == first[-1]["response"]["id"] != second[-1]["response"]["id"]
    assert first[-1]["response"]["output"][0]["id"] != second[-1]["response"]["output"][0]["id"]


def test_timed_deltas_say_when_they_were_written_and_keep_their_distance(client: websocket.WebSocket) -> None:
    began = time.monotonic_ns()
    events = turn(client, Ask(deltas=4, rate=50))

    times = [int(event["delta"]) for event in events if event["type"] in DELTAS]
    assert began < times[0] < times[-1] < time.monotonic_ns()
    assert times[-1] - times[0] >= 0.055e9, "three intervals of 20 ms, but for what the first was late"


def test_a_large_request_is_answered(client: websocket.WebSocket) -> None:
    assert len(turn(client, Ask(load=300_000), tools=["x" * 10_000])) == Ask().events


def test_what_is_asked_for_is_found_before_other_fields_too(client: websocket.WebSocket) -> None:
    client.send(orjson.dumps({"input": Ask().input(), "instructions": "x" * 50_000}).decode())

    assert orjson.loads(client.recv())["type"] == "response.created"


def test_a_request_that_asks_for_nothing_gets_an_error(client: websocket.WebSocket) -> None:
    client.send('{"input": "hello"}')

    assert orjson.loads(client.recv())["type"] == "error"


def test_the_statistics_count_requests_and_their_bytes(url: str, client: websocket.WebSocket) -> None:
    before = stats(url)
    turn(client, Ask(deltas=3))
    turn(client, Ask(deltas=4), previous_response_id="resp_1")

    after = stats(url)
    assert after["requests"] - before["requests"] == 2
    assert after["continued"] - before["continued"] == 1
    assert after["deltas"] - before["deltas"] == 7
    assert 200 < after["request_bytes"] - before["request_bytes"] < 500


def test_pings_are_answered(client: websocket.WebSocket) -> None:
    client.ping("are you there")

    opcode, data = client.recv_data(control_frame=True)
    assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"are you there")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_frames_are_read_however_they_are_cut(size: int, step: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    data = masked(payload) + masked(b"next")
    incoming = Incoming()

    step = max(step, len(data) // 500)
    found = [message for at in range(0, len(data), step) for message in incoming.feed(data[at : at + step])]

    assert [message.payload() for message in found] == [payload, b"next"]
    assert payload.endswith(found[0].tail())
    assert payload.startswith(found[0].head())


def test_what_no_client_here_sends_is_refused() -> None:
    with pytest.raises(Refused):
        list(Incoming().feed(frame(b"not masked")))


def test_a_mask_goes_on_as_it_comes_off() -> None:
    assert unmask(unmask(b"some text", b"\x01\x80\xff\x00"), b"\x01\x80\xff\x00") == b"some text"


@pytest.mark.parametrize("ask", [Ask(), Ask(call=1), Ask(deltas=200, size=50)])
def test_an_answer_ends_as_the_ceiling_s_reader_expects_and_only_there(ask: Ask) -> None:
    whole = answer(ask).whole(17)

    assert whole.endswith(END)
    assert whole.count(END) == 1
