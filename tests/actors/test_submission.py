"""A request as it travels over the event channel."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixir_actors.actors import submission as module
from pixir_actors.actors.messages import Submit
from pixir_actors.actors.submission import submission_frame, submission_from
from pixir_actors.channel.frame import HEADER_BYTES, Decoder, Frame, FrameType
from pixir_actors.core.secret import Secret
from pixir_actors.core.state import Purpose
from pixir_actors.errors import InvalidRequest
from pixir_actors.settings import ALLOWED, Settings
from tests.actors.fakes import submit

CANARY = "sk-canary-1234"
LENGTHS = 8

OTHERS: dict[str, Any] = {
    name: value + 1 if type(value) is int else 7.25
    for name, value in ((name, getattr(Settings(), name)) for name in ALLOWED)
    if type(value) in (int, float)
} | {
    "queue_timeout": 0.001,
    "timeout": 3,
    "idle_timeout": None,
    "max_connection_age": 3300.0,
    "ca_file": "/päth/ca.pem",
    "allow_plaintext": True,
    "identity": "me \N{SNOWMAN} \U0001f600",
    "transport": "http",
    "retry_ambiguous": True,
    "expose_keys": True,
}
"""A value for each option that is not its default; a proxy travels by itself."""


def frame_of(made: Submit) -> Frame:
    encoded = submission_frame(made)
    assert encoded is not None
    [frame] = Decoder(to_connection=True).feed(b"".join(encoded))
    return frame


def again(made: Submit) -> Submit:
    frame = frame_of(made)
    assert frame.type == FrameType.SUBMIT
    return submission_from(frame.payload, request_id=frame.request_id, channel="/channel")


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("proxy", [None, "http://user:päss@proxy:1/"])
@pytest.mark.parametrize("options", [{}, OTHERS], ids=["defaults", "others"])
def test_every_field_survives_the_way(purpose: Purpose, proxy: str | None, options: dict[str, Any]) -> None:
    made = replace(
        submit(2**64 - 1, **options), proxy=None if proxy is None else Secret(proxy), purpose=purpose, channel="/channel"
    )

    assert again(made) == made


def test_the_options_of_this_test_are_all_there_are() -> None:
    defaults = Settings()
    assert set(OTHERS) | {"proxy"} == set(ALLOWED)
    assert all(getattr(defaults, name) != value for name, value in OTHERS.items())


def test_the_channel_is_the_one_that_it_came_over() -> None:
    made = replace(submit(1), channel="/another")

    assert again(made).channel == "/channel"


header = st.tuples(st.text(max_size=20), st.text(st.characters(max_codepoint=0xFF), max_size=40))


@given(
    headers=st.lists(header).map(tuple),
    key=st.text(st.characters(exclude_categories=["Cs"])),
    body=st.binary(max_size=300),
)
def test_headers_keys_and_bodies_survive_whatever_they_are(
    headers: tuple[tuple[str, str], ...], key: str, body: bytes
) -> None:
    """Twice the same name, none at all, quotes, every byte of latin-1: their order and their case are the caller's."""
    made = replace(submit(1), headers=Secret(headers), key=Secret(key), body=Secret(body), channel="/channel")

    assert again(made) == made


def test_a_large_body_travels_as_it_is() -> None:
    body = bytes(range(256)) * 60_000
    made = replace(submit(1), body=Secret(body))
    encoded = submission_frame(made)

    assert encoded is not None
    assert encoded[1] is body
    assert len(encoded[0]) < 2000
    assert again(made).body.reveal() == body


def test_the_place_that_a_large_frame_was_read_to_becomes_its_body() -> None:
    made = replace(submit(1), body=Secret(b'{"n":1}' * 20_000), channel="/channel")
    place = bytearray(frame_of(made).payload)

    taken = submission_from(place, request_id=1, channel="/channel")

    assert taken.body.reveal() is place
    assert replace(taken, body=Secret(bytes(place))) == made


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_of_what_is_malformed_nothing_is_left(kind: type[bytes | bytearray]) -> None:
    for payload in (b"", b"\0\0\0\2\0\0\0\2[]{}", b"\0\0\0\1\0\0\0\1xx" + bytes(70_000)):
        with pytest.raises(InvalidRequest):
            submission_from(kind(payload), request_id=1, channel="/channel")


class Subclass(float):
    """As numpy's numbers are."""


@pytest.mark.parametrize(
    "fields",
    [
        {"url": Secret("ws://host/\udc80")},
        {"proxy": Secret("http://\udc80/")},
        {"settings": Settings(ca_file="/t\udc80/ca.pem")},
        {"settings": Settings(timeout=Subclass(3.5))},
    ],
    ids=["url", "proxy", "path", "number"],
)
def test_what_json_cannot_say_is_left_to_a_message(fields: dict[str, Any]) -> None:
    """A file's name need not be Unicode; Python has such bytes as halves of surrogate pairs."""
    module._settings_payload.cache_clear()

    assert submission_frame(replace(submit(1), **fields)) is None


def test_settings_are_read_once_and_those_that_differ_are_told_apart() -> None:
    module._settings_from.cache_clear()
    one, same, other = again(submit(1)), again(submit(2)), again(submit(3, timeout=5.0))

    assert one.settings is same.settings
    assert one.settings == Settings()
    assert other.settings == Settings(timeout=5.0)
    assert module._settings_from.cache_info().misses == 2


def test_settings_that_compare_equal_are_the_same_on_the_other_side() -> None:
    for timeout in (3, 3.0, 4):
        assert again(submit(1, timeout=timeout)).settings.timeout == timeout


def test_only_so_many_settings_are_kept() -> None:
    for number in range(1, 200):
        again(submit(1, timeout=float(number)))

    assert module._settings_from.cache_info().currsize <= 64
    assert module._settings_payload.cache_info().currsize <= 64


DEFAULTS = Settings()
GOOD = ["key", "ws://host/", [["a", CANARY]], None, "run"]


def payload(head: Any = GOOD, settings: Any = DEFAULTS, beyond: int = 0) -> bytes:
    """Return a payload, of JSON values or of bytes as they are; its settings end so far beyond where they do."""
    parts = [part if isinstance(part, bytes) else orjson.dumps(part) for part in (head, settings)]
    lengths = [len(parts[0]), len(parts[1]) + beyond]
    return b"".join(length.to_bytes(4, "big") for length in lengths) + b"".join(parts) + b"{}"


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "half the lengths": b"\0\0\0",
    "no head": bytes(LENGTHS),
    "a head that is too short": payload(head=GOOD[:4]),
    "a head that is too long": payload(head=[*GOOD, CANARY]),
    "a head that is an object": payload(head={"key": CANARY}),
    "a head that is a number": payload(head=1),
    "a head that is no JSON": payload(head=b'["' + CANARY.encode()),
    "a head that is not UTF-8": payload(head=b'["\xff' + CANARY.encode() + b'"]'),
    "a head that is deep": payload(head=b"[" * 5000 + b"]" * 5000),
    "settings that go on into the body": payload(beyond=1),
    "lengths beyond the end": b"\xff" * LENGTHS + CANARY.encode(),
    "headers that are a number": payload(head=["key", CANARY, 1, None, "run"]),
    "headers that are no pairs": payload(head=["key", CANARY, [["a", "b", "c"]], None, "run"]),
    "a purpose that there is not": payload(head=[*GOOD[:4], CANARY]),
    "a purpose that is a list": payload(head=[*GOOD[:4], [CANARY]]),
    "settings that are a list": payload(settings=[CANARY]),
    "settings that are null": payload(settings=b"null"),
    "settings that are no JSON": payload(settings=CANARY.encode()),
    "a setting that there is not": payload(settings={CANARY: 1}),
    "a setting out of range": payload(settings={"timeout": -1, "identity": CANARY}),
    "a setting of another type": payload(settings={"identity": [CANARY]}),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_request_is_refused_without_repeating_anything(case: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        submission_from(MALFORMED[case], request_id=1, channel="/channel")

    assert caught.value.field == "Submit"
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in told
    assert caught.value.__suppress_context__


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 400))
def test_no_noise_gets_anything_but_a_refusal(noise: bytes, head: int, cut: int) -> None:
    good = frame_of(submit(1)).payload
    for strange in (noise, head.to_bytes(4, "big") + good[4:], good[:cut] + noise + good[cut + len(noise) :]):
        try:
            made = submission_from(strange, request_id=1, channel="/channel")
        except InvalidRequest:
            continue
        assert isinstance(made, Submit)


def test_a_frame_of_a_request_does_not_show_it() -> None:
    made = replace(submit(1), headers=Secret((("a", CANARY),)))
    frame = frame_of(made)

    assert CANARY.encode() in frame.payload
    assert CANARY not in repr(frame)
    assert CANARY not in repr(again(made))
    assert len(frame.payload) + HEADER_BYTES > len(made.body.reveal())
