"""What all cases have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from benchmarks.peers.base import Peer
from benchmarks.results import Sample
from benchmarks.scale import Scale


class Case(ABC):
    """One case with one peer, over all its rounds, or with `anew` over one of them."""

    name: ClassVar[str]
    title: ClassVar[str]
    rounds: ClassVar[int | None] = None
    """At most so many; None: as many as the run has."""
    bound: ClassVar[float] = 40.0
    """Seconds that one stage of one round may take one peer."""
    stages: ClassVar[tuple[str, ...]] = ("measure",)
    """Names of methods as `measure`: each is run by all peers before the next is."""
    at_once: ClassVar[frozenset[str]] = frozenset()
    """Those stages that all peers may run at the same time."""
    anew: ClassVar[bool] = False
    """Whether each round has processes, peers and a case of its own; else all rounds share them."""
    alone: ClassVar[frozenset[str]] = frozenset()
    """Peers that go through all stages of a round before another one begins with it, or after all others."""

    def __init__(self, peer: Peer, url: str, scale: Scale) -> None:
        self.peer = peer
        self.url = url
        self.scale = scale
        self.notes: list[str] = []
        """What a reader has to know; taken with the samples of a stage."""

    @abstractmethod
    def measure(self, number: int) -> Iterator[Sample]:
        """Run one round; leave no conversation open that the next one does not use."""
