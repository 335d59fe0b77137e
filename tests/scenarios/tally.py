"""The outcome of random conversations, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What happened in some scenes, and what should not have."""

    conversations: int = 0
    turns: int = 0
    deltas: int = 0
    replays: int = 0
    wire_bytes: int = 0
    full_bytes: int = 0
    over_http: int = 0
    came_back: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        share = self.deltas / max(1, self.turns)
        return (
            f"{self.conversations} conversations, {self.turns} turns: {self.deltas} deltas ({share:.0%}),"
            f" {self.replays} replays, {self.wire_bytes} of {self.full_bytes} bytes on the wire;"
            f" {self.over_http} over HTTP, of which {self.fallbacks.total()} fell back"
            f" {dict(self.fallbacks.most_common())}, and {self.came_back} times the next one came back;"
            f" full because of {dict(self.reasons.most_common())}; failed by {dict(self.failures.most_common())};"
            f" {len(self.differences)} differences"
        )
