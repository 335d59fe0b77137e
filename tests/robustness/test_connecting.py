"""Every step of opening a socket that never ends: `connect_timeout` bounds the whole, and a cancel is heard meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pixir_actors import Client, Delivery, ErrorCode, Request, StreamError
from pixir_actors.simulator import FAULTS, Simulator
from tests.conftest import until, within


def request(url: str) -> Request:
    return Request(url, {}, {"model": "m", "input": [{"role": "user", "content": "hello"}]})


@contextlib.contextmanager
def full_port() -> Iterator[str]:
    """A TCP port that answers nothing: its queue of new connections is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/responses"


@contextlib.contextmanager
def silent_port(scheme: str) -> Iterator[str]:
    """A port that accepts and says nothing: to a TLS client hello, or to an upgrade."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v1/responses"


@contextlib.contextmanager
def dripping_upgrade() -> Iterator[str]:
    with Simulator() as sim:
        sim.inject(FAULTS["drip_upgrade"](0.05, times=None))
        yield sim.url


STALLS = {
    "a TCP port": full_port,
    "a TLS peer": lambda: silent_port("wss"),
    "an upgrade": lambda: silent_port("ws"),
    "an upgrade that drips": dripping_upgrade,
}


@pytest.mark.parametrize("stall", STALLS)
def test_connect_timeout_bounds_the_whole(client: Client, key: str, stall: str) -> None:
    with STALLS[stall]() as url:
        began = time.monotonic()
        with client.stream(key, request(url), connect_timeout=0.5) as stream, pytest.raises(StreamError) as ended:
            for _ in stream:
                pass
        took = time.monotonic() - began
    assert (ended.value.code, ended.value.delivery) == (ErrorCode.WEBSOCKET_CONNECT_TIMEOUT, Delivery.NOT_SENT)
    assert 0.4 < took < within(2)


@pytest.mark.parametrize("stall", STALLS)
def test_status_and_cancel_are_heard_while_connecting(client: Client, key: str, stall: str) -> None:
    with STALLS[stall]() as url, client.stream(key, request(url), connect_timeout=60) as stream:
        assert until(lambda: [status.state for status in client.status(key)] == ["connecting"])
        began = time.monotonic()
        client.close(key)
        with pytest.raises(StreamError) as ended:
            for _ in stream:
                pass
        assert time.monotonic() - began < within(2)
    assert (ended.value.code, ended.value.delivery) == (ErrorCode.CANCELLED, Delivery.NOT_SENT)


def test_leaving_a_stream_that_is_connecting_frees_its_key_at_once(client: Client, key: str) -> None:
    with silent_port("ws") as url:
        with client.stream(key, request(url), connect_timeout=60):
            assert until(lambda: [status.state for status in client.status(key)] == ["connecting"])
        assert until(lambda: [status.state for status in client.status(key)] == ["disconnected"], 2)


def test_a_name_server_that_never_answers_is_bounded_too(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    # In this process, where the look-up can be made to hang: the helper thread hangs, the actor does not.
    released = threading.Event()
    threads = set(threading.enumerate())
    genuine = socket.getaddrinfo

    def hang(host: str, *rest: object, **more: object) -> object:
        if host == "provider.invalid":
            released.wait(within(30))
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return genuine(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with Client.local() as local:
            began = time.monotonic()
            with (
                local.stream(key, request("wss://provider.invalid/v1/responses"), connect_timeout=0.5) as stream,
                pytest.raises(StreamError) as ended,
            ):
                for _ in stream:
                    pass
            assert ended.value.code is ErrorCode.WEBSOCKET_CONNECT_TIMEOUT
            assert time.monotonic() - began < within(2)
    finally:
        released.set()
    assert until(lambda: not set(threading.enumerate()) - threads), "the helper thread goes on"
