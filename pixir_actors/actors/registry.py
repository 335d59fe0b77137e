"""Which connection serves which key: the supervisor's memory, without actors or messages.

A key is *starting* until its process has introduced itself, then *up*; it is forgotten before its connection ends, so that
the next request of the key starts a fresh one. Why a key starts cold after a crash or an eviction is remembered for a
while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pixir_actors.actors.board import Slot
from pixir_actors.core.report import Facts, describe
from pixir_actors.core.secret import Secret
from pixir_actors.status import ConnectionStatus

MAX_TOMBSTONES: Final = 10_000


@dataclass(slots=True)
class Child:
    """One connection's process.

    Attributes:
        key: The key it serves.
        connection_id: Names the process.
        created_address: Address as Thespian gave it at creation.
        address: Address as the connection introduced itself, or None while it starts.
        pid: Its process, or 0 while it starts.
        started_at: Monotonic seconds.
        used_at: Monotonic seconds when its address was last given out.
        slot: Where it reports, or None: it does so by message.
        facts: What it is known to have reported last; `look` knows of later.
        evicting: It was asked to make room and has not answered.
        label: What may be shown of the key.
        leaving: It has been forgotten, or told to stop: its end is no crash.
        draining: It was told to end with its turn; it keeps its key until then, and its end is no crash either.
        why: Why it ends, in a word, for the log.
        busy_at: Monotonic seconds when it last declined to make room.
        silent: For how many of the supervisor's ticks a sign of life, or its end, has been waited for; None: not at all.
        suspecting: Who wants to hear of either: (asker, ask id).
        waiting: Those who asked for it while it starts: (asker, ask id).
        watchers: Who wants to hear of its end.
    """

    key: Secret[str]
    connection_id: str
    created_address: Any
    started_at: float
    used_at: float
    address: Any = None
    pid: int = 0
    slot: Slot | None = None
    facts: Facts | None = None
    evicting: bool = False
    label: str = ""
    leaving: bool = False
    draining: bool = False
    why: str = "crashed"
    silent: int | None = None
    busy_at: float = float("-inf")
    suspecting: list[tuple[Any, int]] = field(default_factory=list)
    waiting: list[tuple[Any, int]] = field(default_factory=list)
    watchers: list[Any] = field(default_factory=list)

    @property
    def crashes(self) -> bool:
        """Whether its end would be a crash: nobody has asked for it."""
        return not (self.leaving or self.draining)

    def look(self) -> Facts | None:
        """Return what it reported last, None until it has introduced itself: before, nothing can be asked of it."""
        written = None if self.slot is None or self.address is None else self.slot.read()
        if written is not None:
            self.facts = written
        return self.facts

    def status_at(self, now: float) -> ConnectionStatus | None:
        """Return its status: one that is idle has nothing to report, and grows older all the same."""
        facts = self.look()
        if facts is None:
            return None
        return describe(facts, now=now, key=self.label, connection_id=self.connection_id, pid=self.pid)

    def may_be_asked(self, *, unless_busy_since: float) -> bool:
        """Say whether to ask it to make room: not again soon after it declined, unless it was idle since."""
        if self.evicting or self.address is None:
            return False
        return self.busy_at < unless_busy_since or (self.slot is not None and (self.idle_since() or 0.0) > self.busy_at)

    def idle_since(self) -> float | None:
        """Return when its last turn ended, in monotonic seconds, or None while a turn runs, or while it starts."""
        facts = self.look()
        return None if facts is None or facts.running else facts.idle_since


class Registry:
    """The children by key and by id."""

    def __init__(self) -> None:
        self._by_key: dict[str, Child] = {}
        self._by_id: dict[str, Child] = {}
        self._tombstones: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of processes, those that are leaving included."""
        return len(self._by_id)

    @property
    def serving(self) -> int:
        """The number of keys that have a connection; those that are leaving have closed their sockets."""
        return len(self._by_key)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_id.values()))

    def of_key(self, key: Secret[str]) -> Child | None:
        """Return the connection that serves a key."""
        return self._by_key.get(key.reveal())

    def of_id(self, connection_id: str) -> Child | None:
        """Return the connection with that id, also one that is leaving."""
        return self._by_id.get(connection_id)

    def of_address(self, address: Any) -> Child | None:
        """Return the connection at that address; addresses cannot be hashed."""
        for child in self._by_id.values():
            if child.created_address == address or (child.address is not None and child.address == address):
                return child
        return None

    def add(self, child: Child) -> None:
        """Take in a connection that is starting."""
        self._by_key[child.key.reveal()] = child
        self._by_id[child.connection_id] = child

    def forget(self, child: Child, *, because: str | None = None) -> None:
        """Let the key go while its process ends; the next start of the key says `because`."""
        if not child.leaving:
            child.leaving, child.silent = True, 0
        if self._by_key.get(child.key.reveal()) is child:
            del self._by_key[child.key.reveal()]
        if because is not None:
            self._bury(child.key.reveal(), because)

    def remove(self, child: Child) -> None:
        """Drop a connection whose process has ended; if nobody had let it go, it crashed."""
        self.forget(child, because="connection_crashed" if child.crashes else None)
        self._by_id.pop(child.connection_id, None)

    def reason(self, key: Secret[str]) -> str | None:
        """Return why a key that starts had lost its connection, until it has been `told`."""
        return self._tombstones.get(key.reveal())

    def told(self, key: Secret[str]) -> None:
        """Take note that a connection is up that knows why its key had lost the last one."""
        self._tombstones.pop(key.reveal(), None)

    def candidates(self, *, unless_busy_since: float) -> list[Child]:
        """Return the connections that may be asked to make room, the one to ask first at the beginning.

        First those that are idle, the longest idle one before all. Then those that may be idle without having said so, since
        they report by message, a moment after their turn: by when their address was given out. None of them was asked
        already, nor has declined since `unless_busy_since`.
        """
        may = [child for child in self._by_key.values() if child.may_be_asked(unless_busy_since=unless_busy_since)]
        since = {child.connection_id: child.idle_since() for child in may}
        idle = [child for child in may if since[child.connection_id] is not None]
        perhaps = [child for child in may if since[child.connection_id] is None and child.slot is None]
        idle.sort(key=lambda child: since[child.connection_id] or 0.0)
        return idle + sorted(perhaps, key=lambda child: child.used_at)

    def _bury(self, key: str, reason: str) -> None:
        self._tombstones[key] = reason
        self._tombstones.move_to_end(key)
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)
