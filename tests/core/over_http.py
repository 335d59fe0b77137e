"""Where the tests of the two ways to the provider begin: warm machines, machines within their window."""

from __future__ import annotations

from typing import Any

from pixir_actors.core import actions as act
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.state import State, Via
from pixir_actors.errors import Delivery, ErrorCode
from tests.core.machine import Machine, assistant, completed, created, delta, user

ONE, TWO = user("one"), user("two")
SAID = assistant("ok")
FIRST, SECOND = [ONE], [ONE, SAID, TWO]
E, D, R = ErrorCode, Delivery, ResetReason


def warm(transport: str = "auto", **options: Any) -> Machine:
    machine = Machine(transport=transport, **options)
    machine.turn(FIRST, "resp_1", [SAID])
    assert machine.conn.socket is not None or transport == "http"
    return machine


def degraded(**options: Any) -> Machine:
    """Return a machine within its window, which a turn that may have run has opened."""
    machine = warm(**options)
    machine.start(SECOND)
    machine.socket_failed()
    assert machine.conn.state is State.DEGRADED
    return machine


def opened(machine: Machine) -> list[Via]:
    return [open_.via for open_ in machine.find(act.Open)]


def answered(machine: Machine, request_id: str) -> None:
    """Let the exchange over HTTP that is being opened run to its end."""
    assert machine.conn.turn is not None
    assert machine.conn.turn.request.request_id == request_id
    assert machine.conn.turn.via is Via.HTTP
    machine.connected()
    machine.sent()
    machine.receive(created("resp_http"), delta("o"), completed("resp_http", SAID))
    assert machine.answer(request_id) == act.Finish(request_id)
