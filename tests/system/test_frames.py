"""Frames from strangers: signed or refused, read strictly, and never kept before their length is known to be ours."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pixir_actors.system import frames
from pixir_actors.system.frames import SEAL_BYTES, Refused, Signer, StrictReceiveBuffer
from pixir_actors.system.refusals import refusals

KEY = b"k" * 32
OTHER_KEY = b"o" * 32


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def framed(frame: bytes) -> bytes:
    return b"%d>%s" % (len(frame), frame)


def received(wire: bytes, *, chunk: int = 1 << 20) -> StrictReceiveBuffer:
    """Feed a buffer as a socket would."""
    buffer = StrictReceiveBuffer(Signer(KEY))
    for start in range(0, len(wire), chunk):
        assert not buffer.isDone() or start >= len(wire) - chunk
        buffer.addMore(wire[start : start + chunk])
    return buffer


def test_a_message_comes_back_as_it_was() -> None:
    assert Signer(KEY).loads(Signer(KEY).dumps({"a": [1, b"2"]})) == {"a": [1, b"2"]}


@pytest.mark.parametrize(
    "forge",
    [
        lambda good, bomb: Signer(OTHER_KEY).dumps(bomb),
        lambda good, bomb: pickle.dumps(bomb),
        lambda good, bomb: good[:48] + pickle.dumps(bomb),
        lambda good, bomb: bytes(48) + pickle.dumps(bomb),
        lambda good, bomb: good[:-1] + bytes([good[-1] ^ 1]),
        lambda good, bomb: good[:47],
        lambda good, bomb: b"",
    ],
    ids=["another key", "unsigned", "another's signature", "zeros", "damaged", "cut", "empty"],
)
def test_what_is_not_signed_is_refused_before_it_is_unpickled(forge, tmp_path: Path) -> None:
    forged = forge(Signer(KEY).dumps("good"), Bomb(tmp_path / "executed"))

    with pytest.raises(Refused):
        Signer(KEY).loads(forged)
    assert not (tmp_path / "executed").exists()


def test_a_key_is_never_shown_and_never_short() -> None:
    assert "kkk" not in repr(Signer(KEY))
    with pytest.raises(ValueError, match="16 bytes"):
        Signer(b"short")


def test_a_message_that_everybody_would_refuse_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1000)

    Signer(KEY).dumps(b"x" * 900)
    with pytest.raises(ValueError, match="may have 1000 bytes"):
        Signer(KEY).dumps(b"x" * 1000)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("message", ["", "short", b"x" * 5000])
def test_a_frame_is_read_however_it_is_cut(message: object, chunk: int) -> None:
    buffer = received(framed(Signer(KEY).dumps(message)), chunk=chunk)

    assert buffer.isDone()
    assert buffer.remainingAmount() == 0
    assert buffer.completed() == (message, b"")


def test_what_follows_a_frame_is_kept_apart() -> None:
    buffer = received(framed(Signer(KEY).dumps("one")) + b"rest")
    assert buffer.completed() == ("one", b"rest")

    buffer.removeExtra()
    assert buffer.completed() == ("one", b"")


def test_an_unfinished_frame_says_what_is_missing() -> None:
    wire = framed(Signer(KEY).dumps("one"))

    nothing, length, most = received(b""), received(wire[:2]), received(wire[:-3])

    assert nothing.is_empty() and not length.is_empty() and not most.is_empty()
    assert [b.isDone() for b in (nothing, length, most)] == [False] * 3
    assert [b.completed() for b in (nothing, length, most)] == [None] * 3
    assert [b.remainingAmount() for b in (nothing, length, most)] == [frames.FIRST_READ_BYTES] * 2 + [3]


BAD_FRAMES = [
    b"-5>" + b"x" * 100,
    b"+50>" + b"x" * 100,
    b" 50>" + b"x" * 100,
    b"5_0>" + b"x" * 100,
    "\N{ARABIC-INDIC DIGIT FIVE}0>".encode() + b"x" * 100,
    b">" + b"x" * 100,
    b"0>",
    b"48>" + b"x" * 100,
    b"%d>" % (frames.MAX_FRAME_BYTES + 1),
    b"9" * 10,
    b"9" * 5000,
    b"0" * 5000 + b"50>",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    bytes(range(256)),
]


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize("wire", BAD_FRAMES, ids=lambda wire: repr(wire[:12]))
def test_a_bad_length_ends_the_frame_and_counts_once(wire: bytes, chunk: int) -> None:
    before = refusals()

    buffer = StrictReceiveBuffer(Signer(KEY))
    for start in range(0, len(wire), chunk):
        buffer.addMore(wire[start : start + chunk])

    assert buffer.isDone()
    assert buffer.completed() is None
    assert refusals() == before + 1


def test_a_bad_signature_counts_once_however_often_it_is_looked_at() -> None:
    before = refusals()

    buffer = received(framed(Signer(OTHER_KEY).dumps("one")))

    assert buffer.isDone()
    assert [buffer.completed(), buffer.completed()] == [None, None]
    assert refusals() == before + 1


@pytest.mark.parametrize(
    "seal",
    [
        lambda size: Signer(OTHER_KEY).seal(size),
        lambda size: Signer(KEY).seal(size - 1),
        lambda size: Signer(KEY).dumps("any message")[16:32],
        lambda size: bytes(16),
    ],
    ids=["another key", "another length", "a signature", "zeros"],
)
def test_a_length_that_nobody_of_this_system_gave_is_refused_before_anything_is_kept(seal) -> None:
    size, before = 100_000_000, refusals()
    buffer = received(b"%d>%s" % (size, seal(size)[:-1]))
    assert not buffer.isDone()

    buffer.addMore(seal(size)[-1:] + b"x" * 60_000)

    assert buffer.isDone()
    assert buffer.completed() is None
    assert len(buffer._body) + len(buffer._extra) == 0
    assert refusals() == before + 1


def test_a_length_that_is_ours_is_read_to_its_end_and_its_signature_still_counts(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    size = SEAL_BYTES + frames.TAG_BYTES + len(bomb)
    buffer = received(b"%d>%s" % (size, Signer(KEY).seal(size) + bytes(frames.TAG_BYTES) + bomb))

    assert len(buffer._body) == size
    assert buffer.completed() is None
    assert not (tmp_path / "executed").exists()


def test_a_seal_tells_nothing_about_the_signature() -> None:
    signer = Signer(KEY)
    frame = signer.dumps("message")
    assert signer.seal(len(frame)) == frame[:SEAL_BYTES]
    assert len({signer.seal(size) for size in range(1000)}) == 1000
