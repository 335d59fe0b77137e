"""Which connections have to give a sign of life, or to end, and are killed where neither comes.

One that is stopped, or stuck, would do nothing that it is told to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pixir_actors.actors.messages import Examined
from pixir_actors.actors.registry import Child, Registry

SILENCE: Final = 4
"""Ticks that a connection may take.

Ticks and not seconds: of the time in which the supervisor itself was stopped, only one counts.
"""


class Vigil:
    """Those who are waited for. Used from the supervisor's thread only.

    Args:
        registry: The connections.
        ask: Asks a connection for a sign of life.
        tell: Tells an asker what was found out.
        kill: Kills a connection's process.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        ask: Callable[[Child], None],
        tell: Callable[[Any, Examined], None],
        kill: Callable[[Child], None],
    ) -> None:
        self._registry = registry
        self._ask, self._tell, self._kill = ask, tell, kill

    def suspect(self, child: Child, asker: Any, ask_id: int) -> None:
        """Ask a connection, if it is not waited for already, and have the asker hear of what comes of it."""
        child.suspecting.append((asker, ask_id))
        if child.silent is None:
            child.silent = 0
            self._ask(child)

    def lives(self, child: Child) -> None:
        """Take note of a sign of life."""
        if child.leaving:
            return  # what counts is that it ends
        child.silent = None
        self._answer(child, ended=False)

    def ended(self, child: Child) -> None:
        """Take note of its end."""
        self._answer(child, ended=True)

    def tick(self) -> None:
        """Wait a tick longer, and kill those that have been silent for too many."""
        for child in self._registry:
            if child.silent is None:
                continue
            # What it wrote down once says nothing of it now.
            heard = child.draining and not child.suspecting and (told := child.look()) is not None and told.draining
            if heard:
                self.lives(child)
            else:
                child.silent += 1
                if child.silent > SILENCE:
                    self._kill(child)

    def _answer(self, child: Child, *, ended: bool) -> None:
        suspecting, child.suspecting = child.suspecting, []
        for asker, ask_id in suspecting:
            self._tell(asker, Examined(ask_id, ended))
