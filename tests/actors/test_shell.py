"""What holds for every actor, whatever its own handlers do."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from thespian.actors import (
    ActorAddress,
    ActorExitRequest,
    ActorSystem,
    ChildActorExited,
    PoisonMessage,
    ThespianWatch,
    WakeupMessage,
    WatchMessage,
)
from thespian.system.addressManager import ActorAddressManager

from pixir_actors.actors import shell
from pixir_actors.system.embedded import EmbeddedSystem
from pixir_actors.system.polling import attendant_of
from tests.actors.probes import Probe
from tests.conftest import until, within

CANARY = "sk-canary-4711"
WATCHED = {"Thespian Watch Supported": True}
IN_PROCESS = {"Thespian ActorSystem Name": "simpleSystem"}


class Lone(Probe):
    """Without a system: what it would have sent and when it would be woken is kept."""

    def __init__(self, capabilities: dict[str, Any]) -> None:
        super().__init__(capabilities)
        self.wakeups: list[tuple[float, str, int]] = []

    def wake_after(self, delay: float, name: str, token: int = 0) -> None:
        self.wakeups.append((delay, name, token))

    def ring(self) -> None:
        """Let the newest wakeup come."""
        _, name, token = self.wakeups[-1]
        self.receiveMessage(WakeupMessage(None, (name, token)), None)


@pytest.fixture
def watched() -> Iterator[Lone]:
    actor = Lone(WATCHED)
    yield actor
    actor.watch.close()


@pytest.fixture
def polling() -> Iterator[Lone]:
    actor = Lone(IN_PROCESS)
    yield actor
    actor.watch.close()


MESSAGES = [
    ("anything",),
    "of no known type",
    None,
    ("raise", CANARY),
    WakeupMessage(None, ("name", 1)),
    WakeupMessage(None, None),
    WakeupMessage(None, ("poll", 77)),
    WatchMessage([]),
    ChildActorExited(ActorAddress(None)),
    PoisonMessage(("raise", CANARY), "details"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_the_watch_is_returned_whatever_came(watched: Lone, message: object) -> None:
    returned = watched.receiveMessage(message, None)

    assert isinstance(returned, ThespianWatch)
    assert returned.filenos == [watched.watch.fileno()]


def test_after_the_end_no_watch_is_returned_and_nothing_is_handled(watched: Lone) -> None:
    assert watched.receiveMessage(ActorExitRequest(), None) is None
    assert watched.receiveMessage(("raise", CANARY), None) is None
    assert watched.handled == []


def test_an_actor_without_a_watch_returns_none() -> None:
    actor = Lone({"Thespian Watch Supported": False})
    assert not actor.can_watch
    assert actor.receiveMessage(("anything",), None) is None
    assert actor.wakeups == []
    actor.watch.close()


def test_a_wakeup_is_told_with_its_name_and_token(watched: Lone) -> None:
    watched.receiveMessage(WakeupMessage(None, ("alarm", 7)), None)

    assert watched.rung == [("alarm", 7)]
    assert watched.handled == []


def test_a_defect_is_logged_by_its_place_alone(watched: Lone, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        watched.receiveMessage(("raise", CANARY), None)

    [record] = [one for one in caplog.records if one.name == "pixir_actors.actors.shell"]
    assert record.levelno == logging.ERROR
    assert "ValueError" in record.getMessage()
    assert "handle:" in record.getMessage()
    assert "tuple" in record.getMessage()
    assert CANARY not in caplog.text
    assert record.exc_info is None
    assert watched.defects == 1


def test_a_defect_in_the_defect_is_logged_and_goes_no_further(watched: Lone, caplog: pytest.LogCaptureFixture) -> None:
    def worse() -> None:
        raise RuntimeError(CANARY)

    watched.defect = worse  # type: ignore[method-assign]

    assert isinstance(watched.receiveMessage(("raise", CANARY), None), ThespianWatch)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert CANARY not in caplog.text


def test_what_a_descriptor_s_handler_raises_is_a_defect_like_any_other(watched: Lone) -> None:
    watched.watch.again(lambda: 1 / 0)

    assert isinstance(watched.receiveMessage(WatchMessage([]), None), ThespianWatch)
    assert watched.defects == 1


def test_without_a_watch_of_the_system_it_polls_as_long_as_there_is_something_to_wait_for(polling: Lone) -> None:
    assert polling.receiveMessage(("anything",), None) is None
    assert polling.wakeups == []

    polling.receiveMessage(("pipe",), None)
    polling.ring()

    assert polling.woken == 1
    polling.watch.remove(polling.pipe[0])
    count = len(polling.wakeups)
    polling.ring()
    assert len(polling.wakeups) == count, "nothing is left to poll"
    polling.exiting(None)


def test_it_polls_often_while_busy_and_seldom_while_idle(polling: Lone) -> None:
    polling.receiveMessage(("pipe",), None)
    [(idle, name, first)] = polling.wakeups
    polling.receiveMessage(("anything",), None)
    assert len(polling.wakeups) == 1, "one poll is under way"

    polling.wanted_busy = True
    polling.receiveMessage(("anything",), None)
    [_, (busy, _, second)] = polling.wakeups
    assert busy < idle / 10
    assert second != first
    polling.receiveMessage(("anything",), None)
    assert len(polling.wakeups) == 2

    polling.receiveMessage(WakeupMessage(None, (name, first)), None)
    assert polling.woken == 0, "the poll that was overtaken is stale"
    polling.wanted_busy = False
    polling.ring()
    assert polling.woken == 1
    assert polling.wakeups[-1][0] == idle
    polling.exiting(None)


def test_an_actor_that_ends_in_this_process_leaves_no_descriptor() -> None:
    """A process of its own takes them with it; where all actors share one, they are closed."""
    before = sorted(os.listdir("/proc/self/fd"))
    actor = Lone(IN_PROCESS)
    actor.receiveMessage(("pipe",), None)
    actor.receiveMessage(ActorExitRequest(), None)
    actor.receiveMessage(ActorExitRequest(), None)

    assert sorted(os.listdir("/proc/self/fd")) == before


class Endpoint:
    """A probe on some system, and who talks to it."""

    def __init__(self, system: Any, probe: ActorAddress, timeout: float) -> None:
        self._system, self._probe, self._timeout = system, probe, timeout

    def tell(self, *message: Any) -> None:
        self._system.tell(self._probe, message)

    def ask(self, *message: Any) -> Any:
        return self._system.ask(self._probe, message, self._timeout)


@pytest.fixture
def in_process() -> Iterator[Endpoint]:
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    probe = system.createActor(Probe)
    yield Endpoint(system, probe, 0.1)
    system.tell(probe, ActorExitRequest())
    system.shutdown()


@pytest.fixture
def in_processes(processes: EmbeddedSystem) -> Iterator[Endpoint]:
    probe = processes.actor_system.createActor(Probe)
    with processes.actor_system.private() as endpoint:
        yield Endpoint(endpoint, probe, within(10))
        endpoint.tell(probe, ActorExitRequest())


@pytest.mark.parametrize("base", ["in_process", "in_processes"])
def test_a_message_whose_handler_raises_is_not_delivered_again(base: str, request: pytest.FixtureRequest) -> None:
    probe: Endpoint = request.getfixturevalue(base)

    for number in range(1, 4):
        probe.tell("raise", CANARY)
        assert probe.ask("count") == (number, number), "handled once, noticed once, and the actor goes on answering"


def test_thespian_keeps_the_watch_after_every_kind_of_message(in_processes: Endpoint) -> None:
    """The pipe is written after each of them: had one of them lost the watch, nobody would read it."""
    in_processes.tell("wake", 0.01, "name", 1)
    in_processes.tell("child")
    in_processes.tell("poison")
    in_processes.tell("raise", CANARY)
    in_processes.tell("unknown")
    wanted = {"tuple", "WakeupMessage", "ChildActorExited", "PoisonMessage"}

    def returned() -> Any:
        return in_processes.ask("returned")

    assert until(lambda: wanted <= set(returned()[1]))
    in_processes.tell("pipe")
    assert until(lambda: returned()[2] == 1)
    fd, kinds, _, rung = returned()
    assert rung == [("name", 1)]
    assert wanted | {"WatchMessage"} <= set(kinds)
    assert all(filenos == [fd] for filenos in kinds.values())


@pytest.mark.parametrize("base, rung", [("in_process", [("n", 1), ("n", 2)]), ("in_processes", [("n", 2)])])
def test_a_wakeup_in_place_of_another_rings_alone_where_the_other_can_be_taken_back(
    base: str, rung: list[Any], request: pytest.FixtureRequest
) -> None:
    probe: Endpoint = request.getfixturevalue(base)
    probe.tell("wake instead", "n")

    assert until(lambda: ("n", 2) in probe.ask("returned")[3])
    assert probe.ask("returned")[3] == rung


def test_in_one_process_an_actor_hears_of_its_descriptors_by_polling(in_process: Endpoint) -> None:
    in_process.tell("pipe")

    assert until(lambda: in_process.ask("returned")[2] == 1)


def test_the_address_of_an_actor_that_has_ended_is_let_go_of_where_thespian_keeps_it() -> None:
    manager = ActorAddressManager("admin", "this actor")
    first, second = manager.createLocalAddress(), manager.createLocalAddress()
    manager.associateUseableAddress("this actor", 0, ActorAddress("first"))
    manager.associateUseableAddress("this actor", 1, ActorAddress("second"))

    actor = Lone({})
    actor.release(first)
    actor.release(ActorAddress("of another kind"))
    actor.watch.close()

    assert manager.exportAddr(first) is None
    assert manager.exportAddr(second) == ActorAddress("second"), "places stay, addresses are found by them"


# Lingering


class Running(Lone):
    """Has something running until it has read so much."""

    def __init__(self, wanted: int) -> None:
        super().__init__(WATCHED)
        self.wanted = wanted
        self.heard = b""
        self.ours, self.theirs = socket.socketpair()
        self.watch.add(self.ours.fileno(), self._read)

    def _read(self, readable: bool) -> None:
        self.heard += self.ours.recv(100)

    @property
    def busy(self) -> bool:
        return len(self.heard) < self.wanted

    def close(self) -> None:
        self.watch.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def run() -> Iterator[Callable[[int], Running]]:
    started: list[Running] = []

    def one(wanted: int) -> Running:
        started.append(Running(wanted))
        return started[-1]

    yield one
    for actor in started:
        actor.close()


def test_what_comes_at_once_is_handled_before_thespian_is_asked_again(
    run: Callable[[int], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "LINGER", within(5))
    actor = run(2)
    actor.theirs.send(b"1")
    second = threading.Timer(0.02, actor.theirs.send, [b"2"])
    second.start()
    actor.receiveMessage(WatchMessage([]), None)
    second.join()

    assert actor.heard == b"12"


def test_messages_wait_no_longer_than_that_for_an_actor_that_has_something_running(run: Callable[[int], Running]) -> None:
    actor = run(2)
    actor.theirs.send(b"1")
    began = time.monotonic()
    actor.receiveMessage(WatchMessage([]), None)

    assert shell.LINGER <= time.monotonic() - began < shell.LINGER + within(1)


def test_an_actor_that_has_nothing_running_waits_for_nothing(
    run: Callable[[int], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "PAUSE", within(60))
    monkeypatch.setattr(shell, "LINGER", within(60))
    actor = run(0)
    actor.theirs.send(b"1")
    actor.receiveMessage(WatchMessage([]), None)

    assert actor.heard == b"1"


def test_one_that_has_just_ended_waits_a_moment_for_what_is_asked_for_next(
    run: Callable[[int], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "PAUSE", within(0.2))
    monkeypatch.setattr(shell, "LINGER", within(0.2))
    actor = run(1)
    actor.theirs.send(b"1")
    following = threading.Timer(0.01, actor.theirs.send, [b"2"])
    following.start()
    actor.receiveMessage(WatchMessage([]), None)
    following.join()

    assert actor.heard == b"12"


def test_somebody_sees_to_what_comes_where_the_loop_that_waits_asks_for_it() -> None:
    """`system.rounds` finds who it is by the watch's number."""
    actor, attendant = Lone(WATCHED), object()
    actor._myRef = SimpleNamespace(transport=SimpleNamespace(attends=True))

    assert actor.attend(attendant)

    returned = actor.receiveMessage(("nothing",), None)
    assert isinstance(returned, ThespianWatch)
    assert returned.filenos == [actor.watch.fileno()]
    assert attendant_of(returned.filenos) is attendant


@pytest.mark.parametrize("reference", [SimpleNamespace(transport=SimpleNamespace()), SimpleNamespace(), None])
def test_nobody_sees_to_it_where_thespians_own_loop_waits(reference: Any) -> None:
    actor = Lone(WATCHED)
    actor._myRef = reference

    assert not actor.attend(object())

    returned = actor.receiveMessage(("nothing",), None)
    assert isinstance(returned, ThespianWatch)
    assert attendant_of(returned.filenos) is None
