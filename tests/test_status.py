"""What a connection tells of itself, and what that means a while later."""

from __future__ import annotations

import dataclasses
import inspect
import pickle

import pytest

from pixir_actors.core.state import State
from pixir_actors.status import ConnectionStatus, SystemStatus

STATUS = ConnectionStatus(
    key="digest",
    connection_id="c-1",
    pid=1,
    state="idle",
    model="gpt",
    host="api.example",
    queue_length=0,
    age_s=10.0,
    idle_s=2.0,
    degraded_for_s=1.5,
    next_wakeup_s=4.0,
    turns=3,
    delta_turns=2,
    sockets=1,
    replays=0,
    failures=0,
    wire_bytes=100,
    full_bytes=450,
    last_reset_reason=None,
    last_error=None,
)

SYSTEM = SystemStatus(pid=1, version="1.0", connections=2, max_descriptors=64, refusals=3, draining=True, uptime_s=1.5)


def test_deltas_have_saved_what_full_replays_would_have_taken_more() -> None:
    assert STATUS.saved_bytes == 350


@pytest.mark.parametrize("state", State)
def test_a_turn_runs_while_connecting_and_streaming(state: State) -> None:
    assert dataclasses.replace(STATUS, state=state.value).running is (state in (State.CONNECTING, State.STREAMING))


@pytest.mark.parametrize("status", [STATUS, SYSTEM], ids=["connection", "system"])
def test_every_field_is_explained_and_crosses_processes(status: ConnectionStatus | SystemStatus) -> None:
    text = inspect.getdoc(type(status)) or ""

    assert [field.name for field in dataclasses.fields(status) if f"{field.name}:" not in text] == []
    assert pickle.loads(pickle.dumps(status)) == status
