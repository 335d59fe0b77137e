"""Kills, of the processes of admin daemons that are shared by clients: each process in turn, under load.

    python -m tests.long.daemon --rounds 20 --seed 1

As `tests.long.kills`, but for who keeps the system: a detached daemon, which is a victim like the others.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from itertools import cycle
from typing import Any, Final

from pixir_actors import Client
from pixir_actors.dispatch.attached import AttachedLink
from pixir_actors.system.launch import stop_admin
from pixir_actors.system.places import Places
from pixir_actors.system.processes import descendants
from pixir_actors.system.runtime import find
from tests.conftest import until, within
from tests.long.figures import name_of
from tests.long.kills import Blow, Deed, Kills, Lane, _signal, _system_deed, kill, sandbox

LANES: Final = 3
IN_TURN: Final = (
    Blow(("daemon",)),
    Blow(("guardian",)),
    Blow(("admin",)),
    Blow(("supervisor",)),
    Blow(("key",)),
    Blow(("logger",)),
    Blow(("all keys",)),
)
STOPPED: Final = (
    Blow(("supervisor",), stop=True),
    Blow(("admin",), stop=True),
    Blow(("admin", "supervisor"), stop=True),
    Blow(("logger",), stop=True),
    Blow(("key",), stop=True),
)


class DaemonLane(Lane):
    """One daemon at a place of its own, and a client that may start it."""

    def open(self) -> Client:
        self.home = tempfile.mkdtemp(prefix="daemon-")
        self.places = Places.of({"HOME": self.home, "PIXIR_ACTORS_RUNTIME_DIR": os.path.join(self.home, "run")})
        return Client(AttachedLink(self.places, start=True), namespace=f"lane-{self.number}")

    def end(self) -> None:
        self.client.close()
        runtime = find(self.places)
        if runtime is not None:
            # What hangs in it is not waited for longer than its daemon would.
            stop_admin(runtime, timeout=within(1))
            _signal([runtime.pid], signal.SIGTERM)
            if not stop_admin(runtime, timeout=within(10)):
                self.kills.violation("a daemon did not end")
        shutil.rmtree(self.home, ignore_errors=True)

    def pids(self) -> list[int]:
        runtime = find(self.places)
        return [] if runtime is None else descendants(runtime.pid)

    def _find(self, role: str) -> list[int]:
        if role != "daemon":
            return super()._find(role)
        runtime = find(self.places)
        return [] if runtime is None else [runtime.pid]

    def _account(self, what: str, stopped: list[int]) -> None:
        # What is stopped for ever the daemon has to find, and end, by itself.
        until(lambda: not [pid for pid in stopped if _is_ours(pid)], within(30))
        super()._account(what, stopped)


def _is_ours(pid: int) -> bool:
    return name_of(pid) in ("pixir-admin", "pixir-superv")


def in_turn(kills: Kills, rounds: int) -> list[Deed]:
    """Return each kill in turn, and after every fourth one something that is stopped for ever."""
    killed, stopped = cycle(IN_TURN), cycle(STOPPED)
    return [_system_deed(next(stopped if number % 5 == 4 else killed)) for number in range(rounds)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.daemon", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--lanes", type=int, default=LANES, help="daemons side by side (default: %(default)s)")
    options: Any = parser.parse_args(arguments)
    print(f"kills of daemons: {options.rounds} rounds, seed {options.seed}", flush=True)
    with sandbox():
        tally = kill(
            rounds=options.rounds, seed=options.seed, lanes=options.lanes, deeds=in_turn, lane_class=DaemonLane
        )
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
