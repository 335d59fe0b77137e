"""Log records are bounded on their way; a logger process that is stuck, or has died, costs the service nothing."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from thespian.actors import ActorAddress
from thespian.system.messages.multiproc import EndpointConnected
from thespian.system.transport import SendStatus, TransmitIntent

from pixir_actors.system import forwarding
from pixir_actors.system.embedded import EmbeddedSystem, LogPipe
from pixir_actors.system.forwarding import MOST_UNDER_WAY, Flow, bound_records, outlive_loggers
from pixir_actors.system.processes import kill
from pixir_actors.system.signed import LoopbackAddress
from tests.conftest import until, within
from tests.system.actors import Helper
from tests.system.conftest import listeners


def record(text: str = "said", *, level: int = logging.INFO, name: str = "pixir_actors.tests") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, text, (), None)


class Wire:
    """A transport that keeps what it is given until it is told how it went."""

    def __init__(self) -> None:
        self.sent: list[TransmitIntent] = []
        self.flow = Flow(self.sent.append)

    def take(self, *records: logging.LogRecord) -> list[TransmitIntent]:
        """Have them sent; return their intents."""
        intents = [TransmitIntent(None, each) for each in records]
        for intent in intents:
            self.flow.take(intent)
        return intents

    def finish(self, status: object = SendStatus.Sent) -> list[logging.LogRecord]:
        """Finish all that are under way; return their records."""
        under_way, self.sent[:] = list(self.sent), []
        for intent in under_way:
            intent.tx_done(status)
        return [intent.message for intent in under_way]


def test_only_so_many_are_under_way_and_the_next_one_says_how_many_were_lost() -> None:
    wire = Wire()
    intents = wire.take(*[record(f"{number}") for number in range(MOST_UNDER_WAY + 7)])

    assert [intent.result for intent in intents[MOST_UNDER_WAY:]] == [SendStatus.Failed] * 7
    assert len(wire.sent) == MOST_UNDER_WAY
    wire.sent.pop().tx_done(SendStatus.Sent)
    wire.take(record("after"))
    assert wire.sent[-1].message.dropped == 7


def test_the_end_of_a_burst_says_what_was_lost_in_it() -> None:
    wire = Wire()
    wire.take(*[record()] * (MOST_UNDER_WAY + 7))

    assert len(wire.finish()) == MOST_UNDER_WAY
    (notice,) = wire.finish()
    assert (notice.dropped, notice.levelno) == (7, logging.WARNING)
    assert wire.finish() == []


def test_what_was_lost_before_a_record_that_is_lost_itself_is_not_forgotten() -> None:
    wire = Wire()
    limited = record()
    limited.dropped = 5
    wire.take(limited, record())
    wire.finish(SendStatus.Failed)
    wire.take(record())

    assert wire.sent[0].message.dropped == 7
    wire.finish(SendStatus.Failed)
    wire.take(record())
    assert wire.sent[0].message.dropped == 8


def test_where_nobody_answers_one_at_a_time_is_tried() -> None:
    wire = Wire()
    wire.take(record(), record())
    wire.finish(SendStatus.Failed)

    wire.take(*[record()] * 5)
    assert len(wire.sent) == 1
    wire.finish()  # now somebody does, and hears what was lost
    wire.finish()
    wire.take(*[record()] * 5)
    assert len(wire.sent) == 5


def test_a_record_waits_for_a_second_at_most() -> None:
    wire = Wire()
    (intent,) = wire.take(record())

    assert intent.delay() <= forwarding.GIVE_UP
    assert forwarding.GIVE_UP.total_seconds() <= 1


def test_what_nobody_asked_for_is_not_sent_and_not_counted() -> None:
    wire = Wire()
    (intent,) = wire.take(record(name="httpcore.http11"))
    wire.take(record())

    assert intent.result == SendStatus.Sent
    assert [hasattr(each.message, "dropped") for each in wire.sent] == [False]


def test_other_threads_leave_the_transport_alone() -> None:
    wire = Wire()
    thread = threading.Thread(target=wire.take, args=(record(),))
    thread.start()
    thread.join()

    assert wire.sent == []
    wire.take(record())
    assert wire.sent[0].message.dropped == 1


def test_a_record_that_cannot_be_sent_raises_nothing() -> None:
    def fail(_: TransmitIntent) -> None:
        raise pickle.PicklingError("cannot")

    flow = Flow(fail)
    for _ in range(MOST_UNDER_WAY * 2):
        flow.take(TransmitIntent(None, record()))

    assert flow._under_way == 0


def test_other_messages_go_as_they_are_but_a_second_report_to_the_starter() -> None:
    sent: list[object] = []
    schedule = bound_records(lambda self, manager, intent=None, **options: sent.append((intent.message, options)))
    transport = SimpleNamespace(_loggers=1)

    schedule(transport, None, TransmitIntent(None, "message"), has_exclusive_flag=True)
    schedule(transport, None, TransmitIntent(None, first := EndpointConnected(0)))
    transport._loggers = 2
    schedule(transport, None, again := TransmitIntent(None, EndpointConnected(0)))

    assert sent == [("message", {"has_exclusive_flag": True}), (first, {})]
    assert again.result == SendStatus.Sent


def test_an_admin_whose_logger_died_has_its_definitions_and_its_address() -> None:
    class Admin:
        logdefs, asLogger = "definitions", "where it was"

        def childDied(self) -> bool:
            self.asLogger = None
            return True

    outlive_loggers(Admin)
    outlive_loggers(Admin)
    admin = Admin()

    assert admin.childDied() is True
    assert (admin.logDefs, admin.asLogger) == ("definitions", "where it was")


# A running system.


class Log:
    """The lines that a system's log director writes."""

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        self.lines: list[dict[str, object]] = []
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        with os.fdopen(self._read, "rb") as pipe:
            self.lines += (json.loads(line) for line in pipe)

    def _messages(self) -> list[object]:
        return [line["message"] for line in self.lines]

    def has(self, message: str) -> bool:
        """Wait for a message."""
        return until(lambda: message in self._messages())

    def close(self) -> None:
        os.close(self.write_end)
        self._thread.join()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.close()


@pytest.fixture
def logging_system(log: Log) -> Iterator[EmbeddedSystem]:
    with EmbeddedSystem.start(start_timeout=within(20), log=LogPipe("DEBUG", log.write_end)) as running:
        yield running


@pytest.fixture
def timed(logging_system: EmbeddedSystem) -> Iterator[Callable[..., object]]:
    """Ask a helper; the answer has to come within a second."""
    helper = logging_system.actor_system.createActor(Helper)
    with logging_system.actor_system.private() as endpoint:
        endpoint.ask(helper, ("pid",), within(10))

        def ask(*message: object) -> object:
            started = time.monotonic()
            answer = endpoint.ask(helper, message, within(10))
            assert time.monotonic() - started < within(1)
            return answer

        yield ask


def logger_of(system: EmbeddedSystem, helper: object) -> int:
    (logger,) = [pid for pid in system.pids()[2:] if pid != helper]  # after guardian and admin
    return logger


def test_records_of_all_loggers_arrive_and_what_others_say_only_from_a_warning_on(
    log: Log, timed: Callable[..., object]
) -> None:
    pid = timed("pid")
    timed("log", 3)
    timed("log early", "made before the fork", {"key": "4f"})
    timed("log of others", logging.INFO)
    timed("log of others", logging.WARNING)
    assert log.has("said by others")

    assert [(line["message"], line["level"], line["pid"]) for line in log.lines] == [
        ("record 0", logging.INFO, pid),
        ("record 1", logging.INFO, pid),
        ("record 2", logging.INFO, pid),
        ("made before the fork", logging.ERROR, pid),
        ("said by others", logging.WARNING, pid),
    ]
    assert log.lines[3]["fields"] == {"key": "4f"}


def test_what_thespian_logs_of_a_failure_quotes_nothing(
    log: Log, timed: Callable[..., object], logging_system: EmbeddedSystem
) -> None:
    assert "PoisonMessage" in type(timed("raise", "canary words")).__name__
    timed("log early", "after", None)
    assert log.has("after")

    kinds = [str(line.get("where")) for line in log.lines[:2]]
    assert [kind.split()[0] for kind in kinds] == ["ValueError"] * 2
    assert "canary" not in str(log.lines)


def test_a_burst_holds_nobody_up_and_says_what_it_lost(log: Log, timed: Callable[..., object]) -> None:
    assert timed("log", 2000) == "logged"
    assert timed("echo", 1) == 1
    assert until(lambda: any("fields" in line for line in log.lines))

    lost = sum(line["fields"]["dropped"] for line in log.lines if "fields" in line)
    arrived = [line for line in log.lines if str(line["message"]).startswith("record ")]
    assert len(arrived) >= MOST_UNDER_WAY
    assert len(arrived) + lost == 2000


def test_a_frozen_logger_holds_nobody_up(log: Log, timed: Callable[..., object], logging_system: EmbeddedSystem) -> None:
    logger = logger_of(logging_system, timed("pid"))
    os.kill(logger, signal.SIGSTOP)
    for _ in range(4):
        assert timed("log", 2000) == "logged"
        assert timed("echo", 1) == 1
    # New actors start, too.
    with logging_system.actor_system.private() as endpoint:
        other = logging_system.actor_system.createActor(Helper)
        assert endpoint.ask(other, ("log", 2000), within(5)) == "logged"

    os.kill(logger, signal.SIGCONT)
    assert until(lambda: timed("log early", "heard again", None) and "heard again" in str(log.lines))


def test_a_killed_logger_is_replaced_and_holds_nobody_up(
    log: Log, timed: Callable[..., object], logging_system: EmbeddedSystem
) -> None:
    pids, helper = logging_system.pids(), timed("pid")
    before = set(listeners(pids))
    for _ in range(3):
        logger = logger_of(logging_system, helper)
        os.kill(logger, signal.SIGKILL)
        assert timed("log", 2000) == "logged"
        assert timed("echo", 1) == 1
        assert until(lambda dead=logger: dead not in logging_system.pids() and len(logging_system.pids()) == len(pids))

    assert until(lambda: timed("log early", "heard again", None) and "heard again" in str(log.lines))
    assert until(lambda: set(listeners(logging_system.pids())) == before), "the logger has another place"
    assert logging_system.pids()[:2] == pids[:2], "guardian and admin went on"


def test_a_logger_killed_as_it_starts_leaves_an_admin_that_answers(
    timed: Callable[..., object], logging_system: EmbeddedSystem
) -> None:
    """Thespian's admin would wait for the report of a logger for ever."""
    helper, end = timed("pid"), time.monotonic() + within(1)
    known = set(logging_system.pids()) - {logger_of(logging_system, helper)}
    while time.monotonic() < end:
        for pid in set(logging_system.pids()) - known:
            kill(pid)

    with logging_system.actor_system.private() as endpoint:
        other = logging_system.actor_system.createActor(Helper)
        assert endpoint.ask(other, ("echo", 1), within(5)) == 1


def test_nobody_is_given_a_loggers_port_while_there_is_none() -> None:
    transport = SimpleNamespace()
    prepared = forwarding.keep_loggers_place(lambda *_: SimpleNamespace(args=()), LoopbackAddress)
    actor = ActorAddress(LoopbackAddress(None, 5))

    assert prepared(transport, actor, {}).args == ()
    assert not hasattr(transport, "_loggers_place")
