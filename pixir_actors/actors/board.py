"""What connections report, written where their supervisor reads it: memory that they share since they were forked.

A report by message wakes two processes, and costs them more than the turn that it tells of. One that is written here costs
its connection some microseconds, and the supervisor nothing until somebody asks for it.

Each connection has a slot, and is the only one that writes there. A record has its length and a checksum in front: one that
is read while it is written is read again, and of one that a kill has cut off nothing is read.
"""

from __future__ import annotations

import mmap
import struct
import uuid
import weakref
import zlib
from typing import Final

import orjson

from pixir_actors.core.report import Facts

SLOT_BYTES: Final = 1024
SLOTS: Final = 32_768
"""Connections that have a slot at once; whoever finds none reports by message. Memory is taken by those that are in use."""
_HEAD: Final = struct.Struct("=II")
_ATTEMPTS: Final = 5
_EMPTY: Final = bytes(_HEAD.size)


class Slot:
    """Where one connection writes and its supervisor reads.

    Attributes:
        board: Names the board.
        number: The slot's place there.
    """

    def __init__(self, board: str, number: int, memory: mmap.mmap) -> None:
        self.board, self.number = board, number
        self._memory, self._at = memory, number * SLOT_BYTES

    def write(self, facts: Facts) -> None:
        """Put facts in place of those before. The connection's."""
        payload = orjson.dumps(tuple(facts))
        if len(payload) > SLOT_BYTES - _HEAD.size:  # a model's name may have any length
            payload = orjson.dumps(tuple(facts._replace(model=None, host=None)))
        record = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        self._memory[self._at : self._at + len(record)] = record

    def read(self) -> Facts | None:
        """Return what was written last; None where nothing was, or not as a whole. The supervisor's."""
        body_at = self._at + _HEAD.size
        for _ in range(_ATTEMPTS):
            length, checksum = _HEAD.unpack_from(self._memory, self._at)
            if not length:
                return None
            payload = self._memory[body_at : body_at + min(length, SLOT_BYTES - _HEAD.size)]
            if zlib.crc32(payload) == checksum:
                return _facts_from(payload)
        return None

    def clear(self) -> None:
        """Forget what was written: the next connection has written nothing yet."""
        self._memory[self._at : self._at + _HEAD.size] = _EMPTY


class Board:
    """All slots of one supervisor, made before it starts a connection. Used from its thread only.

    Args:
        shared: Whether its connections are forks, and not in the same process; what that forks is a stranger.
    """

    def __init__(self, *, shared: bool = True) -> None:
        self._name = uuid.uuid4().hex
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        self._memory = _MEMORY[self._name] = mmap.mmap(-1, SLOTS * SLOT_BYTES, flags=flags)
        self._unused = iter(range(SLOTS))
        self._free: list[int] = []
        # In its process there may be other boards, before and after this one: of actor systems within one process.
        weakref.finalize(self, _MEMORY.pop, self._name, None)

    def take(self) -> Slot | None:
        """Return a free slot, if there is one."""
        number = self._free.pop() if self._free else next(self._unused, None)
        return None if number is None else Slot(self._name, number, self._memory)

    def give_back(self, slot: Slot) -> None:
        """Have another connection use the slot; the one that wrote there has ended."""
        slot.clear()
        self._free.append(slot.number)


_MEMORY: Final[dict[str, mmap.mmap]] = {}
"""By the name of their board: a process that is forked from the supervisor finds here what it shares with it."""


def slot_at(board: str, number: int) -> Slot | None:
    """Return a slot of the board with that name; None in a process that was not forked from the one that made it."""
    memory = _MEMORY.get(board)
    return None if memory is None else Slot(board, number, memory)


def _facts_from(payload: bytes) -> Facts:
    *others, statistics = orjson.loads(payload)
    return Facts._make((*others, tuple(statistics)))
