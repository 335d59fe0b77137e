"""Records, and waiting for them."""

from __future__ import annotations

import threading

import pytest

from pixir_actors.simulator.record import Handshake, HttpRequest, Ledger, Received, Turn
from tests.conftest import within


def test_waiting_ends_when_a_record_makes_the_predicate_true() -> None:
    ledger = Ledger(10)
    adder = threading.Timer(0.05, ledger.add, (ledger.pings, (0, b"")))
    adder.start()
    ledger.wait_for(lambda: ledger.pings, within(5))
    adder.join()


def test_waiting_in_vain_says_what_was_seen() -> None:
    ledger = Ledger(10)
    ledger.add(ledger.turns, Turn(0, 0, "resp_1", "m", [], status="failed"))
    with pytest.raises(TimeoutError, match=r"not within 0\.01 s.* 1 turns \(failed\)"):
        ledger.wait_for(lambda: False, 0.01)


def test_waiting_ends_at_once_when_the_simulator_broke() -> None:
    ledger = Ledger(10)
    ledger.add(ledger.errors, KeyError("why"))
    with pytest.raises(RuntimeError) as caught:
        ledger.wait_for(lambda: False, within(60))
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_lists_are_bounded() -> None:
    ledger = Ledger(10)
    for number in range(100):
        ledger.add(ledger.pings, (number, b""))
    assert 10 <= len(ledger.pings) <= 20
    assert ledger.pings[-1] == (99, b"")


def test_a_repr_shows_no_header_and_no_content() -> None:
    canary = "canary"
    records = [
        Handshake(0, "/", [("Authorization", canary)], True, 101),
        HttpRequest(0, "POST", "/", [("Authorization", canary)], 200, 0),
        Received(0, 0, {"input": canary}, 1),
        Turn(0, 0, "resp_1", "m", [{"content": canary}], [{"content": canary}]),
    ]
    assert canary not in repr(records)


def test_a_header_is_found_whatever_its_case() -> None:
    headers = [("X-One", "1"), ("x-one", "2")]
    for record in (Handshake(0, "/", headers, True, 101), HttpRequest(0, "POST", "/", headers, 200, 0)):
        assert record.header("x-ONE") == "1"
        assert record.header("y") is None


def test_requests_are_numbered_over_both_ways() -> None:
    ledger = Ledger(10)
    ledger.receive(0, {}, 1)
    ledger.receive(1, {}, 2, via="http", overlap=True)
    assert [(one.index, one.via) for one in ledger.requests] == [(0, "websocket"), (1, "http")]
    assert ledger.overlaps == ledger.requests[1:]
