"""The faults that wait for their point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from pixir_actors.simulator.faults import Fault, Phase

Attempt = Callable[[Fault], bool]


class FaultBox:
    """Armed faults in the order in which they were armed. Any thread may arm; the server's thread uses."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = list(faults)
        self._lock = threading.Lock()

    def arm(self, fault: Fault) -> None:
        """Add a fault for the next point that it fits."""
        with self._lock:
            self._faults.append(fault)

    def armed(self) -> list[Fault]:
        """Return the faults that still wait."""
        with self._lock:
            return list(self._faults)

    def use(
        self, phase: Phase, attempt: Attempt, *, connection: int | None, request: int | None = None, single: bool = True
    ) -> None:
        """Try the faults of a phase that are meant for this connection and request.

        Args:
            attempt: Applies one fault and says whether it fitted; only then is it used up.
            single: Stop at the first that fitted.
        """
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not _meant(fault, phase, connection, request) or not attempt(fault):
                    continue
                left = None if fault.times is None else fault.times - 1
                self._faults[index] = replace(fault, times=left)
                if single:
                    break
            self._faults = [fault for fault in self._faults if fault.times != 0]


def _meant(fault: Fault, phase: Phase, connection: int | None, request: int | None) -> bool:
    return fault.phase == phase and fault.on_connection in (None, connection) and fault.on_request in (None, request)
