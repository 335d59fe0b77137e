"""The helper thread: every step can be left, and nothing is lost when it is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Connector, Fault, Target
from pixir_actors.transport.connector import THREAD_NAME, HelperThread
from pixir_actors.transport.websocket import WebSocketTransport, open_websocket
from tests.conftest import until, within
from tests.transport.peer import (
    Peer,
    collect,
    opened,
    read_head,
    readable,
    refused,
    sending,
    target,
    text,
    wait_for_end,
)
from tests.transport.test_upgrade import drip

CONNECT = ErrorCode.WEBSOCKET_CONNECT_FAILED


def helper_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def assert_it_ends_when_abandoned(connector: Connector) -> None:
    (thread,) = helper_threads()
    before = time.monotonic()
    connector.abandon()
    assert time.monotonic() - before < within(0.2), "abandon waits"
    thread.join(within(1))
    assert not thread.is_alive(), "the thread outlives its connector"
    assert connector.fileno() == -1
    connector.abandon()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port that takes no further connection: its SYNs stay unanswered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        try:
            while True:
                filler = socket.socket()
                fillers.append(filler)
                filler.settimeout(0.1)
                filler.connect(listener.getsockname())
        except TimeoutError:
            pass
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


def test_an_opened_socket_is_announced_and_handed_over() -> None:
    with Peer(sending(text(b"hello"))) as peer:
        connector = open_websocket(target(peer.url()))
        assert readable(connector.fileno(), 5)
        transport = connector.result()
        assert isinstance(transport, WebSocketTransport)
        connector.abandon()
        assert collect(transport, messages=1).messages == [b"hello"], "abandon after the result leaves the socket alone"
        transport.close()


def test_a_result_can_be_taken_once_and_not_before_the_end() -> None:
    with Peer(wait_for_end) as peer:
        connector = open_websocket(target(peer.url()))
        with pytest.raises(RuntimeError):
            connector.result()
        connector.abandon()
        with pytest.raises(RuntimeError):
            connector.result()


def test_the_helper_thread_cannot_keep_the_process_alive() -> None:
    with Peer(wait_for_end) as peer:
        connector = open_websocket(target(peer.url()))
        assert [thread.daemon for thread in helper_threads()] == [True]
        connector.abandon()


def test_the_end_is_announced_even_while_a_forked_process_has_the_descriptors() -> None:
    go = threading.Event()

    def script(sock: socket.socket) -> None:
        assert go.wait(within(5))
        sending(b"")(sock)

    with Peer(script) as peer:
        connector = HelperThread(target(peer.url()), lambda sock, at: WebSocketTransport(sock, at.max_message_bytes))
        with connector._wake.dup():
            go.set()
            assert readable(connector.fileno(), 5)
        connector.abandon()


def test_small_frames_are_not_held_back_by_the_kernel() -> None:
    with Peer(sending(b"")) as peer:
        transport = opened(target(peer.url()))
        assert transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()


def test_a_connector_without_step_timeout_opens_too() -> None:
    with Peer(sending(b"")) as peer:
        opened(target(peer.url(), step_timeout=None)).close()


# What goes wrong.


def test_a_closed_port_is_refused() -> None:
    fault = refused(target(f"ws://127.0.0.1:{closed_port()}/"))
    assert fault == Fault(CONNECT, {"reason": "refused", "step": "tcp"})


def test_a_name_that_does_not_exist_is_nxdomain() -> None:
    fault = refused(target("ws://name.invalid/"))
    assert (fault.code, fault.details["step"]) == (CONNECT, "name")
    # a host without any name server says that the look-up failed instead
    assert fault.details["reason"] in ("nxdomain", "name_lookup_failed")


@pytest.mark.parametrize("endpoint", ["ws://" + "a" * 70 + ".example/", "wss://./", "http://127.0.0.1/", "ws:///"])
def test_a_host_that_cannot_be_asked_for_is_a_fault(endpoint: str) -> None:
    fault = refused(target(endpoint))
    assert fault.code == CONNECT
    assert fault.details["reason"] in ("invalid_host", "nxdomain", "name_lookup_failed")


def test_a_port_that_never_answers_ends_with_its_step() -> None:
    with full_backlog() as port:
        fault = refused(target(f"ws://127.0.0.1:{port}/", step_timeout=0.2))
    assert fault == Fault(ErrorCode.WEBSOCKET_CONNECT_TIMEOUT, {"reason": "timeout", "step": "tcp"})


def resolving_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Make every name stand for these ports of 127.0.0.1, in this order."""
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(*kind, ("127.0.0.1", port)) for port in ports])


def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(sending(b"")) as peer:
        resolving_to(monkeypatch, closed_port(), peer.port)
        opened(target("ws://two.example/")).close()


def test_a_black_hole_leaves_time_for_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(sending(b"")) as peer, full_backlog() as port:
        resolving_to(monkeypatch, port, peer.port)
        before = time.monotonic()
        opened(target("ws://two.example/", step_timeout=0.6)).close()
        assert time.monotonic() - before < within(0.5), "the first address had all the time"


def test_the_last_addresss_failure_is_told_when_all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_backlog() as port:
        resolving_to(monkeypatch, port, closed_port())
        assert refused(target("ws://two.example/", step_timeout=0.2)).details["reason"] == "refused"


def test_whatever_goes_wrong_in_the_thread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sock: socket.socket, at: Target) -> WebSocketTransport:
        raise KeyError("CANARY")

    with Peer(sending(b"")) as peer:
        connector = HelperThread(target(peer.url()), broken)
        assert readable(connector.fileno(), 5)
        fault = connector.result()
        assert fault == Fault(CONNECT, {"reason": "KeyError", "step": "upgrade", "host": f"127.0.0.1:{peer.port}"})
        connector.abandon()


def test_a_system_without_threads_left_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        connector = open_websocket(target("ws://127.0.0.1:9/"))
    assert readable(connector.fileno(), 1)
    assert connector.result() == Fault(CONNECT, {"reason": "no_thread"})
    connector.abandon()


# Giving up.


def after_request(sock: socket.socket) -> None:
    read_head(sock)
    drip(sock)


@pytest.mark.parametrize("step_timeout", [None, 10.0])
@pytest.mark.parametrize("script", [wait_for_end, after_request])
def test_an_upgrade_that_never_ends_is_left(
    script: Callable[[socket.socket], None], step_timeout: float | None
) -> None:
    with Peer(script) as peer:
        connector = open_websocket(target(peer.url(), step_timeout=step_timeout))
        assert until(lambda: peer.connections)
        assert_it_ends_when_abandoned(connector)


@pytest.mark.parametrize("step_timeout", [None, 10.0])
def test_a_tls_handshake_that_never_ends_is_left(step_timeout: float | None) -> None:
    with Peer(wait_for_end) as peer:
        connector = open_websocket(target(peer.url().replace("ws:", "wss:"), step_timeout=step_timeout))
        assert until(lambda: peer.connections)
        assert_it_ends_when_abandoned(connector)


def test_a_proxy_that_never_answers_is_left() -> None:
    with Peer(wait_for_end) as peer:
        connector = open_websocket(target("ws://127.0.0.1:9/", proxy=f"http://127.0.0.1:{peer.port}"))
        assert until(lambda: peer.connections)
        assert_it_ends_when_abandoned(connector)


@pytest.mark.parametrize("step_timeout", [None, 10.0])
def test_a_port_that_never_answers_is_left(step_timeout: float | None) -> None:
    with full_backlog() as port:
        connector = open_websocket(target(f"ws://127.0.0.1:{port}/", step_timeout=step_timeout))
        assert until(lambda: connector._sock is not None)  # type: ignore[attr-defined]
        time.sleep(0.05)  # well into connect(), which shows nowhere
        assert_it_ends_when_abandoned(connector)


def test_a_name_look_up_goes_on_alone_and_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def slow(*args: object, **options: object) -> object:
        asked.set()
        assert answer.wait(within(5))
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with Peer(wait_for_end) as peer:
        connector = open_websocket(target(peer.url()))
        assert asked.wait(within(5))
        before = time.monotonic()
        connector.abandon()
        assert time.monotonic() - before < within(0.2)
        answer.set()
        assert until(lambda: not helper_threads())
        assert peer.connections == 0


def test_a_socket_that_opened_unseen_is_closed_when_abandoned() -> None:
    ended = threading.Event()

    def script(sock: socket.socket) -> None:
        sending(b"")(sock)
        ended.set()

    with Peer(script) as peer:
        connector = open_websocket(target(peer.url()))
        assert readable(connector.fileno(), 5)
        connector.abandon()
        assert ended.wait(within(5)), "the server still has its connection"


def test_a_connector_that_is_forgotten_closes_what_it_opened() -> None:
    ended = threading.Event()

    def script(sock: socket.socket) -> None:
        sending(b"")(sock)
        ended.set()

    with Peer(script) as peer:
        connector = open_websocket(target(peer.url()))
        assert readable(connector.fileno(), 5)
        del connector
        assert ended.wait(within(5))


def test_abandoning_at_any_moment_leaks_nothing() -> None:
    with Peer(sending(b"")) as peer:
        for moment in range(60):
            connector = open_websocket(target(peer.url()))
            time.sleep(moment * 0.00005)  # from before the first step to after the last
            connector.abandon()
        assert until(lambda: not helper_threads())
    # `nothing_is_left_or_logged` counts descriptors
