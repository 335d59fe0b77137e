"""Records, and waiting for them."""

from __future__ import annotations

import threading

import pytest

from pixir_actors.simulator.record import Handshake, Ledger, Received, Turn
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
        Received(0, 0, {"input": canary}, 1),
        Turn(0, 0, "resp_1", "m", [{"content": canary}], [{"content": canary}]),
    ]
    assert canary not in repr(records)


def test_a_header_is_found_whatever_its_case() -> None:
    handshake = Handshake(0, "/", [("X-One", "1"), ("x-one", "2")], True, 101)
    assert handshake.header("x-ONE") == "1"
    assert handshake.header("y") is None
