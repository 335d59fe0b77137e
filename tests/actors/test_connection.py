"""One connection on simpleSystemBase: the test is its supervisor and its caller, and scripts its socket."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from thespian.actors import ActorExitRequest, ActorSystem

from pixir_actors.actors import connection as module
from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.actors import reporter
from pixir_actors.actors.board import Board, Slot
from pixir_actors.actors.connection import ConnectionActor
from pixir_actors.actors.outbox import Outbox
from pixir_actors.actors.sink import ChannelSink
from pixir_actors.actors.submission import submission_frame
from pixir_actors.channel import ChannelLost, Frame, FrameType, Inbox, InboxClosed, Listener
from pixir_actors.channel.frame import GOODBYE, encode, failure_from, hello, metadata_from
from pixir_actors.core import actions as do
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Socket, State, Via, evolve
from pixir_actors.errors import Delivery, ErrorCode
from pixir_actors.settings import Settings
from pixir_actors.transport.base import Fault
from tests.actors.fakes import (
    REFUSED,
    RESET,
    Courier,
    Dialer,
    FakeTransport,
    Room,
    completed,
    created,
    delta,
    submit,
    user,
)
from tests.channel.conftest import get
from tests.conftest import until, within

QUIET = Settings(keepalive_interval=None, max_connection_age=None)


class Peer:
    """A connection with everything around it."""

    def __init__(self, room: Room, dialer: Dialer) -> None:
        self.room, self.dialer = room, dialer
        self.actors: list[ConnectionActor] = []
        actors = self.actors

        class Scripted(ConnectionActor):
            connect = staticmethod(dialer)

            def __init__(self, capabilities: dict[str, Any] | None = None, **rest: Any) -> None:
                super().__init__(capabilities, **rest)
                actors.append(self)

        self.address = room.system.createActor(Scripted)

    @property
    def actor(self) -> ConnectionActor:
        return self.actors[0]

    @property
    def transport(self) -> FakeTransport:
        return self.dialer.transport

    def begin(self, reset_reason: str | None = None, slot: Slot | None = None) -> None:
        self.room.knows("c-1", self.address)
        board, number = (None, 0) if slot is None else (slot.board, slot.number)
        self.room.tell(self.address, c.Begin("c-1", "label", reset_reason, None, board, number))
        assert self.room.wait_for(c.Began).connection_id == "c-1"

    def submit(self, request_id: int, *items: Any, settings: Settings = QUIET, **options: Any) -> None:
        """Submit a request and have it accepted."""
        answer = self.room.ask(self.address, submit(request_id, *items, settings=settings, **options))
        assert answer == m.Accepted(request_id, "c-1")

    def sent(self, count: int) -> dict[str, Any]:
        """Wait until so many requests were written, on whichever socket; return the last."""

        def requests() -> list[dict[str, Any]]:
            return [request for transport in self.dialer.transports for request in transport.requests]

        self.room.run(lambda: len(requests()) >= count)
        assert len(requests()) == count
        return requests()[-1]

    def turn(self, request_id: int, *items: Any, **options: Any) -> None:
        """Run a request to its end."""
        already = sum(len(transport.sent) for transport in self.dialer.transports)
        self.submit(request_id, *items, **options)
        self.sent(already + 1)
        self.transport.push(created(f"resp_{request_id}"), delta("hi"), completed(f"resp_{request_id}"))
        assert self.room.finished(request_id)

    def status(self) -> Any:
        [status] = self.room.ask(self.address, m.GetStatus(99)).connections
        return status


@pytest.fixture
def peer(room: Room, dialer: Dialer) -> Iterator[Peer]:
    peer = Peer(room, dialer)
    yield peer
    room.tell(peer.address, ActorExitRequest())


@pytest.fixture
def begun(peer: Peer) -> Peer:
    peer.begin()
    return peer


# From request to answer


def test_a_request_opens_a_socket_goes_out_and_comes_back_event_by_event(begun: Peer, room: Room, dialer: Dialer) -> None:
    begun.submit(7, user("hello"), connect_timeout=5.0, max_message_bytes=4096)

    assert begun.sent(1)["input"] == [user("hello")]
    [target] = dialer.targets
    assert target.endpoint == "ws://127.0.0.1:9/v1/responses"
    assert dict(target.headers.reveal())["Authorization"] == "Bearer sk-canary"
    assert (target.step_timeout, target.max_message_bytes, target.proxy, target.ca_file) == (5.0, 4096, None, None)

    begun.transport.push(created(), delta("hel"), delta("lo"))
    room.run(lambda: room.types(7) == ["METADATA", "STATUS", "DATA", "DATA", "DATA"])
    begun.transport.push(completed())
    assert room.finished(7)
    assert room.types(7)[5:] == ["DATA", "METADATA", "FINISHED"]
    assert [frame.kind for frame in room.frames[7] if frame.type == FrameType.DATA] == [0, 1, 1, 3]
    assert room.evidence(7)["websocket_key"] == "'session'"
    assert room.evidence(7)["websocket_captured_response_id"] == "resp_1"


def test_a_second_turn_sends_only_what_is_new_on_the_same_socket(begun: Peer, room: Room, dialer: Dialer) -> None:
    begun.turn(1, user("hello"))
    answer = completed()["response"]["output"][0]
    begun.turn(2, user("hello"), answer, user("and now?"))

    request = begun.transport.requests[1]
    assert request["previous_response_id"] == "resp_1"
    assert request["input"] == [user("and now?")]
    assert len(dialer.targets) == 1
    assert begun.status().delta_turns == 1


def test_requests_of_one_key_run_one_after_another(begun: Peer, room: Room) -> None:
    for number in (1, 2, 3):
        begun.submit(number)
    begun.sent(1)
    assert begun.status().queue_length == 2

    for number in (1, 2, 3):
        begun.sent(number)
        begun.transport.push(completed(f"resp_{number}"))
        assert room.finished(number)
        assert all(not room.ends(later) for later in range(number + 1, 4))


def test_requesters_have_their_own_numbers_and_their_own_batches(begun: Peer, room: Room) -> None:
    courier = room.system.createActor(Courier)
    begun.submit(7)
    room.tell(courier, ("send", begun.address, submit(7, settings=QUIET)))
    begun.sent(1)
    room.tell(courier, ("send", begun.address, m.Cancel(7)))
    begun.transport.push(completed())
    assert room.finished(7)

    received = room.received(courier)
    kinds = [type(message).__name__ for message in received]
    assert kinds == ["Batch", "Accepted", "Probed"]
    assert [frame.type for frame in received[0].frames()] == [FrameType.QUEUED]
    room.tell(courier, ("send", begun.address, m.BatchAck(received[0].sequence)))
    last = room.received(courier)[-1]
    assert [frame.type for frame in last.frames()] == [FrameType.FAILED]
    assert len(room.ends(7)) == 1


# In the middle of a stream


def test_status_probe_and_cancel_are_answered_in_the_middle_of_a_stream(begun: Peer, room: Room) -> None:
    begun.submit(1)
    begun.sent(1)
    begun.transport.push(created(), delta("a"))
    room.run(lambda: "DATA" in room.types(1))

    status = begun.status()
    assert (status.state, status.connection_id, status.key, status.host) == ("streaming", "c-1", "label", "127.0.0.1:9")
    assert room.ask(begun.address, m.Probe(1)) == m.Probed(1, held=True)
    assert room.ask(begun.address, m.Probe(2)) == m.Probed(2, held=False)

    assert room.ask(begun.address, m.Cancel(1)) == m.Probed(1, held=False)
    failure = room.failure(1)
    assert (failure.code, failure.delivery) == (ErrorCode.CANCELLED, Delivery.ACCEPTED)
    assert begun.transport.closed
    assert begun.status().state == "disconnected"
    assert room.ask(begun.address, m.Cancel(1)) == m.Probed(1, held=False)
    assert len(room.ends(1)) == 1


@pytest.mark.parametrize(("callback_failed", "reason"), [(False, "cancelled"), (True, "stream_callback_failed")])
def test_the_next_reset_reason_says_why_the_stream_was_left(
    begun: Peer, room: Room, callback_failed: bool, reason: str
) -> None:
    begun.submit(1)
    begun.sent(1)
    room.ask(begun.address, m.Cancel(1, callback_failed=callback_failed))
    begun.turn(2)

    assert room.evidence(2)["continuation_reset_reason"] == reason


def test_a_cancel_while_a_socket_is_being_opened_abandons_the_attempt(begun: Peer, room: Room, dialer: Dialer) -> None:
    dialer.outcomes.append(None)
    begun.submit(1)
    room.ask(begun.address, m.Cancel(1))

    assert room.failure(1).delivery is Delivery.NOT_SENT
    assert dialer.connectors[0].abandoned
    begun.turn(2)


def test_messages_of_unknown_type_are_ignored(begun: Peer, room: Room) -> None:
    begun.submit(1)
    for stranger in ("text", 7, None, ("tuple",), c.Began("c-1", 1), m.Started(1, "c", None), object()):
        room.tell(begun.address, stranger)

    assert begun.status().state in ("connecting", "streaming")
    assert not room.ends(1)


def test_alarms_that_were_overtaken_are_ignored(begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    begun.submit(1)
    begun.sent(1)
    before = begun.actor._conn
    for token in range(before.token + 5):
        if before.alarm is None or token != before.alarm.token:
            begun.actor.rang("alarm", token)
    begun.actor.rang("of no known name", 1)

    assert begun.actor._conn == before


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"first_event_timeout": 0.02}, ErrorCode.FIRST_EVENT_TIMEOUT),
        ({"timeout": 0.02}, ErrorCode.REQUEST_TIMEOUT),
    ],
)
def test_a_deadline_rings_by_itself(begun: Peer, room: Room, options: dict[str, Any], code: ErrorCode) -> None:
    begun.submit(1, **options)

    assert room.failure(1).code is code


# What goes wrong


def test_a_socket_that_cannot_be_opened_fails_the_request(begun: Peer, room: Room, dialer: Dialer) -> None:
    dialer.outcomes.append(REFUSED)
    begun.submit(1, degraded_for=None)

    failure = room.failure(1)
    assert (failure.code, failure.delivery) == (ErrorCode.WEBSOCKET_CONNECT_FAILED, Delivery.NOT_SENT)
    assert failure.details["reason"] == "refused"
    begun.turn(2)


def test_a_socket_that_breaks_in_a_stream_fails_the_request_once(begun: Peer, room: Room) -> None:
    begun.submit(1)
    begun.sent(1)
    begun.transport.push(created(), fault=RESET)

    failure = room.failure(1)
    assert (failure.code, failure.delivery) == (ErrorCode.WEBSOCKET_READ_FAILED, Delivery.ACCEPTED)
    assert begun.transport.closed
    room.run()
    assert len(room.ends(1)) == 1


def test_a_socket_that_died_while_idle_is_replaced_before_the_request_goes_out(
    begun: Peer, room: Room, dialer: Dialer
) -> None:
    begun.turn(1, user("hello"))
    begun.transport.hide(fault=Fault(ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1000}))  # no poll has shown it yet
    begun.turn(2, user("hello"))

    assert [len(transport.sent) for transport in dialer.transports] == [1, 1]
    assert room.evidence(2)["continuation_reset_reason"] == "connection_closed"


def test_a_request_that_comes_twice_is_accepted_twice_and_runs_once(begun: Peer, room: Room) -> None:
    for number in (1, 1, 2, 2):
        begun.submit(number)
    begun.sent(1)
    assert begun.status().queue_length == 1

    for number in (1, 2):
        begun.sent(number)
        begun.transport.push(created(), completed(f"resp_{number}"))
        assert room.finished(number)
    room.run()
    begun.sent(2)
    assert [len(room.ends(number)) for number in (1, 2)] == [1, 1]


STRANGE: list[dict[str, Any]] = [
    {"body": Secret(b"[]")},
    {"body": b"{}"},
    {"url": Secret("ftp://host/")},
    {"url": Secret("ws://203.0.113.1/")},
    {"url": Secret("wss://host:port/")},
    {"headers": Secret(((1, 2, 3),))},
    {"key": None},
    {"settings": None},
    {"channel": 7},
]


@pytest.mark.parametrize("fields", STRANGE, ids=lambda fields: "-".join(fields))
def test_a_request_that_no_client_would_send_is_refused(begun: Peer, room: Room, fields: dict[str, Any]) -> None:
    begun.submit(3)
    begun.sent(1)
    made = submit(1)
    strange = m.Submit(**{name: getattr(made, name) for name in m.Submit.__slots__} | fields)

    answer = room.ask(begun.address, strange)

    assert isinstance(answer, m.Refused)
    assert answer.failure.code is ErrorCode.INVALID_PROVIDER_REQUEST
    assert answer.failure.delivery is Delivery.NOT_SENT
    assert set(answer.failure.details) == {"field", "problem"}
    assert begun.status().queue_length == 0
    begun.transport.push(created(), completed())
    assert room.finished(3), "the one that runs is not disturbed"
    begun.turn(2)


def test_a_channel_that_is_not_there_is_refused(begun: Peer, room: Room) -> None:
    made = submit(1)
    strange = m.Submit(**{name: getattr(made, name) for name in m.Submit.__slots__} | {"channel": "/nowhere"})

    answer = room.ask(begun.address, strange)

    assert isinstance(answer, m.Refused)
    assert (answer.failure.code, answer.failure.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT)
    assert answer.failure.details["reason"] == "channel_gone"


def test_after_a_defect_every_request_is_answered_once_and_the_next_one_runs(begun: Peer, room: Room) -> None:
    begun.submit(1)
    begun.submit(2)
    begun.sent(1)
    broken = begun.transport

    def receive(**_: Any) -> Any:
        raise RuntimeError("sk-canary")

    broken.receive = receive  # type: ignore[method-assign]
    broken.push(created())

    for number, verdict in ((1, Delivery.AMBIGUOUS), (2, Delivery.NOT_SENT)):
        failure = room.failure(number)
        assert (failure.code, failure.delivery) == (ErrorCode.INTERNAL_ERROR, verdict)
    assert broken.closed
    begun.turn(3)
    assert room.evidence(3)["continuation_reset_reason"] == "websocket_failed"
    assert [len(room.ends(number)) for number in (1, 2, 3)] == [1, 1, 1]


def test_the_verdict_after_a_defect_is_that_of_the_moment(begun: Peer, room: Room, dialer: Dialer) -> None:
    dialer.outcomes.append(None)
    begun.submit(1)
    begun.actor.defect()
    assert room.failure(1).delivery is Delivery.NOT_SENT, "the socket was not open yet"

    begun.submit(2)
    begun.sent(1)
    begun.transport.push(created(), delta("a"))
    room.run(lambda: "DATA" in room.types(2))
    begun.actor.defect()
    room.run()
    assert room.failure(2).delivery is Delivery.ACCEPTED


def test_a_request_whose_end_is_lost_in_a_defect_is_not_said_to_be_unsent(
    begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is done with it by then, and has begun the next."""
    begun.submit(1)
    begun.submit(2)
    begun.sent(1)

    def fails(*_: Any) -> Any:
        monkeypatch.undo()
        raise RuntimeError

    monkeypatch.setitem(module._PERFORM, do.Deliver, fails)
    begun.transport.push(created(), completed())

    assert room.failure(1).delivery is Delivery.AMBIGUOUS
    assert room.failure(2).code is ErrorCode.INTERNAL_ERROR


def test_a_socket_for_which_there_is_no_descriptor_fails_the_request_and_leaves_the_connection_up(
    begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_: Any) -> Any:
        raise OSError(errno.EMFILE, "too many")

    ways = begun.actor._wire._connect
    monkeypatch.setitem(ways, Via.WEBSOCKET, connect)
    begun.submit(1, degraded_for=None)
    failure = room.failure(1)
    assert (failure.code, failure.delivery) == (ErrorCode.WEBSOCKET_CONNECT_FAILED, Delivery.NOT_SENT)
    assert failure.details["reason"] == "too_many_open_files"

    monkeypatch.undo()
    begun.turn(2)


def test_a_defect_makes_the_alarms_of_before_stale(begun: Peer, room: Room) -> None:
    begun.submit(1)
    begun.sent(1)
    token = begun.actor._conn.token
    begun.actor.defect()

    assert begun.actor._conn.token >= token
    room.run()
    begun.turn(2)


def test_a_requester_that_leaves_too_much_unread_is_a_slow_consumer(begun: Peer, room: Room) -> None:
    room.acknowledge = False
    begun.submit(1, max_buffered_bytes=1024)
    begun.sent(1)
    begun.transport.push(created(), delta("x" * 600))
    begun.transport.push(delta("x" * 600))
    room.run(lambda: begun.transport.closed)
    room.run()
    room.acknowledge = True
    room.tell(begun.address, m.BatchAck(len(room.batches)))

    failure = room.failure(1)
    assert (failure.code, failure.delivery) == (ErrorCode.SLOW_CONSUMER, Delivery.ACCEPTED)
    assert not failure.retryable


def test_a_request_whose_caller_has_left_too_much_unread_before_it_is_given_up_once(
    begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if something has come on the idle socket, which is heard before the machine knows the request."""
    looked = 0
    overfull = Outbox.overfull

    def counted(outbox: Outbox) -> Iterator[Any]:
        nonlocal looked
        looked += 1
        return overfull(outbox) if looked < 100 else iter(())

    room.acknowledge = False
    begun.submit(1, max_buffered_bytes=1024)
    begun.sent(1)
    begun.transport.push(created(), completed(text="x" * 3000))
    room.run(lambda: begun.actor._conn.state is State.IDLE)
    monkeypatch.setattr(Outbox, "overfull", counted)
    begun.transport.hide()
    room.tell(begun.address, submit(2, settings=QUIET, max_buffered_bytes=1024))
    room.run()
    assert looked < 10
    room.acknowledge = True
    room.tell(begun.address, m.BatchAck(len(room.batches)))

    assert room.failure(2).code == ErrorCode.SLOW_CONSUMER


def test_a_client_s_frames_travel_on_its_channel_and_its_end_is_heard(begun: Peer, room: Room) -> None:
    with closing(Listener()) as listener:
        inbox = listener.open(1, max_buffered_bytes=100_000)
        inbox.bind("c-1")
        made = submit(1, settings=QUIET)
        on_channel = {name: getattr(made, name) for name in m.Submit.__slots__} | {"channel": listener.path}
        assert room.ask(begun.address, m.Submit(**on_channel)) == m.Accepted(1, "c-1")
        begun.sent(1)
        begun.transport.push(created(), delta("a"))
        room.run(lambda: begun.actor._conn.turn is not None and begun.actor._conn.turn.shown)
        kinds = [frame.type for frame in iter(lambda: get(inbox, within(0.1)), None)]
        assert kinds[:3] == [FrameType.QUEUED, FrameType.SENDING, FrameType.METADATA]
        assert kinds[-1] == FrameType.DATA

    room.run(lambda: begun.transport.closed)
    assert room.batches == []
    begun.turn(2)
    assert room.evidence(2)["continuation_reset_reason"] == "caller_gone"


# Over a client's channel


class Line:
    """A client whose channel to the connection is up."""

    def __init__(self, listener: Listener, begun: Peer, room: Room) -> None:
        self.listener, self._peer, self._room = listener, begun, room
        self._inboxes: dict[int, Inbox] = {}
        self._frames: dict[int, list[Frame]] = {}
        made = submit(1000, settings=QUIET)
        self._open(1000)
        by_message = {name: getattr(made, name) for name in m.Submit.__slots__} | {"channel": listener.path}
        assert room.ask(begun.address, m.Submit(**by_message)) == m.Accepted(1000, "c-1")
        room.run(lambda: begun.dialer.transports and begun.transport.sent)
        begun.transport.push(created("resp_0"), completed("resp_0"))
        assert self.ended(1000).type == FrameType.FINISHED
        self.already = len(begun.transport.sent)

    def submit(self, request_id: int, *items: Any, times: int = 1) -> None:
        encoded = submission_frame(submit(request_id, *items, settings=QUIET))
        assert encoded is not None
        self._open(request_id)
        self.send(b"".join(encoded) * times)

    def send(self, data: bytes) -> None:
        assert self.listener.send("c-1", data)

    def cancel(self, request_id: int, *, callback_failed: bool = False) -> None:
        self.send(encode(Frame(FrameType.CANCEL, callback_failed, request_id, b"")))

    def frames(self, request_id: int) -> list[Frame]:
        with suppress(ChannelLost, InboxClosed):
            self._take(request_id)
        return self._frames[request_id]

    def lost(self, request_id: int) -> list[Frame]:
        """Wait until the channel has been lost; return all that had come."""

        def has_been() -> bool:
            try:
                self._take(request_id)
            except ChannelLost:
                return True
            return False

        self._room.run(has_been)
        return self._frames[request_id]

    def ended(self, request_id: int) -> Frame:
        self._room.run(lambda: [one for one in self.frames(request_id) if one.type >= FrameType.FINISHED])
        self._room.run()
        [last] = [one for one in self.frames(request_id) if one.type >= FrameType.FINISHED]
        return last

    def sent(self, count: int) -> None:
        """Wait until so many requests were written since the channel is up; no more may be."""
        self._room.run(lambda: len(self._peer.transport.sent) >= self.already + count)
        self._room.run()
        assert len(self._peer.transport.sent) == self.already + count

    def _take(self, request_id: int) -> None:
        self._frames[request_id] += self._inboxes[request_id].take(0) or ()

    def _open(self, request_id: int) -> None:
        if request_id not in self._inboxes:
            self._inboxes[request_id] = self.listener.open(request_id, max_buffered_bytes=1_000_000)
            self._frames[request_id] = []


@pytest.fixture
def line(begun: Peer, room: Room) -> Iterator[Line]:
    with closing(Listener()) as listener:
        yield Line(listener, begun, room)


def test_a_request_may_come_over_the_channel_and_is_answered_there(begun: Peer, room: Room, line: Line) -> None:
    line.submit(2, user("hello"))
    line.sent(1)
    begun.transport.push(created(), delta("a"), completed())

    assert line.ended(2).type == FrameType.FINISHED
    kinds = [frame.type for frame in line.frames(2)]
    assert kinds[:3] == [FrameType.QUEUED, FrameType.SENDING, FrameType.METADATA]
    assert not room.has(m.Accepted)
    assert room.batches == []


def test_one_that_comes_twice_runs_once(begun: Peer, line: Line) -> None:
    line.submit(2, times=2)
    line.submit(3)
    line.sent(1)
    for number, response in ((2, "resp_2"), (3, "resp_3")):
        begun.transport.push(created(response), completed(response))
        assert line.ended(number).type == FrameType.FINISHED
    line.sent(2)


def test_a_cancel_comes_behind_its_request_and_before_the_next(begun: Peer, room: Room, line: Line) -> None:
    """All three are there at once."""
    for cancelled in (2, 3):
        line.submit(cancelled)
        line.cancel(cancelled)
    line.submit(4)

    for cancelled in (2, 3):
        assert failure_from(line.ended(cancelled).payload).code is ErrorCode.CANCELLED
    room.run(lambda: any(one.type == FrameType.SENDING for one in line.frames(4)) and begun.transport.sent)
    begun.transport.push(created(), completed())
    assert line.ended(4).type == FrameType.FINISHED


def test_a_cancel_of_what_is_not_there_changes_nothing(begun: Peer, line: Line) -> None:
    for unknown in (999, 1000, 2**64 - 1):
        line.cancel(unknown)
    line.submit(2)
    line.sent(1)
    begun.transport.push(created(), completed())

    assert line.ended(2).type == FrameType.FINISHED


def test_that_the_caller_s_code_failed_over_the_last_answer_is_heard_over_the_channel(
    begun: Peer, room: Room, line: Line
) -> None:
    line.cancel(1000, callback_failed=True)
    line.submit(2)
    room.run(lambda: any(one.type == FrameType.SENDING for one in line.frames(2)) and begun.transport.sent)
    begun.transport.push(created(), completed())
    assert line.ended(2).type == FrameType.FINISHED

    [evidence, *_] = [metadata_from(one.payload) for one in line.frames(2) if one.type == FrameType.METADATA]
    assert evidence["continuation_reset_reason"] == "stream_callback_failed"


@pytest.mark.parametrize("payload", [b"", bytes(8), b"\xff" * 40, b"sk-canary" * 9])
def test_what_is_no_request_is_refused_and_disturbs_nobody(
    begun: Peer, room: Room, line: Line, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    line.submit(2)
    line._open(3)
    line.send(encode(Frame(FrameType.SUBMIT, 0, 3, payload)))
    failure = failure_from(line.ended(3).payload)
    assert (failure.code, failure.delivery) == (ErrorCode.INVALID_PROVIDER_REQUEST, Delivery.NOT_SENT)
    assert "canary" not in repr(failure) + caplog.text
    line.sent(1)
    begun.transport.push(created(), completed())

    assert line.ended(2).type == FrameType.FINISHED
    assert begun.status().queue_length == 0


@pytest.mark.parametrize("fields", [one for one in STRANGE if type(next(iter(one.values()))) is Secret], ids=repr)
def test_a_request_that_no_client_would_send_is_refused_over_the_channel_as_well(
    begun: Peer, line: Line, fields: dict[str, Any]
) -> None:
    made = submit(2, settings=QUIET)
    strange = m.Submit(**{name: getattr(made, name) for name in m.Submit.__slots__} | fields)
    encoded = submission_frame(strange)
    assert encoded is not None
    line._open(2)
    line.send(b"".join(encoded))

    failure = failure_from(line.ended(2).payload)
    assert (failure.code, failure.delivery) == (ErrorCode.INVALID_PROVIDER_REQUEST, Delivery.NOT_SENT)
    line.sent(0)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, hello("c"), GOODBYE], ids=range(4))
def test_a_client_that_stops_making_sense_has_gone_and_the_connection_goes_on(
    begun: Peer, room: Room, line: Line, noise: bytes
) -> None:
    line.submit(2)
    line.sent(1)
    transport = begun.transport
    line.send(noise)
    room.run(lambda: transport.closed)

    assert [one.type for one in line.lost(2)] == [FrameType.QUEUED, FrameType.SENDING]
    assert not begun.actor.ended
    begun.turn(5)
    assert room.evidence(5)["continuation_reset_reason"] == "caller_gone"


def test_what_cannot_be_said_to_be_sent_is_not_sent(begun: Peer, room: Room, line: Line) -> None:
    """A caller whose channel ends without that word brings its request to another connection."""
    transport = begun.transport
    line.submit(2)
    actor = begun.actor
    [sink] = actor._outbox._channels.values()
    assert isinstance(sink, ChannelSink)
    # Its own end breaks in the very moment in which the request is taken.
    taken = actor._take_in

    def broken(made: m.Submit, sender: Any) -> None:
        sink._sender._socket.shutdown(socket.SHUT_WR)
        taken(made, sender)

    actor._take_in = broken  # type: ignore[method-assign]
    room.run(lambda: transport.closed)

    line.sent(0)
    assert line.frames(2) == []
    assert begun.status().queue_length == 0


def test_a_defect_in_one_request_does_not_cost_those_behind_it(
    begun: Peer, room: Room, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        raise RuntimeError("sk-canary")

    monkeypatch.setattr(module, "submission_from", fails)
    frames = [submission_frame(submit(number, settings=QUIET)) for number in (2, 3)]
    for number in (2, 3):
        line._open(number)
    line.send(b"".join(part for frame in frames if frame is not None for part in frame))
    room.run(lambda: any(one.type == FrameType.SENDING for one in line.frames(3)) and begun.transport.sent)
    begun.transport.push(created(), completed())

    assert line.ended(3).type == FrameType.FINISHED


def test_requests_that_are_read_together_run_in_the_order_in_which_they_came(begun: Peer, line: Line) -> None:
    """A queue that waits has the connection read ahead; what it reads then must not overtake what it is dealing with."""
    line.submit(2)
    line.sent(1)
    frames = [submission_frame(submit(number, user(f"number {number}"), settings=QUIET)) for number in (3, 4, 5)]
    for number in (3, 4, 5):
        line._open(number)
    line.send(b"".join(part for frame in frames if frame is not None for part in frame))
    for number in (2, 3, 4, 5):
        line.sent(number - 1)
        begun.transport.push(created(f"resp_{number}"), completed(f"resp_{number}"))
        assert line.ended(number).type == FrameType.FINISHED

    asked = [orjson.loads(text)["input"][-1]["content"] for text in begun.transport.sent[line.already + 1 :]]
    assert asked == ["number 3", "number 4", "number 5"]


def test_what_its_caller_has_given_up_by_now_is_not_begun(
    begun: Peer, room: Room, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the turn before it may be read first, though the cancel came before that."""
    line.submit(2)
    line.submit(3)
    line.sent(1)
    room.run(lambda: line.frames(3))
    monkeypatch.setattr(begun.actor.watch, "dispatch", lambda: None)
    line.cancel(3)
    begun.transport.push(created("resp_2"), completed("resp_2"))
    begun.actor._wire.read()

    assert failure_from(line.ended(3).payload).code is ErrorCode.CANCELLED
    line.sent(1)


def test_one_that_lingers_sends_back_what_comes_over_the_channel(begun: Peer, room: Room, line: Line) -> None:
    room.tell(begun.address, c.StopConnection(ErrorCode.CANCELLED, linger=True))
    line.submit(2)

    failure = failure_from(line.ended(2).payload)
    assert (failure.delivery, bool(failure.details["moved"])) == (Delivery.NOT_SENT, True)


def test_a_question_by_message_does_not_overtake_a_request_over_the_channel(
    begun: Peer, room: Room, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be said not to be there, and its caller would take it for lost."""
    monkeypatch.setattr(begun.actor.watch, "dispatch", lambda: None)
    line.submit(2)

    assert room.ask(begun.address, m.Probe(2, line.listener.path)) == m.Probed(2, True)
    assert room.ask(begun.address, m.Cancel(2, line.listener.path)) == m.Probed(2, False)
    assert failure_from(line.ended(2).payload).code is ErrorCode.CANCELLED


# The supervisor


def test_what_overtakes_the_first_message_is_kept_until_it_comes(peer: Peer, room: Room) -> None:
    room.tell(peer.address, submit(1, settings=QUIET), m.GetStatus(5), m.Probe(3))
    assert room.unread == []

    peer.begin()

    assert room.wait_for(m.Accepted) == m.Accepted(1, "c-1")
    assert room.wait_for(m.StatusReport).ask_id == 5
    assert room.wait_for(m.Probed) == m.Probed(3, held=False)
    peer.sent(1)
    peer.transport.push(completed())
    assert room.finished(1)


def test_what_is_kept_is_bounded(peer: Peer, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STASH_LIMIT", 2)
    room.tell(peer.address, m.Probe(1), m.Probe(2), m.Probe(3))
    peer.begin()
    room.run()

    assert [message.request_id for message in room.unread if isinstance(message, m.Probed)] == [1, 2]


@pytest.mark.parametrize("reason", ["connection_crashed", "evicted"])
def test_why_it_starts_cold_is_told_with_the_first_request(peer: Peer, room: Room, reason: str) -> None:
    peer.begin(reason)
    peer.turn(1)
    assert room.evidence(1)["continuation_reset_reason"] == reason


def test_it_reports_its_changes_but_at_most_once_per_interval(
    peer: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "REPORT_INTERVAL", 0.05)
    peer.begin()
    assert not room.has(c.Report), "nobody waits for it"
    assert room.wait_for(c.Report).facts.state == "disconnected"
    peer.turn(1)
    peer.turn(2)

    def reported() -> bool:
        reports = [message for message in room.unread if isinstance(message, c.Report)]
        return bool(reports) and reports[-1].facts.statistics[0] == 2

    room.run(reported)
    room.unread.clear()
    assert not until(lambda: room.run() or room.has(c.Report), 0.15 / within(1)), "nothing has changed since"


def test_it_reports_on_the_board_that_it_was_given(peer: Peer, room: Room) -> None:
    board = Board()
    slot = board.take()
    assert slot is not None
    peer.begin(slot=slot)
    peer.turn(1)

    told = slot.read()
    assert told is not None
    assert (told.state, told.statistics[0]) == ("idle", 1)
    assert not room.has(c.Report)


def test_what_it_reports_of_a_turn_is_there_before_the_caller_has_its_last_frame(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for the status then is not told that the turn still runs."""
    board = Board()
    slot = board.take()
    assert slot is not None
    told: list[Any] = []
    flush = Outbox.flush

    def noted(outbox: Outbox, now: float) -> None:
        if outbox._frames:
            told.append(slot.read())
        flush(outbox, now)

    monkeypatch.setattr(Outbox, "flush", noted)
    peer.begin(slot=slot)
    peer.turn(1)

    assert (told[-1].state, told[-1].statistics[0]) == ("idle", 1)

    peer.submit(2)
    peer.submit(3)
    peer.sent(2)
    told.clear()
    peer.transport.push(created("resp_2"), completed("resp_2"))
    peer.sent(3)

    assert {facts.statistics[0] for facts in told} == {2}, "also where the next one goes out at once"


def test_no_report_is_on_the_way_of_a_request(peer: Peer, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process sends both: what it tells the supervisor first, whoever submitted waits for."""
    monkeypatch.setattr(reporter, "REPORT_INTERVAL", 0.0)
    monkeypatch.setattr(reporter, "PROMPTLY", 0.0)
    peer.begin()
    room.wait_for(c.Report)
    room.run()
    room.unread.clear()

    room.tell(peer.address, submit(1, settings=QUIET))
    room.run(lambda: room.has(c.Report) and room.has(m.Accepted))

    kinds = [type(message) for message in room.unread]
    assert kinds.index(m.Accepted) < kinds.index(c.Report)


def test_an_idle_connection_asks_before_it_retires_and_goes_on_if_it_is_needed(begun: Peer, room: Room) -> None:
    begun.turn(1, idle_close_after=0.01)
    assert room.wait_for(c.Retire) == c.Retire("c-1")
    room.tell(begun.address, c.RetireAnswer(granted=False))
    assert begun.status().state == "idle"
    assert room.wait_for(c.Retire) == c.Retire("c-1")
    begun.submit(2)
    room.tell(begun.address, c.RetireAnswer(granted=False))

    begun.sent(2)
    begun.transport.push(created("resp_2"), completed("resp_2"))
    assert room.finished(2)


def test_a_request_that_comes_while_it_retires_is_sent_back_untouched(
    begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.05)
    begun.turn(1, idle_close_after=0.01)
    room.wait_for(c.Retire)
    begun.submit(2)
    room.tell(begun.address, c.RetireAnswer(granted=True))
    begun.submit(3)

    for number in (2, 3):
        failure = room.failure(number)
        assert (failure.code, failure.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT)
        assert failure.details["moved"]
    assert begun.transport.closed
    assert begun.transport.close_code == 1000
    assert len(begun.transport.sent) == 1
    room.run(lambda: begun.actor.ended)


def test_an_idle_connection_makes_room_and_a_busy_one_does_not(
    begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.01)
    begun.submit(1)
    begun.sent(1)
    room.tell(begun.address, c.Evict())
    assert room.wait_for(c.EvictAnswer) == c.EvictAnswer("c-1", accepted=False)
    begun.transport.push(completed())
    assert room.finished(1)

    room.tell(begun.address, c.Evict())

    assert room.wait_for(c.EvictAnswer) == c.EvictAnswer("c-1", accepted=True)
    assert begun.transport.closed
    room.run(lambda: begun.actor.ended)


@pytest.mark.parametrize("code", [ErrorCode.CANCELLED, ErrorCode.SHUTTING_DOWN])
def test_one_that_is_stopped_answers_everybody_and_ends(begun: Peer, room: Room, code: ErrorCode) -> None:
    begun.submit(1)
    begun.submit(2)
    begun.sent(1)
    room.tell(begun.address, c.StopConnection(code))

    assert [room.failure(number).code for number in (1, 2)] == [code, code]
    assert begun.actor.ended
    assert begun.transport.closed
    assert begun.transport.close_code == 1000


def test_one_that_is_to_linger_sends_back_who_comes_and_then_ends(
    begun: Peer, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.05)
    begun.submit(1)
    begun.sent(1)
    room.system.tell(begun.address, c.StopConnection(ErrorCode.CANCELLED, linger=True))
    room.system.tell(begun.address, submit(2, settings=QUIET))

    assert room.failure(1).code is ErrorCode.CANCELLED
    failure = room.failure(2)
    assert (failure.delivery, bool(failure.details["moved"])) == (Delivery.NOT_SENT, True)
    assert begun.transport.closed
    room.run(lambda: begun.actor.ended)


def test_one_that_is_told_to_exit_closes_its_socket(begun: Peer, room: Room) -> None:
    begun.submit(1)
    begun.sent(1)
    room.tell(begun.address, ActorExitRequest())

    assert begun.transport.closed
    assert room.failure(1).code is ErrorCode.SHUTTING_DOWN


def test_one_with_a_process_of_its_own_dies_with_its_parent_from_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it was introduced: who was to do that may be killed first."""
    parents: list[int] = []
    monkeypatch.setattr(module.process, "die_with_parent", parents.append)
    for base, expected in (("simpleSystem", []), ("multiprocTCPBase", [os.getppid()])):
        actor = ConnectionActor({"Thespian ActorSystem Name": base, "Thespian Watch Supported": True})
        actor.watch.close()
        assert parents == expected


def test_where_nothing_can_be_watched_it_says_so_and_ends() -> None:
    system = ActorSystem("simpleSystemBase", {"Thespian ActorSystem Name": "other"}, logDefs=False, transientUnique=True)
    system._systemBase.system.capabilities["Thespian ActorSystem Name"] = "other"
    address = system.createActor(ConnectionActor)

    assert system.ask(address, c.Begin("c-1", "label", None, None), 1) == c.StartFailed("c-1", "no_watch")
    assert system.ask(address, m.GetStatus(1), 0.05) is None
    system.shutdown()


def test_a_defect_at_rest_leaves_a_connection_that_ends_when_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was heard meanwhile is of a socket that is closed now."""
    monkeypatch.setattr(module.process, "die_with_parent", lambda _: True)  # this process is the test's
    actor = ConnectionActor({"Thespian Watch Supported": True})
    told: list[Any] = []
    wakes: list[Any] = []
    actor._myRef = SimpleNamespace(
        transport=SimpleNamespace(attends=True),
        actor_send=lambda _, message: told.append(message),
        wakeupAfter=lambda *wakeup: wakes.append(wakeup),
    )
    actor.receiveMessage(c.Begin("c-1", "label", None, None), None)
    rested = Socket("wss://host/", "who", 0.0, None, 0.0)
    actor._conn = evolve(actor._conn, state=State.IDLE, socket=rested)
    actor._pulse.begin(actor._conn)
    transport = FakeTransport()
    vars(actor._wire)["_transport"] = transport
    actor.watch.add(transport.fileno(), lambda _: None)
    actor._pulse.rang()
    wakes.clear()
    monkeypatch.setattr(actor._intake, "prepare", None)  # not callable

    actor.receiveMessage(submit(1), None)

    assert transport.closed
    assert actor._conn.state is State.DISCONNECTED
    assert len(wakes) == 1, "its idle close"
    actor.watch.close()
