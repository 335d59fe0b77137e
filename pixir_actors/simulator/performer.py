"""Does what a plan says, operation by operation, on one connection. Runs in the server's thread."""

from __future__ import annotations

import asyncio
from typing import Final

from websockets.frames import Opcode

from pixir_actors.simulator import operation as op
from pixir_actors.simulator.operation import Operation
from pixir_actors.simulator.record import Turn
from pixir_actors.simulator.turn import Plan
from pixir_actors.simulator.wire import Wire

_HOLD_POLL: Final = 0.005


class Performer:
    """Performs one plan after another. `turn` is that of the last one; `ended` counts the requests that have ended."""

    def __init__(self, wire: Wire) -> None:
        self.turn: Turn | None = None
        self.ended = 0
        self._wire = wire
        self._pong: tuple[bytes, asyncio.Event] | None = None

    def on_pong(self, payload: bytes) -> None:
        """A pong came: perhaps the one that is waited for."""
        if self._pong is not None and self._pong[0] == payload:
            self._pong[1].set()

    async def perform(self, plan: Plan) -> None:
        """Do all of a plan. Raises Gone when the connection ends, also when the plan says that it shall."""
        self.turn = plan.turn
        for operation in plan.operations:
            await self._one(operation, plan)

    async def _one(self, operation: Operation, plan: Plan) -> None:
        match operation:
            case op.Emit():
                await self._wire.write(operation.encoded())
            case op.Raw(data, _, True):
                await self._wire.write_bytewise(data)
            case op.Raw(data, partial):
                await self._wire.write(data, partial=partial)
            case op.Settle():
                self.ended += plan.settle()
            case op.Sleep(seconds):
                await self._wire.pause(seconds)
            case op.Hold(event):
                while not event.is_set():
                    await self._wire.pause(_HOLD_POLL)
            case op.DemandPong(payload, within):
                await self._demand_pong(payload, within)
            case _:
                await self._end(operation)

    async def _end(self, operation: Operation) -> None:
        match operation:
            case op.Cut():
                self._wire.cut()
            case op.Abort():
                self._wire.abort()
            case op.SendClose(code, reason):
                self._wire.close(code, reason)
            case op.Freeze():
                await self._wire.freeze()
        await self._wire.until_gone()  # Stall, too

    async def _demand_pong(self, payload: bytes, within: float) -> None:
        came = asyncio.Event()
        self._pong = (payload, came)
        await self._wire.write(op.frame(payload, Opcode.PING))
        try:
            await asyncio.wait_for(came.wait(), within)
        except TimeoutError:
            self._wire.cut()
            await self._wire.until_gone()
