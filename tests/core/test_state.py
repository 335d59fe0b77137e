"""A connection at birth, and that its values cannot be changed in place."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from pixir_actors.core.backoff import CLOSED
from pixir_actors.core.continuation import Cold, ResetReason
from pixir_actors.core.state import Connection, State
from pixir_actors.settings import Settings


def test_a_new_connection_has_nothing_and_says_so() -> None:
    connection = Connection.new(now=-5.0, limits=Settings())

    assert connection.state is State.DISCONNECTED
    assert connection.continuation == Cold(ResetReason.NO_PREVIOUS_RESPONSE)
    assert (connection.socket, connection.turn, connection.alarm, connection.queue) == (None, None, None, ())
    assert (connection.backoff, connection.idle_since) == (CLOSED, -5.0)


def test_a_new_connection_says_what_ended_the_one_before() -> None:
    connection = Connection.new(now=0.0, limits=Settings(), reason=ResetReason.CONNECTION_CRASHED)

    assert connection.continuation == Cold(ResetReason.CONNECTION_CRASHED)


def test_a_connection_is_not_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Connection.new(now=0.0, limits=Settings()).state = State.IDLE  # type: ignore[misc]


def test_the_states_have_different_letters() -> None:
    names = [state.value for state in State]

    assert names == ["disconnected", "connecting", "idle", "streaming", "degraded", "retiring", "stopped"]
