"""A text in pieces: the same as if it had been joined, wherever one can look."""

from __future__ import annotations

import copy
import pickle

import pytest

from pixir_actors.core.text import Piece, Pieces, Text, is_large, parts_of, spliced

LARGE = 64 * 1024


def test_a_large_text_stays_in_the_pieces_it_was_put_together_of() -> None:
    front, back = bytes(LARGE), bytearray(b"back")

    text = spliced(front, back)

    assert [part is whole for part, whole in zip(parts_of(text), (front, back), strict=True)] == [True, True]
    assert (len(text), bytes(text)) == (LARGE + 4, front + back)


@pytest.mark.parametrize(("size", "large"), [(0, False), (LARGE - 1, False), (LARGE, True)])
def test_a_text_is_joined_up_to_64_kb(size: int, large: bool) -> None:
    text = spliced(memoryview(bytes(size)), b"")

    assert isinstance(text, Pieces) is is_large(size) is large
    assert bytes(text) == bytes(size)


@pytest.mark.parametrize("text", [b"text", bytearray(b"text")])
def test_what_is_whole_is_its_only_part(text: Text) -> None:
    [part] = parts_of(text)
    assert part is text


WAYS: list[tuple[Piece, ...]] = [(b"text",), (b"te", bytearray(b"xt")), (memoryview(b"a text")[2:],), (b"", b"text", b"")]


@pytest.mark.parametrize("parts", WAYS)
def test_pieces_are_what_they_are_joined(parts: tuple[Piece, ...]) -> None:
    pieces = Pieces(*parts)

    assert pieces == b"text" == pieces
    assert pieces == Pieces(b"tex", b"t") == bytearray(b"text")
    assert pieces not in (b"tex", b"tent", Pieces(b"text", b"s"), "text", None)


def test_pieces_that_were_pickled_or_copied_are_joined() -> None:
    """A view of memory cannot be pickled, and another process has to copy it in any case."""
    pieces = Pieces(memoryview(b"CANARY text")[:6], b"!")

    for other in (pickle.loads(pickle.dumps(pieces)), copy.deepcopy(pieces)):
        assert type(other) is bytes
        assert other == b"CANARY!"


def test_pieces_do_not_print() -> None:
    assert repr(Pieces(b"CANARY", b"!")) == "Pieces(<7 bytes>)"


def test_pieces_have_no_hash() -> None:
    with pytest.raises(TypeError):
        hash(Pieces(b"text"))
