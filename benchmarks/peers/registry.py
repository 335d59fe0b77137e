"""All peers by name, in the order of the tables' columns."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from benchmarks.peers.base import Peer


@dataclass(frozen=True)
class Entry:
    """Where a peer is.

    Attributes:
        place: Module, in this package, and class.
        distribution: What has to be installed, None if it always is.
        only: The only cases in which it takes part; empty: all.
        never: Cases in which it does not take part.
    """

    place: tuple[str, str]
    distribution: str | None = None
    only: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    def plays(self, case: str) -> bool:
        """Say whether it takes part in a case."""
        return case not in self.never and (not self.only or case in self.only)

    @property
    def missing(self) -> bool:
        if self.distribution is None:
            return False
        try:
            version(self.distribution)
        except PackageNotFoundError:
            return True
        return False

    def make(self, url: str) -> Peer:
        """Import and make it."""
        module, name = self.place
        made: Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)(url)
        return made


OURS: Final = "pixir_actors"
PLAIN: Final = "websocket-client"
SDK: Final = "openai"
CEILING: Final = "server's ceiling"
FLOOR: Final = "bare processes"

PEERS: Final = {
    OURS: Entry(("ours", "Actors")),
    # its keys are the same processes
    "pixir_actors async": Entry(("ours", "AsyncActors"), never=frozenset({"keys", "idle"})),
    PLAIN: Entry(("plain", "Plain"), "websocket-client"),
    "full replay": Entry(("plain", "Replay"), "websocket-client", frozenset({"loop"})),
    SDK: Entry(("openai_sdk", "Sdk"), "openai"),
    "openai-agents": Entry(("openai_agents", "Agents"), "openai-agents"),
    "pydantic-ai": Entry(("pydantic_ai", "PydanticAi"), "pydantic-ai-slim"),
    CEILING: Entry(("reader", "Reader"), None, frozenset({"burst", "turns"})),
    FLOOR: Entry(("bare", "Bare"), None, frozenset({"keys", "idle"})),
}
