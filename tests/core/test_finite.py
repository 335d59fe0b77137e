"""Numbers that JSON does not have, wherever they are in a body."""

from __future__ import annotations

import datetime
import enum
import math
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixir_actors.core import finite
from pixir_actors.core.finite import is_finite, is_true_to

NAN, INF = math.nan, math.inf


class Listed(list[Any]):
    """Lists and mappings of somebody's own: orjson writes what they hold, not what they say."""

    def __iter__(self) -> Any:
        raise AssertionError


class Named(dict[str, Any]):
    def values(self) -> Any:
        raise AssertionError


class Weight(enum.Enum):
    NONE = math.nan
    FULL = 1.0


@dataclass
class Item:
    weight: float
    _hidden: float = math.nan  # orjson does not write it
    late: float = field(init=False)  # nor what is not there


@dataclass(slots=True)
class Slotted:
    weight: float
    _hidden: float = math.nan


def extended(item: Item, **more: float) -> Item:
    """Return an item with what no field is for: orjson writes that."""
    vars(item).update(more)
    return item


@pytest.mark.parametrize(
    "value",
    [
        NAN,
        INF,
        -INF,
        [NAN],
        (1, (2, INF)),
        {"a": {"b": [0, {"c": NAN}]}},
        OrderedDict(a=NAN),
        Weight.NONE,
        Item(INF),
        [Item(1.0), Item(NAN)],
        Slotted(NAN),
        extended(Item(1.0), more=NAN),
        Listed([1.0, NAN]),
        Named(a=NAN),
    ],
)
def test_one_is_found_wherever_it_is(value: Any) -> None:
    body = {"model": "m", "input": [None, "text", 1, True, 0.5, value]}
    text = orjson.dumps(body)
    assert not is_finite(body)
    assert not is_true_to(text, body)


@pytest.mark.parametrize(
    "value",
    [
        None,
        0.0,
        -1e308,
        10**15,
        "NaN",
        [[], {}, ()],
        {"null": None},
        Weight.FULL,
        Item(0.1),
        Slotted(0.1),
        Listed([1.0]),
        Named(a=1.0),
        uuid.UUID(int=7),
        datetime.date(2026, 1, 1),
    ],
)
def test_everything_else_is_fine(value: Any) -> None:
    body = {"a": value, "b": [value]}
    assert is_finite(body)
    assert is_true_to(orjson.dumps(body), body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    )
)
def test_a_body_is_finite_just_if_it_reads_back_as_it_was_written(value: Any) -> None:
    body = {"a": value}
    text = orjson.dumps(body)
    assert is_finite(body) == is_true_to(text, body) == (orjson.loads(text) == body)


@pytest.mark.parametrize("padding", ["", "x" * 200_000])
@pytest.mark.parametrize("many", [0, 20_000])
@pytest.mark.parametrize("value", [1.0, None, NAN])
def test_the_way_it_is_found_out_follows_the_size(padding: str, many: int, value: float | None) -> None:
    body = {"padding": padding, "many": [0.5] * many, "value": [value]}

    assert is_true_to(orjson.dumps(body), body) == (value is None or math.isfinite(value))


def test_a_short_text_without_a_null_and_a_long_one_with_many_values_cost_no_look_at_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int | None] = []
    monkeypatch.setattr(finite, "_is_finite", lambda body, most=None: asked.append(most))
    short, long = {"a": [1] * 1000}, {"a": [0.5] * 100_000}
    assert is_true_to(orjson.dumps(short), short)
    assert asked == []
    assert is_true_to(orjson.dumps(long), long)
    assert asked == [400_007 // finite._BYTES_PER_VALUE]
