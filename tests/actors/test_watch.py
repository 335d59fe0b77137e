"""One descriptor that stands for many."""

from __future__ import annotations

import gc
import os
import select
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pixir_actors.actors.watch import Watch


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield ours, theirs


def shows(watch: Watch) -> bool:
    """Say whether the watch's own descriptor is readable, as Thespian would see it."""
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def test_it_is_readable_while_a_registered_descriptor_is(watch: Watch, pair) -> None:
    ours, theirs = pair
    heard: list[bool] = []
    watch.add(ours.fileno(), heard.append)
    assert not shows(watch)
    watch.dispatch()
    assert heard == []

    theirs.send(b"x")

    assert shows(watch)
    watch.dispatch()
    assert heard == [True]
    assert shows(watch), "nobody has read it yet"
    ours.recv(1)
    assert not shows(watch)


def test_room_for_writing_is_told_only_while_it_is_asked_for(watch: Watch, pair) -> None:
    ours, theirs = pair
    heard: list[bool] = []
    watch.add(ours.fileno(), heard.append)

    watch.writing(ours.fileno(), True)
    watch.dispatch()
    assert heard == [False], "it can only be written"
    theirs.send(b"x")
    watch.dispatch()
    assert heard == [False, True], "it can be read as well"
    ours.recv(1)

    watch.writing(ours.fileno(), False)
    watch.dispatch()
    assert heard == [False, True]
    assert not shows(watch)


class Counted:
    """An epoll object that counts what is changed in it."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll, self.changes = epoll, 0

    def modify(self, fd: int, events: int) -> None:
        self.changes += 1
        self._epoll.modify(fd, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def test_to_ask_for_room_again_and_again_costs_no_system_call(watch: Watch, pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = pair[0].fileno()
    counted = Counted(watch._epoll)
    monkeypatch.setattr(watch, "_epoll", counted)
    watch.add(fd, lambda _: None)
    for wanted in (False, True, True, False, False):
        watch.writing(fd, wanted)

    assert counted.changes == 2


def test_a_number_that_is_given_out_again_is_asked_for_room_anew(watch: Watch, pair) -> None:
    ours, _ = pair
    heard: list[bool] = []
    for _ in range(2):
        watch.add(ours.fileno(), heard.append)
        watch.writing(ours.fileno(), True)
        watch.dispatch()
        watch.remove(ours.fileno())

    assert heard == [False, False]


def test_the_end_of_the_peer_counts_as_readable(watch: Watch, pair) -> None:
    ours, theirs = pair
    heard: list[bool] = []
    watch.add(ours.fileno(), heard.append)
    watch.writing(ours.fileno(), True)

    theirs.close()
    watch.dispatch()

    assert heard == [True]


def test_a_handler_may_remove_another_that_is_ready_too(watch: Watch, pair) -> None:
    """Whichever comes first, the other is not called any more: its socket may be closed by then."""
    called: list[int] = []

    def first_takes_all(number: int, other: int) -> None:
        called.append(number)
        watch.remove(other)

    one, two = pair
    watch.add(one.fileno(), lambda _: first_takes_all(1, two.fileno()))
    watch.add(two.fileno(), lambda _: first_takes_all(2, one.fileno()))
    one.send(b"x")
    two.send(b"x")

    watch.dispatch()

    assert len(called) == 1
    assert len(watch) == 1


def test_a_handler_may_remove_itself(watch: Watch, pair) -> None:
    ours, theirs = pair
    watch.add(ours.fileno(), lambda _: watch.remove(ours.fileno()))
    theirs.send(b"x")

    watch.dispatch()

    assert len(watch) == 0
    assert not shows(watch)
    watch.remove(ours.fileno())  # once more does nothing


def test_what_is_left_to_do_again_is_done_once_and_shows_until_then(watch: Watch) -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append("called")

    watch.again(call)
    watch.again(call)
    assert shows(watch)
    assert len(watch) == 1

    watch.dispatch()

    assert calls == ["called"]
    assert not shows(watch)
    assert len(watch) == 0
    watch.dispatch()
    assert calls == ["called"]


def test_what_asks_for_another_round_gets_it_in_the_next_dispatch(watch: Watch) -> None:
    rounds: list[int] = []

    def call() -> None:
        rounds.append(1)
        if len(rounds) < 3:
            watch.again(call)

    watch.again(call)
    for expected in (1, 2, 3, 3):
        assert shows(watch) is (len(rounds) < 3)
        watch.dispatch()
        assert len(rounds) == expected


def test_a_handler_that_asks_for_another_round_has_it_in_the_next_dispatch(watch: Watch, pair) -> None:
    ours, theirs = pair
    calls: list[str] = []

    def handler(_: bool) -> None:
        ours.recv(1)
        watch.again(lambda: calls.append("again"))

    watch.add(ours.fileno(), handler)
    theirs.send(b"x")
    watch.dispatch()
    assert calls == []
    assert shows(watch)
    watch.dispatch()
    assert calls == ["again"]


def test_a_number_that_is_given_out_again_in_the_same_round_is_not_taken_for_the_old_one(watch: Watch, pair) -> None:
    """What the poll said was said of a descriptor that is closed by now."""
    heard: list[str] = []
    fresh, _ = pair
    both = [socket.socketpair(), socket.socketpair()]

    def first_replaces(other: socket.socket) -> None:
        heard.append("first")
        fd = other.fileno()
        watch.remove(fd)
        other.close()
        os.dup2(fresh.fileno(), fd)
        watch.add(fd, lambda _: heard.append("fresh"))

    (one, one_peer), (two, two_peer) = both
    watch.add(one.fileno(), lambda _: first_replaces(two))
    watch.add(two.fileno(), lambda _: first_replaces(one))
    fds = {one.fileno(), two.fileno()}
    one_peer.send(b"x")
    two_peer.send(b"x")

    watch.dispatch()

    assert heard == ["first"]
    assert len(watch) == 2
    for end in (one, two, one_peer, two_peer):
        fds.discard(end.fileno())
        end.close()
    [again] = fds
    watch.remove(again)
    os.close(again)


def test_after_a_handler_that_raised_what_was_still_to_be_called_is_called_in_the_next_round(watch: Watch, pair) -> None:
    """No poll would show it again: what it is to read is in user space."""
    ours, theirs = pair
    calls: list[str] = []

    def fails(_: bool) -> None:
        ours.recv(1)
        raise ZeroDivisionError

    watch.add(ours.fileno(), fails)
    watch.again(lambda: calls.append("one"))
    theirs.send(b"x")

    with pytest.raises(ZeroDivisionError):
        watch.dispatch()
    assert calls == []
    assert shows(watch)
    watch.dispatch()
    assert calls == ["one"]
    assert not shows(watch)


def test_a_call_that_raised_is_not_repeated_but_those_behind_it_are_called(watch: Watch) -> None:
    calls: list[str] = []

    def fails() -> None:
        calls.append("fails")
        raise ZeroDivisionError

    watch.again(fails)
    watch.again(lambda: calls.append("behind"))

    with pytest.raises(ZeroDivisionError):
        watch.dispatch()
    assert shows(watch)
    watch.dispatch()
    assert calls == ["fails", "behind"]
    assert not shows(watch)


def test_a_descriptor_that_was_closed_first_breaks_nothing(watch: Watch, pair) -> None:
    """Its number may be given out again at once, and is registered anew then."""
    ours, theirs = pair
    heard: list[str] = []
    first, peer = socket.socketpair()
    fd = first.fileno()
    watch.add(fd, lambda _: heard.append("before"))
    first.close()
    peer.close()
    watch.dispatch()

    assert os.dup2(ours.fileno(), fd) == fd
    watch.add(fd, lambda _: heard.append("after"))
    theirs.send(b"x")
    watch.dispatch()
    watch.remove(fd)
    os.close(fd)

    assert heard == ["after"]
    watch.dispatch()
    assert heard == ["after"]


def test_a_descriptor_that_was_closed_first_can_still_be_removed(watch: Watch) -> None:
    first, peer = socket.socketpair()
    fd = first.fileno()
    watch.add(fd, lambda _: None)
    first.close()
    peer.close()

    watch.remove(fd)

    assert len(watch) == 0


def test_nothing_is_left_when_it_is_closed() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        watch = Watch()
        watch.again(lambda: None)
        watch.close()
        watch.close()

    assert sorted(os.listdir("/proc/self/fd")) == before


def test_nothing_is_left_when_it_is_dropped() -> None:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    Watch().again(lambda: None)
    gc.collect()

    assert sorted(os.listdir("/proc/self/fd")) == before


def test_whether_one_descriptor_is_all_there_is_to_do_can_be_asked(watch: Watch, pair) -> None:
    ours, theirs = pair
    other, far = socket.socketpair()
    heard: list[bool] = []
    watch.add(ours.fileno(), heard.append)
    watch.add(other.fileno(), heard.append)
    assert not watch.only_readable(ours.fileno())

    theirs.send(b"x")
    assert watch.only_readable(ours.fileno())
    assert not watch.only_readable(other.fileno())

    far.send(b"x")
    assert not watch.only_readable(ours.fileno()), "another one is, too"
    other.recv(1)
    watch.writing(ours.fileno(), True)
    assert not watch.only_readable(ours.fileno()), "it can be written, which was waited for"
    watch.writing(ours.fileno(), False)
    watch.again(list)
    assert not watch.only_readable(ours.fileno()), "something is left to be called"
    assert heard == [], "and nothing is, by asking"
    other.close()
    far.close()
