"""The upgrade and the CONNECT before it, against scripted servers and proxies."""

from __future__ import annotations

import logging
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import websocket

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.upgrade import MAX_HEAD_BYTES, OURS, Proxy
from pixir_actors.version import __version__
from tests.conftest import within
from tests.transport.peer import (
    Peer,
    abort,
    accepted,
    answering,
    collect,
    header,
    opened,
    read_head,
    refused,
    sending,
    serving,
    target,
    text,
    wait_for_end,
)

HANDSHAKE = ErrorCode.WEBSOCKET_HANDSHAKE_FAILED
CONNECT = ErrorCode.WEBSOCKET_CONNECT_FAILED
CANARY = "CANARY-5e3a"


def head_of(endpoint: str, *headers: tuple[str, str]) -> bytes:
    """Return the upgrade request that a server sees; `endpoint` has a `{}` for the port."""
    heads: list[bytes] = []

    def script(sock: socket.socket) -> None:
        heads.append(read_head(sock))
        sock.sendall(accepted(heads[0]))
        wait_for_end(sock)

    with Peer(script) as peer:
        opened(target(endpoint.format(peer.port), *headers)).close()
        return heads[0].replace(str(peer.port).encode(), b"PORT")


# What is sent.


def test_the_request_asks_for_the_endpoint_with_its_query() -> None:
    head = head_of("ws://127.0.0.1:{}/v1/responses?api-version=1&x=%20")
    assert head.startswith(b"GET /v1/responses?api-version=1&x=%20 HTTP/1.1\r\n")
    assert header(head, "host") == ["127.0.0.1:PORT"]
    assert header(head, "upgrade") == ["websocket"]
    assert header(head, "connection") == ["Upgrade"]
    assert header(head, "sec-websocket-version") == ["13"]
    assert header(head, "user-agent") == [f"pixir-actors/{__version__}"]
    assert not header(head, "origin") and not header(head, "sec-websocket-extensions")


def test_an_endpoint_without_a_path_asks_for_the_root_and_other_letters_are_quoted() -> None:
    assert head_of("ws://127.0.0.1:{}").startswith(b"GET / HTTP/1.1\r\n")
    assert head_of("ws://127.0.0.1:{}/ä?q=ö").startswith(b"GET /%C3%A4?q=%C3%B6 HTTP/1.1\r\n")


def test_the_callers_headers_are_sent_but_for_those_of_the_handshake() -> None:
    kept = [
        ("Authorization", "Bearer x"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("USER-AGENT", "mine"),
        ("Cookie", "a=b"),
    ]
    names = ["Sec-WebSocket-Key", "sec-websocket-protocol", "SEC-WEBSOCKET-EXTENSIONS", *OURS, *map(str.upper, OURS)]
    head = head_of("ws://127.0.0.1:{}/", *kept, *((name, "caller") for name in names), ("X-Latin", "grün"))
    assert b"caller" not in head
    assert header(head, "x-twice") == ["1", "2"]
    assert header(head, "user-agent") == ["mine"]
    assert header(head, "cookie") == ["a=b"]
    assert header(head, "authorization") == ["Bearer x"]
    assert header(head, "x-latin") == ["grün"]


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "snow\N{SNOWMAN}"])
def test_a_header_that_cannot_be_sent_is_a_fault(value: str) -> None:
    with Peer(wait_for_end) as peer:
        assert refused(target(peer.url(), ("X", value))) == Fault(HANDSHAKE, {"reason": "invalid_header"})


def test_an_ipv6_host_is_bracketed() -> None:
    hosts: list[list[str]] = []

    def script(sock: socket.socket) -> None:
        head = read_head(sock)
        hosts.append(header(head, "host"))
        sock.sendall(accepted(head))

    try:
        peer = Peer(script, host="::1")
    except OSError:
        pytest.skip("this host has no IPv6 loopback")
    with peer:
        opened(target(peer.url())).close()
        assert hosts == [[f"[::1]:{peer.port}"]]


# What the server answers.


def test_bytes_right_behind_the_upgrade_are_not_lost() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(accepted(read_head(sock)) + text(b"early") + text(b"bird")[:3])
        sock.sendall(text(b"bird")[3:])
        wait_for_end(sock)

    with Peer(script) as peer:
        transport = opened(target(peer.url()))
        assert collect(transport, messages=2).messages == [b"early", b"bird"]
        transport.close()


@pytest.mark.parametrize(
    ("answer", "status", "retry_after"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n\r\n", 401, None),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nCANARY", 403, None),
        (b"HTTP/1.1 404\r\n\r\n", 404, None),
        (b"HTTP/1.1 426 Upgrade Required\r\nRetry-After: soon\r\n\r\n", 426, None),
        (b"HTTP/1.1 429 Too Many\r\nretry-after:  7 \r\nContent-Length: 1000000000000\r\n\r\n", 429, 7.0),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: nonsense\r\n\r\n", 503, 0.0),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: -1\r\n\r\n", 503, None),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: " + b"9" * 5000 + b"\r\n\r\n", 503, None),
        (b"HTTP/1.1 503 \xff\xfe\r\nbroken line\r\nX: \xff\r\nRetry-After: 1\r\n\r\n", 503, 1.0),
        (b"HTTP/1.1 503 Busy\nRetry-After: 2\n\n", 503, 2.0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", 502, None),
    ],
)
def test_a_refused_upgrade_tells_its_status_and_when_to_come_back(
    answer: bytes, status: int, retry_after: float | None
) -> None:
    with Peer(answering(answer)) as peer:
        expected = Fault(HANDSHAKE, {"reason": "upgrade_refused", "status": status}, retry_after)
        assert refused(target(peer.url())) == expected


def test_a_retry_after_that_is_a_date_counts_from_now() -> None:
    def fault_for(date: str) -> Fault:
        with Peer(answering(f"HTTP/1.1 503 Busy\r\nRetry-After: {date}\r\n\r\n".encode())) as peer:
            return refused(target(peer.url()))

    later = fault_for(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)).retry_after
    assert later is not None and 60 < later <= 90
    assert fault_for("Mon, 01 Jan 2024 00:00:00 GMT").retry_after == 0.0
    assert fault_for("Mon, 01 Jan 2024 00:00:00 -0000").retry_after == 0.0
    assert fault_for("Mon, 01 Jan 2024 00:00:00 +9999999999999").retry_after is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Peer(wait_for_end) as other:
        answer = f"HTTP/1.1 {status} Moved\r\nLocation: {other.url()}\r\n\r\n".encode()
        with Peer(answering(answer)) as peer:
            fault = refused(target(peer.url(), ("Authorization", CANARY)))
        assert fault == Fault(HANDSHAKE, {"reason": "upgrade_refused", "status": status})
        assert (peer.connections, other.connections) == (1, 0)


def good(head: bytes) -> bytes:
    return accepted(head)


@pytest.mark.parametrize(
    "answer",
    [
        lambda head: accepted(head, accept="d3Jvbmc="),
        lambda head: accepted(head).replace(b"Sec-WebSocket-Accept", b"X-Other"),
        lambda head: accepted(head).replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        lambda head: accepted(head).replace(b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"),
        lambda head: accepted(head, "Sec-WebSocket-Extensions: permessage-deflate"),
        lambda head: b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        lambda head: b"HTTP/1.1 CANARY\r\n\r\n",
        lambda head: b"\r\n\r\n",
        lambda head: b"\xff\xff\xff\xff\n\n",
    ],
)
def test_an_answer_that_is_no_upgrade_is_refused(answer: Callable[[bytes], bytes]) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(answer(read_head(sock)))
        wait_for_end(sock)

    with Peer(script) as peer:
        assert refused(target(peer.url())) == Fault(HANDSHAKE, {"reason": "bad_upgrade"})


@pytest.mark.parametrize("line", [b"X: " + b"y" * 100 + b"\r\n", b"z" * 1000])
def test_an_endless_answer_is_given_up_after_64_kib(line: bytes) -> None:
    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + line * (2 * MAX_HEAD_BYTES // len(line)))
        wait_for_end(sock)

    with Peer(script) as peer:
        assert refused(target(peer.url())) == Fault(HANDSHAKE, {"reason": "head_too_large"})


def cut(sock: socket.socket) -> None:
    read_head(sock)
    sock.sendall(b"HTTP/1.1 101 Swi")


def reset(sock: socket.socket) -> None:
    read_head(sock)
    abort(sock)


@pytest.mark.parametrize(("script", "reason"), [(cut, "eof"), (read_head, "eof"), (reset, "reset")])
def test_a_socket_that_breaks_during_the_upgrade_is_a_failed_connect(
    script: Callable[[socket.socket], None], reason: str
) -> None:
    with Peer(script) as peer:
        assert refused(target(peer.url())) == Fault(CONNECT, {"reason": reason, "step": "upgrade"})


def drip(sock: socket.socket) -> None:
    """Answer a byte at a time, without an end."""
    try:
        while True:
            sock.sendall(b"H")
            time.sleep(0.01)
    except OSError:
        pass


@pytest.mark.parametrize("script", [wait_for_end, drip])
def test_an_upgrade_that_never_answers_or_drips_ends_with_its_step(script: Callable[[socket.socket], None]) -> None:
    with Peer(script) as peer:
        before = time.monotonic()
        fault = refused(target(peer.url(), step_timeout=0.2))
        assert time.monotonic() - before < within(2)
    assert fault == Fault(ErrorCode.WEBSOCKET_CONNECT_TIMEOUT, {"reason": "timeout", "step": "upgrade"})


# What must not get out, or in.


def test_no_secret_reaches_a_fault_or_websocket_clients_trace(caplog: pytest.LogCaptureFixture) -> None:
    websocket.enableTrace(True, handler=logging.NullHandler())
    try:
        answers = (f"HTTP/1.1 401 {CANARY}\r\nX: {CANARY}\r\nContent-Length: 6\r\n\r\n{CANARY}", f"{CANARY}\r\n\r\n")
        for answer in answers:
            with Peer(answering(answer.encode())) as peer:
                fault = refused(target(peer.url(f"/?token={CANARY}"), ("Authorization", CANARY), ("X-Key", CANARY)))
            assert CANARY not in repr(fault)
        with Peer(sending(b"")) as peer:
            transport = opened(target(peer.url(f"/?token={CANARY}"), ("Authorization", CANARY)))
            assert CANARY not in repr(transport)
            transport.close()
    finally:
        websocket.enableTrace(False)
    assert caplog.records, "the trace was on"
    leaked = [record for record in caplog.records if CANARY in record.getMessage()]
    assert all(record.getMessage() == f"HTTP/1.1 401 {CANARY}" or record.getMessage() == CANARY for record in leaked)
    caplog.clear()


@pytest.fixture
def cookies() -> Iterator[dict[str, object]]:
    """Give websocket-client's process-wide cookie jar, and put it back as it was."""
    jar = websocket._handshake.CookieJar.jar
    before = dict(jar)
    yield jar
    jar.clear()
    jar.update(before)


def test_cookies_are_neither_kept_nor_taken_from_other_connections(cookies: dict[str, object]) -> None:
    before = dict(cookies)
    with Peer(serving(wait_for_end, "Set-Cookie: a=b; Domain=localhost", "Set-Cookie: [malformed")) as peer:
        opened(target(peer.url(host="localhost"))).close()
    assert cookies == before
    for domain in ("127.0.0.1", "upgrade.invalid", "invalid"):
        websocket._handshake.CookieJar.add(f"foreign={CANARY}; Domain={domain}")
    head = head_of("ws://127.0.0.1:{}/")
    assert not header(head, "cookie")


# Through a proxy.


class RecordingProxy:
    """A proxy that tunnels to wherever it is told, or answers with `refusal`; `heads` is what it was asked."""

    def __init__(self, refusal: bytes | None = None) -> None:
        self.heads: list[bytes] = []
        self._refusal = refusal

    def __call__(self, sock: socket.socket) -> None:
        self.heads.append(read_head(sock))
        if self._refusal is not None:
            sock.sendall(self._refusal)
            return wait_for_end(sock)
        host, _, port = self.heads[0].split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as beyond:
            beyond.settimeout(within(10))
            sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=_pipe, args=(beyond, sock))
            back.start()
            _pipe(sock, beyond)
            back.join(within(5))
        return None


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


def test_a_proxy_tunnels_and_the_request_goes_to_the_server_only() -> None:
    proxy = RecordingProxy()
    with Peer(sending(text(b"through"))) as peer, Peer(proxy) as front:
        url = f"http://127.0.0.1:{front.port}"
        transport = opened(target(peer.url(), ("Authorization", CANARY), proxy=url))
        assert collect(transport, messages=1).messages == [b"through"]
        transport.close()
        authority = f"127.0.0.1:{peer.port}"
    assert proxy.heads == [f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()]


def test_a_proxys_credentials_are_sent_decoded() -> None:
    proxy = RecordingProxy()
    with Peer(sending(b"")) as peer, Peer(proxy) as front:
        opened(target(peer.url(), proxy=f"http://us%40er:p%3Ass@127.0.0.1:{front.port}/")).close()
    assert header(proxy.heads[0], "proxy-authorization") == ["Basic " + b64encode(b"us@er:p:ss").decode()]


@pytest.mark.parametrize(
    ("answer", "details"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\nCANARY", {"status": 407}),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", {"status": 502}),
        (b"what?\r\n\r\n", {}),
    ],
)
def test_a_proxy_that_refuses_is_named_with_its_status(answer: bytes, details: dict[str, int]) -> None:
    with Peer(wait_for_end) as peer, Peer(RecordingProxy(answer)) as front:
        fault = refused(target(peer.url(), proxy=f"http://user:{CANARY}@127.0.0.1:{front.port}"))
        assert peer.connections == 0
    assert fault == Fault(CONNECT, {"reason": "proxy_refused", "step": "proxy"} | details)


def test_behind_a_tunnel_it_is_the_server_that_is_named() -> None:
    no = answering(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    with Peer(no) as peer, Peer(RecordingProxy()) as front:
        fault = refused(target(peer.url(), proxy=f"http://127.0.0.1:{front.port}"))  # which judges the host
    assert fault.details == {"reason": "upgrade_refused", "status": 403}


def test_a_proxy_without_an_end_to_its_answer_is_given_up() -> None:
    with Peer(RecordingProxy(b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_HEAD_BYTES)) as front:
        fault = refused(target("ws://127.0.0.1:9/", proxy=f"http://127.0.0.1:{front.port}"))
    assert fault == Fault(CONNECT, {"reason": "head_too_large", "step": "proxy"})


def test_a_proxy_that_hangs_up_is_named_as_the_step() -> None:
    with Peer(read_head) as front:
        fault = refused(target("ws://127.0.0.1:9/", proxy=f"http://127.0.0.1:{front.port}"))
    assert fault == Fault(CONNECT, {"reason": "eof", "step": "proxy"})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("socks5://127.0.0.1:1080", "proxy_unsupported"),
        ("https://127.0.0.1:3128", "proxy_unsupported"),
        ("http://", "proxy_invalid"),
        ("http://host:port", "proxy_invalid"),
        ("http://[::1", "proxy_invalid"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_before_anything_is_opened(url: str, reason: str) -> None:
    with Peer(wait_for_end) as peer:
        fault = refused(target(peer.url(), proxy=url))
        assert peer.connections == 0
    assert fault == Fault(CONNECT, {"reason": reason, "step": "proxy"})


def test_a_proxy_may_be_given_without_a_scheme_or_a_port_and_does_not_print_its_password() -> None:
    assert Proxy.parse("proxy.example:3128") == Proxy("proxy.example", 3128, None)
    assert Proxy.parse("http://proxy.example") == Proxy("proxy.example", 80, None)
    assert CANARY not in repr(Proxy.parse(f"http://user:{CANARY}@proxy.example"))
    with pytest.raises(Refused):
        Proxy.parse("ftp://proxy.example")


def test_the_environments_proxies_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(wait_for_end) as front, Peer(sending(b"")) as peer:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{front.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{front.port}")
        opened(target(peer.url())).close()
        assert (front.connections, peer.connections) == (0, 1)
