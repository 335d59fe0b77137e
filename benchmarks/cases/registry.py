"""All cases by name, in the order in which they are run: the largest last."""

from __future__ import annotations

from typing import Final

from benchmarks.cases.base import Case
from benchmarks.cases.flow import BigEvent, Bodies, Burst, Cold, Loop, Turns
from benchmarks.cases.many import Idle, Keys, Streams

CASES: Final[dict[str, type[Case]]] = {
    case.name: case for case in (Burst, Turns, Cold, Loop, Bodies, BigEvent, Streams, Keys, Idle)
}
