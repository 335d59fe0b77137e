"""The fuzzer in short, and that it finds what is broken."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixir_actors.core import server_event
from tests.conftest import within
from tests.long import corpus, fuzz, mutation, targets
from tests.long.targets import TARGETS

INPUTS = 20_000
SEED = 20_260_703
"""Fixed, so that a failure here is one of the change at hand; long runs draw their own."""


def test_nothing_but_the_documented_errors_comes_of_spoiled_input() -> None:
    report = fuzz.fuzz(inputs=INPUTS, seed=SEED)
    print(*report.lines(), sep="\n")
    assert not report.failures, "\n".join(report.failures)
    assert report.inputs == INPUTS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_seed_passes_as_it_is(target: targets.Target) -> None:
    for seed in target.seeds:
        for chance in range(3):
            target.check(seed, Random(chance))


def test_the_seeds_are_whole_events_of_every_kind() -> None:
    events = [event for event in map(server_event.parse, corpus.EVENTS) if event is not None]
    assert {event.stage for event in events} == set(server_event.Stage)
    assert {event.tag for event in events} == set(server_event.Tag)
    faults = [fault for fault in map(server_event.provider_fault, events) if fault is not None]
    assert {fault.rejection for fault in faults} == {None, *server_event.Rejection}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(mutation.FIELDS), inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from([*server_event._KNOWN, "response.other", "private"])


@given(TYPES, st.dictionaries(st.sampled_from(mutation.FIELDS), JSON, max_size=5), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_known_types_with_any_fields_are_understood_or_let_through(kind: str, fields: dict[str, Any], seed: int) -> None:
    event = orjson.dumps({**fields, "type": kind})
    targets.check_event(event, Random(seed))
    targets.check_turn(event + b"\n" + event, Random(seed))


@given(st.binary(max_size=200), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_by_every_reader(data: bytes, seed: int) -> None:
    for target in TARGETS:
        target.check(data, Random(seed))


# The fuzzer itself.


def test_an_input_is_known_by_seed_and_number() -> None:
    whole = fuzz.fuzz(inputs=60, seed=5)
    parts = [fuzz.fuzz(inputs=20, seed=5, first=first) for first in (0, 20, 40)]
    assert whole.bytes == sum(part.bytes for part in parts)
    assert whole.outcomes == parts[0].outcomes + parts[1].outcomes + parts[2].outcomes
    assert fuzz.fuzz(inputs=60, seed=6).bytes != whole.bytes


def test_a_defect_is_found_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_event, "_WARNINGS", frozenset({"connection_expiring"}))  # as it was once
    report = fuzz.fuzz(inputs=INPUTS, seed=SEED)
    assert len(report.failures) == 3 and report.inputs < INPUTS
    assert "unhashable" in report.failures[0] and f"of seed {SEED}, for" in report.failures[0]


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(raw: bytes) -> None:
        while True:
            with suppress(Exception):  # as careless code does
                time.sleep(1)

    monkeypatch.setattr(fuzz, "HANG_AFTER", 0.05)
    monkeypatch.setattr(server_event, "parse", hang)
    report = fuzz.fuzz(inputs=100, seed=1)
    assert len(report.failures) == 3 and "Hang" in report.failures[0]


def test_time_bounds_a_run() -> None:
    assert fuzz.fuzz(inputs=10**9, seed=1, seconds=0.05).seconds < within(1)


def test_the_command_prints_seed_and_figures() -> None:
    command = [sys.executable, "-m", "tests.long.fuzz", "--inputs", "200", "--seed", "9"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=within(30), check=True)
    assert "seed 9" in run.stdout and "200 inputs" in run.stdout and "0 failures" in run.stdout
