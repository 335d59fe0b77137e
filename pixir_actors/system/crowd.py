"""A bound on the connections of strangers that a process keeps open.

Whoever may connect may open thousands of connections and send nothing. Thespian would keep each for as long as it waits for
messages, and walk through all of them for every message of its own: with three thousand an actor does nothing else any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pixir_actors.system.refusals import count_refusal

MOST_UNPROVEN: Final = 100
"""Connections that may wait to show, by a sealed length, that they bring a message of this system."""


def bound_strangers(accept: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap a transport's `_acceptNewIncoming`: with one too many, the one that has shown nothing for longest is closed.

    Should that have been one of this system, it tries its message again (`signed.RETRY_PERIOD`).
    """

    def accepts(self: Any) -> None:
        accept(self)
        incoming = self._incomingSockets
        if len(incoming) <= MOST_UNPROVEN:
            return
        unproven = [number for number, connection in incoming.items() if not connection._rData.sealed]
        if len(unproven) > MOST_UNPROVEN:
            incoming.pop(unproven[0]).close()
            count_refusal()

    return accepts
