"""The client's end of one channel: what is written to a connection, as far as its socket takes it."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pixir_actors.channel.exchange import Channel
from pixir_actors.channel.frame import Decoder
from pixir_actors.core.text import Piece

_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_AT_ONCE: Final = 8
"""Writes after which others get their turn: a large frame to a process that reads as fast would hold all of them up."""


@dataclass(eq=False, slots=True)
class Line:
    """An accepted socket; it becomes a channel with its greeting.

    Attributes:
        reading: Whether it is read; not while its channel is held.
        writing: Whether the poller says when it can be written.
        outgoing: What the kernel has not taken as a whole yet, each in its parts, and how much it took of each. Under the
            exchange's lock.
    """

    sock: socket.socket
    decoder: Decoder
    deadline: float
    channel: Channel | None = None
    reading: bool = True
    writing: bool = False
    outgoing: deque[tuple[Sequence[Piece], list[int]]] = field(default_factory=deque, repr=False)

    def write(self) -> bool:
        """Write what the kernel takes now, but not for long; say whether that was all."""
        for _ in range(_AT_ONCE):
            if not self.outgoing:
                return True
            parts, taken = self.outgoing[0]
            rest = _behind(parts, sum(taken))
            try:
                # Sent and written down in one step of the interpreter: an interrupt (Ctrl-C) in between would have the next
                # one send it again.
                taken.extend(map(self.sock.sendmsg, (rest,), ((),), (_FLAGS,)))
            except BlockingIOError:
                return False
            except OSError:  # its process has died: what is read next says so
                self.outgoing.clear()
                return True
            if sum(taken) == sum(map(len, parts)):
                self.outgoing.popleft()
        return not self.outgoing


def _behind(parts: Sequence[Piece], count: int) -> Sequence[Piece]:
    """Return what is left of the parts when so many bytes have been taken."""
    if not count:
        return parts
    left: list[Piece] = []
    for part in parts:
        if count < len(part):
            left.append(memoryview(part)[count:])
        count = max(0, count - len(part))
    return left
