"""The connection's hold on its socket, with a transport that follows a script."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from typing import Any

import pytest

from pixir_actors.actors.watch import Watch
from pixir_actors.actors.wire import Wire
from pixir_actors.core import inputs
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Via
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault, Target
from tests.actors.fakes import REFUSED, RESET, Dialer, FakeTransport, completed, created, delta

TARGET = Target(
    endpoint="ws://127.0.0.1:9/", headers=Secret(()), ca_file=None, proxy=None, step_timeout=1.0, max_message_bytes=1024
)
CLOSED = Fault(ErrorCode.WEBSOCKET_CLOSED, {"close_code": 1011})


class Line:
    """A wire, its watch, and what the machine was fed."""

    def __init__(self, watch: Watch, dialer: Dialer) -> None:
        self.watch, self.dialer = watch, dialer
        self.fed: list[inputs.Input] = []
        self.end: Callable[[], None] = lambda: None
        self.wire = Wire(watch, {Via.WEBSOCKET: dialer}, self._feed)

    def _feed(self, heard: Any) -> None:
        self.fed += heard
        if self.fed:
            self.end()

    def open(self) -> FakeTransport:
        self.wire.open(TARGET, 1, Via.WEBSOCKET)
        assert self.round() == [inputs.Connected(1)]
        self.round()
        return self.dialer.transport

    def round(self) -> list[inputs.Input]:
        """Let the watch have one round; return what was fed since the last time."""
        self.watch.dispatch()
        fed, self.fed = self.fed, []
        return fed


@pytest.fixture
def line(watch: Watch, dialer: Dialer) -> Line:
    return Line(watch, dialer)


def types(heard: list[inputs.Input]) -> list[str]:
    """Name what was fed: the type of an input, or those of the events in it."""
    names: list[str] = []
    for one in heard:
        names += [event.type for event in one.events] if isinstance(one, inputs.Received) else [type(one).__name__]
    return names


# Opening


def test_an_open_socket_is_told_with_the_token_it_was_asked_for_with(line: Line, dialer: Dialer) -> None:
    line.wire.open(TARGET, 7, Via.WEBSOCKET)
    assert line.fed == [], "nothing before the watch says so"

    assert line.round() == [inputs.Connected(7)]
    assert dialer.targets == [TARGET]


def test_an_attempt_that_failed_is_told_with_its_facts(line: Line, dialer: Dialer) -> None:
    dialer.outcomes.append(Fault(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, {"status": 429}, retry_after=3.0))
    line.wire.open(TARGET, 7, Via.WEBSOCKET)

    assert line.round() == [inputs.ConnectFailed(7, ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, {"status": 429}, 3.0)]
    assert len(line.watch) == 0


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EMFILE, "too_many_open_files"), (errno.ENFILE, "too_many_open_files"), (errno.EAGAIN, "os_error")],
)
def test_an_attempt_that_cannot_even_start_is_returned_and_not_fed(watch: Watch, number: int, reason: str) -> None:
    """It is returned to whoever is performing what the machine has decided: fed, it would come in the middle of that."""

    def connect(_: Target) -> Any:
        raise OSError(number, os.strerror(number))

    fed: list[inputs.Input] = []
    wire = Wire(watch, {Via.WEBSOCKET: connect}, fed.extend)

    assert wire.open(TARGET, 7, Via.WEBSOCKET) == [
        inputs.ConnectFailed(7, ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": reason})
    ]
    assert fed == []
    assert len(watch) == 0
    wire.abandon()  # nothing is under way


def test_an_attempt_that_starts_returns_nothing(line: Line) -> None:
    assert line.wire.open(TARGET, 7, Via.WEBSOCKET) == []


def test_an_abandoned_attempt_says_nothing_more(line: Line, dialer: Dialer) -> None:
    dialer.outcomes += [None, REFUSED]
    line.wire.open(TARGET, 1, Via.WEBSOCKET)
    line.wire.abandon()
    line.wire.abandon()
    assert dialer.connectors[0].abandoned
    assert len(line.watch) == 0
    assert line.round() == []

    line.wire.open(TARGET, 2, Via.WEBSOCKET)
    assert types(line.round()) == ["ConnectFailed"], "the next attempt is not hampered by it"


def test_what_came_behind_the_upgrade_is_read_although_no_poll_shows_it(line: Line, dialer: Dialer) -> None:
    line.wire.open(TARGET, 1, Via.WEBSOCKET)
    dialer.transport.hide(created())
    line.watch.dispatch()
    line.watch.dispatch()

    assert types(line.fed) == ["Connected", "response.created"]


# Writing


def test_a_request_that_the_socket_takes_whole_is_sent_at_once(line: Line) -> None:
    transport = line.open()

    assert line.wire.send(b"request") == [inputs.Sent()]
    assert transport.sent == [b"request"]
    assert line.round() == []


def test_a_request_that_the_socket_takes_in_parts_is_sent_when_all_is_taken(line: Line) -> None:
    transport = line.open()
    transport.room = 3
    assert line.wire.send(b"request") == []

    transport.room = 3
    assert line.round() == []
    transport.room = 3
    assert line.round() == [inputs.Sent()]
    assert line.round() == []
    assert not select.select([line.watch.fileno()], [], [], 0)[0], "it waits for room no longer"


@pytest.mark.parametrize(("room", "unsent"), [(0, True), (1, False)])
def test_a_write_that_fails_says_whether_a_byte_had_left(line: Line, room: int, unsent: bool) -> None:
    transport = line.open()
    transport.room = room
    assert line.wire.send(b"request") == []
    transport.write_fault = RESET

    assert line.round() == [inputs.SocketFailed(RESET.code, RESET.details, unsent)]


def test_a_request_that_fails_at_its_first_write_left_nothing(line: Line) -> None:
    transport = line.open()
    transport.write_fault = RESET

    assert line.wire.send(b"request") == [inputs.SocketFailed(RESET.code, RESET.details, unsent=True)]


def test_bytes_that_left_before_the_request_are_not_taken_for_it(line: Line) -> None:
    transport = line.open()
    line.wire.send(b"an earlier request")
    transport.room = 0
    line.wire.send(b"request")
    transport.push(fault=RESET)

    assert line.round() == [inputs.SocketFailed(RESET.code, RESET.details, unsent=True)]


def test_a_fault_without_a_request_being_written_is_not_unsent(line: Line) -> None:
    transport = line.open()
    line.wire.send(b"request")
    transport.push(fault=CLOSED)

    assert line.round() == [inputs.SocketFailed(CLOSED.code, CLOSED.details, unsent=False)]


def test_the_server_s_last_words_are_heard_when_a_write_fails(line: Line) -> None:
    transport = line.open()
    transport.hide({"type": "error", "error": {"code": "server_error"}})
    transport.write_fault = RESET

    assert types(line.wire.send(b"request")) == ["error", "SocketFailed"]


def test_a_close_frame_tells_more_than_the_write_that_failed(line: Line) -> None:
    transport = line.open()
    transport.hide(fault=CLOSED)
    transport.write_fault = RESET

    assert line.wire.send(b"request") == [inputs.SocketFailed(CLOSED.code, CLOSED.details, unsent=True)]


def test_a_ping_is_written_and_is_no_request(line: Line) -> None:
    transport = line.open()

    assert line.wire.ping() == []
    assert len(transport.pings) == 1
    transport.write_fault = RESET
    assert types(line.wire.ping()) == ["SocketFailed"]


# Reading


def test_events_are_fed_in_order_and_together(line: Line) -> None:
    transport = line.open()
    transport.push(created(), delta("a"), b"[]", delta("b"))

    [heard] = line.round()
    assert isinstance(heard, inputs.Received)
    assert types([heard]) == ["response.created", "response.output_text.delta", "response.output_text.delta"]


def test_a_frame_without_an_event_is_a_sign_of_life(line: Line) -> None:
    transport = line.open()
    transport.push()

    assert line.round() == [inputs.Received(())]


def test_bytes_that_are_no_frame_yet_are_no_sign_of_life(line: Line) -> None:
    transport = line.open()
    transport.push()
    transport._script[0].frames = 0

    assert line.round() == []


def test_what_came_before_invalid_json_is_heard_and_nothing_behind_it(line: Line) -> None:
    transport = line.open()
    transport.push(created(), b'{"type": "resp', completed())

    heard = line.round()

    assert types(heard) == ["response.created", "SocketFailed"]
    assert heard[1] == inputs.SocketFailed(ErrorCode.WEBSOCKET_FAILED, {"reason": "invalid_json"})


def test_what_came_before_a_fault_is_heard(line: Line) -> None:
    transport = line.open()
    transport.push(created(), completed(), fault=CLOSED)

    assert types(line.round()) == ["response.created", "response.completed", "SocketFailed"]


def test_a_full_slice_is_followed_by_the_next_in_the_next_round(line: Line) -> None:
    transport = line.open()
    transport.push(delta("a"), more=True)
    transport.hide(delta("b"), more=True)
    transport.hide(delta("c"))

    assert [len(line.round()) for _ in range(4)] == [1, 1, 1, 0]


def test_a_pong_that_the_socket_does_not_take_at_once_is_written_when_it_does(line: Line) -> None:
    transport = line.open()
    transport.room = 0
    transport.push()
    transport.owe(4)
    assert line.round() == [inputs.Received(())]
    assert transport.pending_bytes() == 4

    transport.room = 10
    line.round()

    assert transport.pending_bytes() == 0
    assert not select.select([line.watch.fileno()], [], [], 0)[0]


# Closing


def test_a_closed_socket_is_watched_no_more(line: Line) -> None:
    transport = line.open()
    transport.room = 0
    line.wire.send(b"request")
    line.wire.close(1000)
    line.wire.close(1001)

    assert transport.closed
    assert transport.close_code == 1000
    line.wire.read()
    assert line.round() == []
    assert len(line.watch) == 0


def test_a_slice_that_ends_the_socket_is_not_followed_by_another(line: Line) -> None:
    transport = line.open()
    line.end = line.wire.close  # as the machine may decide
    transport.push(completed(), more=True)
    transport.hide(delta("of nobody"))
    transport.owe(3)

    assert types(line.round()) == ["response.completed"]
    assert line.round() == []


def test_a_new_socket_knows_nothing_of_the_old_one_s_request(line: Line, dialer: Dialer) -> None:
    first = line.open()
    first.room = 0
    line.wire.send(b"request")
    line.wire.close()
    second = line.open()
    assert second is not first
    second.push(fault=RESET)

    # Of the new one nothing was asked yet, so it has taken nothing; what the old one had taken does not count.
    assert line.round() == [inputs.SocketFailed(RESET.code, RESET.details, unsent=True)]
