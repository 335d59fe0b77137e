"""A request at its connection: how one goes out without a wait.

What becomes of one that is brought there, sent back or given up is told in `test_call`.
"""

from __future__ import annotations

import pytest

from pixir_actors.actors import messages as m
from pixir_actors.channel.frame import Frame, FrameType
from pixir_actors.dispatch.dispatcher import Dispatcher
from pixir_actors.dispatch.placement import Placement
from pixir_actors.errors import ErrorCode, StreamError
from pixir_actors.settings import Settings
from tests.actors.fakes import submit
from tests.dispatch.fakes import FakeLink, Town


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def dispatcher(link: FakeLink) -> Dispatcher:
    """One that has met the connection of "session"; whether its channel is up is the link's to say."""
    Town(link)
    made = Dispatcher(link)
    made.connection(m.EnsureStarted.of(1, "session", Settings()))
    link.asked.clear()
    return made


def placement(dispatcher: Dispatcher, key: str = "session") -> Placement:
    number = dispatcher.link.number
    return Placement(dispatcher, m.EnsureStarted.of(number(), key, Settings()), submit(number()))


def kinds(link: FakeLink) -> list[int]:
    return [frame.type for _, frame, _ in link.taken]


def test_over_an_open_channel_a_request_goes_at_once_and_nobody_is_asked(dispatcher: Dispatcher, link: FakeLink) -> None:
    link.alive, link.channels_take = {"c-1"}, True
    at = placement(dispatcher)

    assert at.place_at_once()
    assert link.asked == []
    [(connection_id, frame, request_id)] = link.taken
    assert (connection_id, frame.type, request_id) == ("c-1", FrameType.SUBMIT, link.sources[0].request_id)
    assert link.sources[0].bound == ["c-1"]


def test_what_went_at_once_is_cancelled_on_the_same_way(dispatcher: Dispatcher, link: FakeLink) -> None:
    link.alive, link.channels_take = {"c-1"}, True
    at = placement(dispatcher)
    at.place_at_once()
    at.cancel(callback_failed=True)

    assert link.taken[-1][1] == Frame(FrameType.CANCEL, 1, link.sources[0].request_id, b"")
    assert link.sources[0].closed
    assert link.asked == []


@pytest.mark.parametrize("key", ["session", "another"])
def test_without_a_channel_nothing_is_done_at_once(dispatcher: Dispatcher, link: FakeLink, key: str) -> None:
    link.alive = {"c-1"} if key == "another" else set()
    at = placement(dispatcher, key)

    assert not at.place_at_once()
    assert link.asked == []
    assert link.sources == []
    at.place()
    assert [type(question) for _, question, _ in link.asked] == [m.EnsureStarted, m.Submit]


def test_where_the_channel_takes_nothing_the_request_is_placed_under_an_id_that_nobody_has_seen(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    link.alive = {"c-1"}
    at = placement(dispatcher)

    assert not at.place_at_once()
    assert at.connection is None, "it is cancelled without a word to anybody"
    at.place()

    [tried, placed] = link.sources
    assert tried.closed
    assert not placed.closed
    [sent] = link.questions(m.Submit)
    assert sent.request_id == placed.request_id != tried.request_id


def test_a_closed_client_takes_nothing(dispatcher: Dispatcher, link: FakeLink) -> None:
    link.alive, link.channels_take = {"c-1"}, True
    dispatcher.closing = True

    with pytest.raises(StreamError) as caught:
        placement(dispatcher).place_at_once()

    assert caught.value.code is ErrorCode.SHUTTING_DOWN
    assert kinds(link) == []
