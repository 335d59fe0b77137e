"""Connections that bring nothing do not pile up in a process, however many a stranger opens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pixir_actors.system.crowd import MOST_UNPROVEN, bound_strangers
from pixir_actors.system.embedded import EmbeddedSystem
from pixir_actors.system.frames import SEAL_BYTES, Signer, StrictReceiveBuffer
from pixir_actors.system.refusals import refusals
from tests.conftest import within
from tests.system.actors import Helper

SIGNER = Signer(b"k" * 32)


class Connection:
    def __init__(self) -> None:
        self._rData = StrictReceiveBuffer(SIGNER)
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Transport:
    """As much of Thespian's as accepting needs."""

    def __init__(self) -> None:
        self.all: list[Connection] = []
        self._incomingSockets: dict[int, Connection] = {}

    def accept(self) -> Connection:
        number = len(self.all)
        self.all.append(Connection())
        self._incomingSockets[number] = self.all[-1]
        return self.all[-1]


accept = bound_strangers(Transport.accept)  # type: ignore[arg-type]


def test_of_too_many_the_one_that_has_shown_nothing_for_longest_is_closed_and_counted() -> None:
    transport, before = Transport(), refusals()
    for _ in range(MOST_UNPROVEN + 3):
        accept(transport)

    assert [each.closed for each in transport.all] == [True] * 3 + [False] * MOST_UNPROVEN
    assert len(transport._incomingSockets) == MOST_UNPROVEN
    assert refusals() == before + 3


def test_what_brings_a_message_of_this_system_is_kept_however_many_there_are() -> None:
    transport = Transport()
    frame = SIGNER.dumps("hello")
    for _ in range(MOST_UNPROVEN + 3):
        accept(transport)
        transport.all[-1]._rData.addMore(b"%d>" % len(frame) + frame[:SEAL_BYTES])

    assert not any(each.closed for each in transport.all)


@pytest.fixture
def running() -> Iterator[EmbeddedSystem]:
    with EmbeddedSystem.start(start_timeout=within(20)) as system:
        yield system


def test_a_crowd_at_the_admin_s_port_does_not_stop_the_service(running: EmbeddedSystem) -> None:
    helper = running.actor_system.createActor(Helper)
    with ExitStack() as strangers:
        first, *_ = [
            strangers.enter_context(socket.create_connection(("127.0.0.1", running.port), within(10)))
            for _ in range(2 * MOST_UNPROVEN)
        ]

        assert first.recv(1) == b""  # long before a connection that brings nothing is closed for that
        assert running.actor_system.ask(running.actor_system.createActor(Helper), ("child",), within(10))
        assert running.actor_system.ask(helper, ("child",), within(10))
