"""How a fault changes what the server does: each function returns a rewrite, operations -> operations. Pure.

A rewrite answers None when what it looks for is not there (no text delta in a tool call, say); its fault stays armed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, get_args

from websockets.frames import Opcode

from pixir_actors.simulator.eventstream import chunk
from pixir_actors.simulator.operation import DemandPong, Emit, Operation, Raw, Settle, Sleep, Stall, frame, index_of

Rewrite = Callable[[list[Operation]], list[Operation] | None]
When = Literal[
    "upgrade",
    "before_first_event",
    "within_event",
    "after_first_event",
    "mid_text",
    "before_terminal",
    "within_terminal",
    "after_terminal",
]
WHENS: Final[tuple[str, ...]] = get_args(When)


def ending(when: When, action: Operation, *, nth: int = 1, delay: float = 0.0) -> Rewrite:
    """Do `action` at a point, `delay` seconds later, and nothing after it.

    Args:
        when: "within_event" is half of the first output event, "within_terminal" half of the terminal one.
        nth: For "mid_text": after so many text deltas, or after the last one when there are fewer.

    Raises:
        ValueError: An unknown `when`, or an `nth` below 1.
    """
    if when not in WHENS or nth < 1:
        raise ValueError(f"when={when!r}, n={nth}: allowed are {', '.join(WHENS)}, and n from 1")
    last: list[Operation] = [Sleep(delay), action] if delay else [action]

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        if when == "upgrade":
            return last
        kept = _before(operations, when, nth)
        return None if kept is None else kept + last

    return rewrite


def _before(operations: list[Operation], when: When, nth: int) -> list[Operation] | None:
    """Return the operations up to a point; the last one may be half a frame."""
    first = index_of(operations)
    output = index_of(operations, output=True)
    terminal = index_of(operations, terminal=True)
    match when:
        case "before_first_event" if first is not None:
            return _unsettled(operations[:first])
        case "within_event" if first is not None:
            index = first if output is None else output
            return [*_unsettled(operations[:index]), *_half(operations[index])]
        case "after_first_event" if first is not None:
            return operations[: first + 1]
        case "before_terminal" if terminal is not None:
            return _unsettled(operations[:terminal])
        case "within_terminal" if terminal is not None:
            return [*_unsettled(operations[:terminal]), *_half(operations[terminal])]
        case "after_terminal" if terminal is not None:
            return operations[: terminal + 1]
        case "mid_text":
            deltas = [index for index, one in enumerate(operations) if isinstance(one, Emit) and one.text]
            return operations[: deltas[min(nth, len(deltas)) - 1] + 1] if deltas else None
    return None


def _unsettled(operations: list[Operation]) -> list[Operation]:
    return [operation for operation in operations if not isinstance(operation, Settle)]


def _half(operation: Operation) -> list[Operation]:
    assert isinstance(operation, Emit)
    data = operation.encoded()
    return [Raw(data[: len(data) // 2], partial=True)]


def garbled(make: Callable[[Emit], Operation]) -> Rewrite:
    """Do something else in place of the first output event, or of the terminal one when there is no output."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        index = _victim(operations)
        if index is None:
            return None
        victim = operations[index]
        assert isinstance(victim, Emit)
        return [*operations[:index], make(victim), *operations[index + 1 :]]

    return rewrite


def nonsense(data: bytes, *, partial: bool = False) -> Rewrite:
    """Send bytes that break the protocol in place of the first output event, then nothing."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        index = _victim(operations)
        return None if index is None else [*_unsettled(operations[:index]), Raw(data, partial), Stall()]

    return rewrite


def _victim(operations: list[Operation]) -> int | None:
    output = index_of(operations, output=True)
    return index_of(operations, terminal=True) if output is None else output


def padded(size: int) -> Rewrite:
    """Pad the terminal event's response by so many bytes."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        index = index_of(operations, terminal=True)
        terminal = None if index is None else operations[index]
        if index is None or not isinstance(terminal, Emit) or not isinstance(terminal.event, Mapping):
            return None
        response = terminal.event.get("response")
        if not isinstance(response, Mapping):
            return None
        event = {**terminal.event, "response": {**response, "metadata": {"padding": "x" * size}}}
        return [*operations[:index], replace(terminal, event=event), *operations[index + 1 :]]

    return rewrite


def interleaved(events: Iterable[Mapping[str, Any]]) -> Rewrite:
    """Send one of these events, in turn, before every event of the reply."""
    strangers = list(events)

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        result: list[Operation] = []
        seen = 0
        for operation in operations:
            if isinstance(operation, Emit):
                place = len(result) - 1 if result and isinstance(result[-1], Settle) else len(result)
                result.insert(place, replace(operation, event=strangers[seen % len(strangers)]))
                seen += 1
            result.append(operation)
        return result if seen else None

    return rewrite


def repeated_terminal() -> Rewrite:
    """Send the terminal event twice."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        index = index_of(operations, terminal=True)
        return None if index is None else [*operations, operations[index]]

    return rewrite


def appended(event: Mapping[str, Any], delay: float) -> Rewrite:
    """Send an event after the terminal one."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        return None if index_of(operations, terminal=True) is None else [*operations, Sleep(delay), Emit(event)]

    return rewrite


def pinged(every: int, within: float) -> Rewrite:
    """Demand a pong before every so many events."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        result: list[Operation] = []
        seen = 0
        for operation in operations:
            if isinstance(operation, Emit):
                if seen % every == 0:
                    place = len(result) - 1 if result and isinstance(result[-1], Settle) else len(result)
                    result.insert(place, DemandPong(b"demand-%d" % seen, within))
                seen += 1
            result.append(operation)
        return result if seen else None

    return rewrite


def split() -> Rewrite:
    """Hand each byte to the kernel by itself."""
    return _each(lambda emit: [Raw(emit.encoded(), bytewise=True)])


def reworded() -> Rewrite:
    """Write each server-sent event in another form that says the same."""

    def reword(emit: Emit) -> list[Operation]:
        message = emit.message()
        data = b"data:%s\r\ndata:%s\r\n" % (message[:1], message[1:])
        return [Raw(chunk(b": keepalive\r\n\r\nid: 7\r\nevent:%s\r\n%s\r\n" % (emit.type.encode(), data)))]

    return _each(reword)


def fragmented(parts: int, pings: bool) -> Rewrite:
    """Send each event in continuation frames, cut anywhere, with a ping between two of them."""

    def fragments(emit: Emit) -> list[Operation]:
        message = emit.message()
        count = max(1, min(parts, len(message)))
        edges = [len(message) * number // count for number in range(count + 1)]
        result: list[Operation] = []
        for number in range(count):
            if number and pings:
                result.append(Raw(frame(b"between", Opcode.PING)))
            opcode = Opcode.CONT if number else Opcode.TEXT
            piece = message[edges[number] : edges[number + 1]]
            result.append(Raw(frame(piece, opcode, fin=number == count - 1)))
        return result

    return _each(fragments)


def _each(change: Callable[[Emit], list[Operation]]) -> Rewrite:
    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        if index_of(operations) is None:
            return None
        return [new for one in operations for new in (change(one) if isinstance(one, Emit) else [one])]

    return rewrite


def coalesced(size: int | None) -> Rewrite:
    """Put so many events into one write; None puts all that nothing but a pause stands between."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        if index_of(operations) is None:
            return None
        result: list[Operation] = []
        group: list[bytes] = []
        for operation in operations:
            if isinstance(operation, Emit):
                group.append(operation.encoded())
            elif isinstance(operation, Settle):
                result.append(operation)
            elif not isinstance(operation, Sleep):
                _flush(group, result)
                result.append(operation)
            if len(group) == size:
                _flush(group, result)
        _flush(group, result)
        return result

    return rewrite


def _flush(group: list[bytes], result: list[Operation]) -> None:
    if group:
        result.append(Raw(b"".join(group)))
        group.clear()


def trailed(seconds: float) -> Rewrite:
    """Write the terminal event and half a ping at once, and the other half later."""

    def rewrite(operations: list[Operation]) -> list[Operation] | None:
        index = index_of(operations, terminal=True)
        if index is None:
            return None
        terminal = operations[index]
        assert isinstance(terminal, Emit)
        ping = frame(b"trailing", Opcode.PING)
        cut: list[Operation] = [Raw(terminal.encoded() + ping[:5], partial=True), Sleep(seconds), Raw(ping[5:])]
        return operations[:index] + cut + operations[index + 1 :]

    return rewrite
