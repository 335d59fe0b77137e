"""The incremental reader, fed by hand."""

from __future__ import annotations

import os
import struct

import pytest
from websocket import ABNF

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.frames import FRAGMENT, MessageReader
from pixir_actors.transport.frames import frame as client_frame
from tests.transport.peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_frame, frame, text

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
    found = []
    while (item := reader.next()) is not None:
        found.append(item)
    return found


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
    reader.feed(text(b"x" * 500_000) + b"\x81")
    assert len(items(reader)) == 1
    assert reader.unread() == 1
    assert len(reader._data) == 1


def test_a_client_frame_is_masked_with_a_new_key_each_time() -> None:
    frames = {client_frame(TEXT, b"same") for _ in range(8)}
    assert len(frames) == 8
    for data in frames:
        assert data[:2] == b"\x81\x84"
        assert bytes(a ^ b for a, b in zip(data[2:6], data[6:], strict=True)) == b"same"


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 65535, 65536, 65537, 131073, 300_000])
def test_a_client_frame_is_what_websocket_client_would_build(size: int) -> None:
    payload = os.urandom(size)
    data = client_frame(PING, payload)
    key = data[-size - 4 : len(data) - size]
    built = ABNF.create_frame(payload, PING)
    built.get_mask_key = lambda _: key
    assert data == built.format()
