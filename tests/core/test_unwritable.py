"""Where a body cannot be written as JSON, and what stands there: by its type alone."""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from pixir_actors.core.unwritable import MAX_DEPTH, problem
from pixir_actors.errors import InvalidRequest
from pixir_actors.request import Request

CANARY = "sk-canary-4711"


class Name(str):
    def __repr__(self) -> str:
        return CANARY


@dataclass
class Holder:
    held: Any


@dataclass
class Link:
    up: Any = None


def linked() -> Link:
    link = Link()
    link.up = link
    return link


Pair = namedtuple("Pair", "a b")


def nested(depth: int, item: Any = 0) -> Any:
    for _ in range(depth):
        item = [item]
    return item


def circle() -> list[Any]:
    items: list[Any] = [CANARY]
    items.append({"content": items})
    return items


CASES: dict[str, tuple[dict[Any, Any], str]] = {
    "an object": ({"input": [1, 2, 3, {"content": object()}]}, "input[3].content is an object"),
    "bytes": ({"input": CANARY.encode()}, "input is a bytes"),
    "a set": ({"tools": ({CANARY},)}, "tools[0] is a set"),
    "a named tuple": ({"input": [Pair(1, 2)]}, "input[0] is a Pair"),
    "what a dataclass holds": ({"input": Holder({CANARY})}, "input is a Holder"),
    "a number as a key": ({"input": [{4711: CANARY}]}, "input[0] has a key of the type int"),
    "a text of another type as a key": ({Name(CANARY): 1}, "it has a key of the type Name"),
    "a key with half a pair": ({"metadata": {"\ud800": CANARY}}, "metadata has a key that is no valid Unicode"),
    "half a pair": ({"x": CANARY + "\ud800"}, "x is a str that is no valid Unicode: it has half of a surrogate pair"),
    "a large number": ({"seed": 2**70}, "seed is an int of more than 64 bits"),
    "no number": ({"temperature": math.nan}, "temperature is NaN or an infinity"),
    "no number, deep down": ({"input": [None, {"x": (1, -math.inf)}]}, "input[1].x[1] is NaN or an infinity"),
    "a circle of other things": ({"input": [linked()]}, "input[0] is a Link"),
    "a named tuple without numbers": ({"input": Pair(math.nan, 1)}, "input is a Pair"),
    "a circle": ({"input": circle()}, "input[1].content contains itself"),
    "names that are no field's": ({"metadata": {CANARY: {"k9": {1}}}}, "metadata.*.* is a set"),
    "a long name": ({"x" * 33: {1}}, "* is a set"),
    "deep down": ({"a": nested(20, {1})}, "a[0][0][0][0][0][0][0]... is a set"),
}


@pytest.mark.parametrize(("body", "said"), CASES.values(), ids=CASES)
def test_what_cannot_be_written_is_told_by_its_place_and_type(body: dict[Any, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request("wss://h/", {}, body)

    assert str(caught.value) == f"invalid request: body cannot be written as JSON: {said}"
    assert caught.value.__context__ is None, "the writer's own words may quote the value"
    assert CANARY not in repr(caught.value)


@pytest.mark.parametrize(("depth", "place"), [(MAX_DEPTH, ""), (MAX_DEPTH + 100, ", in a[0][0][0][0][0][0][0]...")])
def test_what_is_too_deep_is_told_to_be(depth: int, place: str) -> None:
    orjson.dumps({"a": nested(MAX_DEPTH - 1)})
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps({"a": nested(depth)})

    assert problem({"a": nested(depth)}) == f"is nested deeper than {MAX_DEPTH} levels{place}"
