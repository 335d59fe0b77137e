"""What the case of warm keys measures, told by a peer whose turns last as long as it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.asks import Ask
from benchmarks.cases import many
from benchmarks.cases.many import Idle, Keys
from benchmarks.peers.base import Peer, Record
from benchmarks.scale import SCALES

SECOND = 1.0
COLD = 0.5
"""Seconds more of a key that others were used after."""
LONGER = 100.0
"""Seconds of a turn that is not the second one of its conversation."""


class Clockwork(Peer):
    """Its turns last by the length of their conversation, and by which key was used last."""

    def __init__(self) -> None:
        self.turns: dict[str, int] = {}
        self.cold: list[str] = []
        """Keys of second turns that were not used last."""
        self.slept: list[float] = []
        self._last = ""

    def play(self, key: str, asks: Sequence[Ask]) -> list[Record]:
        return [self._turn(key, ask) for ask in asks]

    def together(self, keys: Sequence[str], ask: Ask, width: int) -> list[Record]:
        records = [self._turn(key, ask) for key in keys]
        self._last = ""  # who ended last is not known when they run at once
        return records

    def _turn(self, key: str, ask: Ask) -> Record:
        record = Record(ask)
        turns = self.turns.get(key, 0)
        record.ended = (SECOND if turns == 1 else LONGER) + (COLD if key != self._last else 0)
        if turns == 1 and key != self._last:
            self.cold.append(key)
        self.turns[key], self._last = turns + 1, key
        return record

    def start_over(self, key: str) -> None:
        self.turns[key] = 0

    def idle(self, seconds: float) -> None:
        self.slept.append(seconds)

    def shut(self, key: str) -> None: ...

    def close(self) -> None: ...


def test_turns_of_one_key_and_of_many_are_of_conversations_of_the_same_length() -> None:
    scale = replace(SCALES["tiny"], keys=(1, 5, 20), key_turns=7)
    peer = Clockwork()

    samples = list(Keys(peer, "", scale).measure(0))

    turns = {(sample.variant, sample.metric): sample.value for sample in samples if sample.metric.startswith("turn")}
    assert turns == {
        ("1 key", "turn"): SECOND * 1e3,
        ("5 keys", "turn"): (SECOND + COLD) * 1e3,
        ("5 keys", "turn_again"): SECOND * 1e3,
        ("20 keys", "turn"): (SECOND + COLD) * 1e3,
        ("20 keys", "turn_again"): SECOND * 1e3,
    }
    assert len(peer.cold) == len(set(peer.cold)) == 4 + 7, "each of them has not been used since its first turn"


def test_each_round_takes_other_keys() -> None:
    scale = replace(SCALES["tiny"], keys=(50,), key_turns=5)
    peers = [Clockwork(), Clockwork()]

    for number, peer in enumerate(peers):
        list(Keys(peer, "", scale).measure(number))

    assert set(peers[0].cold) != set(peers[1].cold)


def test_keys_that_nobody_uses_are_opened_once_and_measured_when_they_have_settled() -> None:
    scale = replace(SCALES["tiny"], keys=(1, 30), idle=7.0, settle=70.0)
    peer = Clockwork()
    case = Idle(peer, "", scale)

    found = [[(s.variant, s.metric) for stage in Idle.stages for s in getattr(case, stage)(n)] for n in range(3)]

    measured = [("30 keys", "idle_cpu")]
    assert found == [[("30 keys", "idle_first"), *measured], measured, measured]
    assert peer.turns == {f"key-{i}": 1 for i in range(30)}
    assert peer.slept == [7.0, 70.0, 7.0, 7.0, 7.0]


def test_keys_for_which_there_is_no_memory_are_not_opened_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "available_memory", lambda: -1)
    peer = Clockwork()
    case = Idle(peer, "", replace(SCALES["tiny"], keys=(1, 3000)))

    assert [*case.open(0), *case.settle(0), *case.measure(0)] == []

    assert case.notes == ["3,000 keys would need more memory than there is"]
    assert len(peer.turns) == Idle.FEW


@pytest.mark.parametrize("per_key", [-0.5, 0.0, 0.5])
def test_memory_that_is_not_there_is_not_had_by_keys_that_seem_to_give_some_back(
    monkeypatch: pytest.MonkeyPatch, per_key: float
) -> None:
    monkeypatch.setattr(many, "available_memory", lambda: -1)

    assert not many.fit(10, per_key)
