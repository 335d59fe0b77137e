"""A connection at birth, and that its values cannot be changed in place."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from pixir_actors.core.backoff import CLOSED
from pixir_actors.core.continuation import Cold, ResetReason
from pixir_actors.core.state import Connection, State, evolve
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


def test_one_that_evolves_is_a_copy_with_other_values_and_as_frozen() -> None:
    before = Connection.new(now=0.0, limits=Settings())
    after = evolve(before, state=State.IDLE, token=3)

    assert after == replace(before, state=State.IDLE, token=3)
    assert (before.state, before.token) == (State.DISCONNECTED, 0)
    with pytest.raises(FrozenInstanceError):
        after.state = State.STOPPED  # type: ignore[misc]


def test_nothing_evolves_a_field_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="Connection has no field colour"):
        evolve(Connection.new(now=0.0, limits=Settings()), colour=1)


def test_the_states_have_different_letters() -> None:
    names = [state.value for state in State]

    assert names == ["disconnected", "connecting", "idle", "streaming", "degraded", "retiring", "stopped"]
