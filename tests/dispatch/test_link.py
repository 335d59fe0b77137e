"""The way to a multi-process system: questions, and frames over a channel."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorSystemException, InvalidActorAddress

from pixir_actors.channel import ChannelLost, Sender
from pixir_actors.channel.frame import Frame, FrameType, encode
from pixir_actors.dispatch.link import RemoteLink
from pixir_actors.errors import SystemStartFailed
from tests.conftest import until, within
from tests.dispatch.systems import System


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def link(system: System) -> Iterator[RemoteLink]:
    link = RemoteLink(system)
    yield link
    link.close()


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ImportError("no module"), "cannot import pixir_actors"),
        (InvalidActorAddress("address", "why"), "does not start the supervisor: InvalidActorAddress"),
        (ActorSystemException("why"), "does not start the supervisor: ActorSystemException"),
    ],
)
def test_a_system_without_a_supervisor_is_a_clear_error_and_leaves_nothing(
    system: System, error: Exception, says: str
) -> None:
    def create() -> Any:
        raise error

    system.create = create
    before, threads = descriptors(), threading.active_count()

    with pytest.raises(SystemStartFailed, match=says):
        RemoteLink(system)

    assert until(lambda: (descriptors(), threading.active_count()) == (before, threads))


def test_its_channel_is_made_where_it_is_told_to(system: System) -> None:
    with tempfile.TemporaryDirectory() as short:  # a Unix socket's path has at most 107 bytes
        link = RemoteLink(system, directory=short)
        try:
            assert Path(str(link.channel)).is_relative_to(short)
        finally:
            link.close()


def test_frames_come_over_a_channel_that_says_whether_its_connection_lives(link: RemoteLink) -> None:
    source = link.open(3, max_buffered_bytes=10_000)
    source.bind("c-1")
    assert not link.connected("c-1")
    assert link.channel is not None

    sender = Sender.connect(link.channel, connection_id="c-1")
    sender.send(encode(Frame(FrameType.DATA, 0, 3, b"x")))
    frames = source.take(within(5))
    assert frames is not None
    assert [frame.payload for frame in frames] == [b"x"]
    assert link.connected("c-1")
    sender.close()

    assert until(lambda: not link.connected("c-1"))
    assert source.lost is not None


def test_a_request_that_goes_over_a_channel_is_lost_with_it_and_not_handed_to_the_next(link: RemoteLink) -> None:
    source = link.open(3, max_buffered_bytes=10_000)
    submit = encode(Frame(FrameType.SUBMIT, 0, 3, b"{}"))
    assert not link.send("c-1", submit, request_id=3), "there is none"
    assert link.channel is not None
    channel = link.channel
    with closing(Sender.connect(channel, connection_id="c-1")) as first:
        assert until(lambda: first.receive() and first.greeted and link.send("c-1", submit, request_id=3))
        assert until(lambda: first.receive() and first.take() == [Frame(FrameType.SUBMIT, 0, 3, b"{}")])
        with closing(Sender.connect(channel, connection_id="c-1")) as second:
            assert until(lambda: second.receive() and second.greeted)
            first.close(goodbye=True)

            with pytest.raises(ChannelLost):
                source.take(within(5))
