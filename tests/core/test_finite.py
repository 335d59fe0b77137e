"""Numbers that JSON does not have, wherever they are in a body."""

from __future__ import annotations

import datetime
import enum
import math
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixir_actors.core.finite import is_finite, may_hold_others

NAN, INF = math.nan, math.inf


class Share(float):
    """A float of somebody's own."""


class Weight(enum.Enum):
    NONE = math.nan
    FULL = 1.0


@dataclass
class Item:
    weight: float


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
    ],
)
def test_one_is_found_wherever_it_is(value: Any) -> None:
    body = {"model": "m", "input": [None, "text", 1, True, 0.5, value]}
    assert may_hold_others(orjson.dumps(body))
    assert not is_finite(body)


@pytest.mark.parametrize("value", [Share(NAN), Share(1.0)])
def test_a_float_of_somebody_s_own_is_looked_at(value: Share) -> None:
    """orjson does not write it today."""
    assert is_finite({"a": value}) == math.isfinite(value)


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
        uuid.UUID(int=7),
        datetime.date(2026, 1, 1),
    ],
)
def test_everything_else_is_fine(value: Any) -> None:
    assert is_finite({"a": value, "b": [value]})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    )
)
def test_a_body_is_finite_just_if_it_reads_back_as_it_was_written(value: Any) -> None:
    body = {"a": value}
    text = orjson.dumps(body)
    reads_back = orjson.loads(text) == body
    assert is_finite(body) == reads_back
    assert reads_back or may_hold_others(text)


def test_a_large_body_is_looked_at_without_a_look_through_its_text() -> None:
    assert not may_hold_others(orjson.dumps({"input": "x" * 1000}))
    assert may_hold_others(orjson.dumps({"input": "x" * 100_000}))
