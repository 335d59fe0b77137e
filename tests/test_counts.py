"""What a turn may cost, counted instead of timed: messages, bytes pickled, JSON, calls of sockets, copies of the body.

The counts hardly depend on the machine: what is cut into several reads, and the allocator, move them a little. A limit is
what was counted when it was set, and some room; a change that makes something cheaper lowers it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

import pytest

from tests.conftest import within

LIMITS: Final = {
    # case, what: (the least, the most), per turn
    # a key's first, of 100 kB: one message to the supervisor, one to the connection; the body is pickled once at the most
    ("first", "client messages"): (1, 2),
    ("first", "client pickled"): (100, 110_000),
    # a warm one of 20 events: nothing goes through Thespian
    ("turn", "client messages"): (0, 0),
    ("turn", "client pickled"): (0, 0),
    ("turn", "client sends"): (1, 1),  # the request, in one piece
    ("turn", "client receives"): (1, 3),
    ("turn", "connection messages"): (0, 0),
    ("turn", "connection pickled"): (0, 0),
    ("turn", "connection reports"): (0, 0.2),  # by the clock, and not by the turn
    ("turn", "connection sends"): (2, 4),  # to the provider, and what is known before and behind its answer
    ("turn", "connection receives"): (2, 8),
    # its JSON, of a conversation of 100 kB: the client writes it once, the connection reads what is new in it and the events
    ("turn", "client parsed"): (500, 2_500),
    ("turn", "client written"): (100_000, 110_000),
    ("turn", "connection parsed"): (3_000, 6_000),
    ("turn", "connection written"): (300, 3_000),
    # 2,000 events: nothing is called once per event
    ("burst", "client messages"): (0, 0),
    ("burst", "client sends"): (1, 2),
    ("burst", "client receives"): (1, 40),
    ("burst", "connection messages"): (0, 0),
    ("burst", "connection sends"): (2, 40),
    ("burst", "connection receives"): (2, 60),
    # bodies at once, at the most: text, its parsed form, and what is written
    ("body", "client copies"): (0.5, 3.2),
    ("body", "connection copies"): (0.5, 5.2),
}


@pytest.fixture(scope="module")
def counted() -> dict[str, dict[str, float]]:
    done = subprocess.run([sys.executable, "-m", "tests.counting"], capture_output=True, text=True, timeout=within(60))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.processes
@pytest.mark.parametrize(("case", "what"), LIMITS)
def test_a_turn_costs_no_more_than_it_did(counted: dict[str, dict[str, float]], case: str, what: str) -> None:
    least, most = LIMITS[case, what]

    assert least <= counted[case][what] <= most
