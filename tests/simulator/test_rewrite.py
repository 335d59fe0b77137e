"""What a fault does to a reply, operation by operation."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.frames import Opcode

from pixir_actors.simulator import rewrite
from pixir_actors.simulator.operation import Cut, DemandPong, Emit, Operation, Raw, Settle, Sleep, Stall, frame

CREATED = Emit({"type": "response.created"})
ONE = Emit({"type": "response.output_text.delta", "delta": "one"})
TWO = Emit({"type": "response.output_text.delta", "delta": "two"})
DONE = Emit({"type": "response.completed", "response": {"id": "r"}})
REPLY: list[Operation] = [CREATED, ONE, Sleep(1), TWO, Settle(), DONE]
CALL: list[Operation] = [CREATED, Emit({"type": "response.output_item.done"}), Settle(), DONE]
REFUSAL: list[Operation] = [Settle(), Emit({"type": "error"})]


def half(emit: Emit) -> Raw:
    return Raw(emit.encoded()[: len(emit.encoded()) // 2], partial=True)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("before_first_event", []),
        ("within_event", [CREATED, half(ONE)]),
        ("after_first_event", [CREATED]),
        ("mid_text", [CREATED, ONE]),
        ("before_terminal", [CREATED, ONE, Sleep(1), TWO]),
        ("within_terminal", [CREATED, ONE, Sleep(1), TWO, half(DONE)]),
        ("after_terminal", REPLY),
        ("upgrade", []),
    ],
)
def test_a_reply_ends_at_its_point_unsettled_unless_the_terminal_was_sent(when: Any, expected: list[Operation]) -> None:
    assert rewrite.ending(when, Cut())(REPLY) == [*expected, Cut()]


def test_the_end_comes_after_the_nth_delta_or_the_last() -> None:
    assert rewrite.ending("mid_text", Cut(), nth=2)(REPLY) == [CREATED, ONE, Sleep(1), TWO, Cut()]
    assert rewrite.ending("mid_text", Cut(), nth=9)(REPLY) == [CREATED, ONE, Sleep(1), TWO, Cut()]


def test_the_end_can_come_later() -> None:
    assert rewrite.ending("after_terminal", Cut(), delay=0.5)(REPLY) == [*REPLY, Sleep(0.5), Cut()]


def test_a_refusal_is_cut_before_and_within_its_only_event() -> None:
    assert rewrite.ending("before_first_event", Cut())(REFUSAL) == [Cut()]
    assert rewrite.ending("within_event", Cut())(REFUSAL) == [half(Emit({"type": "error"})), Cut()]


@pytest.mark.parametrize(("when", "nth"), [("never", 1), ("mid_text", 0)])
def test_a_point_that_does_not_exist_is_refused(when: Any, nth: int) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        rewrite.ending(when, Cut(), nth=nth)


@pytest.mark.parametrize(
    "change",
    [
        rewrite.ending("mid_text", Cut()),
        rewrite.ending("after_first_event", Cut()),
        rewrite.ending("before_terminal", Cut()),
        rewrite.garbled(lambda emit: Raw(b"?")),
        rewrite.nonsense(b"x"),
        rewrite.padded(1),
        rewrite.interleaved([{"type": "x"}]),
        rewrite.repeated_terminal(),
        rewrite.appended({"type": "x"}, 0),
        rewrite.pinged(1, 1),
        rewrite.split(),
        rewrite.reworded(),
        rewrite.fragmented(2, True),
        rewrite.coalesced(None),
        rewrite.trailed(1),
    ],
)
def test_nothing_to_change_is_said_so(change: rewrite.Rewrite) -> None:
    assert change([Settle()]) is None


def test_mid_text_does_not_fit_a_call() -> None:
    assert rewrite.ending("mid_text", Cut())(CALL) is None


def test_garbage_takes_the_place_of_the_first_output_or_of_the_end() -> None:
    assert rewrite.garbled(lambda emit: Raw(b"?"))(REPLY) == [CREATED, Raw(b"?"), *REPLY[2:]]
    assert rewrite.garbled(lambda emit: Raw(b"?"))(REFUSAL) == [Settle(), Raw(b"?")]


def test_nonsense_is_followed_by_nothing() -> None:
    assert rewrite.nonsense(b"?")(REPLY) == [CREATED, Raw(b"?"), Stall()]


def test_padding_goes_into_the_terminal_response_and_not_into_an_error() -> None:
    padded = rewrite.padded(3)(REPLY)
    assert padded is not None
    assert padded[-1] == Emit({"type": "response.completed", "response": {"id": "r", "metadata": {"padding": "xxx"}}})
    assert rewrite.padded(3)(REFUSAL) is None


def test_strangers_stand_before_every_event_and_not_between_settle_and_the_end() -> None:
    x, y = {"type": "x"}, {"type": "y"}
    expected = [Emit(x), CREATED, Emit(y), ONE, Sleep(1), Emit(x), TWO, Emit(y), Settle(), DONE]
    assert rewrite.interleaved([x, y])(REPLY) == expected


def test_pings_stand_before_every_nth_event() -> None:
    pinged = rewrite.pinged(2, 1.0)(REPLY)
    assert pinged == [
        DemandPong(b"demand-0", 1.0),
        CREATED,
        ONE,
        Sleep(1),
        DemandPong(b"demand-2", 1.0),
        TWO,
        Settle(),
        DONE,
    ]


def test_things_can_follow_the_end() -> None:
    assert rewrite.repeated_terminal()(REPLY) == [*REPLY, DONE]
    assert rewrite.appended({"type": "x"}, 2)(REPLY) == [*REPLY, Sleep(2), Emit({"type": "x"})]


def test_splitting_writes_the_same_bytes_one_by_one() -> None:
    assert rewrite.split()([Settle(), DONE]) == [Settle(), Raw(DONE.encoded(), bytewise=True)]


def test_what_takes_the_place_of_an_event_is_encoded_like_it() -> None:
    one, done = Emit(ONE.event, "event"), Emit(DONE.event, "event")
    for change in (rewrite.padded(1), rewrite.interleaved([{"type": "x"}]), rewrite.repeated_terminal()):
        changed = change([one, done]) or []
        assert {emit.encoding for emit in changed if isinstance(emit, Emit)} == {"event"}
    assert rewrite.split()([one]) == [Raw(one.encoded(), bytewise=True)]


def test_a_reworded_event_says_the_same_in_one_chunk() -> None:
    reworded = rewrite.reworded()([Emit(b'{"type":"error"}', "event")])
    text = b': keepalive\r\n\r\nid: 7\r\nevent:error\r\ndata:{\r\ndata:"type":"error"}\r\n\r\n'
    assert reworded == [Raw(b"%x\r\n%s\r\n" % (len(text), text))]


def test_fragments_are_the_message_again_with_pings_between() -> None:
    pieces = rewrite.fragmented(3, True)([DONE])
    assert pieces is not None and len(pieces) == 5
    heads = [piece.data[0] for piece in pieces if isinstance(piece, Raw)]
    assert heads == [Opcode.TEXT, 0x80 | Opcode.PING, Opcode.CONT, 0x80 | Opcode.PING, 0x80 | Opcode.CONT]
    assert b"".join(piece.data[2:] for piece in pieces[::2] if isinstance(piece, Raw)) == DONE.message()


def test_coalescing_joins_all_but_what_must_not_be_passed() -> None:
    frames = [emit.encoded() for emit in (CREATED, ONE, TWO, DONE)]
    assert rewrite.coalesced(None)(REPLY) == [Settle(), Raw(b"".join(frames))]
    assert rewrite.coalesced(2)(REPLY) == [Raw(frames[0] + frames[1]), Settle(), Raw(frames[2] + frames[3])]
    stalled: list[Operation] = [CREATED, ONE, Stall()]
    assert rewrite.coalesced(None)(stalled) == [Raw(frames[0] + frames[1]), Stall()]


def test_a_trailing_ping_is_whole_in_the_end() -> None:
    ping = frame(b"trailing", Opcode.PING)
    trailed = rewrite.trailed(0.5)(REPLY)
    assert trailed is not None
    first, pause, rest = trailed[-3:]
    assert isinstance(first, Raw) and isinstance(rest, Raw)
    assert (first.partial, rest.partial, pause) == (True, False, Sleep(0.5))
    assert first.data + rest.data == DONE.encoded() + ping
    assert len(first.data) > len(DONE.encoded())
