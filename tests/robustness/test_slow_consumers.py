"""A caller that does not read: it loses nothing up to a limit, and ends with a name beyond it."""

from __future__ import annotations

import os
import time

import pytest

from pixir_actors import Client, Data, Delivery, ErrorCode, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.robustness.conftest import ask

PAUSE = float(os.environ.get("PIXIR_PAUSE", "3"))
"""Seconds a caller stops reading; the issue's minute is PIXIR_PAUSE=60."""
MIB = 1024 * 1024


def test_a_caller_that_stops_reading_loses_no_event_and_no_socket(client: Client, key: str) -> None:
    # About 6 MiB in 2,000 events: more than the kernel and the client hold, so the connection has to buffer.
    text = "x" * (3 * 1024 * 2000)
    pinging = FAULTS["ping_demand_pong"](within=within(2.0), every=100)
    with Simulator(lambda turn: Reply.text(text, deltas=2000)) as sim:
        sim.inject(pinging)
        with client.stream(key, ask(sim, "hello")) as stream:
            next(event for event in stream if isinstance(event, Data))
            time.sleep(PAUSE)
            for _ in stream:
                pass
            assert stream.text == text
        assert len(sim.pongs) >= 10
        assert len(sim.handshakes) == 1
        assert sim.open_connections == 1


def test_a_caller_that_leaves_too_much_unread_gets_slow_consumer(client: Client, key: str) -> None:
    with Simulator(lambda turn: Reply.text("x" * (16 * MIB), deltas=4000)) as sim:
        with client.stream(key, ask(sim, "hello"), max_buffered_bytes=MIB) as stream:
            sim.wait_for(lambda seen: len(seen.closes) == 1, timeout=within(20))
            with pytest.raises(StreamError) as ended:
                for _ in stream:
                    pass
        assert (ended.value.code, ended.value.delivery) == (ErrorCode.SLOW_CONSUMER, Delivery.ACCEPTED)
        with client.stream(key, ask(sim, "hello"), max_buffered_bytes=64 * MIB) as stream:
            for _ in stream:
                pass
            assert stream.metadata["continuation_reset_reason"] == "cancelled"


def test_one_slow_caller_does_not_hold_up_another(client: Client, key: str) -> None:
    with Simulator(lambda turn: Reply.text("x" * (2 * MIB), deltas=500)) as sim:
        with client.stream(key, ask(sim, "hello")) as slow:
            next(event for event in slow if isinstance(event, Data))
            with client.stream(("quick", key), ask(sim, "hello")) as quick:
                for _ in quick:
                    pass
                assert len(quick.text) == 2 * MIB
            for _ in slow:
                pass
            assert len(slow.text) == 2 * MIB


def test_an_unread_stream_does_not_hold_up_the_next_one_of_its_key(client: Client, key: str) -> None:
    with Simulator(lambda turn: Reply.text("x" * (2 * MIB), deltas=500)) as sim:
        with client.stream(key, ask(sim, "hello")) as unread, client.stream(key, ask(sim, "hello")) as second:
            for _ in second:
                pass
            assert len(second.text) == 2 * MIB
            for _ in unread:
                pass
            assert len(unread.text) == 2 * MIB
