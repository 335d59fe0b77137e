"""What a turn may cost, counted instead of timed: messages, bytes pickled, JSON, system calls, wakeups, copies of the body.

The counts hardly depend on the machine: what is cut into several reads, who comes first, and the allocator, move them a
little. A limit is what was counted when it was set, and some room; a change that makes something cheaper lowers it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Final

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
    ("turn", "client waits"): (1, 3),
    ("turn", "client registrations"): (0, 0.2),
    ("turn", "client eventfds"): (0, 0.2),
    ("turn", "client deliveries"): (1, 3),
    ("turn", "connection messages"): (0, 0),
    ("turn", "connection pickled"): (0, 0),
    ("turn", "connection reports"): (1, 2.2),  # written on the board: when it begins, and when it has ended
    ("turn", "connection transitions"): (3, 6),  # submitted, sent, what was received
    ("turn", "connection sends"): (2, 4),  # to the provider, and what is known before and behind its answer
    ("turn", "connection receives"): (2, 8),
    ("turn", "connection waits"): (1, 6),  # on a busy machine also for what else would have been there
    ("turn", "connection eventfds"): (0, 0.2),
    # its JSON, of a conversation of 100 kB: the client writes it once, the connection reads what is new in it and the events
    ("turn", "client parsed"): (500, 2_500),
    ("turn", "client written"): (100_000, 110_000),
    ("turn", "connection parsed"): (3_000, 6_000),
    ("turn", "connection written"): (300, 3_000),
    # 2,000 events that are there at once: nothing is called once per event, and no slice has more than 256 of them
    ("burst", "client messages"): (0, 0),
    ("burst", "client sends"): (1, 2),
    ("burst", "client receives"): (1, 40),
    ("burst", "client waits"): (1, 40),
    ("burst", "client registrations"): (0, 4),
    ("burst", "client eventfds"): (0, 4),
    ("burst", "client deliveries"): (1, 40),
    ("burst", "connection messages"): (0, 0),
    ("burst", "connection sends"): (2000 / 256, 40),
    ("burst", "connection receives"): (2, 60),
    ("burst", "connection waits"): (2, 40),
    ("burst", "connection eventfds"): (0, 20),  # for what was read and is not parsed yet
    # events each of which is sent when the one before has been received, per event: none waits for the next
    ("event", "connection sends"): (1, 1.1),
    ("event", "connection receives"): (1, 3),
    ("event", "connection waits"): (0.5, 1.7),  # what comes next is waited for before there is another round
    ("event", "connection eventfds"): (0, 0.2),
    ("event", "client deliveries"): (1, 1),
    # bodies at once, at the most: text, its parsed form, and what is written
    ("body", "client copies"): (0.5, 2.9),
    ("body", "connection copies"): (0.5, 3.5),
}

LIMITS_WHERE_EMBEDDED: Final = {
    # plain Thespian makes a selector in each round, knows no short ones, and takes back no alarm
    ("turn", "connection registrations"): (0, 0.2),
    ("burst", "connection registrations"): (0, 8),
    ("event", "connection registrations"): (0, 0.2),
    ("event", "connection rounds"): (0, 0.7),
    # a ping and its pong while nothing else happens
    ("ping", "connection sends"): (1, 1.1),
    ("ping", "connection receives"): (1, 3),
    ("ping", "connection eventfds"): (0, 0.2),
    ("ping", "connection messages"): (0, 0.1),
    ("ping", "connection reports"): (0, 0),
    ("ping", "connection transitions"): (0, 0),  # the machine has no part in it
    ("ping", "client waits"): (0, 0.1),
    ("ping", "connection registrations"): (0, 0.2),
    ("ping", "connection rounds"): (0, 0.5),
    # it waits for the time to come, for the pong, and is told which socket that came to
    ("ping", "connection waits"): (2, 3.4),
    ("ping", "connection wakeups"): (1, 2.3),  # two, or less where the pong was there at once
}

COUNTED: Final = {"embedded": LIMITS | LIMITS_WHERE_EMBEDDED, "over": LIMITS}
"""On an actor system of the program's own, and on a host's."""


@cache
def counting(base: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.counting", base], capture_output=True, text=True, timeout=within(60))


@pytest.mark.processes
@pytest.mark.parametrize(("base", "case", "what"), [(base, *key) for base in COUNTED for key in COUNTED[base]])
def test_a_turn_costs_no_more_than_it_did(base: str, case: str, what: str) -> None:
    least, most = COUNTED[base][case, what]

    done = counting(base)

    assert done.returncode == 0, done.stderr
    assert least <= json.loads(done.stdout)[case][what] <= most
