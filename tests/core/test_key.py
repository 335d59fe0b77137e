"""Keys: the same text in every process, a different one for everything that is different."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pixir_actors.core.key import MAX_KEY_CHARACTERS, canonical
from pixir_actors.errors import InvalidRequest

KEYS: list[Any] = [
    "", "1", "a", "('a',)", "ä", "\ud800", "None",
    1, 0, -1, 10**30,
    b"", b"1", b"a", b"\xff",
    (), ("a",), ("a", 1), (("a",), 1), ("a", (1,)), ("a, 1",), (b"a",), ((((("deep",),),),),),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_key_has_one_text(key: Any) -> None:
    assert canonical(key, None) == canonical(key, None)
    assert canonical(key, "ns") == canonical(key, "ns") != canonical(key, None)


def test_different_keys_have_different_texts_in_whichever_namespace() -> None:
    namespaces = [None, "", "a", "None", "('a',"]
    texts = {canonical(key, namespace) for key, namespace in itertools.product(KEYS, namespaces)}

    assert len(texts) == len(KEYS) * len(namespaces)


def test_a_text_of_a_kind_of_its_own_is_the_text_it_is() -> None:
    """A subclass may print itself as it likes, and differ from process to process."""

    class Shy(str):
        def __repr__(self) -> str:
            return f"<{id(self)}>"

    class Count(int):
        def __repr__(self) -> str:
            return "a count"

    assert canonical(Shy("a"), None) == canonical("a", None)
    assert canonical((Count(3), Shy("a")), None) == canonical((3, "a"), None)


def test_another_process_has_the_same_texts() -> None:
    script = "from tests.core.test_key import *\nprint([canonical(key, 'ns') for key in KEYS].__repr__())"
    command = [sys.executable, "-c", script]
    other = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout

    assert other.strip() == repr([canonical(key, "ns") for key in KEYS])


BAD: list[Any] = [
    None, True, False, 1.5, float("nan"), [], ["a"], {}, {"a"}, frozenset(), bytearray(b"a"),
    pytest.param(object(), id="an object"),
    ("a", None), ("a", (1.5,)), ("a", [1]), (True,),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD, ids=repr)
def test_what_is_no_key_is_refused_by_its_type_alone(key: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(key, None)

    assert caught.value.field == "key"
    assert "allowed are str, int, bytes and tuples of them" in caught.value.problem


def test_a_key_that_holds_itself_or_is_nested_too_deeply_is_refused() -> None:
    deep: Any = "a"
    for _ in range(100_000):
        deep = (deep,)

    with pytest.raises(InvalidRequest):
        canonical(deep, None)


@pytest.mark.parametrize("key", ["x", b"x", 7], ids=type)
def test_a_key_is_limited_in_its_text(key: Any) -> None:
    room = MAX_KEY_CHARACTERS - len(repr((None, type(key)())))
    longest = 10 ** room if isinstance(key, int) else key * room
    fits = canonical(longest, None)
    assert len(fits) == MAX_KEY_CHARACTERS

    with pytest.raises(InvalidRequest) as caught:
        canonical(longest * 10 if isinstance(key, int) else longest + key, None)
    assert str(MAX_KEY_CHARACTERS) in caught.value.problem


@pytest.mark.parametrize("key", [10**5000, "x" * 10_000_000, ("a",) * 100_000], ids=["number", "text", "tuple"])
def test_a_key_that_is_far_too_large_is_refused_like_any_other(key: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical(key, None)

    assert caught.value.field == "key"
    assert len(str(caught.value)) < 200


def test_the_namespace_is_no_part_of_what_is_wrong_with_a_key() -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical("x" * 2000, "secret-namespace")

    assert "secret-namespace" not in str(caught.value)
