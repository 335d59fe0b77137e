"""wss with an authority of its own."""

from __future__ import annotations

import os
import socket
import ssl
import sys

import pytest
import websocket

from pixir_actors.simulator import FAULTS, Reply, Simulator
from pixir_actors.simulator.tls import Authority
from tests.conftest import within
from tests.simulator.client import connected, text_of


def test_a_client_that_trusts_the_authority_is_served() -> None:
    with Simulator(tls=True) as sim, connected(sim) as client:
        assert sim.url == f"wss://localhost:{sim.port}/v1/responses"
        assert sim.base_url == f"https://localhost:{sim.port}/v1"
        assert text_of(client.turn("x")) == "You said: x"


def test_the_certificate_is_for_the_address_too() -> None:
    with Simulator(tls=True) as sim:
        url = sim.url.replace("localhost", "127.0.0.1")
        websocket.create_connection(url, sslopt={"ca_certs": sim.ca_file}, timeout=within(5)).shutdown()


def test_a_client_that_does_not_trust_it_fails_and_is_counted() -> None:
    with Simulator(tls=True) as sim:
        with pytest.raises(ssl.SSLCertVerificationError):
            websocket.create_connection(sim.url, timeout=within(5))
        sim.wait_for(lambda s: s.tls_failures == 1, within(5))
        assert sim.handshakes == []


def test_a_terminal_event_larger_than_a_record_arrives_whole_also_byte_by_byte() -> None:
    script = [Reply.text("x").with_big_terminal(2_000_000), Reply.text("y")]
    with Simulator(script, tls=True) as sim, connected(sim, skip_utf8_validation=True) as client:
        assert len(client.turn()[-1]["response"]["metadata"]["padding"]) == 2_000_000
        sim.inject(FAULTS["split_every_byte"]())
        assert text_of(client.turn()) == "y"


def test_the_file_of_the_authority_is_removed_at_the_end() -> None:
    with Simulator(tls=True) as sim:
        path = sim.ca_file
        assert path is not None and os.path.exists(path)
    assert not os.path.exists(path)
    sim.close()


def test_without_tls_there_is_no_authority() -> None:
    with Simulator() as sim:
        assert sim.ca_file is None
        assert sim.url == f"ws://127.0.0.1:{sim.port}/v1/responses"


def test_without_trustme_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match=r"pixir_actors\[simulator\]"):
        Authority()
    with pytest.raises(ImportError, match="trustme"), Simulator(tls=True):
        pass


def test_a_client_that_leaves_within_the_tls_handshake_harms_nobody() -> None:
    with Simulator(tls=True) as sim:
        for hello in (b"", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", sim.port)) as raw:
                raw.sendall(hello)
        sim.wait_for(lambda s: s.tls_failures == 3, within(5))
        with connected(sim) as client:
            client.turn()
