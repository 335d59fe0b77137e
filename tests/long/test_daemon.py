"""The kills of daemons in short: each process in turn, once."""

from __future__ import annotations

import pytest

from tests.long import kills
from tests.long.daemon import IN_TURN, DaemonLane
from tests.long.kills import Deed, Kills


def each_once(_: Kills, __: int) -> list[Deed]:
    return [kills._system_deed(blow) for blow in IN_TURN]


@pytest.mark.slow
@pytest.mark.processes
def test_each_process_of_a_daemon_may_be_killed_under_load() -> None:
    tally = kills.kill(rounds=len(IN_TURN), seed=5, lanes=2, deeds=each_once, lane_class=DaemonLane)

    assert not tally.violations, "\n".join(tally.violations)
    assert tally.rounds.total() == len(IN_TURN)
