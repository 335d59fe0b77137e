"""When a connection reports, and what."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pixir_actors.actors import reporter as module
from pixir_actors.actors.board import Board, Slot
from pixir_actors.actors.reporter import PROMPTLY, REPORT_INTERVAL, Reporter
from pixir_actors.core.report import Facts, facts_of
from pixir_actors.core.state import Alarm, Connection, Socket, State
from pixir_actors.settings import Settings

BEGAN = 1000.0


class Bench:
    """A reporter, a clock, what it sent and when it wants to be woken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = BEGAN
        self.sent: list[Facts] = []
        self.wakeups: list[float] = []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.reporter = Reporter(None, send=self.sent.append, wake_after=self.wakeups.append)
        self.connection = Connection.new(now=BEGAN, limits=Settings())

    def change(self) -> None:
        """Have something happen that is worth a report."""
        turns = self.connection.statistics.turns + 1
        self.connection = replace(self.connection, statistics=replace(self.connection.statistics, turns=turns))
        self.reporter.changed(self.connection)

    def wakeup(self) -> float:
        """Return, and take, the only wakeup that was asked for."""
        [delay] = self.wakeups
        self.wakeups.clear()
        return delay

    def report(self) -> None:
        """Let a change be reported when that is due."""
        self.change()
        self.now += self.wakeup()
        self.reporter.due(self.connection)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_the_first_change_is_reported_promptly_but_not_at_once(bench: Bench) -> None:
    bench.change()

    assert bench.sent == []
    assert 0 < bench.wakeup() == PROMPTLY < REPORT_INTERVAL


def test_changes_until_then_ask_for_no_other_wakeup(bench: Bench) -> None:
    for _ in range(3):
        bench.change()

    assert len(bench.wakeups) == 1


def test_a_report_says_how_things_are_when_it_is_sent(bench: Bench) -> None:
    bench.change()
    bench.connection = replace(bench.connection, statistics=replace(bench.connection.statistics, turns=7))
    bench.now += 2.5
    bench.reporter.due(bench.connection)

    assert bench.sent == [facts_of(bench.connection)]
    assert bench.sent[0].statistics[0] == 7
    assert len(bench.wakeups) == 1, "the one of the change: nothing has changed since"


@pytest.mark.parametrize(
    ("later", "delay"),
    [(0.0, REPORT_INTERVAL), (0.25, REPORT_INTERVAL - 0.25), (REPORT_INTERVAL - PROMPTLY / 2, PROMPTLY), (60.0, PROMPTLY)],
)
def test_the_next_one_keeps_its_distance(bench: Bench, later: float, delay: float) -> None:
    bench.report()
    bench.now += later
    bench.change()

    assert bench.wakeup() == pytest.approx(delay)
    assert len(bench.sent) == 1


def test_a_connection_that_never_rests_reports_once_per_interval(bench: Bench) -> None:
    bench.report()
    first = bench.now
    for _ in range(10):
        bench.report()

    assert len(bench.sent) == 11
    assert bench.now - first == pytest.approx(10 * REPORT_INTERVAL)


def test_a_connection_that_only_pings_reports_nothing(bench: Bench) -> None:
    socket = Socket("wss://h/v1/responses", "fingerprint", BEGAN, None, BEGAN)
    bench.connection = replace(bench.connection, socket=socket)
    bench.report()
    for seen in (25.0, 50.0):
        bench.connection = replace(
            bench.connection, socket=replace(socket, last_seen=BEGAN + seen), alarm=Alarm(int(seen), BEGAN + seen + 25)
        )
        bench.reporter.changed(bench.connection)

    assert bench.wakeups == []


def test_a_socket_that_comes_or_goes_is_news(bench: Bench) -> None:
    bench.report()
    socket = Socket("wss://h/v1/responses", "fingerprint", BEGAN, None, BEGAN)
    for connection in (replace(bench.connection, socket=socket), replace(bench.connection, state=State.DEGRADED)):
        bench.reporter.changed(connection)
        bench.wakeup()
        bench.reporter.due(bench.connection)


# On the board


@pytest.fixture
def slot(bench: Bench) -> Slot:
    taken = Board().take()
    assert taken is not None
    bench.reporter = Reporter(taken, send=bench.sent.append, wake_after=bench.wakeups.append)
    return taken


def test_with_a_board_news_is_there_at_once_and_nobody_is_woken(bench: Bench, slot: Slot) -> None:
    for _ in range(3):
        bench.change()
        assert slot.read() == facts_of(bench.connection)

    assert (bench.sent, bench.wakeups) == ([], [])


def test_what_is_no_news_is_not_written(bench: Bench, slot: Slot) -> None:
    bench.change()
    slot.clear()
    bench.connection = replace(bench.connection, alarm=Alarm(1, BEGAN + 25))
    bench.reporter.changed(bench.connection)

    assert slot.read() is None
