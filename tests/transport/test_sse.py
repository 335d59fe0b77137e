"""Server-sent events: every cut of the bytes gives the same events, and their data is not touched."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.sse import EventReader
from tests.conftest import within

LIMIT = 1000
STREAM = (
    b"\xef\xbb\xbf: hello\n"
    b'event: response.created\r\ndata: {"a":1}\r\n\r\n'
    b'id: 7\rretry: 100\rdata:{"b":2}\r\r'
    b"data: [1,\ndata:2,\ndata\ndata:  3]\n\n"
    b": ping\n\n"
    b"data:\n\n"
    b"data: \n\n"
    b"event: keepalive\n\n"
    b"\n\r\n\r"
    b"database: no\ndata : no\n\n"
    b"data: \xff\xfe\xe2\x80\xa8\xc2\x85\x0b\x0c\x1c\x00\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [b'{"a":1}', b'{"b":2}', b"[1,\n2,\n\n 3]", b"\xff\xfe\xe2\x80\xa8\xc2\x85\x0b\x0c\x1c\x00", b"[DONE]"]


def read(*pieces: bytes, limit: int = LIMIT) -> list[bytes]:
    reader = EventReader(limit)
    return [event for piece in pieces for event in reader.feed(piece)]


def test_fields_line_ends_comments_and_empty_events_are_read_as_the_standard_says() -> None:
    assert read(STREAM) == EVENTS


def test_single_bytes_give_the_same_events() -> None:
    assert read(*(bytes([byte]) for byte in STREAM)) == EVENTS


def test_every_cut_in_two_or_with_an_empty_piece_gives_the_same_events() -> None:
    for cut in range(len(STREAM) + 1):
        assert read(STREAM[:cut], b"", STREAM[cut:]) == EVENTS, f"cut at {cut}"


LINES = st.lists(st.sampled_from([b"data: x", b"data:", b"", b":c", b"data: {}", b"id: 1"]), max_size=12)


@given(LINES, st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=12, max_size=12), st.data())
def test_no_mixture_of_line_ends_depends_on_the_cuts(lines: list[bytes], ends: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert read(*(stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream)]))) == read(stream)


def test_a_byte_order_mark_before_the_first_line_is_none_of_its_field() -> None:
    stream = b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n"
    assert read(stream) == read(*(bytes([byte]) for byte in stream)) == [b"x"]


def test_a_line_feed_after_a_carriage_return_and_its_line_feed_is_a_line_of_its_own() -> None:
    assert read(b"data: x\r", b"\n", b"\n") == read(b"data: x\r\n\n") == [b"x"]


def test_an_event_is_there_with_its_empty_line_and_not_before() -> None:
    reader = EventReader(LIMIT)
    assert list(reader.feed(b"data: x\n")) == []
    assert list(reader.feed(b"\n")) == [b"x"]
    assert list(reader.finish()) == []


@pytest.mark.parametrize("tail", [b"data: last", b"data: last\n", b"data: last\r", b"data: la\ndata: st"])
def test_the_end_completes_an_event_without_its_empty_line(tail: bytes) -> None:
    reader = EventReader(LIMIT)
    assert list(reader.feed(b"data: first\n\n" + tail)) == [b"first"]
    assert [event.replace(b"\n", b"") for event in reader.finish()] == [b"last"]
    assert list(reader.finish()) == []


def test_an_event_as_large_as_the_limit_is_read_in_any_pieces() -> None:
    event = b"x" * LIMIT
    whole = b"data: " + event + b"\n\n"
    assert read(whole) == read(*(bytes([byte]) for byte in whole)) == [event]
    halves = b"data: " + b"x" * (LIMIT // 2) + b"\ndata: " + b"x" * (LIMIT // 2 - 1) + b"\n\n"
    assert len(read(halves)[0]) == LIMIT


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * (LIMIT + 1) + b"\n\n",
        b"data: " + b"x" * (LIMIT + 2),  # without an end
        b"data: xxxx\n" * (LIMIT // 5 + 1) + b"\n",
        b"data:\n" * (LIMIT + 3),  # empty lines cost memory too
        b":" + b"x" * (LIMIT + 10),
    ],
    ids=["line", "endless line", "lines", "empty lines", "comment"],
)
def test_what_is_larger_than_the_limit_is_refused_in_any_pieces(stream: bytes) -> None:
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        reader, read = EventReader(LIMIT), []
        with pytest.raises(Refused) as refused:
            for piece in [b"data: before\n\n", *pieces]:
                for event in reader.feed(piece):
                    read.append(event)
        assert read == [b"before"]
        assert refused.value.fault.code == ErrorCode.WEBSOCKET_FRAME_TOO_LARGE
        assert refused.value.fault.details == {"limit": LIMIT}


def test_the_limit_is_that_of_one_event_not_of_the_stream() -> None:
    assert len(read(b"data: " + b"x" * 900 + b"\n\n", *[b"data: " + b"y" * 900 + b"\n\n"] * 50)) == 51


def test_a_large_event_in_small_pieces_costs_linear_time() -> None:
    reader = EventReader(20_000_000)
    before = time.process_time()
    pieces = [b"data: ", *[b"x" * 800] * 20_000, b"\n\n"]
    assert [len(event) for piece in pieces for event in reader.feed(piece)] == [16_000_000]
    assert time.process_time() - before < within(2)
