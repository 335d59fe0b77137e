"""Plans, performed on a wire that only notes what it is told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest
from websockets.frames import Opcode

from pixir_actors.simulator.operation import (
    Abort,
    Cut,
    DemandPong,
    Emit,
    Freeze,
    Hold,
    Operation,
    Raw,
    SendClose,
    Settle,
    Sleep,
    Stall,
    frame,
)
from pixir_actors.simulator.performer import Performer
from pixir_actors.simulator.turn import Plan
from pixir_actors.simulator.wire import Gone, Wire
from tests.conftest import within

EVENT = Emit({"type": "response.created"})


class Notebook:
    """A wire's methods, each noted with its arguments; what ends the connection raises Gone."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.on_write = lambda: None

    async def write(self, data: bytes, *, partial: bool = False) -> None:
        self.notes.append(("write", data, partial))
        self.on_write()

    async def write_bytewise(self, data: bytes) -> None:
        self.notes.append(("bytewise", data))

    async def pause(self, seconds: float) -> None:
        self.notes.append(("pause", seconds))
        await asyncio.sleep(0)

    async def until_gone(self) -> None:
        self.notes.append(("gone",))
        raise Gone

    async def freeze(self) -> None:
        self.notes.append(("freeze",))
        raise Gone

    def cut(self) -> None:
        self.notes.append(("cut",))

    def abort(self) -> None:
        self.notes.append(("abort",))

    def close(self, code: int, reason: str) -> None:
        self.notes.append(("close", code, reason))


def performed(*operations: Operation, settle: bool = True) -> tuple[list[tuple[Any, ...]], Performer]:
    wire = Notebook()
    performer = Performer(cast(Wire, wire))
    asyncio.run(performer.perform(Plan(list(operations), lambda: settle)))
    return wire.notes, performer


def test_what_is_to_be_written_is_written() -> None:
    notes, _ = performed(EVENT, Raw(b"half", partial=True), Raw(b"slow", bytewise=True), Sleep(2))
    assert notes == [
        ("write", EVENT.encoded(), False),
        ("write", b"half", True),
        ("bytewise", b"slow"),
        ("pause", 2),
    ]


@pytest.mark.parametrize(("settle", "ended"), [(True, 1), (False, 0)])
def test_settling_counts_the_requests_that_have_ended(settle: bool, ended: int) -> None:
    assert performed(Settle(), EVENT, settle=settle)[1].ended == ended


@pytest.mark.parametrize(
    ("operation", "notes"),
    [
        (Cut(), [("cut",), ("gone",)]),
        (Abort(), [("abort",), ("gone",)]),
        (SendClose(1011, "why"), [("close", 1011, "why"), ("gone",)]),
        (Stall(), [("gone",)]),
        (Freeze(), [("freeze",)]),
    ],
)
def test_nothing_follows_an_end(operation: Operation, notes: list[tuple[Any, ...]]) -> None:
    wire = Notebook()
    with pytest.raises(Gone):
        asyncio.run(Performer(cast(Wire, wire)).perform(Plan([operation, EVENT], lambda: True)))
    assert wire.notes == notes


def test_a_hold_waits_for_its_event() -> None:
    go = threading.Event()
    timer = threading.Timer(0.02, go.set)
    timer.start()
    notes, _ = performed(Hold(go), EVENT)
    timer.join()
    assert notes[0][0] == "pause"
    assert notes[-1] == ("write", EVENT.encoded(), False)


def test_a_pong_that_is_demanded_lets_the_reply_go_on_and_another_does_not() -> None:
    wire = Notebook()
    performer = Performer(cast(Wire, wire))
    wire.on_write = lambda: performer.on_pong(b"it")
    asyncio.run(performer.perform(Plan([DemandPong(b"it", within(5))], lambda: True)))
    assert wire.notes == [("write", frame(b"it", Opcode.PING), False)]
    wire.on_write = lambda: performer.on_pong(b"another")
    with pytest.raises(Gone):
        asyncio.run(performer.perform(Plan([DemandPong(b"it", 0.01)], lambda: True)))
    assert wire.notes[-2:] == [("cut",), ("gone",)]
