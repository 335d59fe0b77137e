"""The faults that wait for their point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pixir_actors.simulator.fault import Fault, Phase, checked
from pixir_actors.simulator.record import Via

Attempt = Callable[[Fault], bool]


@dataclass(frozen=True, slots=True)
class Where:
    """The place at which a fault may be used: what is not known yet is None."""

    connection: int | None
    via: Via | None
    request: int | None = None

    def suits(self, fault: Fault) -> bool:
        """Say whether a fault's selectors choose this place."""
        chosen = fault.on_connection in (None, self.connection) and fault.on_request in (None, self.request)
        return chosen and fault.fits(self.via)


class FaultBox:
    """Armed faults in the order in which they were armed. Any thread may arm; the server's thread uses."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = [checked(fault) for fault in faults]
        self._lock = threading.Lock()

    def arm(self, fault: Fault) -> None:
        """Add a fault for the next point that it fits."""
        with self._lock:
            self._faults.append(checked(fault))

    def armed(self) -> list[Fault]:
        """Return the faults that still wait."""
        with self._lock:
            return list(self._faults)

    def take(self, phase: Phase, where: Where) -> Fault | None:
        """Use up the first fault of a phase that is meant for this place, and return it."""
        used: list[Fault] = []

        def attempt(fault: Fault) -> bool:
            used.append(fault)
            return True

        self.use(phase, attempt, where)
        return used[0] if used else None

    def use(self, phase: Phase, attempt: Attempt, where: Where, *, single: bool = True) -> None:
        """Try the faults of a phase that are meant for this place.

        Args:
            attempt: Applies one fault and says whether it fitted; only then is it used up.
            single: Stop at the first that fitted.
        """
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.phase != phase or not where.suits(fault) or not attempt(fault):
                    continue
                left = None if fault.times is None else fault.times - 1
                self._faults[index] = replace(fault, times=left)
                if single:
                    break
            self._faults = [fault for fault in self._faults if fault.times != 0]
