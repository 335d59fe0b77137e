"""The supervisor on simpleSystemBase, with real connections on sockets that a test scripts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import ActorExitRequest, ChildActorExited, WakeupMessage

from pixir_actors.actors import connection as connection_module
from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.actors import reporter
from pixir_actors.actors import room as room_module
from pixir_actors.actors import supervisor as module
from pixir_actors.actors.connection import ConnectionActor
from pixir_actors.actors.registry import Child, Registry
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.actors.vigil import SILENCE
from pixir_actors.core.secret import Secret
from pixir_actors.errors import ErrorCode
from pixir_actors.settings import Settings
from tests.actors.fakes import FACTS, REFUSED, Courier, Dialer, FakeTransport, Room, completed, created, key, submit
from tests.conftest import until

HASTE = 50.0
"""By how much the supervisor's own wakeups are hastened."""
QUIET = Settings(keepalive_interval=None, max_connection_age=None)


class Desk:
    """A supervisor, its connections, and those who ask it."""

    def __init__(self, room: Room, dialer: Dialer) -> None:
        self.room, self.dialer = room, dialer
        self.supervisors: list[SupervisorActor] = []
        self.connections: list[ConnectionActor] = []
        self.received: list[tuple[str, type]] = []
        self.told: list[Any] = []  # the same messages themselves
        self.wakeups: list[tuple[str, int]] = []  # that the supervisor asked for
        self.mute = False
        self.ticking = True
        desk = self

        class Scripted(ConnectionActor):
            connect = staticmethod(dialer)

            def __init__(self, capabilities: dict[str, Any] | None = None, **rest: Any) -> None:
                super().__init__(capabilities, **rest)
                desk.connections.append(self)

            def handle(self, message: Any, sender: Any) -> None:
                desk.received.append((self._connection_id, type(message)))
                desk.told.append(message)
                if not desk.mute:
                    super().handle(message, sender)

        class Hasty(SupervisorActor):
            connection_class = Scripted

            def __init__(self, capabilities: dict[str, Any] | None = None, **rest: Any) -> None:
                super().__init__(capabilities, **rest)
                desk.supervisors.append(self)

            def wake_after(self, delay: float, name: str, token: int = 0) -> None:
                desk.wakeups.append((name, token))
                if desk.ticking:
                    super().wake_after(delay / HASTE, name, token)

        self.address = room.system.createActor(Hasty)
        self._asks = 0

    @property
    def registry(self) -> Registry:
        return self.supervisors[0]._registry

    def child(self, name: str) -> Child:
        found = self.registry.of_key(key(name))
        assert found is not None
        return found

    def question(self, name: str, **options: Any) -> m.EnsureStarted:
        self._asks += 1
        notify = options.pop("notify", False)
        return m.EnsureStarted.of(self._asks, name, QUIET.override(options), notify=notify)

    def start(self, name: str, **options: Any) -> m.Started:
        """Have a key's connection, which must be had."""
        answer = self.room.ask(self.address, self.question(name, **options))
        assert isinstance(answer, m.Started)
        self.room.knows(answer.connection_id, answer.address)
        return answer

    def refused(self, name: str, **options: Any) -> Any:
        """Have a key's connection refused; return why."""
        answer = self.room.ask(self.address, self.question(name, **options))
        assert isinstance(answer, m.StartRefused)
        return answer.failure

    def run(self, started: m.Started, request_id: int, **options: Any) -> None:
        """Run a request on a connection."""
        transport = self.begin(started, request_id, **options)
        transport.push(created(f"resp_{request_id}"), completed(f"resp_{request_id}"))
        assert self.room.finished(request_id)

    def begin(self, started: m.Started, request_id: int, **options: Any) -> FakeTransport:
        """Have a request written; return the socket that took it."""
        before = {id(transport): len(transport.sent) for transport in self.dialer.transports}
        assert isinstance(self.room.ask(started.address, submit(request_id, settings=QUIET, **options)), m.Accepted)

        def taken() -> list[FakeTransport]:
            return [one for one in self.dialer.transports if len(one.sent) > before.get(id(one), 0)]

        [transport] = self.room.run(taken)
        return transport

    def reported(self, name: str, state: str) -> None:
        """Wait until the supervisor has been told of a state."""

        def told() -> bool:
            facts = self.child(name).look()
            return facts is not None and facts.state == state

        self.room.run(told)

    def ring(self, name: str, token: int = 0) -> None:
        """Have one of the supervisor's wakeups come now."""
        self.room.tell(self.address, WakeupMessage(timedelta(0), (name, token)))

    def of_kind(self, kind: type) -> list[Any]:
        """Return what the connections were told of that kind, in order."""
        return [message for message in self.told if isinstance(message, kind)]

    def status(self) -> dict[str, Any]:
        return {one.connection_id: one for one in self.room.ask(self.address, m.GetStatus(1)).connections}


@pytest.fixture
def desk(room: Room, dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "RETIRE_GRACE", 0.0)
    monkeypatch.setattr(reporter, "REPORT_INTERVAL", 0.0)
    monkeypatch.setattr(reporter, "PROMPTLY", 0.0)
    monkeypatch.setattr(connection_module, "LINGER", 0.02)
    desk = Desk(room, dialer)
    yield desk
    for one in desk.connections:
        if not one.ended:
            room.tell(one.myAddress, ActorExitRequest())
    room.tell(desk.address, ActorExitRequest())


# Starting


def test_a_key_has_one_connection_and_another_key_another(desk: Desk) -> None:
    first, again, other = desk.start("a"), desk.start("a"), desk.start("b")

    assert first.connection_id == again.connection_id != other.connection_id
    assert first.address == again.address != other.address
    assert len(desk.connections) == 2
    desk.run(first, 1)
    desk.run(other, 2)


def test_those_who_ask_while_it_starts_are_answered_when_it_is_up(desk: Desk, room: Room) -> None:
    desk.mute = True
    room.tell(desk.address, desk.question("a"), desk.question("a"))
    assert not room.has(m.Started)
    assert len(desk.connections) == 1

    desk.mute = False
    child = desk.child("a")
    room.tell(child.created_address, c.Begin(child.connection_id, "label", None, None))
    # It takes the test for its supervisor; what it says is passed on.
    began = room.wait_for(c.Began)
    room.tell(desk.address, began)

    assert [room.wait_for(m.Started, ask_id=ask).connection_id for ask in (1, 2)] == [child.connection_id] * 2
    room.tell(desk.address, began, c.Began("of nobody", 1))
    assert not room.has(m.Started)


def test_a_connection_that_cannot_run_is_answered_and_forgotten(desk: Desk, room: Room) -> None:
    desk.mute = True
    room.tell(desk.address, desk.question("a"))
    child = desk.child("a")
    room.tell(desk.address, c.StartFailed(child.connection_id, "no_watch"), c.StartFailed("of nobody", "no_watch"))

    refused = room.wait_for(m.StartRefused)
    assert refused.failure.code is ErrorCode.WEBSOCKET_START_FAILED
    assert refused.failure.details == {"reason": "no_watch"}
    desk.mute = False
    assert desk.start("a").connection_id != child.connection_id


def test_a_connection_that_does_not_come_up_in_time_is_answered_forgotten_and_stopped(
    desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT", 0.03)
    desk.mute = True
    room.tell(desk.address, desk.question("a"))
    slow = desk.child("a")

    refused = room.wait_for(m.StartRefused)

    assert refused.failure.code is ErrorCode.WEBSOCKET_START_FAILED
    assert refused.failure.details == {"reason": "timeout"}
    assert c.StopConnection in [kind for _, kind in desk.received]
    desk.mute = False
    assert desk.start("a").connection_id != slow.connection_id


def test_a_connection_that_ends_while_it_starts_is_answered(desk: Desk, room: Room) -> None:
    desk.mute = True
    room.tell(desk.address, desk.question("a"))
    room.tell(desk.connections[0].myAddress, ActorExitRequest())

    assert room.wait_for(m.StartRefused).failure.details == {"reason": "process_exited"}
    assert len(desk.registry) == 0


def test_unknown_messages_are_ignored(desk: Desk, room: Room) -> None:
    started = desk.start("a")
    stranger = c.Report("of nobody", FACTS)
    for message in ("text", None, 7, m.Probe(1), c.EvictAnswer("of nobody", True), stranger):
        room.tell(desk.address, message)

    assert desk.start("a") == m.Started(2, started.connection_id, started.address)
    assert room.unread == []


def test_finding_a_connection_starts_none(desk: Desk, room: Room) -> None:
    assert room.ask(desk.address, m.FindConnection(1, key("a"))) == m.Found(1, None)
    assert desk.connections == []
    started = desk.start("a")
    assert room.ask(desk.address, m.FindConnection(2, key("a"))).address == started.address


# Room


def test_with_all_connections_busy_there_is_no_room(desk: Desk, room: Room) -> None:
    desk.begin(desk.start("a", max_connections=1), 1)
    desk.reported("a", "streaming")

    failure = desk.refused("b", max_connections=1)

    assert failure.code is ErrorCode.TOO_MANY_CONNECTIONS
    assert failure.details == {"limit": 1}
    assert failure.retryable
    desk.start("b", max_connections=2)


def test_the_longest_idle_connection_makes_room_and_says_so_when_it_is_asked_for_again(desk: Desk, room: Room) -> None:
    first, second = desk.start("a"), desk.start("b")
    desk.run(first, 1)
    desk.run(second, 2)
    desk.reported("a", "idle")
    desk.reported("b", "idle")

    desk.ticking = False  # room is given as soon as it is there

    third = desk.start("c", max_connections=2)

    assert desk.registry.of_key(key("a")) is None
    assert desk.child("b").connection_id == second.connection_id
    assert [name for name, kind in desk.received if kind is c.Evict] == [first.connection_id]
    again = desk.start("a", max_connections=3)
    desk.run(again, 3)
    assert room.evidence(3)["continuation_reset_reason"] == "evicted"
    desk.run(third, 4)
    assert room.evidence(4)["continuation_reset_reason"] == "no_previous_response"


def test_one_that_became_busy_stays_and_the_next_is_asked(desk: Desk, room: Room) -> None:
    first, second = desk.start("a"), desk.start("b")
    desk.run(first, 1)
    desk.run(second, 2)
    desk.reported("a", "idle")
    desk.reported("b", "idle")
    desk.begin(first, 3)
    # As if its report came by message, and were still on its way.
    desk.child("a").slot, desk.child("a").facts = None, FACTS

    desk.start("c", max_connections=2)

    assert [name for name, kind in desk.received if kind is c.Evict] == [first.connection_id, second.connection_id]
    assert desk.child("a").connection_id == first.connection_id
    assert not room.ends(3)


def test_if_all_became_busy_who_waits_is_refused(desk: Desk, room: Room) -> None:
    first = desk.start("a", max_connections=1)
    desk.run(first, 1)
    desk.reported("a", "idle")
    desk.begin(first, 2)
    desk.child("a").slot, desk.child("a").facts = None, FACTS

    assert desk.refused("b", max_connections=1).code is ErrorCode.TOO_MANY_CONNECTIONS


def test_who_waits_for_room_in_vain_is_refused_in_the_end(
    desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "ROOM_TIMEOUT", 0.03)
    desk.run(desk.start("a", max_connections=1), 1)
    desk.reported("a", "idle")
    desk.mute = True

    assert desk.refused("b", max_connections=1).code is ErrorCode.TOO_MANY_CONNECTIONS


def test_without_descriptors_no_connection_is_started(desk: Desk, room: Room) -> None:
    desk.start("a")
    supervisor = desk.supervisors[0]
    supervisor.in_process, supervisor._descriptors = False, 64 + 2 * 4 - 1
    try:
        failure = desk.refused("b")
        assert failure.code is ErrorCode.TOO_MANY_CONNECTIONS
        assert failure.details == {"reason": "descriptors"}
        supervisor._descriptors += 1
        assert not supervisor._out_of_descriptors()
    finally:
        supervisor.in_process = True


# Retiring


def test_an_idle_connection_retires_and_the_next_request_has_a_fresh_one(desk: Desk, room: Room) -> None:
    started = desk.start("a")
    desk.run(started, 1, idle_close_after=0.01)
    room.run(lambda: desk.registry.of_key(key("a")) is None)

    # Somebody still has its address: the request is sent back, to be brought to the next one.
    room.tell(started.address, submit(2, settings=QUIET))
    assert room.failure(2).details["moved"]
    fresh = desk.start("a")
    assert fresh.connection_id != started.connection_id
    desk.run(fresh, 3)

    assert room.evidence(3)["continuation_reset_reason"] == "no_previous_response", "to retire is not to crash"
    room.run(lambda: len(desk.registry) == 1)


def test_one_whose_address_was_just_given_out_may_not_retire(
    desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = desk.start("a")
    monkeypatch.setattr(module, "RETIRE_GRACE", 60.0)
    room.tell(desk.address, c.Retire(started.connection_id))
    assert room.wait_for(c.RetireAnswer) == c.RetireAnswer(granted=False)
    assert desk.start("a").connection_id == started.connection_id

    monkeypatch.setattr(module, "RETIRE_GRACE", 0.0)
    room.tell(desk.address, c.Retire(started.connection_id))
    assert room.wait_for(c.RetireAnswer) == c.RetireAnswer(granted=True)
    assert desk.registry.of_key(key("a")) is None


def test_one_that_is_not_known_may_retire(desk: Desk, room: Room) -> None:
    room.tell(desk.address, c.Retire("of nobody"))
    assert room.wait_for(c.RetireAnswer) == c.RetireAnswer(granted=True)


# Crashes


def test_a_crash_is_told_once_to_the_next_request_of_its_key_alone(desk: Desk, room: Room) -> None:
    first, other = desk.start("a"), desk.start("b")
    desk.run(first, 1)
    desk.run(other, 2)
    room.tell(first.address, ActorExitRequest())

    again = desk.start("a")
    assert again.connection_id != first.connection_id
    desk.run(again, 3)
    assert room.evidence(3)["continuation_reset_reason"] == "connection_crashed"
    room.tell(again.address, m.Cancel(3))
    room.tell(desk.address, m.CloseConnection(1, key("a")))
    room.run(lambda: len(desk.registry) == 1)
    desk.run(desk.start("a"), 4)
    assert room.evidence(4)["continuation_reset_reason"] == "no_previous_response"
    desk.run(other, 5)
    assert room.evidence(5)["continuation_reset_reason"] == "empty_delta", "it has lost nothing"
    assert desk.start("b").connection_id == other.connection_id


@pytest.mark.parametrize("crashed", [True, False])
def test_who_asked_for_it_hears_of_a_connection_s_end_once(desk: Desk, room: Room, crashed: bool) -> None:
    courier = room.system.createActor(Courier)
    started = desk.start("a", notify=True)
    desk.start("a", notify=True)
    desk.start("a")
    room.tell(courier, ("send", desk.address, desk.question("a", notify=True)), ("send", desk.address, desk.question("a")))
    if crashed:
        room.tell(started.address, ActorExitRequest())
    else:
        room.ask(desk.address, m.CloseConnection(1, key("a")))

    down = m.ConnectionDown(started.connection_id, crashed)
    assert room.wait_for(m.ConnectionDown) == down
    room.run()
    assert not room.has(m.ConnectionDown)
    received = room.received(courier)
    assert [message for message in received if isinstance(message, m.ConnectionDown)] == [down]


# Signs of life


@pytest.fixture
def killed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Start a connection for "a", and make the supervisor believe that it is a process of its own: its pid is 1."""
    killed: list[int] = []
    desk.run(desk.start("a"), 1)
    desk.reported("a", "idle")
    desk.child("a").pid = 1
    desk.supervisors[0].in_process, desk.supervisors[0]._descriptors = False, 1000
    monkeypatch.setattr(module.process, "kill_child", killed.append)
    monkeypatch.setattr(module.process, "child_lives", lambda pid: pid not in killed)
    return killed


def test_a_suspect_that_answers_is_left_alone(desk: Desk, room: Room, killed: list[int]) -> None:
    name = desk.child("a").connection_id

    assert room.ask(desk.address, m.Suspect(1, name)) == m.Examined(1, ended=False)
    assert desk.child("a").silent is None
    assert killed == []


def test_a_suspect_that_stays_silent_is_killed_and_its_key_is_free(desk: Desk, room: Room, killed: list[int]) -> None:
    name, desk.mute = desk.child("a").connection_id, True
    room.tell(desk.address, m.Suspect(1, name))
    assert not room.has(m.Examined), "it has some time to answer"
    room.tell(desk.address, m.Suspect(2, name))

    assert room.wait_for(m.Examined) == m.Examined(1, ended=True)
    assert room.wait_for(m.Examined) == m.Examined(2, ended=True)
    assert killed == [1]
    assert desk.received.count((name, m.GetStatus)) == 1
    assert desk.registry.of_key(key("a")) is None
    assert desk.registry.reason(key("a")) == "connection_crashed"


def test_of_what_is_not_there_the_supervisor_says_that_it_has_ended(desk: Desk, room: Room) -> None:
    assert room.ask(desk.address, m.Suspect(1, "nobody")) == m.Examined(1, ended=True)


def test_a_suspect_whose_end_was_not_reported_is_known_at_once(desk: Desk, room: Room, killed: list[int]) -> None:
    killed.append(1)

    assert room.ask(desk.address, m.Suspect(1, desk.child("a").connection_id)) == m.Examined(1, ended=True)
    assert len(desk.registry) == 0


def test_the_address_of_a_process_that_has_ended_is_not_given_out(desk: Desk, room: Room, killed: list[int]) -> None:
    before = desk.child("a").connection_id
    killed.append(1)
    desk.mute = True
    room.tell(desk.address, desk.question("a"))

    assert desk.child("a").connection_id != before


def test_when_one_has_ended_the_others_are_looked_at(desk: Desk, room: Room, killed: list[int]) -> None:
    """Of several that end at once Thespian may report one."""
    killed.append(1)
    room.tell(desk.address, ChildActorExited(desk.address))

    room.run(lambda: len(desk.registry) == 0)


@pytest.mark.parametrize("what", ["told to end", "asked to make room"])
def test_one_that_does_not_do_what_it_is_told_is_killed(
    desk: Desk, room: Room, killed: list[int], what: str
) -> None:
    desk.mute = True
    child = desk.child("a")
    if what == "told to end":
        room.ask(desk.address, m.CloseConnection(1, key("a")))
    else:
        room.tell(desk.address, desk.question("b", max_connections=1))
    assert child.silent is not None

    room.run(lambda: killed)
    room.run(lambda: desk.registry.of_id(child.connection_id) is None)


def test_one_that_may_retire_has_all_the_time_it_needs(desk: Desk, room: Room, killed: list[int]) -> None:
    desk.mute = True
    child = desk.child("a")
    room.tell(desk.address, c.Retire(child.connection_id))
    assert room.wait_for(c.RetireAnswer).granted
    assert child.silent is None

    for _ in range(SILENCE + 2):
        desk.ring(module._TICK)

    assert killed == []
    assert desk.registry.of_id(child.connection_id) is child, "it has not ended"


# Status and the end


@pytest.mark.parametrize("by_message", [False, True], ids=["on the board", "by message"])
def test_status_comes_from_reports_and_no_connection_is_asked(
    desk: Desk, room: Room, monkeypatch: pytest.MonkeyPatch, by_message: bool
) -> None:
    if by_message:
        monkeypatch.setattr(module.Board, "take", lambda _: None)
    assert desk.status() == {}
    a, b = desk.start("a"), desk.start("b", expose_keys=True)
    desk.run(a, 1)
    desk.reported("a", "idle")
    desk.received.clear()

    status = desk.status()

    assert desk.received == []
    assert set(status) == {a.connection_id, b.connection_id}
    assert status[a.connection_id].turns == 1
    assert status[b.connection_id].key == "'b'"
    assert "'a'" not in status[a.connection_id].key
    before = status[a.connection_id].idle_s
    assert until(lambda: desk.status()[a.connection_id].idle_s > before), "it grows older without a report"
    room.ask(desk.address, m.CloseConnection(1, key("a")))
    assert set(desk.status()) == {b.connection_id}


def test_the_slot_of_one_that_has_ended_is_another_s(desk: Desk, room: Room) -> None:
    first = desk.start("a")
    slot = desk.child("a").slot
    assert slot is not None
    room.tell(first.address, ActorExitRequest())
    room.run(lambda: len(desk.registry) == 0)
    desk.start("b")

    again = desk.child("b").slot
    assert again is not None
    assert again.number == slot.number


def test_a_key_s_connection_can_be_closed(desk: Desk, room: Room, dialer: Dialer) -> None:
    started = desk.start("a")
    desk.begin(started, 1)

    assert room.ask(desk.address, m.CloseConnection(1, key("a"))) == m.ConnectionClosed(1, existed=True)

    assert room.failure(1).code is ErrorCode.CANCELLED
    assert dialer.transport.closed
    assert room.ask(desk.address, m.CloseConnection(2, key("a"))) == m.ConnectionClosed(2, existed=False)
    assert room.ask(desk.address, m.CloseConnection(3, Secret("no key"))) == m.ConnectionClosed(3, existed=False)


def test_a_connection_can_be_closed_by_what_its_status_calls_it(desk: Desk, room: Room, dialer: Dialer) -> None:
    started = desk.start("a")
    desk.begin(started, 1)
    name = started.connection_id

    assert room.ask(desk.address, m.CloseConnection(1, None, name)) == m.ConnectionClosed(1, existed=True)

    assert room.failure(1).code is ErrorCode.CANCELLED
    assert room.ask(desk.address, m.CloseConnection(2, None, name)) == m.ConnectionClosed(2, existed=False), "it leaves"
    assert room.ask(desk.address, m.CloseConnection(3, None, "none")) == m.ConnectionClosed(3, existed=False)


def test_all_connections_are_stopped_before_the_answer_comes(desk: Desk, room: Room) -> None:
    desk.begin(desk.start("a"), 1)
    desk.start("b")

    assert room.ask(desk.address, m.StopAll(9)) == m.ConnectionClosed(9, existed=True)

    assert room.failure(1).code is ErrorCode.SHUTTING_DOWN
    assert all(one.ended for one in desk.connections)
    assert len(desk.registry) == 0


def test_with_nothing_to_stop_the_answer_comes_at_once(desk: Desk, room: Room) -> None:
    assert room.ask(desk.address, m.StopAll(9)) == m.ConnectionClosed(9, existed=True)


def test_a_connection_that_does_not_stop_does_not_hold_up_the_answer(desk: Desk, room: Room) -> None:
    desk.start("a")
    desk.mute = True
    room.tell(desk.address, m.StopAll(9), desk.question("b"))
    assert room.wait_for(m.StartRefused).failure.code is ErrorCode.SHUTTING_DOWN

    assert room.wait_for(m.ConnectionClosed) == m.ConnectionClosed(9, existed=True)


def test_who_waits_for_room_while_all_is_stopped_is_refused(desk: Desk, room: Room) -> None:
    desk.run(desk.start("a", max_connections=1), 1)
    desk.reported("a", "idle")
    desk.mute = True
    room.tell(desk.address, desk.question("b", max_connections=1))
    room.tell(desk.address, m.StopAll(9))

    assert room.wait_for(m.StartRefused).failure.code is ErrorCode.SHUTTING_DOWN


def test_a_socket_that_cannot_be_opened_leaves_the_connection_up(desk: Desk, room: Room, dialer: Dialer) -> None:
    started = desk.start("a")
    dialer.outcomes.append(REFUSED)
    room.ask(started.address, submit(1, settings=QUIET))

    assert room.failure(1).code is ErrorCode.WEBSOCKET_CONNECT_FAILED
    assert desk.start("a").connection_id == started.connection_id
