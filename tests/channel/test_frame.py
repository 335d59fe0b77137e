"""The frames of the event channel: every cut of the bytes gives the same frames, and strangers are refused."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixir_actors.channel import frame as frames
from pixir_actors.channel.frame import (
    HEADER_BYTES,
    ChannelProtocolError,
    Decoder,
    Frame,
    FrameType,
    encode,
    encode_events,
    header,
)
from pixir_actors.core.server_event import Tag
from pixir_actors.errors import Delivery, ErrorCode, Failure
from tests.conftest import within

CANARY = "sk-canary-1234"
STREAM = [
    Frame(FrameType.HELLO, 0, 0, b"hello"),
    Frame(FrameType.QUEUED, 0, 7, b""),
    Frame(FrameType.DATA, Tag.TEXT_DELTA, 7, b'{"type":"response.output_text.delta"}'),
    Frame(FrameType.DATA, Tag.TERMINAL, 2**64 - 1, b"x" * 300),
    Frame(FrameType.FINISHED, 0, 7, b""),
    Frame(FrameType.GOODBYE, 0, 0, b""),
]
BYTES = b"".join(map(encode, STREAM))

about_requests = st.builds(
    Frame,
    st.integers(FrameType.QUEUED, FrameType.FAILED),
    st.integers(0, 255),
    st.integers(1, 2**64 - 1),
    st.binary(max_size=50),
)
about_channels = st.builds(
    Frame, st.sampled_from([FrameType.HELLO, FrameType.GOODBYE]), st.just(0), st.just(0), st.binary(max_size=50)
)


def test_every_cut_in_two_gives_the_same_frames() -> None:
    for cut in range(len(BYTES) + 1):
        decoder = Decoder()

        assert decoder.feed(BYTES[:cut]) + decoder.feed(BYTES[cut:]) == STREAM, f"cut at {cut}"


def test_single_bytes_give_the_same_frames() -> None:
    decoder = Decoder()

    assert [frame for byte in BYTES for frame in decoder.feed(bytes([byte]))] == STREAM


@given(st.lists(about_requests | about_channels, max_size=8), st.lists(st.integers(0, 600), max_size=8))
def test_any_frames_survive_any_cuts(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    decoder, received = Decoder(), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in pairwise(edges):
        received += decoder.feed(data[start:stop])

    assert received == sent
    assert all(isinstance(frame, Frame) for frame in received)


def test_a_frame_comes_out_with_its_last_byte() -> None:
    decoder = Decoder()
    assert decoder.feed(BYTES[:18]) == []

    assert decoder.feed(BYTES[18:19]) == STREAM[:1]


def test_the_header_is_fourteen_bytes_in_network_order() -> None:
    assert encode(Frame(FrameType.DATA, 2, 0x0102030405060708, b"ab")) == (
        b"\0\0\0\x02\x07\x02\x01\x02\x03\x04\x05\x06\x07\x08ab"
    )


def test_a_large_frame_in_small_pieces_costs_linear_time() -> None:
    data = encode(Frame(FrameType.DATA, 0, 1, bytes(16 * 1024 * 1024)))
    decoder, received = Decoder(), []

    began = time.process_time()
    for start in range(0, len(data), 2048):
        received += decoder.feed(data[start : start + 2048])

    assert len(received[0].payload) == 16 * 1024 * 1024
    assert time.process_time() - began < within(2)  # quadratic: 64 GiB copied


def test_many_small_frames_at_once_cost_linear_time() -> None:
    data = encode(Frame(FrameType.DATA, 0, 1, b"delta")) * 200_000

    began = time.process_time()

    assert len(Decoder().feed(data)) == 200_000
    assert time.process_time() - began < within(2)  # quadratic: 380 GB copied


@pytest.mark.parametrize(
    ("type", "request_id"),
    [(0, 0), (0, 1), (10, 1), (255, 1), (FrameType.HELLO, 1), (FrameType.GOODBYE, 1), (FrameType.DATA, 0)],
)
def test_a_type_that_is_unknown_or_does_not_go_with_its_request_is_refused(type: int, request_id: int) -> None:
    with pytest.raises(ChannelProtocolError, match=f"type {type} for request {request_id}"):
        Decoder().feed(encode(Frame(type, 0, request_id, b"")))


def test_a_frame_that_is_too_long_is_refused_by_its_header() -> None:
    header = encode(Frame(FrameType.DATA, 0, 1, bytes(101)))[:14]

    with pytest.raises(ChannelProtocolError, match="101 bytes; the limit is 100"):
        Decoder(max_payload=100).feed(header)


def test_a_frame_as_long_as_the_limit_is_taken() -> None:
    assert len(Decoder(max_payload=100).feed(encode(Frame(FrameType.DATA, 0, 1, bytes(100))))) == 1


def test_the_error_holds_the_frames_before_the_fault() -> None:
    with pytest.raises(ChannelProtocolError) as caught:
        Decoder().feed(BYTES + bytes(14) + BYTES)

    assert caught.value.frames == STREAM


def test_a_failed_decoder_stays_failed() -> None:
    decoder = Decoder()
    with pytest.raises(ChannelProtocolError):
        decoder.feed(BYTES + bytes(14))

    with pytest.raises(ChannelProtocolError) as caught:
        decoder.feed(BYTES)

    assert caught.value.frames == []


def test_a_repr_and_an_error_do_not_show_a_payload() -> None:
    frame = Frame(FrameType.DATA, 1, 3, CANARY.encode())
    with pytest.raises(ChannelProtocolError) as caught:
        Decoder().feed(encode(frame) + CANARY.encode() + BYTES)

    assert repr(frame) == "Frame(DATA, kind=1, request_id=3, <14 bytes>)"
    assert CANARY not in repr(caught.value) + str(caught.value)
    assert repr(Frame(99, 0, 3, b"")) == "Frame(99, kind=0, request_id=3, <0 bytes>)"


def test_a_payload_beyond_four_gigabytes_cannot_be_encoded() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**32

    with pytest.raises(struct.error):
        encode(Frame(FrameType.DATA, 0, 1, Huge()))


# The greeting.


def test_a_greeting_names_the_connection() -> None:
    (frame,) = Decoder().feed(frames.hello("connection-ä"))

    assert frames.hello_from(frame) == "connection-ä"


@pytest.mark.parametrize("name", ["", "x" * 256, "ä" * 128])
def test_a_connection_id_has_1_to_255_bytes(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        frames.hello(name)


GREETING = frames.hello("c")[14:]


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (Frame(FrameType.GOODBYE, 0, 0, GREETING), "does not begin with a greeting"),
        (Frame(FrameType.HELLO, 0, 0, b""), "does not begin with a greeting"),
        (Frame(FrameType.HELLO, 0, 0, GREETING[:-1]), "does not begin with a greeting"),
        (Frame(FrameType.HELLO, 0, 0, GREETING + bytes(255)), "does not begin with a greeting"),
        (Frame(FrameType.HELLO, 0, 0, b"P" + GREETING[1:]), "not that of an event channel"),
        (Frame(FrameType.HELLO, 0, 0, GREETING[:8] + b"\0\x03c"), "version 3 of the channel, this side 2"),
        (Frame(FrameType.HELLO, 0, 0, GREETING[:10] + b"\xff"), "not UTF-8"),
    ],
)
def test_what_is_no_greeting_of_this_version_is_refused(frame: Frame, problem: str) -> None:
    with pytest.raises(ChannelProtocolError, match=problem):
        frames.hello_from(frame)


# Payloads.

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=8,
)
names = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.sampled_from(ErrorCode),
    st.sampled_from(Delivery),
    st.none() | st.floats(0, 1e6),
    st.dictionaries(names, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names),
    st.none() | st.dictionaries(names, json),
)
def test_a_failure_survives_the_way(code, delivery, retry_after, details, error) -> None:
    failure = Failure(
        code=code, delivery=delivery, retryable=True, retry_after=retry_after, details=details, status=429, error=error
    )

    assert frames.failure_from(frames.failure_payload(failure)) == failure


def test_the_codes_of_a_failure_are_enumerations_again() -> None:
    failure = frames.failure_from(frames.failure_payload(Failure.of(ErrorCode.CANCELLED, Delivery.NOT_SENT, n=1)))

    assert (type(failure.code), type(failure.delivery)) == (ErrorCode, Delivery)


@pytest.mark.parametrize("payload", [b"", CANARY.encode(), b"[]", b"{}", b'{"code": "nonsense"}', b"\xff"])
def test_what_is_no_failure_is_refused_without_quoting_it(payload: bytes) -> None:
    with pytest.raises(ChannelProtocolError) as caught:
        frames.failure_from(payload)

    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@given(st.dictionaries(names, json))
def test_metadata_survives_the_way(values: dict[str, object]) -> None:
    assert frames.metadata_from(frames.metadata_payload(values)) == values


def test_a_status_survives_the_way() -> None:
    assert frames.status_from(frames.status_payload(200)) == 200


@pytest.mark.parametrize("payload", [b"", b"true", b'"200"', b"20.5"])
def test_what_is_no_status_is_refused(payload: bytes) -> None:
    with pytest.raises(ChannelProtocolError):
        frames.status_from(payload)


# The way to a connection.


def to_connection(*sent: Frame, limit: int = 1000) -> list[Frame]:
    return Decoder(limit, to_connection=True).feed(b"".join(map(encode, sent)))


def test_each_way_has_its_own_frames() -> None:
    greeting = Frame(FrameType.HELLO, 0, 0, b"")
    there = [Frame(FrameType.SUBMIT, 0, 1, b"{}"), Frame(FrameType.CANCEL, 1, 1, b"")]
    back = [Frame(kind, 0, 1, b"") for kind in FrameType if FrameType.QUEUED <= kind <= FrameType.FAILED]

    assert to_connection(greeting, *there) == [greeting, *there]
    assert Decoder().feed(b"".join(map(encode, [greeting, *back]))) == [greeting, *back]
    for frame in there:
        with pytest.raises(ChannelProtocolError, match="not of this protocol"):
            Decoder().feed(encode(frame))
    for frame in back:
        with pytest.raises(ChannelProtocolError, match="not of this protocol"):
            to_connection(frame)


@pytest.mark.parametrize("kind", [FrameType.SUBMIT, FrameType.CANCEL, 12, 255])
def test_no_request_has_the_number_of_the_channel(kind: int) -> None:
    with pytest.raises(ChannelProtocolError):
        to_connection(Frame(kind, 0, 0, b""))


def test_a_greeting_that_is_too_long_is_refused_by_its_header() -> None:
    """A peer that has not greeted yet must not have anything kept for it."""
    for decoder in (Decoder(), Decoder(to_connection=True)):
        with pytest.raises(ChannelProtocolError):
            decoder.feed(encode(Frame(FrameType.HELLO, 0, 0, bytes(500)))[:HEADER_BYTES])


def test_a_header_and_a_payload_of_its_size_are_a_frame() -> None:
    assert header(FrameType.SUBMIT, 7, 400) + b"body" * 100 == encode(Frame(FrameType.SUBMIT, 0, 7, b"body" * 100))
    assert header(FrameType.SUBMIT, 2**64 - 1, 0) == encode(Frame(FrameType.SUBMIT, 0, 2**64 - 1, b""))


def test_events_are_encoded_as_frames_one_by_one() -> None:
    events = [(1, b"a"), (0, b""), (3, b"end" * 100)]

    assert encode_events(7, events) == b"".join(encode(Frame(FrameType.DATA, kind, 7, raw)) for kind, raw in events)
    assert encode_events(7, []) == b""


def test_a_decoder_says_how_much_is_missing_of_what_has_begun() -> None:
    decoder, sent = Decoder(), encode(Frame(FrameType.DATA, 0, 1, b"x" * 100))
    assert decoder.missing == 0
    decoder.feed(sent + sent[:5])
    assert decoder.missing == HEADER_BYTES - 5
    decoder.feed(sent[5:HEADER_BYTES])
    assert decoder.missing == 100
    decoder.feed(sent[HEADER_BYTES:-1])
    assert decoder.missing == 1
    decoder.feed(sent[-1:])
    assert decoder.missing == 0


# Large frames to a connection.

SENT = [
    Frame(FrameType.SUBMIT, 0, 1, b"small"),
    Frame(FrameType.SUBMIT, 3, 2, bytes(range(256)) * 300),
    Frame(FrameType.CANCEL, 1, 2, b""),
    Frame(FrameType.SUBMIT, 0, 3, b"x" * 65_537),
    Frame(FrameType.SUBMIT, 0, 4, b"y" * 65_536),
]


def read_from(sent: bytes, sizes: Iterable[int]) -> list[Frame]:
    """Read as a connection does: to its place what belongs there, at most so many bytes at once."""
    decoder, frames, at = Decoder(10**6, to_connection=True), [], 0
    for size in sizes:
        room = decoder.room
        if room:
            count = min(len(room), size, len(sent) - at)
            room[:count] = sent[at : at + count]
            room.release()
            frames += decoder.filled(count)
        else:
            count = min(size, 65_536, len(sent) - at)
            frames += decoder.feed(sent[at : at + count])
        at += count
        assert decoder.missing >= 0
        assert not decoder.missing or at < len(sent)
    assert at == len(sent)
    return frames


@pytest.mark.parametrize("size", [9_999, 65_536, 10**6])
def test_large_frames_are_read_to_their_places(size: int) -> None:
    read = read_from(b"".join(map(encode, SENT)), [size] * 60)

    assert read == SENT
    assert [type(frame.payload) for frame in read] == [bytes, bytearray, bytes, bytearray, bytes]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1))
def test_whatever_the_cuts(sizes: list[int]) -> None:
    sent = b"".join(map(encode, SENT))

    assert read_from(sent, [*sizes, *[65_536] * 10]) == SENT
    decoder, frames, at = Decoder(10**6, to_connection=True), [], 0
    for size in [*sizes, len(sent)]:  # and fed, not read: what is the next frame's goes to that
        frames += decoder.feed(sent[at : at + size])
        at += size
    assert frames == SENT


def test_there_is_room_for_nothing_but_the_rest_of_a_large_frame() -> None:
    decoder = Decoder(10**6, to_connection=True)
    assert not decoder.room
    decoder.feed(encode(SENT[1])[:1000])
    assert (len(decoder.room), decoder.missing) == (len(SENT[1].payload) - 1000 + HEADER_BYTES,) * 2

    to_client = Decoder(10**6)
    to_client.feed(encode(Frame(FrameType.DATA, 0, 1, bytes(100_000)))[:50_000])
    assert not to_client.room
    assert to_client.missing == HEADER_BYTES + 50_000


def test_behind_a_large_frame_nothing_is_missing() -> None:
    decoder, sent = Decoder(10**6, to_connection=True), encode(SENT[1])
    assert decoder.feed(sent[:1000]) == []
    room = decoder.room
    room[:] = sent[1000:]
    room.release()

    assert decoder.filled(len(sent) - 1000) == [SENT[1]]
    assert decoder.missing == 0


def test_a_frame_beyond_the_limit_takes_no_room() -> None:
    decoder = Decoder(100_000, to_connection=True)
    with pytest.raises(ChannelProtocolError):
        decoder.feed(header(FrameType.SUBMIT, 1, 100_001))
    assert not decoder.room
