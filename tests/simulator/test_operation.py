"""Operations as values."""

from __future__ import annotations

import pytest
from websockets.frames import Opcode

from pixir_actors.simulator.operation import Emit, Settle, Sleep, check_close_code, frame, index_of, settled

CREATED = Emit({"type": "response.created"})
DELTA = Emit({"type": "response.output_text.delta", "delta": "x"})
DONE = Emit({"type": "response.completed"})


def test_an_event_knows_what_it_is() -> None:
    assert [emit.terminal for emit in (CREATED, DELTA, DONE)] == [False, False, True]
    assert [emit.output for emit in (CREATED, DELTA, DONE)] == [False, True, False]
    assert [emit.text for emit in (CREATED, DELTA, DONE)] == [False, True, False]


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff"])
def test_bytes_that_are_no_object_have_no_type_and_are_sent_as_they_are(data: bytes) -> None:
    assert Emit(data).type == ""
    assert Emit(data).message() == data


def test_bytes_that_are_an_event_have_its_type() -> None:
    assert Emit(b'{"type": "error"}').terminal


@pytest.mark.parametrize(("size", "header"), [(2, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_a_frame_is_unmasked_and_announces_its_size(size: int, header: int) -> None:
    data = frame(b"x" * size, Opcode.BINARY, fin=False)
    assert data[0] == 0x02
    assert data[1] < 0x80
    assert len(data) == size + header


def test_the_turn_is_settled_just_before_the_last_terminal_event() -> None:
    assert settled([CREATED, Sleep(1), DONE, Sleep(1)]) == [CREATED, Sleep(1), Settle(), DONE, Sleep(1)]
    assert settled([CREATED]) == [CREATED, Settle()]


def test_an_event_is_found_by_its_properties() -> None:
    assert index_of([Sleep(1), CREATED, DELTA, DONE]) == 1
    assert index_of([CREATED, DELTA, DONE], output=True) == 1
    assert index_of([CREATED], terminal=True) is None


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1011, 1014, 3000, 4402, 4999])
def test_a_close_code_that_can_be_sent_is_taken(code: int) -> None:
    check_close_code(code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2000, 5000])
def test_a_close_code_that_cannot_be_sent_is_refused_with_what_can(code: int) -> None:
    with pytest.raises(ValueError, match="allowed are 1000-1003"):
        check_close_code(code)


def test_an_event_is_encoded_for_its_way() -> None:
    data = b'{"type":"error"}'
    assert Emit(data).encoded() == frame(data)
    assert Emit(data, "event").encoded() == b"25\r\nevent: error\ndata: " + data + b"\n\n\r\n"
    assert Emit(data, "document").encoded() == b"10\r\n" + data + b"\r\n"
