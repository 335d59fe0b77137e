"""Pings and pongs between turns, past Thespian and the machine; everything else is left to the watch's next round."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pixir_actors.actors.pulse import Pulse
from pixir_actors.actors.watch import Watch
from pixir_actors.actors.wire import Wire
from pixir_actors.core import inputs
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Connection, Socket, State, Via
from pixir_actors.errors import ErrorCode
from pixir_actors.settings import Settings
from pixir_actors.transport.base import Fault, Received, Target
from tests.actors.fakes import RESET, Dialer, FakeTransport, created

TARGET = Target(
    endpoint="ws://127.0.0.1:9/", headers=Secret(()), ca_file=None, proxy=None, step_timeout=1.0, max_message_bytes=1024
)
INTERVAL, TIMEOUT = 1000.0, 300.0


class Resting:
    """A connection that rests, with its socket, and what its machine was fed."""

    def __init__(self, watch: Watch, dialer: Dialer, *, last_seen: float) -> None:
        self.watch, self.fed = watch, list[inputs.Input]()
        self.wire = Wire(watch, {Via.WEBSOCKET: dialer}, self.fed.extend)
        self.pulse = Pulse(watch, self.wire, self.fed.extend)
        self.wire.open(TARGET, 1, Via.WEBSOCKET)
        self.round()
        self.round()
        self.transport: FakeTransport = dialer.transport
        self.pulse.begin(resting(last_seen))

    def round(self) -> list[inputs.Input]:
        """Let the watch have one round; return what was fed since the last time."""
        self.watch.dispatch()
        fed = self.fed.copy()
        self.fed.clear()
        return fed

    def socket(self) -> Socket:
        """Return what the machine is told of its socket."""
        told = self.pulse.end(resting(0.0)).socket
        assert told is not None
        return told


def resting(last_seen: float) -> Connection:
    limits = Settings(keepalive_interval=INTERVAL, pong_timeout=TIMEOUT)
    fresh = Connection.new(now=0.0, limits=limits, attended=True)
    return replace(fresh, state=State.IDLE, socket=Socket("wss://host/", "who", 0.0, None, last_seen))


@pytest.fixture
def due(watch: Watch, dialer: Dialer) -> Resting:
    """One whose ping is due."""
    return Resting(watch, dialer, last_seen=time.monotonic() - INTERVAL)


@pytest.fixture
def fresh(watch: Watch, dialer: Dialer) -> Resting:
    """One of which something has just been heard."""
    return Resting(watch, dialer, last_seen=time.monotonic())


def test_a_ping_that_is_due_goes_out_and_its_pong_is_heard_without_the_machine(due: Resting) -> None:
    began = time.monotonic()
    assert due.pulse.due is not None
    assert due.pulse.due <= began

    due.pulse.rang()

    assert due.transport.pings == [b"pixir"]
    assert due.pulse.due >= began + TIMEOUT, "the pong's time"
    due.transport.push()
    assert due.pulse.ready()
    assert due.pulse.due >= began + INTERVAL * 0.98, "the next ping's time"
    assert due.round() == []
    socket = due.socket()
    assert socket.last_seen >= began
    assert socket.pong_due is None


def test_a_pong_that_is_still_waited_for_is_the_machines_from_then_on(due: Resting) -> None:
    before = time.monotonic()
    due.pulse.rang()

    pong_due = due.socket().pong_due

    assert pong_due is not None
    assert before + TIMEOUT <= pong_due <= time.monotonic() + TIMEOUT
    assert due.pulse.due is None, "nobody sees to it but the machine"


def test_a_pong_that_does_not_come_is_the_machines_to_judge(due: Resting) -> None:
    due.pulse.rang()
    due.pulse.rang()  # so much later

    assert due.pulse.due is None, "it is not asked again and again"
    assert due.fed == [], "nothing is done past the actor"
    assert due.round() == [inputs.Silent()]
    assert due.transport.pings == [b"pixir"]


def test_nothing_changes_where_nothing_happened(fresh: Resting) -> None:
    conn = resting(5.0)
    fresh.pulse.begin(conn)

    assert fresh.pulse.end(conn) is conn


def test_what_does_not_rest_is_not_seen_to(fresh: Resting) -> None:
    fresh.pulse.begin(replace(resting(0.0), state=State.STREAMING))
    fresh.transport.push()

    assert fresh.pulse.due is None
    assert not fresh.pulse.ready()
    fresh.pulse.rang()
    assert fresh.transport.pings == []


SAID: dict[str, tuple[dict[str, Any], list[type]]] = {
    "an event": ({"messages": [created()]}, [inputs.Received]),
    "its end": ({"fault": Fault(ErrorCode.WEBSOCKET_CLOSED)}, [inputs.SocketFailed]),
    "an event, and its end": ({"messages": [created()], "fault": RESET}, [inputs.Received, inputs.SocketFailed]),
    "no JSON": ({"messages": [b"{"]}, [inputs.Received, inputs.SocketFailed]),
}


@pytest.mark.parametrize(("said", "kinds"), SAID.values(), ids=SAID)
def test_whatever_else_the_provider_says_is_fed_in_the_watchs_next_round_and_once(
    fresh: Resting, said: dict[str, Any], kinds: list[type]
) -> None:
    fresh.transport.push(*said.get("messages", ()), fault=said.get("fault"))

    assert not fresh.pulse.ready()

    assert fresh.fed == []
    assert list(map(type, fresh.round())) == kinds
    fresh.wire.read()
    assert fresh.round() == []


def test_what_was_read_at_rest_comes_before_what_is_read_later(fresh: Resting) -> None:
    """A request that comes just then has all of that read first, in order."""
    fresh.transport.push(created("resp_1"))
    assert not fresh.pulse.ready()
    fresh.transport.push(created("resp_2"))

    fresh.wire.read()

    ids = [event.body["response"]["id"] for each in fresh.fed if isinstance(each, inputs.Received) for event in each.events]
    assert ids == ["resp_1", "resp_2"]
    fresh.round()
    assert fresh.round() == []


def test_what_is_left_in_user_space_is_read_in_the_rounds_that_follow(fresh: Resting) -> None:
    fresh.transport.push(more=True)
    fresh.transport.hide(created())
    assert not fresh.pulse.ready()

    assert sum(isinstance(each, inputs.Received) for each in fresh.round() + fresh.round()) == 2


def test_what_was_read_at_rest_goes_with_its_socket(fresh: Resting) -> None:
    fresh.transport.push(created())
    assert not fresh.pulse.ready()

    fresh.wire.close()
    fresh.wire.open(TARGET, 2, Via.WEBSOCKET)

    assert fresh.round() == [inputs.Connected(2)]
    assert fresh.round() == []


def test_a_pong_that_is_owed_and_not_taken_is_flushed_by_the_watch(fresh: Resting) -> None:
    fresh.transport.room = 0
    fresh.transport.owe(7)
    fresh.transport.push()

    assert not fresh.pulse.ready()
    assert [type(each) for each in fresh.round()] == [inputs.Received]
    fresh.transport.room = None
    fresh.round()
    assert fresh.transport.pending_bytes() == 0


def test_what_a_full_socket_does_not_take_at_a_ping_is_flushed_by_the_watch(due: Resting) -> None:
    due.transport.room = 0
    due.transport.owe(11)
    due.transport.receive(max_messages=1, max_bytes=1)

    due.pulse.rang()

    assert due.transport.pending_bytes() == 11
    due.transport.room = None
    due.round()
    assert due.transport.pending_bytes() == 0


def test_a_ping_that_cannot_be_written_ends_the_socket_with_its_last_words(due: Resting) -> None:
    due.transport.write_fault = RESET
    due.transport.hide(created())

    due.pulse.rang()

    assert due.fed == []
    assert due.pulse.due is None
    fed = due.round()
    assert list(map(type, fed)) == [inputs.Received, inputs.SocketFailed]
    assert due.round() == []


def test_what_else_the_actor_waits_for_is_not_kept_waiting(fresh: Resting) -> None:
    heard: list[str] = []
    fresh.watch.again(partial(heard.append, "again"))
    fresh.transport.push()

    assert not fresh.pulse.ready()

    assert [type(each) for each in fresh.round()] == [inputs.Received]
    assert heard == ["again"]


def test_bytes_of_no_whole_frame_are_no_sign_of_life(due: Resting, monkeypatch: pytest.MonkeyPatch) -> None:
    due.pulse.rang()
    before = due.pulse.due
    due.transport.push()
    monkeypatch.setattr(due.transport, "receive", lambda **_: Received())

    assert due.pulse.ready()
    assert due.pulse.due == before


@pytest.mark.parametrize("asked", ["rang", "ready"])
def test_a_defect_is_raised_in_the_watchs_next_round_where_the_actor_recovers(
    due: Resting, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    due.transport.push()
    for name in ("ping", "receive"):
        monkeypatch.setattr(due.transport, name, breaks)

    getattr(due.pulse, asked)()

    assert due.pulse.due is None, "it is not tried again and again"
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError):
        due.round()


def test_a_defect_that_the_actor_has_recovered_from_is_not_raised_again(
    fresh: Resting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket was readable, too, and raised the same first."""

    def breaks(**_: object) -> None:
        raise ZeroDivisionError

    fresh.transport.push()
    monkeypatch.setattr(fresh.transport, "receive", breaks)
    assert not fresh.pulse.ready()
    with pytest.raises(ZeroDivisionError):
        fresh.round()
    monkeypatch.undo()

    fresh.pulse.begin(resting(time.monotonic()))

    fresh.round()


def test_a_connection_that_starts_over_has_nothing_to_catch_up_with(due: Resting) -> None:
    due.pulse.rang()
    new = Connection.new(now=0.0, limits=Settings(), attended=True)

    assert due.pulse.end(new) is new
    assert due.pulse.due is None


def test_what_was_read_at_rest_comes_before_the_last_words(fresh: Resting) -> None:
    fresh.transport.room = 0
    fresh.transport.owe(7)
    fresh.transport.push({"type": "error", "error": {"code": "websocket_connection_limit_reached"}})
    assert not fresh.pulse.ready()
    fresh.transport.write_fault = RESET
    fresh.transport.push(created())

    heard = [each for each in fresh.round() if isinstance(each, inputs.Received)]

    assert [event.type for each in heard for event in each.events] == ["error", "response.created"]


def test_a_socket_that_has_ended_at_rest_ends_once(fresh: Resting) -> None:
    fresh.transport.room = 0
    fresh.transport.owe(7)
    fresh.transport.push(fault=Fault(ErrorCode.WEBSOCKET_CLOSED))
    assert not fresh.pulse.ready()
    fresh.transport.write_fault = RESET

    [failed] = fresh.wire.ping()

    assert isinstance(failed, inputs.SocketFailed)
    assert failed.code is ErrorCode.WEBSOCKET_CLOSED
