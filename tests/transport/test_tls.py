"""TLS: who is trusted, and reading and writing over many records."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from pixir_actors.errors import ErrorCode
from pixir_actors.transport import tls
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.tls import client_context
from pixir_actors.transport.websocket import open_websocket
from tests.conftest import within
from tests.transport.peer import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    accepted,
    close_frame,
    collect,
    frame,
    opened,
    read_frame,
    read_head,
    refused,
    sending,
    serving,
    target,
    text,
    wait_for_end,
)
from tests.transport.test_upgrade import RecordingProxy
from tests.transport.test_websocket import flush_all

CONNECT = ErrorCode.WEBSOCKET_CONNECT_FAILED


@dataclass
class Authority:
    """A certificate authority of the tests: its file, and a server's context for a name."""

    ca: trustme.CA
    file: str

    def server(self, name: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return Authority(ca, str(path))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("other") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return Authority(ca, str(path))


@pytest.fixture(autouse=True)
def no_key_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Name a key log in the environment, and check that it is never written."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    yield
    assert not (tmp_path / "keys").exists()


def test_a_servers_certificate_is_verified_with_the_given_authority(authority: Authority) -> None:
    with Peer(sending(text(b"hello")), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        assert collect(transport, messages=1).messages == [b"hello"]
        transport.close()


def test_a_certificate_of_another_authority_is_refused_with_its_problem(authority: Authority, other: Authority) -> None:
    with Peer(sending(b""), context=authority.server()) as peer:
        for ca_file in (other.file, None):
            fault = refused(target(peer.url(), ca_file=ca_file))
            assert fault.code == CONNECT
            assert (fault.details["reason"], fault.details["step"]) == ("certificate_verify_failed", "tls")
            assert "certificate" in str(fault.details["problem"])


def test_the_environments_bundle_for_websocket_client_is_not_trusted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", authority.file)
    with Peer(sending(b""), context=authority.server()) as peer:
        assert refused(target(peer.url())).details["reason"] == "certificate_verify_failed"


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
def test_a_certificate_for_another_name_is_refused(authority: Authority, name: str) -> None:
    with Peer(sending(b""), context=authority.server(name)) as peer:
        fault = refused(target(peer.url(), ca_file=authority.file))
    assert (fault.code, fault.details["reason"]) == (CONNECT, "hostname_mismatch")


def test_a_server_that_speaks_no_tls_is_refused() -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        wait_for_end(sock)

    with Peer(script) as peer:
        fault = refused(target(peer.url().replace("ws:", "wss:")))
    assert (fault.code, fault.details["reason"]) == (CONNECT, "tls_error")


def test_a_server_that_hangs_up_during_tls_is_an_eof() -> None:
    with Peer(lambda sock: sock.recv(1) and None) as peer:
        fault = refused(target(peer.url().replace("ws:", "wss:")))
    assert (fault.code, fault.details["step"]) == (CONNECT, "tls")
    assert fault.details["reason"] in ("eof", "reset")


def test_a_tls_peer_that_never_answers_ends_with_its_step() -> None:
    with Peer(wait_for_end) as peer:
        fault = refused(target(peer.url().replace("ws:", "wss:"), step_timeout=0.2))
    assert fault == Fault(ErrorCode.WEBSOCKET_CONNECT_TIMEOUT, {"reason": "timeout", "step": "tls"})


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n", "/"])
def test_an_authority_file_that_is_none_is_named_before_anything_is_opened(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with Peer(wait_for_end) as peer:
        fault = refused(target(peer.url().replace("ws:", "wss:"), ca_file="/" if content == "/" else str(path)))
        assert (fault, peer.connections) == (Fault(CONNECT, {"reason": "ca_file", "step": "tls"}), 0)
    with pytest.raises(Refused):
        client_context(str(path) + "\0")


def test_an_authority_file_is_not_read_for_plain_connections() -> None:
    with Peer(sending(b"")) as peer:
        opened(target(peer.url(), ca_file="/does/not/exist")).close()


def test_the_context_verifies_and_knows_no_old_version() -> None:
    context = client_context(None)
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.keylog_filename is None


def test_connections_that_trust_the_same_share_a_context_until_its_file_changes(
    authority: Authority, other: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(Path(authority.file).read_bytes())
    first = client_context(str(file))

    assert client_context(str(file)) is first
    assert client_context(None) is client_context(None) is not first

    changed = tmp_path / "changed.pem"
    changed.write_bytes(Path(other.file).read_bytes())
    changed.replace(file)
    second = client_context(str(file))
    assert second is client_context(str(file)) is not first
    assert second.get_ca_certs() != first.get_ca_certs()

    file.unlink()
    with pytest.raises(Refused):
        client_context(str(file))


def test_contexts_of_many_files_are_not_kept(authority: Authority, tmp_path: Path) -> None:
    kept = []
    for number in range(3 * tls.MOST_KEPT):
        file = tmp_path / f"{number}.pem"
        file.symlink_to(authority.file)
        kept.append(weakref.ref(client_context(str(file))))

    assert sum(context() is not None for context in kept) <= tls.MOST_KEPT


def test_the_systems_authorities_are_loaded_again_when_their_file_has_changed(
    authority: Authority, other: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)
    with Peer(sending(text(b"trusted")), context=authority.server()) as peer:
        opened(target(peer.url())).close()

        monkeypatch.setenv("SSL_CERT_FILE", other.file)
        assert refused(target(peer.url())).details["reason"] == "certificate_verify_failed"


HELLOS = """
import os, ssl
from pixir_actors.transport.tls import client_context
def hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(None).wrap_bio(incoming, outgoing, server_hostname="server.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()[11:43].hex()  # the random value of a ClientHello
print(hello(), flush=True)
for _ in range(2):
    child = os.fork()
    if child == 0:
        print(hello(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(hello())
"""


def test_forks_that_share_a_context_share_no_random_values() -> None:
    done = subprocess.run([sys.executable, "-c", HELLOS], capture_output=True, text=True, timeout=within(20))

    hellos = done.stdout.split()
    assert len(hellos) == len(set(hellos)) == 4, done.stderr
    assert {len(hello) for hello in hellos} == {64}


def test_tls_goes_through_a_proxy_to_the_server(authority: Authority) -> None:
    proxy = RecordingProxy()
    with Peer(sending(text(b"inside")), context=authority.server()) as peer, Peer(proxy) as front:
        url = f"http://127.0.0.1:{front.port}"
        transport = opened(target(peer.url(), ("Authorization", "CANARY"), ca_file=authority.file, proxy=url))
        assert collect(transport, messages=1).messages == [b"inside"]
        transport.close()
    assert b"CANARY" not in proxy.heads[0]


# Records.


def test_a_message_over_many_records_is_drained_without_further_polls(authority: Authority) -> None:
    payload = os.urandom(3_000_000)
    with Peer(sending(text(payload) + text(b"behind")), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        # small odd slices: each ends in the middle of a record, which only `more` tells
        assert collect(transport, messages=2, max_bytes=10_007).messages == [payload, b"behind"]
        transport.close()


def test_what_a_slice_leaves_in_a_record_is_announced_as_more(authority: Authority) -> None:
    with Peer(sending(text(b"x" * 98) * 10), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        first = transport.receive(max_messages=64, max_bytes=250)
        while not first.frames:
            first = transport.receive(max_messages=64, max_bytes=250)
        assert (len(first.messages), first.more) == (2, True)
        rest = transport.receive(max_messages=64, max_bytes=1 << 18)
        assert (len(rest.messages), rest.more) == (8, False)
        transport.close()


def test_frames_behind_the_upgrade_in_the_same_record_are_there_at_the_first_receive(authority: Authority) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(accepted(read_head(sock)) + text(b"early") + close_frame(1011, b"no"))
        wait_for_end(sock)

    with Peer(script, context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        first = transport.receive(max_messages=64, max_bytes=1 << 18)
        assert first.messages == [b"early"]
        assert first.fault == Fault(ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1011, "close_reason": "no"})
        transport.close()


def test_a_large_text_is_written_over_many_records_with_pings_answered_behind_it(authority: Authority) -> None:
    payload = os.urandom(8_000_000)
    go, arrived = threading.Event(), []

    def after(sock: socket.socket) -> None:
        sock.sendall(frame(PING, b"p"))
        assert go.wait(within(10))
        arrived.append(read_frame(sock))
        arrived.append(read_frame(sock))
        arrived.append(read_frame(sock))
        sock.sendall(text(b"thanks"))
        wait_for_end(sock)

    with Peer(serving(after), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        assert transport.send_text(payload) is None
        assert transport.pending_bytes() > 0, "the socket must be full for this"
        while not transport.receive(max_messages=9, max_bytes=99).frames:
            pass
        assert transport.flush() is None
        go.set()
        flush_all(transport)
        assert transport.send_text(b"small") is None
        assert collect(transport, messages=1).messages == [b"thanks"]
        transport.close(1000)
    assert arrived == [(TEXT, payload), (PONG, b"p"), (TEXT, b"small")]


def test_an_end_without_close_notify_is_an_eof(authority: Authority) -> None:
    def after(sock: socket.socket) -> None:
        sock.sendall(text(b"last"))
        socket.socket.shutdown(sock, socket.SHUT_WR)
        wait_for_end(sock)

    with Peer(serving(after), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        whole = collect(transport)
        assert whole.messages == [b"last"]
        assert whole.fault == Fault(ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "eof"})
        transport.close()


def test_bytes_that_are_no_record_are_a_tls_error(authority: Authority) -> None:
    def after(sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        socket.socket.sendall(sock, b"\x00" * 100)
        wait_for_end(sock)

    with Peer(serving(after), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        assert collect(transport).fault == Fault(ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "tls_error"})
        assert transport.send_text(b"x") is not None
        transport.close(1000)


def test_a_close_frame_goes_out_encrypted(authority: Authority) -> None:
    frames = []
    with Peer(serving(lambda sock: frames.append(read_frame(sock))), context=authority.server()) as peer:
        transport = opened(target(peer.url(), ca_file=authority.file))
        transport.close(1000)
    assert frames == [(CLOSE, b"\x03\xe8")]


def test_abandoning_at_any_moment_leaks_nothing(authority: Authority) -> None:
    with Peer(sending(text(b"x")), context=authority.server()) as peer:
        for moment in range(40):
            connector = open_websocket(target(peer.url(), ca_file=authority.file))
            time.sleep(moment * 0.0002)  # from before the first step to after the last
            connector.abandon()
    # the fixture of this directory counts descriptors and threads
