"""The incremental reader, fed by hand."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket import ABNF

from pixir_actors.core.text import Piece, Pieces
from pixir_actors.errors import ErrorCode
from pixir_actors.transport import frames
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.frames import FRAGMENT, MessageReader
from pixir_actors.transport.frames import frame as client_frame
from pixir_actors.transport.masking import translated
from tests.transport.peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_frame, frame, text
from tests.transport.reference import FRAMES, LibraryReader

EVERYTHING = (
    text(b"one")
    + frame(TEXT, b"")
    + frame(PING, b"p")
    + frame(TEXT, b"fr", fin=False)
    + frame(PONG, b"q")
    + frame(CONT, b"", fin=False)
    + frame(CONT, b"ag", fin=False)
    + frame(PING, b"")
    + frame(CONT, b"ments")
    + text(b"x" * 126)
    + text(b"y" * 0x10000)
    + frame(TEXT, b"wide", wide=8)
    + close_frame(1001, b"bye")
)
ITEMS = [
    (TEXT, b"one"),
    (TEXT, b""),
    (PING, b"p"),
    (FRAGMENT, b""),
    (PONG, b"q"),
    (FRAGMENT, b""),
    (FRAGMENT, b""),
    (PING, b""),
    (TEXT, b"fragments"),
    (TEXT, b"x" * 126),
    (TEXT, b"y" * 0x10000),
    (TEXT, b"wide"),
    (CLOSE, b"\x03\xe9bye"),
]


def items(reader: MessageReader) -> list[tuple[int, bytes]]:
    """Return all that is there, read both ways as `WebSocketTransport` does."""
    found = []
    while True:
        messages: list[bytes] = []
        assert reader.texts(messages, 100) == len(messages)
        found += [(TEXT, message) for message in messages]
        if (item := reader.next()) is None:
            return found
        found.append(item)


def one_by_one(reader: MessageReader | LibraryReader) -> list[tuple[int, bytes]]:
    return list(iter(reader.next, None))


def refusal(data: bytes, limit: int = 1000) -> tuple[ErrorCode, dict[str, object], int]:
    """Return the fault's code and details, and how many items came before it."""
    reader = MessageReader(limit)
    reader.feed(data)
    count = 0
    with pytest.raises(Refused) as raised:
        while reader.next() is not None:
            count += 1
    return raised.value.fault.code, dict(raised.value.fault.details), count


def test_a_stream_read_whole_gives_every_item() -> None:
    reader = MessageReader(0x10000)
    reader.feed(EVERYTHING)
    assert items(reader) == ITEMS
    assert reader.unread() == 0


def test_a_stream_read_byte_by_byte_gives_the_same_items() -> None:
    reader, found = MessageReader(0x10000), []
    for byte in EVERYTHING:
        reader.feed(bytes([byte]))
        found += items(reader)
    assert found == ITEMS


def test_the_way_that_takes_one_frame_at_a_time_gives_the_same_items() -> None:
    reader = MessageReader(0x10000)
    reader.feed(EVERYTHING)
    assert one_by_one(reader) == ITEMS


def test_every_single_cut_gives_the_same_items() -> None:
    short = EVERYTHING.replace(text(b"y" * 0x10000), b"")
    expected = [item for item in ITEMS if len(item[1]) < 0x10000]
    for cut in range(len(short) + 1):
        reader = MessageReader(1000)
        reader.feed(short[:cut])
        found = items(reader)
        reader.feed(short[cut:])
        assert found + items(reader) == expected, cut


@pytest.mark.parametrize(
    "data",
    [
        frame(CONT, b"no start"),
        frame(TEXT, b"a", fin=False) + text(b"b"),
        frame(TEXT, b"a", fin=False) + frame(BINARY, b"b"),
        frame(TEXT, b"a", rsv=4),
        frame(TEXT, b"a", rsv=2),
        frame(TEXT, b"a", rsv=1),
        frame(TEXT, b"a", mask=True),
        *(frame(opcode, b"a") for opcode in (3, 7, 0xB, 0xF)),
        frame(PING, b"a", fin=False),
        frame(PONG, b"a", fin=False),
        frame(CLOSE, b"", fin=False),
        frame(PING, b"a" * 126),
        frame(PONG, b"a" * 126),
        frame(CLOSE, b"\x03\xe8" + b"a" * 124),
        frame(CLOSE, b"\x03"),
        *(close_frame(code) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)),
    ],
)
def test_a_breach_of_the_protocol_is_refused_after_what_came_before(data: bytes) -> None:
    code, details, before = refusal(text(b"fine") + data)
    assert (code, details) == (ErrorCode.WEBSOCKET_FAILED, {"reason": "protocol_error"})
    assert before >= 1


@pytest.mark.parametrize("data", [frame(BINARY, b"{}"), frame(BINARY, b"{", fin=False), frame(BINARY, b"{}")[:2]])
def test_a_binary_frame_is_refused_by_its_header(data: bytes) -> None:
    assert refusal(data)[:2] == (ErrorCode.WEBSOCKET_FAILED, {"reason": "binary_frame"})


@pytest.mark.parametrize("size", [1001, 0x10000, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_an_oversized_frame_is_refused_by_the_length_it_announces(size: int) -> None:
    wide = b"\x81\x7e" + struct.pack("!H", size) if size < 0x10000 else b"\x81\x7f" + struct.pack("!Q", size)
    expected = (ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"bytes": size, "limit": 1000})
    assert refusal(wide)[:2] == expected


def test_a_message_of_exactly_the_limit_is_taken() -> None:
    reader = MessageReader(1000)
    reader.feed(text(b"x" * 1000) + frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 400))
    assert items(reader) == [(TEXT, b"x" * 1000), (FRAGMENT, b""), (TEXT, b"x" * 1000)]


def test_the_limit_counts_all_fragments_of_a_message_and_starts_anew_with_the_next() -> None:
    assembled = frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 400)
    over = frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 401)[:4]
    expected = (ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"bytes": 1001, "limit": 1000}, 3)
    assert refusal(assembled + over) == expected


def test_what_was_read_is_not_kept() -> None:
    reader = MessageReader(1 << 20)
    reader.feed(text(b"x" * 500_000) + text(b"y" * 1000) + b"\x81")
    assert len(items(reader)) == 2
    assert reader.unread() == 1
    assert reader._data == b"\x81"


def test_whole_messages_are_taken_out_of_a_block_at_once() -> None:
    reader, messages = MessageReader(1000), [b"there already"]
    reader.feed(text(b"x" * 200) * 300 + frame(PING) + text(b"behind"))
    assert reader.texts(messages, 256) == 256
    assert reader.texts(messages, 256) == 44
    assert messages == [b"there already"] + [b"x" * 200] * 300
    assert reader.next() == (PING, b"")
    assert (reader.texts(messages, 0), reader.texts(messages, 1), messages[-1]) == (0, 1, b"behind")


@pytest.mark.parametrize("size", [2, 125, 126, 255, 256, 32767, 32768, 65535])
def test_a_message_of_up_to_64_kb_and_of_just_the_limit_is_taken_at_once(size: int) -> None:
    payload = os.urandom(size)
    for data in (text(payload), frame(TEXT, payload, wide=2)):
        reader, messages = MessageReader(size), list[bytes]()
        reader.feed(data)
        assert reader.texts(messages, 9) == 1
        assert (messages, reader.unread()) == ([payload], 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        text(b"x" * 30)[:-1],
        text(b"x" * 300)[:3],
        text(b"x" * 300)[:-1],
        text(b"x" * 1001),
        text(b"x" * 101),
        frame(TEXT, b"begun", fin=False),
        frame(TEXT, b"masked", mask=True),
        frame(TEXT, b"x" * 150, mask=True),
        frame(TEXT, b"reserved", rsv=4),
        frame(BINARY, b"bytes"),
        frame(PONG, b"pong"),
        close_frame(1000),
    ],
)
def test_what_is_no_whole_message_within_the_limit_is_left_for_the_way_that_judges(data: bytes) -> None:
    reader, messages = MessageReader(1000), list[bytes]()
    reader.feed(text(b"fine") + data)
    reader.limit(100)
    assert reader.texts(messages, 9) == 1
    assert (messages, reader.unread()) == ([b"fine"], len(data))
    assert reader.texts(messages, 9) == 0


def test_a_frame_is_judged_once_by_the_limit_of_when_its_head_was_there() -> None:
    reader = MessageReader(1000)
    reader.feed(text(b"x" * 500)[:100])
    assert items(reader) == []
    reader.limit(10)
    reader.feed(text(b"x" * 500)[100:] + text(b"y" * 11)[:2])
    assert reader.texts([], 9) == 0
    assert reader.next() == (TEXT, b"x" * 500)
    with pytest.raises(Refused):
        reader.next()


def test_a_large_message_in_small_pieces_is_not_copied_for_each_piece() -> None:
    reader, data = MessageReader(1 << 20), text(os.urandom(1 << 20))
    for at in range(0, len(data) - 1000, 1000):
        reader.feed(data[at : at + 1000])
        assert items(reader) == []
        assert reader._data == b"", "what waits here is copied by each piece that comes"
    reader.feed(data[at + 1000 :])
    assert items(reader) == [(TEXT, data[10:])]


def test_a_message_of_one_byte_fragments_takes_little_more_memory_than_its_bytes() -> None:
    reader, count = MessageReader(1 << 20), 50_000
    block = frame(CONT, b"x", fin=False) * 1000
    reader.feed(frame(TEXT, b"", fin=False))
    tracemalloc.start()
    for _ in range(count // 1000):
        reader.feed(block)
        while reader.next() is not None:
            pass
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2 * count
    reader.feed(frame(CONT))
    assert items(reader) == [(TEXT, b"x" * count)]


def test_a_client_frame_is_masked_with_a_new_key_each_time() -> None:
    made = {b"".join(client_frame(TEXT, b"same").chunks) for _ in range(8)}
    assert len(made) == 8
    for data in made:
        assert data[:2] == b"\x81\x84"
        assert bytes(a ^ b for a, b in zip(data[2:6], data[6:], strict=True)) == b"same"


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 65535, 65536, 65537, 131073, 300_000])
def test_a_client_frame_is_what_websocket_client_would_build(size: int) -> None:
    payload = os.urandom(size)
    data = b"".join(client_frame(PING, payload).chunks)
    key = bytes(data[-size - 4 : len(data) - size])
    built = ABNF.create_frame(payload, PING)
    built.get_mask_key = lambda _: key
    assert data == built.format()


CUTS = [[], [0], [1], [3, 3], [65_536], [65_535, 65_537], [1, 2, 3, 131_072], [100_000, 200_000]]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("size", [0, 5, 65_536, 65_539, 300_000])
def test_a_frame_of_a_text_in_pieces_is_that_of_the_text(size: int, cuts: list[int]) -> None:
    """And wherever the pieces are cut, each byte meets its own of the key's four."""
    payload = os.urandom(size)
    parts = [memoryview(payload)[begin:end] for begin, end in pairwise([0, *(min(cut, size) for cut in cuts), size])]

    made = client_frame(TEXT, Pieces(*parts))

    data = b"".join(made.chunks)
    assert len(data) == made.size
    key = data[-size - 4 : len(data) - size]
    assert translated(data[len(data) - size :], key) == payload


def test_a_large_frame_is_masked_piece_by_piece_as_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def masks(payload: Piece, key: bytes) -> bytes:
        sizes.append(len(payload))
        return translated(payload, key)

    monkeypatch.setattr(frames, "masked", masks)
    made = client_frame(TEXT, bytes(1_000_000))
    assert (made.size, sizes) == (1_000_014, [])

    next(made.chunks)
    assert sizes == [65_536]

    assert sum(map(len, made.chunks)) == 1_000_014 - 14 - 65_536
    assert sum(sizes) == 1_000_000


# The reader beside websocket-client's own.

SAID = st.one_of(
    st.binary(max_size=300).map(text),
    st.sampled_from([0, 1, 2, 125, 126, 127, 1000, 1001, 65535, 65536, 70_000]).map(lambda size: text(b"s" * size)),
    st.lists(st.binary(max_size=9), min_size=1, max_size=4).map(lambda parts: fragmented(parts)),
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    FRAMES,
    st.builds(close_frame, st.integers(0, 5001), st.binary(max_size=5)),
    st.binary(max_size=12),
)


def fragmented(parts: list[bytes]) -> bytes:
    """Return one message in several frames, with a ping before each but the first."""
    pieces = [frame(CONT if n else TEXT, part, fin=n == len(parts) - 1) for n, part in enumerate(parts)]
    return frame(PING, b"between").join(pieces)


@settings(max_examples=400, deadline=None)
@given(st.lists(SAID, max_size=12).map(b"".join), st.randoms(use_true_random=False))
def test_any_bytes_in_any_pieces_are_what_websocket_clients_own_reader_finds_in_them(
    data: bytes, chance: random.Random
) -> None:
    ours, theirs = MessageReader(1000), LibraryReader(1000)
    longest = chance.choice([3, 200, len(data) + 1])
    while data:
        cut = chance.randint(1, longest)
        ours.feed(data[:cut])
        theirs.feed(data[:cut])
        data = data[cut:]
        found = read_in_slices(ours, chance.randint(1, 4))
        assert found == expected(theirs)
        if isinstance(found[-1], Fault):
            return
        limit = chance.choice([100, 1000, 1000, 1000, 100_000])
        ours.limit(limit)
        theirs.limit(limit)


def read_in_slices(reader: MessageReader, most: int) -> list[tuple[int, bytes] | Fault | None]:
    """Return what there is up to where more is needed (None) or nothing helps, by slices of so many frames."""
    found: list[tuple[int, bytes] | Fault | None] = []
    messages: list[bytes] = []
    try:
        while True:
            count = reader.texts(messages, most)
            assert 0 <= count <= most
            found += [(TEXT, message) for message in messages[len(messages) - count :]]
            if count < most:
                found.append(reader.next())
                if found[-1] is None:
                    return found
    except Refused as refused:
        return [*found, refused.fault]


def expected(reader: LibraryReader) -> list[tuple[int, bytes] | Fault | None]:
    found: list[tuple[int, bytes] | Fault | None] = []
    try:
        while not found or found[-1] is not None:
            found.append(reader.next())
    except Refused as refused:
        found.append(refused.fault)
    return found
