"""What is written in one process and read in another."""

from __future__ import annotations

import gc
import os
import struct
from collections.abc import Iterator

import pytest

from pixir_actors.actors import board as module
from pixir_actors.actors.board import SLOT_BYTES, Board, Slot, slot_at
from tests.actors.fakes import FACTS

TOLD = FACTS._replace(state="streaming", model="gpt-5.5", host="api.example:8443", running=True, opened_at=1.5)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def slot(board: Board) -> Slot:
    return taken(board)


def taken(board: Board) -> Slot:
    slot = board.take()
    assert slot is not None
    return slot


def test_what_was_written_last_is_read(slot: Slot) -> None:
    assert slot.read() is None
    for facts in (TOLD, FACTS, TOLD):
        slot.write(facts)
        assert slot.read() == facts


def test_it_is_read_in_the_process_that_was_forked_from(slot: Slot) -> None:
    child = os.fork()
    if child == 0:
        theirs = slot_at(slot.board, slot.number)
        if theirs is not None:
            theirs.write(TOLD)
        os._exit(0)
    os.waitpid(child, 0)

    assert slot.read() == TOLD


def test_each_connection_has_a_slot_of_its_own(board: Board) -> None:
    slots = [taken(board) for _ in range(5)]
    for number, slot in enumerate(slots):
        slot.write(FACTS._replace(queue_length=number, model="m" * 2000))
    facts = [slot.read() for slot in slots]

    assert [one.queue_length for one in facts if one is not None] == [0, 1, 2, 3, 4]


def test_one_that_is_given_back_is_empty_for_the_next(board: Board, slot: Slot) -> None:
    slot.write(TOLD)
    board.give_back(slot)
    again = taken(board)

    assert again.number == slot.number
    assert again.read() is None


def test_there_is_an_end_to_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", 2)
    board = Board()
    slots = [board.take() for _ in range(3)]

    assert [slot is None for slot in slots] == [False, False, True]
    assert slots[0] is not None
    board.give_back(slots[0])
    assert taken(board).number == slots[0].number


@pytest.mark.parametrize("text", ["m" * 2000, "\x00" * 200, "\N{GRINNING FACE}" * 300])
def test_a_text_that_has_no_room_is_left_out_and_nothing_else(slot: Slot, text: str) -> None:
    slot.write(TOLD._replace(model=text))

    assert slot.read() == TOLD._replace(model=None, host=None)


@pytest.mark.parametrize("at", range(0, 60, 3))
def test_a_record_that_was_cut_off_is_not_read(board: Board, slot: Slot, at: int) -> None:
    """A kill may come between any two bytes; what stood there before was another record."""
    memory, start = module._MEMORY[slot.board], slot.number * SLOT_BYTES
    slot.write(TOLD)
    written = memory[start : start + SLOT_BYTES]
    slot.write(FACTS._replace(state="idle", queue_length=7, model="other"))
    memory[start : start + at] = written[:at]

    assert slot.read() in (None, TOLD, FACTS._replace(state="idle", queue_length=7, model="other"))


@pytest.mark.parametrize("head", [(SLOT_BYTES * 9, 0), (2**32 - 1, 2**32 - 1), (5, 1)])
def test_nonsense_is_not_read(slot: Slot, head: tuple[int, int]) -> None:
    struct.pack_into("=II", module._MEMORY[slot.board], slot.number * SLOT_BYTES, *head)

    assert slot.read() is None


def test_one_that_is_being_written_is_read_again(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    slot.write(TOLD)
    sums: Iterator[int] = iter([0, 0, module.zlib.crc32(b"")])
    crc32 = module.zlib.crc32
    monkeypatch.setattr(module.zlib, "crc32", lambda payload: next(sums, crc32(payload)))

    assert slot.read() == TOLD


def test_where_the_memory_is_not_shared_there_is_no_slot(board: Board) -> None:
    assert slot_at("of another system", 0) is None
    name = taken(board).board
    assert slot_at(name, 0) is not None

    del board
    gc.collect()


def test_a_board_that_nobody_has_any_more_takes_no_memory() -> None:
    board = Board()
    name = taken(board).board
    assert name in module._MEMORY

    del board
    gc.collect()
    assert name not in module._MEMORY


def test_what_a_process_forks_that_has_its_connections_in_itself_writes_nowhere() -> None:
    board = Board(shared=False)
    slot = taken(board)
    slot.write(FACTS)
    child = os.fork()
    if child == 0:
        slot.write(TOLD)
        os._exit(0)
    os.waitpid(child, 0)

    assert slot.read() == FACTS
