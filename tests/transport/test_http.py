"""HTTP with server-sent events, against scripted servers: nothing is lost, every phase can be left, nothing is told."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import trustme

from pixir_actors.errors import ErrorCode
from pixir_actors.transport import http
from pixir_actors.transport.base import Fault, Target
from pixir_actors.transport.connector import THREAD_NAME as CONNECTOR
from pixir_actors.transport.http import BUFFER_BYTES, THREAD_NAME, HttpTransport, open_http
from pixir_actors.version import __version__
from tests.conftest import until, within
from tests.transport.peer import (
    Peer,
    abort,
    anonymous,
    collect,
    header,
    outcome_of,
    read_head,
    readable,
    recv_exactly,
    target,
    wait_for_end,
)
from tests.transport.test_connector import closed_port, full_backlog
from tests.transport.test_tls import Authority
from tests.transport.test_upgrade import RecordingProxy

LOST = ErrorCode.CONNECTION_LOST
CANARY = "CANARY-77ab"
STREAM = "text/event-stream"
EVENTS = [b'{"type":"response.created"}', b'{"type":"response.completed","response":{"id":"resp_1"}}', b"[DONE]"]
SSE = b"".join(b"data: " + event + b"\n\n" for event in EVENTS)


def lost(reason: str, **more: object) -> Fault:
    return Fault(LOST, {"reason": reason, "transport": "http"} | more)  # type: ignore[arg-type]


def exchanges() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


@pytest.fixture(autouse=True)
def no_exchange_is_left(nothing_is_left_or_logged: None) -> Iterator[None]:
    yield
    assert until(lambda: not exchanges(), 2), "a helper thread is left"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return Authority(ca, str(path))


def read_request(sock: socket.socket) -> tuple[bytes, bytes]:
    head = read_head(sock)
    (size,) = header(head, "content-length")
    return head, recv_exactly(sock, int(size))


def response(status: int = 200, kind: str = STREAM, *more: str, body: bytes | None = None) -> bytes:
    """Return a response's head, and its body with its length if there is one; without, the end of the socket ends it."""
    lines = [f"HTTP/1.1 {status} Some", f"Content-Type: {kind}", *more]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b"0\r\n\r\n"


def sending(*data: bytes, then: Callable[[socket.socket], None] = wait_for_end) -> Callable[[socket.socket], None]:
    """Return a script that reads a request, sends these pieces, and waits for the client to go."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        for piece in data:
            sock.sendall(piece)
        then(sock)

    return script


def opened(at: Target) -> HttpTransport:
    transport = outcome_of(open_http(at))
    assert isinstance(transport, HttpTransport), transport
    return transport


def refused(at: Target) -> Fault:
    fault = outcome_of(open_http(at))
    assert isinstance(fault, Fault), fault
    return anonymous(fault, at) if "step" in fault.details else fault


def exchanged(script: Callable[[socket.socket], None], body: bytes = b"{}", **options: object) -> tuple[list[bytes], Fault]:
    """Make one exchange with a script to its end; return what came and how it ended."""
    with Peer(script) as peer:
        transport = opened(target(peer.url(), **options))  # type: ignore[arg-type]
        assert transport.send_text(body) is None
        received = collect(transport)
        transport.close()
    assert received.fault is not None
    return received.messages, received.fault


# What is sent.


def request_of(endpoint: str, *headers: tuple[str, str], body: bytes = b"{}") -> tuple[bytes, bytes]:
    requests: list[tuple[bytes, bytes]] = []

    def script(sock: socket.socket) -> None:
        requests.append(read_request(sock))
        sock.sendall(response(body=b""))

    with Peer(script) as peer:
        transport = opened(target(endpoint.format(peer.port), *headers))
        transport.send_text(body)
        assert collect(transport).fault == lost("eof")
        transport.close()
        head, sent = requests[0]
        return head.replace(str(peer.port).encode(), b"PORT"), sent


def test_the_request_is_one_post_to_the_endpoint_with_its_query() -> None:
    head, body = request_of("ws://127.0.0.1:{}/v1/responses?api-version=1&x=%20ä#no", body=b'{"stream":true}')
    assert head.startswith(b"POST /v1/responses?api-version=1&x=%20%C3%A4 HTTP/1.1\r\n")
    assert body == b'{"stream":true}'
    assert header(head, "host") == ["127.0.0.1:PORT"]
    assert header(head, "content-type") == ["application/json"]
    assert header(head, "accept") == [STREAM]
    assert header(head, "accept-encoding") == ["identity"], "what is packed would have to be unpacked"
    assert header(head, "user-agent") == [f"pixir-actors/{__version__}"]
    assert not header(head, "upgrade") and not header(head, "transfer-encoding")


def test_an_endpoint_without_a_path_asks_for_the_root() -> None:
    assert request_of("ws://127.0.0.1:{}")[0].startswith(b"POST / HTTP/1.1\r\n")


def test_the_callers_headers_are_sent_but_for_those_of_the_exchange() -> None:
    kept = [("Authorization", "Bearer x"), ("X-Umlaut", "ä"), ("X-Twice", "1"), ("x-twice", "2"), ("User-Agent", "mine")]
    dropped = [(name.title(), "theirs") for name in (*http.OURS, "sec-websocket-protocol")]
    head, _ = request_of("ws://127.0.0.1:{}/", *kept, *dropped)
    assert header(head, "authorization") == ["Bearer x"]
    assert header(head, "x-umlaut") == ["ä"]
    assert header(head, "x-twice") == ["1", "2"]
    assert header(head, "user-agent") == ["mine"]
    assert b"theirs" not in head


def test_neither_proxy_nor_authority_nor_password_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {CANARY}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    head, _ = request_of("ws://127.0.0.1:{}/")
    assert not header(head, "authorization")


@pytest.mark.parametrize("value", [f"{CANARY}\r\nX: y", f"{CANARY}\0", f"{CANARY}\u2028"])
def test_a_header_that_cannot_be_sent_is_a_fault_without_its_value(value: str) -> None:
    with Peer(wait_for_end) as peer:
        transport = opened(target(peer.url(), ("Authorization", value)))
        transport.send_text(b"{}")
        assert collect(transport).fault == lost("invalid_header")
        assert transport.written_bytes() == 0
        transport.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_large_body_arrives_whole(authority: Authority, tls: bool) -> None:
    body = os.urandom(5_000_000)
    bodies: list[bytes] = []

    def script(sock: socket.socket) -> None:
        bodies.append(read_request(sock)[1])
        sock.sendall(response(body=SSE))
        wait_for_end(sock)

    with Peer(script, context=authority.server() if tls else None) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        assert transport.written_bytes() == 0
        assert transport.send_text(body) is None
        assert collect(transport, messages=3).messages == EVENTS
        assert transport.written_bytes() == 1
        transport.close()
    assert bodies == [body]


@pytest.mark.parametrize("tls", [False, True])
def test_a_refusal_that_comes_before_the_body_is_read_is_heard(authority: Authority, tls: bool) -> None:
    refusing = response(413, "application/json", body=b'{"error":{"code":"too_large"}}')

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(refusing)  # and closed with most of the body unread: what is written after that fails

    with Peer(script, context=authority.server() if tls else None) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        transport.send_text(b"x" * 30_000_000)
        received = collect(transport)
        assert [orjson.loads(message)["status"] for message in received.messages] == [413]
        transport.close()


# What comes back.


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("framing", ["chunked", "length", "eof"])
def test_events_are_the_same_whatever_the_pieces_and_the_framing(size: int, framing: str) -> None:
    pieces = [SSE[at : at + size] for at in range(0, len(SSE), size)]
    if framing == "chunked":
        data = [response(200, STREAM, "Transfer-Encoding: chunked"), *map(chunk, pieces), chunk(b"")]
    elif framing == "length":
        data = [response(200, STREAM, f"Content-Length: {len(SSE)}"), *pieces]
    else:
        data = [response(), *pieces]
    messages, fault = exchanged(sending(*data, then=socket.socket.close))
    assert messages == EVENTS
    assert fault == lost("eof")


def test_informational_answers_before_the_answer_are_passed_over() -> None:
    assert exchanged(sending(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", response(body=SSE)))[0] == EVENTS


def test_broken_text_is_handed_on_untouched() -> None:
    assert exchanged(sending(response(body=b"data: \xff\xc3(\n\n")))[0] == [b"\xff\xc3("]


def test_a_body_that_is_cut_short_is_an_eof_behind_all_that_came() -> None:
    for head in (response(200, STREAM, "Transfer-Encoding: chunked"), response(200, STREAM, "Content-Length: 5000")):
        body = chunk(SSE) if b"chunked" in head else SSE
        messages, fault = exchanged(sending(head, body, b"1", then=socket.socket.close))
        assert (messages, fault) == (EVENTS, lost("eof"))


def test_a_reset_in_the_body_is_a_reset_behind_all_that_came() -> None:
    go = threading.Event()

    def then(sock: socket.socket) -> None:
        assert go.wait(within(5))
        abort(sock)

    with Peer(sending(response(), SSE, then=then)) as peer:
        transport = opened(target(peer.url()))
        transport.send_text(b"{}")
        assert collect(transport, messages=3).messages == EVENTS
        go.set()
        assert collect(transport).fault == lost("reset")
        transport.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200"])
def test_a_server_that_closes_without_an_answer_is_an_eof(answer: bytes) -> None:
    assert exchanged(sending(answer, then=socket.socket.close)) == ([], lost("eof"))


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000]
)
def test_an_answer_that_is_no_http_is_a_protocol_error(answer: bytes) -> None:
    assert exchanged(sending(answer)) == ([], lost("protocol_error"))


def test_an_event_larger_than_the_limit_is_refused_before_it_is_there() -> None:
    messages, fault = exchanged(sending(response(), SSE, b"data: " + b"x" * 2000), limit=1000)
    assert messages == EVENTS
    assert fault == Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"limit": 1000, "transport": "http"})


def test_a_packed_answer_is_refused() -> None:
    assert exchanged(sending(response(200, STREAM, "Content-Encoding: gzip", body=b"x"))) == ([], lost("content_encoding"))


def test_a_whole_answer_is_its_terminal_event() -> None:
    (message,), fault = exchanged(sending(response(200, "application/json", body=b'{"id":"resp_1"}')))
    assert orjson.loads(message) == {"type": "response.completed", "response": {"id": "resp_1"}}
    assert fault == lost("eof")


@pytest.mark.parametrize("status", [400, 401, 429, 503, 307])
@pytest.mark.parametrize("body", [b'{"error":{"code":"c"}}', b"<html>" + CANARY.encode()])
def test_a_refusal_is_an_error_event(status: int, body: bytes) -> None:
    with Peer(wait_for_end) as elsewhere:
        location = f"Location: {elsewhere.url().replace('ws:', 'http:')}"
        answer = response(status, "application/json", "Retry-After: 7", location, "Set-Cookie: a=" + CANARY, body=body)
        (message,), _ = exchanged(sending(answer))
        assert elsewhere.connections == 0, "a redirect was followed"
    event = orjson.loads(message)
    assert (event["type"], event["status"], event["headers"]) == ("error", status, {"retry-after": 7.0})
    assert event["error"].get("code") == ("c" if b"code" in body else None)
    assert CANARY.encode() not in message


def test_a_refusal_whose_body_never_ends_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ERROR_BODY_TIMEOUT", 0.2)

    def drip(sock: socket.socket) -> None:
        with pytest.raises(OSError):
            while True:
                sock.sendall(b" ")
                time.sleep(0.01)

    before = time.monotonic()
    (message,), _ = exchanged(sending(response(503, "application/json"), then=drip))
    assert orjson.loads(message)["status"] == 503
    assert time.monotonic() - before < within(2)


# No connection.


def test_no_connection_is_a_fault_with_a_word_and_its_step() -> None:
    assert refused(target(f"ws://127.0.0.1:{closed_port()}/")) == lost("refused", step="tcp")
    assert refused(target("ws://name.invalid/")).details["step"] == "name"
    with full_backlog() as port:
        fault = refused(target(f"ws://127.0.0.1:{port}/", step_timeout=0.2))
    assert fault == replace(lost("timeout", step="tcp"), code=ErrorCode.WEBSOCKET_CONNECT_TIMEOUT)


def test_certificates_are_verified(authority: Authority) -> None:
    with Peer(wait_for_end, context=authority.server()) as peer:
        fault = refused(target(peer.url()))
        assert (fault.code, fault.details["reason"]) == (LOST, "certificate_verify_failed")
    with Peer(wait_for_end, context=authority.server("other.example")) as peer:
        assert refused(target(peer.url(), ca_file=authority.file)).details["reason"] == "hostname_mismatch"
    with Peer(wait_for_end) as peer:
        assert refused(target(peer.url().replace("ws:", "wss:"), ca_file="/none")) == lost("ca_file", step="tls")
        assert peer.connections == 0


def test_a_proxy_tunnels_and_a_refusing_ones_password_is_not_told(authority: Authority) -> None:
    proxy = RecordingProxy()
    with Peer(sending(response(body=SSE)), context=authority.server()) as peer, Peer(proxy) as front:
        url = f"http://user:{CANARY}@127.0.0.1:{front.port}"
        transport = opened(target(peer.url(), ("Authorization", CANARY), ca_file=authority.file, proxy=url))
        transport.send_text(b"{}")
        assert collect(transport).messages == EVENTS
        transport.close()
    assert header(proxy.heads[0], "proxy-authorization") and CANARY.encode() not in proxy.heads[0]
    no = RecordingProxy(b"HTTP/1.1 407 " + CANARY.encode() + b"\r\n\r\n")
    with Peer(no) as front:
        fault = refused(target("wss://far.example/", proxy=f"http://user:{CANARY}@127.0.0.1:{front.port}"))
    assert fault == lost("proxy_refused", step="proxy", status=407)


def test_without_the_client_library_the_fault_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpcore", None)
    with Peer(wait_for_end) as peer:
        fault = refused(target(peer.url()))
    assert (fault.code, fault.details["reason"]) == (LOST, "no_http_client")
    assert "pixir_actors[http]" in str(fault.details["advice"])


def test_the_client_library_is_imported_with_the_first_exchange_only() -> None:
    code = "import sys, pixir_actors.transport.http; print([name for name in sys.modules if name.startswith('http')])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=within(20)).stdout
    assert b"httpcore" not in printed


# The actor's pace.


def test_a_slow_actor_holds_the_server_back_and_nothing_is_lost() -> None:
    event = b'{"n":"' + b"x" * 10_000 + b'"}'
    many = 5_000  # 50 MB
    sent = [0]

    def then(sock: socket.socket) -> None:
        for _ in range(many):
            sock.sendall(b"data: " + event + b"\n\n")
            sent[0] += 1

    with Peer(sending(response(), then=then)) as peer:
        transport = opened(target(peer.url()))
        transport.send_text(b"{}")
        assert until(lambda: transport._buffered >= BUFFER_BYTES)
        before = -1
        while before != sent[0]:  # until the server stands still
            before = sent[0]
            time.sleep(0.2)
        assert sent[0] < many, "the server was not held back"
        assert transport._buffered < BUFFER_BYTES + 200_000
        received = collect(transport)
        assert received.messages == [event] * many
        assert received.fault == lost("eof")
        transport.close()


def test_a_slice_is_bounded_and_says_when_more_is_there() -> None:
    with Peer(sending(response(), b"data: 12345\n\n" * 10)) as peer:
        transport = opened(target(peer.url()))
        transport.send_text(b"{}")
        assert until(lambda: transport._buffered == 50)
        first = transport.receive(max_messages=4, max_bytes=1000)
        assert (len(first.messages), first.frames, first.more, first.fault) == (4, 4, True, None)
        second = transport.receive(max_messages=100, max_bytes=11)
        assert (len(second.messages), second.more) == (3, True)
        assert len(transport.receive(max_messages=100, max_bytes=100).messages) == 3
        rest = transport.receive(max_messages=100, max_bytes=100)
        assert (rest.messages, rest.frames, rest.more, rest.fault) == ([], 0, False, None)
        assert not readable(transport.fileno(), 0.05), "a descriptor that stays readable spins the actor"
        transport.close()


def test_the_fault_stays_and_comes_with_the_last_slice_only() -> None:
    with Peer(sending(response(body=SSE))) as peer:
        transport = opened(target(peer.url()))
        transport.send_text(b"{}")
        assert until(lambda: not exchanges())
        assert transport.receive(max_messages=2, max_bytes=1000).fault is None
        assert transport.receive(max_messages=2, max_bytes=1000).fault == lost("eof")
        assert transport.receive(max_messages=2, max_bytes=1000).fault == lost("eof")
        assert transport.ping(b"p") is None and transport.flush() is None and transport.pending_bytes() == 0
        transport.close()


# Leaving.


def assert_closing_ends_the_thread(transport: HttpTransport) -> None:
    before = time.monotonic()
    transport.close(1000)
    assert time.monotonic() - before < within(0.2), "close waits"
    for thread in exchanges():
        thread.join(within(1))
    assert not exchanges(), "the thread outlives its transport"
    assert transport.fileno() == -1
    transport.close()
    received = transport.receive(max_messages=1, max_bytes=1)
    assert not received.messages and received.fault is not None
    assert transport.send_text(b"") is not None


def test_connecting_can_be_left() -> None:
    with full_backlog() as port:
        connector = open_http(target(f"ws://127.0.0.1:{port}/"))
        before = time.monotonic()
        connector.abandon()
        assert time.monotonic() - before < within(0.2), "abandon waits"
        assert connector.fileno() == -1
        assert until(lambda: CONNECTOR not in {thread.name for thread in threading.enumerate()}, 1)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("phase", ["unused", "writing", "waiting", "reading", "full", "refusal"])
def test_every_phase_of_an_exchange_can_be_left(authority: Authority, tls: bool, phase: str) -> None:
    reached = threading.Event()

    def script(sock: socket.socket) -> None:
        if phase in ("unused", "writing"):
            assert reached.wait(within(5))
            return
        read_request(sock)
        if phase == "refusal":
            sock.sendall(response(503, "application/json") + b"{")
        elif phase != "waiting":
            sock.sendall(response() + SSE)
        reached.set()
        while phase == "full":
            sock.sendall(b"data: " + b"x" * 10_000 + b"\n\n")
        wait_for_end(sock)

    with Peer(script, context=authority.server() if tls else None) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        if phase != "unused":
            assert transport.send_text(b"x" * (30_000_000 if phase == "writing" else 10)) is None
        if phase == "writing":
            assert until(lambda: transport.written_bytes() == 1)
        elif phase == "full":
            assert until(lambda: transport._buffered >= BUFFER_BYTES)
        elif phase != "unused":
            assert reached.wait(within(5))
        time.sleep(0.05)  # the thread is in its wait, or about to be: both must end
        assert_closing_ends_the_thread(transport)
        reached.set()


def test_a_server_that_does_not_read_ends_the_exchange_with_the_time_for_sending() -> None:
    done = threading.Event()
    with Peer(lambda sock: done.wait(within(10)) and None) as peer:
        at = target(peer.url(), step_timeout=20, send_timeout=0.3)
        transport = opened(at)
        transport.send_text(b"x" * 30_000_000)
        late = {"reason": "timeout", "limit_s": at.send_timeout, "transport": "http"}
        assert collect(transport).fault == Fault(ErrorCode.WEBSOCKET_SEND_TIMEOUT, late)
        assert transport.written_bytes() == 1
        transport.close()
        done.set()


def test_a_server_that_reads_slowly_has_one_limit_for_all_of_the_request() -> None:
    """Each piece is taken in good time, and all of them are not."""

    def sip(sock: socket.socket) -> None:
        sock.settimeout(within(10))
        with suppress(OSError):
            while sock.recv(128 * 1024):
                time.sleep(0.01)

    with Peer(sip) as peer:
        transport = opened(target(peer.url(), send_timeout=0.3))
        began = time.monotonic()
        transport.send_text(b"x" * 60_000_000)
        fault = collect(transport).fault
        assert fault is not None and fault.code is ErrorCode.WEBSOCKET_SEND_TIMEOUT
        assert time.monotonic() - began < within(2)
        transport.close()


def test_closing_from_the_actors_thread_races_with_every_end() -> None:
    with Peer(sending(response(body=SSE))) as peer:
        for pause in (0, 0, 0.001, 0.002, 0.003, 0.005) * 5:
            transport = opened(target(peer.url()))
            transport.send_text(b"{}")
            time.sleep(pause)
            transport.close()


def test_a_system_without_threads_left_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def script(sock: socket.socket) -> None:
        begun.set()
        wait_for_end(sock)

    with Peer(script) as peer:
        transport = opened(target(peer.url()))
        assert begun.wait(within(5)), "the server needs its own threads"

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            assert transport.send_text(b"{}") == lost("no_thread")
        transport.close()


def test_only_one_request_goes_over_a_transport() -> None:
    with Peer(sending(response(body=SSE))) as peer:
        transport = opened(target(peer.url()))
        transport.send_text(b"{}")
        assert transport.send_text(b"{}") is not None
        assert collect(transport).messages == EVENTS
        transport.close()


def test_the_helper_thread_cannot_keep_the_process_alive() -> None:
    with Peer(wait_for_end) as peer:
        transport = opened(target(peer.url()))
        transport.send_text(b"{}")
        assert [thread.daemon for thread in exchanges()] == [True]
        transport.close()


# What is told to nobody.


def test_no_token_prompt_or_password_is_in_a_repr_or_fault() -> None:
    with Peer(sending(response(200, STREAM, "Set-Cookie: " + CANARY), SSE, then=abort)) as peer:
        connector = open_http(target(peer.url() + f"?key={CANARY}", ("Authorization", CANARY)))
        assert CANARY not in repr(connector)
        assert readable(connector.fileno(), 5)
        transport = connector.result()
        connector.abandon()
        assert isinstance(transport, HttpTransport)
        transport.send_text(CANARY.encode())
        received = collect(transport)
        assert CANARY not in repr(transport) + repr(received.fault) + repr(vars(transport).get("_fault"))
        transport.close()


def test_a_hosts_own_log_of_the_client_library_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    exchanged(sending(response(body=SSE)))
    assert not caplog.records, "the exchange is logged"
    logging.getLogger("httpcore.http11").debug("the host's own")
    assert [record.message for record in caplog.records] == ["the host's own"]
    caplog.clear()


def test_the_filter_does_not_pile_up_and_no_level_is_changed() -> None:
    logger = logging.getLogger("httpcore.http11")
    exchanged(sending(response(body=SSE)))
    exchanged(sending(response(body=SSE)))
    assert len(logger.filters) == 1
    assert (logger.level, logger.handlers, logger.propagate) == (logging.NOTSET, [], True)
    assert not logging.getLogger("httpcore").filters


