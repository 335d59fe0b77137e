"""Everything in one process and thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import Actor, ActorExitRequest, ActorSystem

from pixir_actors.actors import messages as m
from pixir_actors.channel.frame import Frame, FrameType, encode
from pixir_actors.core.secret import Secret
from pixir_actors.dispatch.local import LocalLink
from pixir_actors.errors import PixirError
from tests.conftest import within

ONE = Frame(FrameType.DATA, 0, 1, b"one")
TWO = Frame(FrameType.DATA, 0, 2, b"two")
LAST = Frame(FrameType.FINISHED, 0, 1, b"")


class Connection(Actor):
    """Answers probes with itself, sends batches when told to, keeps acknowledgements."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: list[int] = []

    def receiveMessage(self, message: Any, sender: Any) -> None:
        match message:
            case m.Probe():
                self.send(sender, m.Probed(message.request_id - 1, True))  # late, to an earlier question
                self.send(sender, self._batch(9, TWO))
                self.send(sender, m.Probed(message.request_id, True))
            case ("batch", sequence, *frames):
                self.send(sender, self._batch(sequence, *frames))
            case ("acknowledged",):
                self.send(sender, m.StatusReport(5, tuple(self.acknowledged)))  # type: ignore[arg-type]
            case m.BatchAck():
                self.acknowledged.append(message.sequence)

    @staticmethod
    def _batch(sequence: int, *frames: Frame) -> m.Batch:
        return m.Batch("c-1", sequence, Secret(b"".join(map(encode, frames))))


@pytest.fixture
def system() -> Iterator[Any]:
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    yield system
    system.shutdown()


@pytest.fixture
def link(system: Any) -> Iterator[LocalLink]:
    link = LocalLink(system)
    yield link
    system.tell(link.supervisor(), ActorExitRequest())
    link.close()


@pytest.fixture
def connection(system: Any, link: LocalLink) -> Any:
    address = system.createActor(Connection)
    link.met("c-1", address)
    return address


def acknowledged(system: Any, connection: Any) -> list[int]:
    return list(system.ask(connection, ("acknowledged",), 0.1).connections)


def test_an_answer_comes_back_whatever_came_before_it(link: LocalLink, connection: Any, system: Any) -> None:
    source = link.open(2, max_buffered_bytes=1000)

    assert link.ask(connection, m.Probe(7), timeout=within(5)) == m.Probed(7, True)

    assert source.take(0.0) == [TWO], "a batch that came meanwhile is not lost"
    assert acknowledged(system, connection) == [9]


def test_without_an_answer_it_comes_back_when_the_time_is_up_and_has_not_spun(link: LocalLink, system: Any) -> None:
    address = system.createActor(Connection)
    system.tell(address, ActorExitRequest())
    cpu = time.process_time()

    assert link.ask(address, m.GetStatus(1), timeout=0.2) is None

    assert time.process_time() - cpu < 0.15


def test_a_question_that_makes_no_sense_any_more_is_given_up(link: LocalLink, connection: Any) -> None:
    began = time.monotonic()

    assert link.ask(connection, m.GetStatus(1), timeout=60.0, give_up=lambda: True) is None
    assert time.monotonic() - began < within(2)


def test_frames_go_to_the_source_of_their_request_and_every_batch_is_acknowledged(
    link: LocalLink, connection: Any, system: Any
) -> None:
    one, two = link.open(1, max_buffered_bytes=1000), link.open(2, max_buffered_bytes=1000)
    assert not one.started
    system.tell(connection, ("batch", 1, ONE, TWO))
    system.tell(connection, ("batch", 2, LAST))

    assert one.take(within(5)) == [ONE]
    assert one.started
    assert one.take(within(5)) == [LAST]
    assert two.take(within(5)) == [TWO]
    assert acknowledged(system, connection) == [1, 2]


def test_what_nobody_wants_any_more_is_dropped_but_acknowledged(link: LocalLink, connection: Any, system: Any) -> None:
    source = link.open(1, max_buffered_bytes=1000)
    source.close()
    other = link.open(2, max_buffered_bytes=1000)
    system.tell(connection, ("batch", 1, ONE))
    system.tell(connection, ("batch", 2, TWO))

    assert other.take(within(5)) == [TWO]
    assert not source.started
    assert acknowledged(system, connection) == [1, 2]


def test_a_source_waits_no_longer_than_asked(link: LocalLink) -> None:
    source = link.open(1, max_buffered_bytes=1000)
    began = time.monotonic()

    assert source.take(0.05) is None
    assert 0.04 < time.monotonic() - began < within(1)


@pytest.mark.parametrize("use", ["ask", "take"])
def test_another_thread_is_told_that_the_link_is_not_its_own(link: LocalLink, connection: Any, use: str) -> None:
    source = link.open(1, max_buffered_bytes=1000)
    errors: list[Exception] = []

    def run() -> None:
        try:
            link.ask(connection, m.Probe(1), timeout=1.0) if use == "ask" else source.take(1.0)
        except PixirError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    [error] = errors
    assert "belongs to the thread that made it" in str(error)


def test_the_supervisor_is_found_by_its_name(link: LocalLink, system: Any) -> None:
    assert link.supervisor() == link.supervisor(again=True) == LocalLink(system).supervisor()
    assert not link.connected("c-1"), "asking costs next to nothing here"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("owned", [True, False])
def test_only_a_system_of_its_own_ends_with_the_link(owned: bool) -> None:
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    ended: list[str] = []
    shutdown = system.shutdown
    system.shutdown = lambda: ended.append("shutdown")
    before = open_descriptors()
    link = LocalLink(system, owned=owned)
    link.close()

    assert link.owns_system is owned
    assert (open_descriptors() == before) is owned
    system.tell(link.supervisor(), ActorExitRequest())
    assert ended == (["shutdown"] if owned else [])
    shutdown()
