"""The simulator over HTTP: the same conversations, as a POST and a stream of events or one object."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from typing import Any

import httpx
import pytest
import websocket

from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext, same_history
from tests.conftest import until, within
from tests.simulator.client import TOOL, Client, connected, raw_connection, text_of, types
from tests.simulator.post import PATH, Poster, blocks_of, posting


def test_a_post_is_answered_by_the_events_that_a_websocket_gets() -> None:
    with Simulator([Reply.text("one two", deltas=2)] * 2) as sim, connected(sim) as client, posting(sim) as poster:
        over_websocket, over_http = client.turn(), poster.turn()
        assert types(over_http) == types(over_websocket)
        assert text_of(over_http) == "one two"
        assert [event["sequence_number"] for event in over_http] == list(range(len(over_http)))


def test_requests_and_turns_say_which_way_they_came() -> None:
    with Simulator() as sim, connected(sim) as client, posting(sim) as poster:
        client.turn("a")
        poster.turn("b")
        assert [(one.via, one.index, one.connection) for one in sim.requests] == [("websocket", 0, 0), ("http", 1, 1)]
        assert [(turn.via, turn.connection, turn.request_index) for turn in sim.turns] == [
            ("websocket", 0, 0),
            ("http", 1, 1),
        ]
        assert [turn.status for turn in sim.turns] == ["completed", "completed"]
        body = json.dumps({"model": "m", "input": "b", "stream": True})
        assert (sim.requests[1].payload, sim.requests[1].wire_bytes) == (json.loads(body), len(body))
        assert len(sim.handshakes) == 1
        assert [(one.method, one.path, one.status, one.request_index) for one in sim.http_requests] == [
            ("POST", PATH, 200, 1)
        ]
        assert sim.http_requests[0].header("CONTENT-type") == "application/json"


def test_the_oracle_is_the_same() -> None:
    with Simulator() as sim, posting(sim) as poster:
        history: list[dict[str, Any]] = [{"role": "user", "content": "use read_file"}]
        call = poster.response(history, tools=[TOOL])["output"][0]
        history += [call, {"type": "function_call_output", "call_id": call["call_id"], "output": "42"}]
        assert poster.text(history) == "The tool returned: 42"
        assert same_history(history, sim.turns[1].seen) is None
        assert sim.turns[1].output[0]["content"][0]["text"] == "The tool returned: 42"


def test_a_script_is_told_the_way() -> None:
    def script(turn: TurnContext) -> Reply:
        return Reply.text(turn.via)

    with Simulator(script) as sim, connected(sim) as client, posting(sim) as poster:
        assert (text_of(client.turn()), poster.text()) == ("websocket", "http")


def test_a_connection_is_kept_alive_and_ends_with_its_client() -> None:
    with Simulator() as sim:
        with posting(sim) as poster:
            for _ in range(3):
                poster.turn()
            assert [one.connection for one in sim.http_requests] == [0, 0, 0]
            assert (sim.open_http_connections, sim.open_connections) == (1, 0)
        sim.wait_for(lambda s: s.open_http_connections == 0, within(5))
        assert sim.closes == []


def test_a_client_that_wants_the_connection_closed_gets_it() -> None:
    with Simulator() as sim, posting(sim) as poster:
        poster.send({"model": "m", "stream": True}, headers={"Connection": "close"})
        response = poster.answer()
        response.read()
        assert response.headers["connection"] == "close"
        sim.wait_for(lambda s: s.open_http_connections == 0, within(5))


def test_requests_that_were_sent_ahead_are_answered_in_order() -> None:
    body = b'{"model":"m","input":"%s","stream":true}'
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        for name in (b"one", b"two"):
            data = body % name
            raw.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        received = b""
        while received.count(b"0\r\n\r\n") < 2:
            received += raw.recv(65536)
        assert received.count(b"HTTP/1.1 200 ") == 2
        assert 0 < received.index(b"You said") < received.index(b"HTTP/1.1 200 ", 1)
        assert sim.overlaps == []


@pytest.mark.parametrize("done", [False, True])
def test_the_stream_ends_with_done_where_that_is_wanted(done: bool) -> None:
    with Simulator(sse_done=done) as sim, posting(sim) as poster:
        for _ in range(2):
            poster.create()
            blocks = list(blocks_of(poster.answer()))
            assert (blocks[-1] == ("", b"[DONE]")) is done
            assert sum(name == "response.completed" for name, _ in blocks) == 1


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream": None}])
def test_without_stream_the_answer_is_one_response(fields: dict[str, Any]) -> None:
    with Simulator(sse_done=True) as sim, posting(sim) as poster:
        poster.send({"model": "m", "input": "x"} | fields)
        answer = poster.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        response = json.loads(answer.read())
        assert (response["object"], response["status"]) == ("response", "completed")
        assert response["output"][0]["content"][0]["text"] == "You said: x"
        assert (sim.turns[0].status, sim.turns[0].response_id) == ("completed", response["id"])


# Continuation.


def test_only_a_stored_response_can_be_continued_on_whatever_connection() -> None:
    with Simulator(cache="all") as sim, connected(sim) as client, posting(sim) as poster:
        kept, lost = poster.response("a", store=True)["id"], poster.response("b")["id"]
        local = client.response("c")["id"]
        for unknown in (lost, local, "resp_unknown"):
            status, error = poster.refused(previous_response_id=unknown)
            assert (status, error["code"], error["param"]) == (
                400,
                "previous_response_not_found",
                "previous_response_id",
            )
        with posting(sim) as other:
            other.turn("d", previous_response_id=kept)
        assert [len(turn.seen) for turn in sim.turns] == [1, 1, 1, 3]
        client.turn("e", previous_response_id=kept)
        assert len(sim.turns[-1].seen) == 3
        assert len(sim.requests) == 8, "those that were refused have come, too"


def test_an_error_does_not_evict_what_is_stored() -> None:
    replies = [Reply.text("x"), Reply.error(500, "server_error", "x"), Reply.failed("server_error", "x")]
    with Simulator(replies) as sim, posting(sim) as poster:
        kept = poster.response(store=True)["id"]
        poster.refused(previous_response_id=kept)
        assert types(poster.turn(previous_response_id=kept))[-1] == "failed"
        assert types(poster.turn(previous_response_id=kept))[-1] == "completed"


def test_eviction_reaches_what_is_stored() -> None:
    with Simulator() as sim, posting(sim) as poster:
        kept = poster.response(store=True)["id"]
        sim.evict(kept)
        assert poster.refused(previous_response_id=kept)[0] == 400


# Errors.


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply.error(429, "c", "m", headers={"retry-after": "3"}), 429),
        (Reply.error(None, "c", "m", headers={"retry-after": 3}), 400),
        (Reply.failed("c", "m", after="nothing"), 500),
    ],
)
def test_an_error_before_any_event_is_a_status_with_a_body_and_headers(reply: Reply, status: int, stream: bool) -> None:
    with Simulator([reply]) as sim, posting(sim) as poster:
        poster.create(stream=stream)
        answer = poster.answer()
        assert answer.status == status
        error = json.loads(answer.read())["error"]
        assert (error["code"], error["message"]) == ("c", "m")
        assert answer.headers["retry-after"] == (None if status == 500 else "3")
        assert sim.turns == []
        assert [(one.status, one.request_index) for one in sim.http_requests] == [(status, 0)]
        assert poster.text("again") == "You said: again", "the connection stays"


@pytest.mark.parametrize("after", ["created", "output"])
def test_an_error_after_an_event_is_an_event(after: Any) -> None:
    replies = [Reply.error(500, "c", "m", after=after), Reply.failed("c", "m", after=after)]
    with Simulator(replies) as sim, posting(sim) as poster:
        error, failed = poster.turn()[-1], poster.turn()[-1]
        assert (error["type"], error["error"]["code"]) == ("error", "c")
        assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", "c")
        assert [turn.status for turn in sim.turns] == ["error", "failed"]


def test_without_stream_a_late_error_is_a_status_and_a_failure_a_response() -> None:
    replies = [Reply.error(503, "c", "m", after="output"), Reply.failed("c", "m")]
    with Simulator(replies) as sim, posting(sim) as poster:
        assert poster.refused(stream=False)[0] == 503
        poster.create(stream=False)
        answer = poster.answer()
        assert (answer.status, json.loads(answer.read())["status"]) == (200, "failed")
        assert [turn.status for turn in sim.turns] == ["error", "failed"]


def test_a_wrong_bearer_is_401_and_no_request() -> None:
    with Simulator(api_key="k") as sim, posting(sim) as poster:
        assert poster.refused()[1]["code"] == "invalid_api_key"
        poster.send({"model": "m", "stream": True}, headers={"Authorization": "Bearer k"})
        assert len(list(poster.opened())) > 3
        assert [(one.status, one.request_index) for one in sim.http_requests] == [(401, None), (200, 0)]
        assert len(sim.requests) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_a_body_that_is_no_object_is_400_and_no_request(body: bytes) -> None:
    with Simulator() as sim, posting(sim) as poster:
        poster.send(body)
        answer = poster.answer()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (400, "invalid_json")
        assert sim.requests == []
        assert poster.text("x") == "You said: x"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_413(chunked: bool) -> None:
    body = b"x" * 100_001
    with Simulator(max_message_bytes=100_000) as sim, httpx.Client(trust_env=False) as client:
        content: Any = iter([body[:50_000], body[50_000:]]) if chunked else body
        answer = client.post(f"{sim.base_url}/responses", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert client.post(f"{sim.base_url}/responses", json={"model": "m"}).status_code == 200
        assert len(sim.requests) == 1


@pytest.mark.parametrize(("path", "status"), [("/v1/chat", 404), ("/responses", 404), ("/v1/responses?a=b", 200)])
def test_only_the_path_that_it_names_is_served(path: str, status: int) -> None:
    with Simulator() as sim, posting(sim) as poster:
        poster.send({"model": "m"}, path=path)
        assert poster.answer().status == status
        assert sim.http_requests[0].path == path


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_another_method_on_a_kept_connection_is_405(method: str) -> None:
    with Simulator() as sim, posting(sim) as poster:
        poster.turn()
        sock = poster.connection.sock
        poster.connection.request(method, PATH)
        answer = poster.answer()
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        answer.read()
        poster.turn()
        assert [one.method for one in sim.http_requests] == ["POST", method, "POST"]
        assert poster.connection.sock is sock, "it stays"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "response.create"}, "unknown_parameter"),
        ({"generate": False}, "unknown_parameter"),
        ({"stream": 1}, "invalid_type"),
        ({"background": True}, "unsupported_parameter"),
        ({"model": None}, "missing_required_parameter"),
        ({"input": 1}, "invalid_type"),
    ],
)
def test_a_malformed_request_is_refused(fields: dict[str, Any], code: str) -> None:
    with Simulator() as sim, posting(sim) as poster:
        status, error = poster.refused(**fields)
        assert (status, error["code"]) == (400, code)
        assert (len(sim.requests), sim.turns) == (1, [])


def test_a_script_that_raises_is_500_and_is_raised_at_the_end() -> None:
    def script(turn: object) -> Reply:
        raise KeyError("broken script")

    with pytest.raises(KeyError, match="broken script"), Simulator(script) as sim, posting(sim) as poster:
        assert poster.refused()[0] == 500
        assert [(one.status, one.request_index) for one in sim.http_requests] == [(500, 0)]


def test_what_is_no_http_after_post_is_400_and_the_end() -> None:
    with Simulator() as sim, raw_connection(sim, upgrade=False) as raw:
        raw.sendall(b"POST nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"connection: close" in answer.lower()


# Verbatim events.


def test_verbatim_events_are_sent_as_they_are_and_the_body_ends() -> None:
    replies = [Reply.events([{"type": "error", "code": "c"}]), Reply.events([b'{"type":\n"keepalive"}', b"<html>"])]
    with Simulator(replies) as sim, posting(sim) as poster:
        assert poster.turn() == [{"type": "error", "code": "c"}]
        poster.create()
        assert list(blocks_of(poster.answer())) == [("keepalive", b'{"type":\n"keepalive"}'), ("", b"<html>")]
        assert [turn.status for turn in sim.turns] == ["disconnected"]


def test_without_stream_verbatim_events_need_a_response() -> None:
    whole = {"type": "response.completed", "response": {"id": "r", "output": []}}
    with Simulator([Reply.events([whole]), Reply.events([{"type": "keepalive"}])]) as sim, posting(sim) as poster:
        poster.create(stream=False)
        assert json.loads(poster.answer().read()) == whole["response"]
        assert poster.refused(stream=False)[0] == 500


# The course of an answer.


def test_the_head_comes_before_the_first_event() -> None:
    go = threading.Event()
    with Simulator([Reply.text("x").held(go, "created")]) as sim, posting(sim) as poster:
        poster.create()
        events = poster.opened()
        assert sim.turns[0].status == "in_progress"
        go.set()
        assert types(list(events))[0] == "created"


def test_an_event_comes_when_it_is_sent_and_not_with_the_next() -> None:
    go = threading.Event()
    with Simulator([Reply.text("x").held(go, "first_output")]) as sim, posting(sim) as poster:
        poster.create()
        events = poster.opened()
        assert types([next(events), next(events)]) == ["created", "in_progress"]
        go.set()
        assert types(list(events))[-1] == "completed"


def test_a_client_that_leaves_mid_stream_ends_its_turn() -> None:
    with Simulator([Reply.text("x").held(threading.Event())]) as sim:
        with posting(sim) as poster:
            poster.create()
            events = poster.opened()
            next(events)
            poster.connection.sock.shutdown(2)
        sim.wait_for(lambda s: s.open_http_connections == 0, within(5))
        assert [turn.status for turn in sim.turns] == ["disconnected"]
        del events


def test_many_posts_are_served_at_once() -> None:
    with Simulator() as sim:
        answers: list[str] = []

        def converse(number: int) -> None:
            with posting(sim) as poster:
                answers.append(poster.text(str(number)))

        threads = [threading.Thread(target=converse, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(within(10))
        assert sorted(answers) == sorted(f"You said: {number}" for number in range(20))


def test_closing_the_simulator_does_not_wait_for_a_stream() -> None:
    sim = Simulator([Reply.text("x").held(threading.Event())])
    with sim, posting(sim) as poster:
        poster.create()
        events = poster.opened()
        sim.close()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            list(events)


def test_it_is_served_while_every_upgrade_is_refused() -> None:
    with Simulator(faults=[FAULTS["refuse_upgrade"](426, times=None)]) as sim, posting(sim) as poster:
        for _ in range(2):
            with pytest.raises(websocket.WebSocketBadStatusException, match="426"):
                Client(sim)
            assert poster.text("x") == "You said: x"
        assert (len(sim.handshakes), len(sim.http_requests), len(sim.requests)) == (2, 2, 2)
        assert [fault.name for fault in sim.armed] == ["refuse_upgrade"]


def test_what_pushes_or_closes_is_for_websockets() -> None:
    with Simulator() as sim, posting(sim) as poster:
        poster.turn()
        for act in (lambda: sim.push({}), sim.ping, sim.close_connection, sim.abort_connection):
            with pytest.raises(LookupError, match="no connection is open"):
                act()


def test_the_lifetime_is_for_websockets() -> None:
    with Simulator(lifetime=0.01) as sim, posting(sim) as poster:
        poster.turn()
        assert not until(lambda: sim.open_http_connections == 0, 0.1)
        poster.turn()


@pytest.mark.parametrize("tls", [False, True])
def test_httpx_gets_it_all(tls: bool) -> None:
    with Simulator(tls=tls) as sim:
        url = f"{sim.base_url}/responses"
        verify: Any = ssl.create_default_context(cafile=sim.ca_file) if tls else False
        body = {"model": "m", "input": "x", "stream": True}
        with httpx.Client(verify=verify, trust_env=False) as client:
            for _ in range(2):
                with client.stream("POST", url, json=body) as answer:
                    names = [line for line in answer.iter_lines() if line.startswith("event: ")]
                assert (names[0], names[-1]) == ("event: response.created", "event: response.completed")
            assert client.post(url, json={"model": "m"}).json()["status"] == "completed"
        assert {one.connection for one in sim.http_requests} == {0}


def test_over_tls_both_ways_share_the_port() -> None:
    with Simulator(tls=True) as sim, connected(sim) as client, posting(sim) as poster:
        assert (text_of(client.turn("a")), poster.text("b")) == ("You said: a", "You said: b")


def test_nothing_is_logged_or_shown_of_a_post(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    with Simulator(api_key="canary") as sim:
        poster = Poster(sim)
        poster.send({"model": "m", "input": "canary"}, headers={"Authorization": "Bearer canary"})
        poster.answer().read()
        assert poster.refused("canary")[0] == 401
        poster.connection.close()
        assert "canary" not in repr([sim, sim.http_requests, sim.requests, sim.turns])
    assert not [record for record in caplog.records if "canary" in record.getMessage()]
