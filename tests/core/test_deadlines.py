"""When something is due, for each part of a connection that has a limit; `test_lifecycle_time` tells what is done then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pixir_actors.core.deadlines import after, deadlines, next_ping, rests
from pixir_actors.core.state import Connection, Socket, State, Via
from pixir_actors.settings import Settings

QUIET = Settings(keepalive_interval=None, idle_close_after=None)


def socket(**fields: object) -> Socket:
    made = Socket("wss://host/", "identity", 100.0, None, 100.0)
    return replace(made, **fields)  # type: ignore[arg-type]


def idle(limits: Settings, held: Socket | None) -> Connection:
    return replace(Connection.new(now=100.0, limits=limits), state=State.IDLE, socket=held)


def test_without_limits_nothing_is_ever_due() -> None:
    assert list(deadlines(idle(QUIET, socket()))) == []
    assert after(100.0, None) is None


@pytest.mark.parametrize(
    ("limits", "held", "due"),
    [
        (Settings(keepalive_interval=None, idle_close_after=30.0), socket(), [130.0]),
        (Settings(keepalive_interval=10.0, idle_close_after=None), socket(), [110.0]),
        (Settings(keepalive_interval=10.0, idle_close_after=None), socket(pong_due=104.0), [104.0]),
        (Settings(keepalive_interval=10.0, idle_close_after=None), socket(via=Via.HTTP), []),
        (QUIET, socket(retire_at=500.0), [500.0]),
    ],
    ids=["idle close", "a ping", "its pong", "no ping over HTTP", "age"],
)
def test_an_idle_connection_has_its_deadlines(limits: Settings, held: Socket, due: list[float]) -> None:
    assert list(deadlines(idle(limits, held))) == pytest.approx(due, abs=0.11)


@pytest.mark.parametrize("seen", [0.0, 17.3, 100.04, 1e6 + 1 / 3])
def test_a_ping_is_a_hundredth_of_its_interval_early_at_the_most_and_never_late(seen: float) -> None:
    at = next_ping(seen, 25.0)

    assert seen + 24.75 - 1e-6 <= at <= seen + 25.0


PINGING = Settings(keepalive_interval=10.0, idle_close_after=30.0)


def test_where_somebody_sees_to_pings_between_turns_nothing_is_due_for_them() -> None:
    resting = replace(idle(PINGING, socket(pong_due=104.0, retire_at=500.0)), attended=True)

    assert rests(resting)
    assert list(deadlines(resting)) == [500.0, 130.0]


@pytest.mark.parametrize(
    ("change", "due"),
    [
        ({"attended": False}, [110.0, 130.0]),
        ({"state": State.STREAMING}, [110.0]),
        ({"state": State.RETIRING, "retiring_since": 100.0}, [110.0, 105.0]),
        ({"socket": None}, [130.0]),
        ({"socket": socket(via=Via.HTTP)}, [130.0]),
        ({"limits": QUIET}, []),
        ({"limits": QUIET, "socket": socket(pong_due=104.0)}, [104.0]),
    ],
    ids=["nobody does", "a turn runs", "it retires", "no socket", "over HTTP", "no pings", "no pings any more"],
)
def test_elsewhere_they_are_the_machines(change: dict[str, Any], due: list[float]) -> None:
    conn = replace(idle(PINGING, socket()), **({"attended": True} | change))

    assert not rests(conn)
    assert list(deadlines(conn)) == pytest.approx(due, abs=0.11)


def test_a_drain_and_a_retirement_have_theirs() -> None:
    retiring = replace(idle(QUIET, None), state=State.RETIRING, retiring_since=100.0, drained_by=103.0)

    assert sorted(deadlines(retiring)) == [103.0, 105.0]
