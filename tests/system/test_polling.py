"""Thespian's transport waits with poll(2); what it relies on of `selectors` holds."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pixir_actors.system.polling import EVENT_READ, EVENT_WRITE, DefaultSelector, attendant_of, milliseconds, wait
from tests.conftest import within


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


Pair = tuple[socket.socket, socket.socket]


def ready(fds: dict[int, int], timeout: float | None = 0.0) -> dict[int, int]:
    selector = DefaultSelector()
    for fd, events in fds.items():
        selector.register(fd, events)
    found = {key.fd: events for key, events in selector.select(timeout)}
    selector.close()
    return found


def test_its_events_are_those_of_the_standard_library() -> None:
    assert (EVENT_READ, EVENT_WRITE) == (selectors.EVENT_READ, selectors.EVENT_WRITE)


def test_what_can_be_read_or_written_is_found(pair: Pair) -> None:
    one, other = pair
    other.send(b"x")

    assert ready({one.fileno(): EVENT_READ, other.fileno(): EVENT_READ}) == {one.fileno(): EVENT_READ}
    assert ready({one.fileno(): EVENT_WRITE}) == {one.fileno(): EVENT_WRITE}


def test_a_descriptor_that_is_registered_twice_is_waited_for_in_both_ways(pair: Pair) -> None:
    one, other = pair
    other.send(b"x")
    selector = DefaultSelector()
    selector.register(one.fileno(), EVENT_READ)
    selector.register(one.fileno(), EVENT_WRITE)

    assert selector.select(0) == [((one.fileno(),), EVENT_READ | EVENT_WRITE)]


@pytest.mark.parametrize("events", [EVENT_READ, EVENT_WRITE])
def test_a_peer_that_has_gone_counts_as_what_was_waited_for(pair: Pair, events: int) -> None:
    one, other = pair
    other.close()

    assert ready({one.fileno(): events}) == {one.fileno(): events}


def test_a_wait_ends_with_its_time_and_is_never_cut_short(pair: Pair) -> None:
    began = time.monotonic()

    assert ready({pair[0].fileno(): EVENT_READ}, 0.0101) == {}
    assert time.monotonic() - began >= 0.0101


def test_a_wait_without_a_limit_ends_with_an_event(pair: Pair) -> None:
    one, other = pair
    threading.Timer(0.01, other.send, [b"x"]).start()

    assert ready({one.fileno(): EVENT_READ}, None) == {one.fileno(): EVENT_READ}


def test_a_time_that_has_passed_already_is_no_wait(pair: Pair) -> None:
    began = time.monotonic()
    assert ready({pair[0].fileno(): EVENT_READ}, -5.0) == {}
    assert time.monotonic() - began < within(1)


def test_a_closed_descriptor_is_an_error_that_the_transport_knows() -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        ready({read: EVENT_READ, write: EVENT_WRITE})
    os.close(write)

    assert caught.value.errno == errno.EBADF


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        DefaultSelector().register(-1, EVENT_READ)


@pytest.mark.parametrize(("timeout", "waits"), [(None, None), (-1.0, 0), (0.0001, 1), (1e8, 86_400_000)])
def test_no_wait_is_longer_than_the_system_knows(timeout: float | None, waits: int | None) -> None:
    """A connection may be idle for a year; poll(2) refuses what is beyond 24 days."""
    assert milliseconds(timeout) == waits


class Attending(int):
    """A descriptor that says who sees to it."""

    attendant: Seeing


class Seeing:
    """Settles what it is told to, and counts."""

    def __init__(self, watch: int, *dues: float | None, settles: bool = True) -> None:
        self.watch, self.settles = watch, settles
        self.dues = list(dues)
        self.rung = self.asked = 0

    @property
    def due(self) -> float | None:
        return self.dues[0] if self.dues else None

    def rang(self) -> None:
        self.rung += 1
        self.dues.pop(0)

    def ready(self) -> bool:
        self.asked += 1
        if self.settles:
            os.read(self.watch, 1)
        return self.settles


def attended(pair: Pair, *dues: float | None, settles: bool = True) -> Attending:
    fd = Attending(pair[0].fileno())
    fd.attendant = Seeing(fd, *dues, settles=settles)
    return fd


def test_whoever_sees_to_a_descriptor_is_asked_and_what_is_settled_wakes_nobody(pair: Pair) -> None:
    fd = attended(pair)
    pair[1].send(b"xx")

    assert ready({fd: EVENT_READ}, 0.01) == {}

    assert fd.attendant.asked == 2


def test_what_is_not_settled_is_found(pair: Pair) -> None:
    fd = attended(pair, settles=False)
    pair[1].send(b"x")

    assert ready({fd: EVENT_READ}, None) == {fd: EVENT_READ}


def test_what_else_is_ready_is_found_at_once_and_nobody_is_asked(pair: Pair) -> None:
    fd = attended(pair)
    other, far = socket.socketpair()
    with other, far:
        for sender in (pair[1], far):
            sender.send(b"x")

        assert ready({fd: EVENT_READ, other.fileno(): EVENT_READ}) == {fd: EVENT_READ, other.fileno(): EVENT_READ}
    assert fd.attendant.asked == 0


def test_what_is_due_is_done_and_the_wait_goes_on_for_its_own_time(pair: Pair) -> None:
    now = time.monotonic()
    fd = attended(pair, now + 0.01, now + 0.02, now + 1000)

    assert ready({fd: EVENT_READ}, 0.05) == {}

    assert time.monotonic() >= now + 0.05
    assert fd.attendant.rung == 2


def test_what_is_due_is_done_where_the_wait_has_no_end(pair: Pair) -> None:
    fd = attended(pair, time.monotonic() - 1, None, settles=False)
    late = threading.Timer(0.05, pair[1].send, [b"x"])
    late.start()

    assert ready({fd: EVENT_READ}, None) == {fd: EVENT_READ}

    late.join()
    assert fd.attendant.rung == 1
    assert wait(select.poll(), 0.0, None) == []
    assert attendant_of([1, 2, fd]) is fd.attendant
    assert attendant_of([1, 2]) is None
