"""An actor that only waits goes short rounds, and everything else finds Thespian's own."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import WakeupMessage, WatchMessage
from thespian.system.timing import ExpirationTimer
from thespian.system.transport import Thespian__Run_Expired, Thespian__Run_Terminated, TransmitOnly
from thespian.system.transport.wakeupTransportBase import wakeupTransportBase

from pixir_actors.system import rounds, signed
from pixir_actors.system.embedded import EmbeddedSystem
from pixir_actors.system.rounds import Note, realize_wakeups, replace_wakeups, shorten
from tests.conftest import until, within
from tests.system.actors import Waiter

CANARY = "sk-canary-4711"
WHOLE = "a whole round"
UNDER_WAY = ("_incomingEnvelopes", "_incomingSockets", "_transmitIntents", "_waitingTransmits", "_finished_intents")
"""What a transport keeps of the messages that come and go."""


class Transport(wakeupTransportBase):  # type: ignore[misc]
    """As much of Thespian's as a round needs, with two watches and a listener that can be made ready."""

    def __init__(self) -> None:
        super().__init__()
        self.myAddress = "me"
        self.pairs = [socket.socketpair() for _ in range(3)]
        self.socket = self.pairs[0][0]
        self._watches = [one.fileno() for one, _ in self.pairs[1:]]
        self.run_time = ExpirationTimer(None)
        self.told: list[Any] = []
        self.result: Any = True
        self.then: Callable[[], object] = lambda: None
        for name in UNDER_WAY:
            setattr(self, name, [])

    def make_ready(self, *numbers: int) -> None:
        for number in numbers:
            self.pairs[number][1].send(b"x")

    def hear(self, envelope: Any) -> Any:
        self.told.append(envelope.message)
        for fd in envelope.message.ready:
            os.read(fd, 1)
        self.then()
        return self.result

    def due_in(self, seconds: float) -> None:
        self.run_time = ExpirationTimer(timedelta(seconds=seconds))

    runs = shorten(lambda self, handler: WHOLE)
    addWakeup = replace_wakeups(wakeupTransportBase.addWakeup)
    _realizeWakeups = realize_wakeups

    def watches_told(self) -> list[list[int]]:
        return [message.ready for message in self.told if isinstance(message, WatchMessage)]


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport()
    yield made
    for each in made.pairs:
        for end in each:
            end.close()


def test_a_watch_that_is_ready_is_told_without_a_whole_round(transport: Transport) -> None:
    transport.make_ready(2)
    transport.then = lambda: transport.due_in(0)

    assert isinstance(transport.runs(transport.hear), Thespian__Run_Expired)
    assert transport.watches_told() == [[transport._watches[1]]]


def test_watches_that_are_ready_at_once_are_told_in_one_message(transport: Transport) -> None:
    transport.make_ready(1, 2)
    transport.then = lambda: transport.due_in(0)
    transport.runs(transport.hear)

    assert list(map(sorted, transport.watches_told())) == [sorted(transport._watches)]


def test_what_comes_to_the_listener_takes_a_whole_round_even_if_a_watch_is_ready_too(transport: Transport) -> None:
    transport.make_ready(0, 1)

    assert transport.runs(transport.hear) == WHOLE
    assert transport.told == []


@pytest.mark.parametrize("name", UNDER_WAY)
def test_what_is_under_way_takes_a_whole_round(transport: Transport, name: str) -> None:
    transport.make_ready(1)
    setattr(transport, name, ["something"])

    assert transport.runs(transport.hear) == WHOLE


@pytest.mark.parametrize("name", UNDER_WAY)
def test_what_a_handler_has_set_going_takes_a_whole_round_next(transport: Transport, name: str) -> None:
    transport.make_ready(1)
    transport.then = lambda: setattr(transport, name, ["something"])

    assert transport.runs(transport.hear) == WHOLE
    assert len(transport.told) == 1


def test_without_a_watch_every_round_is_a_whole_one(transport: Transport) -> None:
    transport._watches = []

    assert transport.runs(transport.hear) == WHOLE


@pytest.mark.parametrize("handler", [None, TransmitOnly, TransmitOnly()])
def test_who_takes_no_messages_is_not_told_of_a_watch(transport: Transport, handler: Any) -> None:
    transport.make_ready(1)

    assert transport.runs(handler) == WHOLE


@pytest.mark.parametrize("watch", ["closed", -1])
def test_a_watch_that_is_no_more_is_left_to_the_whole_round(transport: Transport, watch: object) -> None:
    if watch == "closed":
        transport.pairs[1][0].close()
    else:
        transport._watches[0] = -1

    assert transport.runs(transport.hear) == WHOLE


def test_a_wakeup_that_is_due_comes_before_a_watch_that_is_ready(transport: Transport) -> None:
    transport.make_ready(1)
    transport.due_in(0)

    assert isinstance(transport.runs(transport.hear), Thespian__Run_Expired)
    assert transport.told == []


def test_it_waits_until_the_next_wakeup_is_due_and_not_in_vain(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    wait = rounds._wait
    monkeypatch.setattr(rounds, "_wait", lambda self, delay: waits.append(delay) or wait(self, delay))
    transport.due_in(0.0309)
    begun = time.monotonic()

    assert isinstance(transport.runs(transport.hear), Thespian__Run_Expired)
    assert time.monotonic() - begun >= 0.0309
    assert len(waits) == 1, "a wait that is too short is repeated again and again"


def test_a_wakeup_that_is_due_in_a_year_is_waited_for(transport: Transport) -> None:
    """poll(2) knows no more than 24 days."""
    transport.due_in(365 * 24 * 3600.0)
    transport.then = lambda: transport.due_in(0)
    transport.make_ready(1)

    assert isinstance(transport.runs(transport.hear), Thespian__Run_Expired)
    assert len(transport.told) == 1


def test_without_a_wakeup_it_waits_for_as_long_as_it_takes(transport: Transport) -> None:
    transport.then = lambda: transport.due_in(0)
    threading.Timer(0.05, transport.make_ready, [1]).start()

    assert isinstance(transport.runs(transport.hear), Thespian__Run_Expired)
    assert len(transport.told) == 1


def test_a_handler_that_has_enough_ends_the_run_with_what_it_says(transport: Transport) -> None:
    transport.make_ready(1)
    transport.result = False
    result = transport.runs(transport.hear)

    assert not result
    assert result.return_value is False


def test_an_abort_that_a_handler_asks_for_ends_the_run(transport: Transport) -> None:
    transport.make_ready(1)
    transport.then = lambda: setattr(transport, "_aborting_run", True)

    assert isinstance(transport.runs(transport.hear), Thespian__Run_Terminated)


def test_no_text_is_made_of_what_nobody_logs() -> None:
    assert Note("me", WakeupMessage(timedelta(0), CANARY)).identify() == "WakeupMessage"


class Newest(tuple[str, int]):
    instead = True


def pending(transport: Transport) -> list[Any]:
    return [payload for _, payload in transport._pendingWakeups]


def test_a_wakeup_takes_the_place_of_the_one_of_its_name_and_of_no_other(transport: Transport) -> None:
    minute = timedelta(minutes=1)
    for payload in (Newest(("alarm", 1)), ("alarm", 2), None, Newest(("other", 3)), Newest(("alarm", 4))):
        transport.addWakeup(minute, payload)

    assert pending(transport) == [("alarm", 2), None, ("other", 3), ("alarm", 4)]


@pytest.mark.parametrize("second", [30, 90])
def test_what_was_waited_for_follows_the_wakeup_that_is_left(transport: Transport, second: int) -> None:
    transport.addWakeup(timedelta(seconds=60), Newest(("alarm", 1)))
    transport.addWakeup(timedelta(seconds=120), ("report", 0))
    transport.addWakeup(timedelta(seconds=second), Newest(("alarm", 2)))

    assert pending(transport) == [("alarm", 2), ("report", 0)]
    assert transport.run_time.duration == timedelta(seconds=second)


def test_wakeups_that_are_due_are_delivered_as_thespian_does_it_and_no_others(transport: Transport) -> None:
    waits = (timedelta(0), timedelta(minutes=1), timedelta(microseconds=1))
    for number, wait in enumerate(waits):
        transport.addWakeup(wait, number)
    time.sleep(0.001)

    assert transport._realizeWakeups() is True
    assert pending(transport) == [1]
    delivered = [(each.sender, each.message.payload, each.message.delayPeriod) for each in transport._activeWakeups]
    assert delivered == [("me", 0, waits[0]), ("me", 2, waits[2])]
    assert transport._realizeWakeups() is False
    assert len(transport._activeWakeups) == 2


def test_a_real_transport_has_what_this_relies_on() -> None:
    with EmbeddedSystem.start(start_timeout=within(20)) as system:
        transport = system.actor_system._systemBase.transport
        relied_on = (*UNDER_WAY, "_watches", "_pendingWakeups", "_wakeup_lock")
        assert [name for name in relied_on if not hasattr(transport, name)] == []
        assert type(transport).__module__.startswith(signed.__name__.rpartition(".")[0])


def test_an_actor_hears_its_watch_its_wakeups_and_its_messages() -> None:
    with EmbeddedSystem.start(start_timeout=within(20)) as system:
        waiter = system.actor_system.createActor(Waiter)
        system.actor_system.tell(waiter, ("begin",))

        def heard() -> bool:
            wakeups, watches, replaced = system.actor_system.ask(waiter, ("count",), within(10))
            assert replaced == 0
            return bool(wakeups >= 5 and watches >= 5)

        assert until(heard)
