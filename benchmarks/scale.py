"""How much of each case is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Scale:
    """Counts and seconds of the cases; sizes in bytes."""

    rounds: int = 7
    burst: int = 2000
    turns: int = 100
    cold_keys: int = 5
    loop: int = 40
    loop_output: int = 2000
    bodies: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
    body_turns: int = 5
    event: int = 1_000_000
    streams: tuple[int, ...] = (1, 10, 50)
    stream_rate: int = 100
    stream_seconds: float = 1.0
    keys: tuple[int, ...] = (1, 100, 1000)
    key_turns: int = 90
    idle: float = 26.0
    """Seconds; more than the interval of keepalives, so that each key's is among what is measured."""
    settle: float = 65.0
    """Seconds behind their turns after which what keys cost stays the same: channels that nobody uses are closed by then."""


SCALES: Final = {
    "full": Scale(),
    "quick": Scale(
        rounds=3,
        turns=40,
        cold_keys=2,
        bodies=(1_000, 1_000_000),
        body_turns=3,
        streams=(1, 50),
        stream_seconds=0.5,
        keys=(1, 30),
        key_turns=20,
        idle=1.0,
        settle=0.5,
    ),
    "tiny": Scale(
        rounds=2,
        burst=40,
        turns=3,
        cold_keys=1,
        loop=4,
        loop_output=200,
        bodies=(1_000, 20_000),
        body_turns=1,
        event=20_000,
        streams=(1, 2),
        stream_seconds=0.1,
        keys=(1, 3),
        key_turns=2,
        idle=0.1,
        settle=0.05,
    ),
}
"""`quick` shows the direction in a minute and a half; `tiny` shows that everything works, and measures nothing."""
