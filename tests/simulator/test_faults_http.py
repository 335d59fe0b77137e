"""The faults over HTTP, as a client meets them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any

import httpx
import pytest
import websocket

from pixir_actors.simulator import FAULTS, Fault, Reply, Simulator
from tests.conftest import within
from tests.simulator.client import Client, connected, text_of, types
from tests.simulator.post import Poster, blocks_of, posting

LOST = (http.client.HTTPException, ConnectionError)
TEXT = "x" * 30
WEBSOCKET_ONLY = {
    "refuse_upgrade",
    "never_upgrade",
    "drip_upgrade",
    "cut_upgrade",
    "wrong_accept",
    "connection_limit",
    "too_large",
    "close_with",
    "binary_frame",
    "oversized_frame_header",
    "masked_frame",
    "rsv_frame",
    "bad_opcode",
    "event_while_idle",
    "ping_demand_pong",
    "fragment",
    "trailing_partial",
    "ignore_pings",
}
HTTP_ONLY = {"refuse", "never_answer", "cut_head", "end_without_terminal", "other_sse_forms"}


def simulator(name: str, *args: Any, **options: Any) -> Simulator:
    return Simulator(lambda turn: Reply.text(TEXT), faults=[FAULTS[name](*args, **options)])


def until_lost(poster: Poster) -> list[dict[str, Any]]:
    """Run a turn and return what comes before the body breaks off."""
    poster.create()
    events: list[dict[str, Any]] = []
    with pytest.raises(LOST):
        for event in poster.opened():
            events.append(event)
    return events


def works(sim: Simulator, poster: Poster | None = None) -> None:
    """The fault has passed: a turn runs, on the same connection or on a new one."""
    if poster is not None:
        assert poster.text() == TEXT
        assert len({one.connection for one in sim.http_requests}) == 1
    else:
        with posting(sim) as fresh:
            assert fresh.text() == TEXT
    assert sim.armed == []


# Which way.


def test_every_fault_is_for_the_ways_where_it_makes_sense() -> None:
    ways = {name: factory().on_via for name, factory in FAULTS.items()}
    assert {name for name, way in ways.items() if way == "websocket"} == WEBSOCKET_ONLY
    assert {name for name, way in ways.items() if way == "http"} == HTTP_ONLY


@pytest.mark.parametrize("name", sorted(WEBSOCKET_ONLY))
def test_a_fault_of_websockets_stays_armed_over_http(name: str) -> None:
    with simulator(name) as sim, posting(sim) as poster:
        assert poster.text() == TEXT
        assert poster.text() == TEXT
        assert [(fault.name, fault.times) for fault in sim.armed] == [(name, 1)]


@pytest.mark.parametrize("name", sorted(HTTP_ONLY))
def test_a_fault_of_http_stays_armed_over_websocket(name: str) -> None:
    with simulator(name) as sim, connected(sim) as client:
        assert text_of(client.turn()) == TEXT
        assert [(fault.name, fault.times) for fault in sim.armed] == [(name, 1)]


@pytest.mark.parametrize("via", ["websocket", "http"])
def test_on_via_chooses_the_way(via: str) -> None:
    with simulator("error_503", on_via=via) as sim, connected(sim) as client, posting(sim) as poster:
        over_websocket = types(client.turn())[-1]
        poster.create()
        status = poster.answer().status
        assert (over_websocket, status) == (("error", 200) if via == "websocket" else ("completed", 503))
        assert sim.armed == []


def test_a_fault_that_a_reply_carries_is_for_its_way_too() -> None:
    reply = Reply.text(TEXT).with_faults(FAULTS["fragment"](), FAULTS["connection_limit"](), FAULTS["second_terminal"]())
    with Simulator([reply]) as sim, posting(sim) as poster:
        assert types(poster.turn())[-2:] == ["completed", "completed"]


# How the answer begins.


def test_silent() -> None:
    with simulator("silent") as sim:
        with posting(sim, timeout=0.2) as poster, pytest.raises(TimeoutError):
            poster.turn()
        works(sim)
        assert len(sim.requests) == 1


def test_refuse() -> None:
    with simulator("refuse", 429, {"Retry-After": "3"}, b'{"error":{}}') as sim, posting(sim) as poster:
        poster.create()
        answer = poster.answer()
        assert (answer.status, answer.headers["retry-after"], answer.read()) == (429, "3", b'{"error":{}}')
        assert (sim.requests, sim.http_requests[0].status, sim.http_requests[0].request_index) == ([], 429, None)
        works(sim, poster)


@pytest.mark.parametrize("status", [204, 304])
def test_refuse_with_a_status_that_has_no_body(status: int) -> None:
    with simulator("refuse", status, None, "lost") as sim, posting(sim) as poster:
        poster.create()
        answer = poster.answer()
        assert (answer.status, answer.read()) == (status, b"")
        works(sim, poster)


def test_redirect() -> None:
    with simulator("redirect", "http://127.0.0.1:9/elsewhere", status=308) as sim, posting(sim) as poster:
        poster.create()
        answer = poster.answer()
        assert (answer.status, answer.headers["location"]) == (308, "http://127.0.0.1:9/elsewhere")
        assert answer.read() == b""
        works(sim, poster)


def test_slow_accept() -> None:
    with simulator("slow_accept", 0.2) as sim, posting(sim) as poster:
        started = time.monotonic()
        works(sim, poster)
        assert time.monotonic() - started >= 0.19


def test_never_answer() -> None:
    with simulator("never_answer") as sim:
        with posting(sim, timeout=0.2) as poster, pytest.raises(TimeoutError):
            poster.turn()
        sim.wait_for(lambda s: s.turns[0].status == "disconnected", within(5))
        assert (len(sim.requests), sim.http_requests[0].status) == (1, 0)
        works(sim)


@pytest.mark.parametrize("after", [0, 10])
def test_cut_head(after: int) -> None:
    with simulator("cut_head", after) as sim:
        with posting(sim) as poster, pytest.raises(http.client.HTTPException):
            poster.turn()
        sim.wait_for(lambda s: s.turns[0].status == "disconnected", within(5))
        assert len(sim.requests) == 1
        works(sim)


def test_cut_head_sends_so_many_bytes() -> None:
    body = b'{"model":"m","stream":true}'
    with simulator("cut_head", 12) as sim, socket.create_connection(("127.0.0.1", sim.port), within(5)) as raw:
        raw.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert b"".join(iter(lambda: raw.recv(4096), b"")) == b"HTTP/1.1 200"


# The request.


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("form", ["nested", "flat", "failed", "message"])
def test_not_found(form: str, stream: bool) -> None:
    with simulator("not_found", form) as sim, posting(sim) as poster:
        kept = poster.response(store=True)["id"]
        assert len(sim.armed) == 1
        poster.create(previous_response_id=kept, stream=stream)
        answer = poster.answer()
        body = json.loads(answer.read())
        assert answer.status == 400
        assert ("not_found" in json.dumps(body)) is (form != "message")
        assert "not found" in json.dumps(body)
        assert poster.refused(previous_response_id=kept)[0] == 400, "it is forgotten"
        works(sim, poster)


def test_evict() -> None:
    with simulator("evict") as sim, posting(sim) as poster:
        kept = poster.response(store=True)["id"]
        assert poster.refused(previous_response_id=kept)[1]["code"] == "previous_response_not_found"
        works(sim, poster)


@pytest.mark.parametrize("where", ["error", "top", "message"])
def test_error_429(where: str) -> None:
    with simulator("error_429", 1.5, where) as sim, posting(sim) as poster:
        poster.create()
        answer = poster.answer()
        assert (answer.status, answer.headers["retry-after"]) == (429, None if where == "message" else "1.5")
        error = json.loads(answer.read())["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert ("try again in 1.5s" in error["message"]) is (where == "message")
        works(sim, poster)


def test_error_503() -> None:
    with simulator("error_503") as sim, posting(sim) as poster:
        status, error = poster.refused()
        assert (status, error["code"], sim.turns) == (503, "server_is_overloaded", [])
        works(sim, poster)


# The reply's end.


@pytest.mark.parametrize(
    ("name", "args", "seen"),
    [
        ("cut_before_first_event", (), []),
        ("cut_within_event", (), ["created", "in_progress"]),
        ("cut_after_first_event", (), ["created"]),
        ("cut_mid_text", (2,), ["output_text.delta", "output_text.delta"]),
        ("cut_after_terminal", (), ["completed"]),
    ],
)
def test_a_cut(name: str, args: tuple[Any, ...], seen: list[str]) -> None:
    with simulator(name, *args) as sim:
        with posting(sim) as poster:
            came = types(until_lost(poster))
            assert came[-len(seen) :] == seen if seen else came == []
        sim.wait_for(lambda s: s.open_http_connections == 0, within(5))
        assert sim.turns[0].status == ("completed" if name == "cut_after_terminal" else "disconnected")
        works(sim)


def test_a_cut_under_tls() -> None:
    with Simulator(tls=True, faults=[FAULTS["cut_after_first_event"]()]) as sim, posting(sim) as poster:
        poster.create()
        with pytest.raises((OSError, http.client.HTTPException)):
            list(poster.opened())
        sim.wait_for(lambda s: s.turns[0].status == "disconnected", within(5))


@pytest.mark.parametrize(
    "name", ["cut_before_first_event", "cut_within_event", "split_every_byte", "cut_head", "slow_accept", "coalesce"]
)
def test_an_answer_in_one_piece_has_faults_too(name: str) -> None:
    with simulator(name) as sim:
        with posting(sim) as poster:
            poster.create(stream=False)
            if name.startswith("cut"):
                with pytest.raises(LOST):
                    poster.answer().read()
            else:
                assert json.loads(poster.answer().read())["status"] == "completed"
        works(sim)


@pytest.mark.parametrize("name", ["cut_mid_text", "unknown_events", "invalid_json", "huge_terminal", "second_terminal"])
def test_what_needs_events_leaves_an_answer_in_one_piece_alone(name: str) -> None:
    with simulator(name) as sim, posting(sim) as poster:
        poster.create(stream=False)
        assert json.loads(poster.answer().read())["status"] == "completed"
        assert len(sim.armed) == 1


def test_a_refusal_can_be_cut() -> None:
    faults = [FAULTS["error_503"](), FAULTS["cut_within_event"]()]
    with Simulator(faults=faults) as sim, posting(sim) as poster:
        poster.create()
        answer = poster.answer()
        assert answer.status == 503
        with pytest.raises(http.client.IncompleteRead):
            answer.read()


def test_abort_tcp() -> None:
    with simulator("abort_tcp") as sim:
        with posting(sim) as poster, pytest.raises(ConnectionResetError):
            poster.turn()
        sim.wait_for(lambda s: s.turns[0].status == "disconnected", within(5))
        works(sim)


@pytest.mark.parametrize("name", ["stall", "freeze"])
@pytest.mark.parametrize(("when", "seen"), [("before_first_event", 0), ("mid_text", 5)])
def test_nothing_more_comes(name: str, when: str, seen: int) -> None:
    with simulator(name, when) as sim:
        with posting(sim, timeout=0.2) as poster:
            poster.create()
            events = []
            with pytest.raises(TimeoutError):
                for event in poster.opened():
                    events.append(event)
            assert len(events) == seen
        sim.wait_for(lambda s: s.turns[0].status == "disconnected", within(5))
        works(sim)


@pytest.mark.parametrize(
    ("when", "last"),
    [("before_first_event", None), ("after_first_event", "created"), ("mid_text", "output_text.delta"), (None, None)],
)
@pytest.mark.parametrize("done", [True, False])
def test_end_without_terminal(when: str | None, last: str | None, done: bool) -> None:
    fault = FAULTS["end_without_terminal"](*([when] if when else []))
    with Simulator(lambda turn: Reply.text(TEXT), faults=[fault], sse_done=done) as sim, posting(sim) as poster:
        poster.create()
        names = [name.removeprefix("response.") for name, _ in blocks_of(poster.answer())]
        if when is not None:
            assert names[-1:] == ([last] if last else [])
        else:
            assert names[-1] == "output_item.done"
        assert sim.turns[0].status == "disconnected"
        poster.create()
        assert len(list(blocks_of(poster.answer()))) > 5
        assert sim.armed == []
        assert len({one.connection for one in sim.http_requests}) == 1, "the body was ended well"


@pytest.mark.parametrize("when", ["upgrade", "within_event", "within_terminal", "after_terminal", "never"])
def test_end_without_terminal_ends_between_events(when: str) -> None:
    with pytest.raises(ValueError, match="allowed is 'before_first_event' or 'after_first_event'"):
        FAULTS["end_without_terminal"](when)


# The reply's events and bytes.


def test_huge_terminal() -> None:
    with simulator("huge_terminal", 3_000_000) as sim, posting(sim) as poster:
        assert len(poster.response()["metadata"]["padding"]) == 3_000_000
        works(sim, poster)


def test_invalid_json() -> None:
    with simulator("invalid_json") as sim, posting(sim) as poster:
        poster.create()
        broken = []
        for _, data in blocks_of(poster.answer()):
            try:
                json.loads(data)
            except ValueError:
                broken.append(data)
        assert len(broken) == 1 and broken[0].startswith(b'{"type":"response.output_item.added"')
        works(sim, poster)


def test_invalid_utf8() -> None:
    with simulator("invalid_utf8") as sim, posting(sim) as poster:
        poster.create()
        assert sum(b"\xff\xfe" in data for _, data in blocks_of(poster.answer())) == 1
        works(sim, poster)


def test_unknown_events() -> None:
    with simulator("unknown_events") as sim, posting(sim) as poster:
        events = poster.turn()
        assert {"keepalive", "codex.rate_limits"} <= set(types(events))
        assert text_of(events) == TEXT
        works(sim, poster)


def test_second_terminal() -> None:
    with simulator("second_terminal") as sim, posting(sim) as poster:
        assert types(poster.turn())[-2:] == ["completed", "completed"]
        works(sim, poster)


@pytest.mark.parametrize("name", ["split_every_byte", "coalesce"])
def test_the_bytes_are_the_same_however_they_are_cut(name: str) -> None:
    with simulator(name) as sim, posting(sim) as poster:
        assert poster.text() == TEXT
        works(sim, poster)


def test_coalesce_writes_all_events_at_once() -> None:
    """A pause between two events is not kept."""
    replies = [Reply.text(TEXT).paced(60)]
    with Simulator(replies, faults=[FAULTS["coalesce"]()]) as sim, posting(sim) as poster:
        assert poster.text() == TEXT


def test_other_sse_forms() -> None:
    with simulator("other_sse_forms") as sim, posting(sim) as poster:
        poster.create()
        answer = poster.answer()
        raw = answer.read()
        assert all(form in raw for form in (b": keepalive\r\n", b"\r\nid: 7\r\n", b"\r\ndata:{\r\ndata:"))
    with simulator("other_sse_forms") as sim, posting(sim) as poster:
        assert poster.text() == TEXT
        works(sim, poster)


# All.


@pytest.mark.parametrize("name", sorted(set(FAULTS) - WEBSOCKET_ONLY))
def test_a_patient_client_survives_every_fault(name: str) -> None:
    """Whatever comes first, the fault is used up, and a turn without it runs."""
    fault: Fault = FAULTS[name]()
    with Simulator([Reply.text(TEXT)], faults=[fault]) as sim, httpx.Client(trust_env=False, timeout=0.3) as client:
        body: dict[str, Any] = {"model": "m", "input": "x", "stream": True}
        if fault.continuation:
            body["previous_response_id"] = "resp_x"
        with contextlib.suppress(httpx.TransportError):
            client.post(f"{sim.base_url}/responses", json=body)
        assert sim.armed == []
        body.pop("previous_response_id", None)
        client.timeout = httpx.Timeout(within(5))
        assert b"response.completed" in client.post(f"{sim.base_url}/responses", json=body).content


def test_both_ways_fail_apart() -> None:
    faults = [FAULTS["refuse_upgrade"](426, times=None), FAULTS["cut_mid_text"](on_via="http")]
    with Simulator(lambda turn: Reply.text(TEXT), faults=faults) as sim:
        with pytest.raises(websocket.WebSocketBadStatusException):
            Client(sim)
        with posting(sim) as poster:
            assert types(until_lost(poster))[-1] == "output_text.delta"
        with posting(sim) as poster:
            assert poster.text() == TEXT
