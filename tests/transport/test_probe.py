"""The way to a server, step by step: what each step finds, why it fails, and that it ends in time."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.probe import Probe, Step
from tests.conftest import within
from tests.transport.peer import (
    CLOSE,
    Peer,
    answering,
    read_frame,
    read_head,
    serving,
    target,
    wait_for_end,
)
from tests.transport.test_connector import closed_port, full_backlog
from tests.transport.test_upgrade import RecordingProxy

CANARY = "CANARY-77d1"
HEADERS = (("Authorization", f"Bearer {CANARY}"),)


def walk(endpoint: str, **options: Any) -> dict[str, Step]:
    """Take all steps, up to the first that fails; check that none shows a secret."""
    steps: dict[str, Step] = {}
    with Probe(target(endpoint, *HEADERS, **options)) as probe:
        for name in probe.names:
            steps[name] = probe.take(name)
            if steps[name].fault is not None:
                break
    assert CANARY not in repr(steps)
    return steps


def failure(steps: dict[str, Step]) -> tuple[str, Any]:
    """Return the name of the step that failed and why."""
    (step,) = [step for step in steps.values() if step.fault is not None]
    assert step.fault is not None
    return step.name, step.fault.details["reason"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def context_of(authority: trustme.CA, *names: str, expires: datetime.datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=expires).configure_cert(context)
    return context


def test_a_plain_server_is_reached_in_three_steps_and_taken_leave_of() -> None:
    frames = []
    with Peer(serving(lambda sock: frames.append(read_frame(sock)))) as peer:
        steps = walk(peer.url())

    assert list(steps) == ["name", "tcp", "upgrade"]
    assert all(step.fault is None and 0 <= step.seconds < within(5) for step in steps.values())
    assert steps["name"].facts == {"host": "127.0.0.1", "addresses": ["127.0.0.1"]}
    assert steps["tcp"].facts["port"] == peer.port
    assert [attempt["address"] for attempt in steps["tcp"].facts["attempts"]] == ["127.0.0.1"]
    assert steps["upgrade"].facts == {"status": 101}
    assert frames == [(CLOSE, (1000).to_bytes(2, "big"))]


def test_a_probe_needs_a_url_and_a_clock() -> None:
    with pytest.raises(ValueError, match="WebSocket"):
        Probe(target("https://127.0.0.1/"))
    with pytest.raises(ValueError, match="step_timeout"):
        Probe(target("ws://127.0.0.1/", step_timeout=None))


# Names and addresses.


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_options: found)


def test_every_address_of_a_name_is_tried_also_after_one_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(serving(wait_for_end)) as peer:
        refusing = ("127.0.0.1", closed_port())
        resolving(monkeypatch, refusing, ("127.0.0.1", peer.port), refusing, ("127.0.0.1", peer.port))
        steps = walk("ws://many.example/")

    reasons = [attempt.get("reason") for attempt in steps["tcp"].facts["attempts"]]
    assert reasons == ["refused", None, "refused", None]
    assert steps["upgrade"].fault is None


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(serving(wait_for_end)) as peer, full_backlog() as silent:
        resolving(monkeypatch, ("127.0.0.1", silent), ("127.0.0.1", peer.port))
        steps = walk("ws://many.example/", step_timeout=1.0)

    assert [attempt.get("reason") for attempt in steps["tcp"].facts["attempts"]] == ["timeout", None]
    assert steps["tcp"].seconds < within(1.0)


def test_once_an_address_has_answered_the_others_are_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixir_actors.transport.probe.CURIOSITY", 0.05)
    with Peer(serving(wait_for_end)) as peer, full_backlog() as silent:
        resolving(monkeypatch, ("127.0.0.1", peer.port), ("127.0.0.1", silent))
        steps = walk("ws://many.example/", step_timeout=10.0)

    assert [attempt.get("reason") for attempt in steps["tcp"].facts["attempts"]] == [None, "timeout"]
    assert steps["tcp"].seconds < within(3)


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    steps = walk("ws://nowhere.example/")

    assert failure(steps) == ("name", "nxdomain")
    assert steps["name"].facts == {"host": "nowhere.example"}


def test_a_resolver_that_does_not_answer_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_options: done.wait(within(10)) and [])
    try:
        steps = walk("ws://slow.example/", step_timeout=0.1)
    finally:
        done.set()

    assert failure(steps) == ("name", "timeout")
    assert steps["name"].seconds < within(2)


def test_a_port_where_nobody_listens() -> None:
    steps = walk(f"ws://127.0.0.1:{closed_port()}/")

    assert failure(steps) == ("tcp", "refused")
    assert steps["tcp"].facts["attempts"][0]["reason"] == "refused"


def test_a_port_that_does_not_answer_ends_in_time() -> None:
    with full_backlog() as port:
        steps = walk(f"ws://127.0.0.1:{port}/", step_timeout=0.2)

    assert failure(steps) == ("tcp", "timeout")
    assert steps["tcp"].seconds < within(2)


# TLS.


def test_a_server_with_tls_says_what_was_agreed_and_until_when(authority: trustme.CA, ca_file: str) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    with Peer(serving(wait_for_end), context=context_of(authority, "127.0.0.1", expires=soon)) as peer:
        steps = walk(peer.url(), ca_file=ca_file)

    facts = steps["tls"].facts
    assert list(steps) == ["name", "tcp", "tls", "upgrade"]
    assert facts["version"] in ("TLSv1.2", "TLSv1.3")
    assert facts["issuer"].startswith("trustme")
    assert facts["ca"] == ca_file
    assert abs(facts["expires"] - soon.timestamp()) < 2
    assert facts["cipher"]


def test_an_unknown_authority(authority: trustme.CA) -> None:
    with Peer(wait_for_end, context=context_of(authority, "127.0.0.1")) as peer:
        steps = walk(peer.url())

    assert failure(steps) == ("tls", "certificate_verify_failed")
    assert "ca" in steps["tls"].facts


def test_an_expired_certificate_is_told_from_an_unknown_authority(authority: trustme.CA, ca_file: str) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with Peer(wait_for_end, context=context_of(authority, "127.0.0.1", expires=past)) as peer:
        steps = walk(peer.url(), ca_file=ca_file)

    assert failure(steps) == ("tls", "certificate_verify_failed")
    assert steps["tls"].fault is not None
    assert "expired" in str(steps["tls"].fault.details["problem"])


def test_a_certificate_for_another_host(authority: trustme.CA, ca_file: str) -> None:
    with Peer(wait_for_end, context=context_of(authority, "other.example")) as peer:
        assert failure(walk(peer.url(), ca_file=ca_file)) == ("tls", "hostname_mismatch")


def test_a_server_that_speaks_no_tls() -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        wait_for_end(sock)

    with Peer(script) as peer:
        steps = walk(peer.url().replace("ws:", "wss:"))

    assert failure(steps) == ("tls", "tls_error")


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    with Peer(wait_for_end) as peer:
        steps = walk(peer.url().replace("ws:", "wss:"), ca_file=str(tmp_path / "none"))

    assert failure(steps) == ("tls", "ca_file")
    assert steps["tls"].facts["ca"] == str(tmp_path / "none")


@pytest.mark.parametrize("step", ["tls", "upgrade"])
def test_a_server_that_accepts_and_says_nothing(step: str) -> None:
    with Peer(wait_for_end) as peer:
        url = peer.url().replace("ws:", "wss:") if step == "tls" else peer.url()
        steps = walk(url, step_timeout=0.2)

    assert failure(steps) == (step, "timeout")
    assert steps[step].seconds < within(2)


# The upgrade.


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 426, 429, 500, 503])
def test_a_refused_upgrade_says_its_status(status: int) -> None:
    answer = f"HTTP/1.1 {status} {CANARY}\r\nRetry-After: 7\r\nX-Echo: {CANARY}\r\n\r\n{CANARY}".encode()
    with Peer(answering(answer)) as peer:
        steps = walk(peer.url())

    assert failure(steps) == ("upgrade", "upgrade_refused")
    fault = steps["upgrade"].fault
    assert fault is not None
    assert (fault.details["status"], fault.retry_after) == (status, 7.0)


def test_an_answer_that_is_no_http() -> None:
    with Peer(answering(b"220 mail.example ESMTP\r\n\r\n")) as peer:
        assert failure(walk(peer.url())) == ("upgrade", "bad_upgrade")


def test_an_answer_that_drips_ends_in_time() -> None:
    def drip(sock: socket.socket) -> None:
        read_head(sock)
        for _ in range(int(within(10) / 0.02)):
            sock.sendall(b"X")
            time.sleep(0.02)

    with Peer(drip) as peer:
        steps = walk(peer.url(), step_timeout=0.2)

    assert failure(steps) == ("upgrade", "timeout")
    assert steps["upgrade"].seconds < within(2)


# Proxies.


@pytest.fixture
def proxied() -> Iterator[Callable[..., tuple[dict[str, Step], RecordingProxy]]]:
    def through(endpoint: str, refusal: bytes | None = None, **options: Any) -> tuple[dict[str, Step], RecordingProxy]:
        proxy = RecordingProxy(refusal)
        with Peer(proxy) as front:
            steps = walk(endpoint, proxy=f"http://user:{CANARY}@127.0.0.1:{front.port}", **options)
        return steps, proxy

    yield through


def test_a_proxy_is_asked_for_a_tunnel_and_sees_nothing_else(proxied: Any, authority: trustme.CA, ca_file: str) -> None:
    with Peer(serving(wait_for_end), context=context_of(authority, "127.0.0.1")) as peer:
        steps, proxy = proxied(peer.url(), ca_file=ca_file)

    assert list(steps) == ["name", "tcp", "proxy", "tls", "upgrade"]
    assert steps["upgrade"].fault is None
    assert steps["proxy"].facts["port"] == steps["tcp"].facts["port"] != peer.port
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{peer.port} ".encode())
    assert CANARY.encode() not in proxy.heads[0], "the password goes as Base64, the key not at all"


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_says_its_status(proxied: Any, status: int) -> None:
    steps, _ = proxied("ws://behind.example/", f"HTTP/1.1 {status} No\r\n\r\n".encode())

    assert failure(steps) == ("proxy", "proxy_refused")
    assert steps["proxy"].fault is not None
    assert steps["proxy"].fault.details["status"] == status


def test_the_host_behind_a_proxy_is_not_looked_up_here(proxied: Any) -> None:
    steps, _ = proxied("ws://behind.invalid/", b"HTTP/1.1 403 No\r\n\r\n")

    assert steps["name"].facts["host"] == "127.0.0.1"


def test_a_proxy_of_another_kind_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(Refused) as caught:
        Probe(target("ws://127.0.0.1:9/", proxy=f"socks5://user:{CANARY}@127.0.0.1:9"))

    assert caught.value.fault.code is ErrorCode.WEBSOCKET_CONNECT_FAILED
    assert CANARY not in str(caught.value)
