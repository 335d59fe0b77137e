from __future__ import annotations

import json

import orjson
import pytest

from benchmarks.asks import ITEM_BYTES, Ask, _items, read
from benchmarks.peers.base import Record


@pytest.mark.parametrize("ask", [Ask(), Ask(deltas=1992), Ask(deltas=1, size=10**6), Ask(rate=100), Ask(call=7)])
@pytest.mark.parametrize("dump", [lambda body: json.dumps(body).encode(), orjson.dumps])
def test_what_is_asked_for_is_read_from_the_request_however_it_is_written(ask: Ask, dump: object) -> None:
    assert callable(dump)

    assert read(dump({"input": ask.input(), "model": "any"})) == ask


def test_the_newest_item_counts() -> None:
    items = [*Ask(deltas=1).input(), *Ask(deltas=2).input()]

    assert read(orjson.dumps({"input": items})) == Ask(deltas=2)


def test_a_request_that_asks_for_nothing_is_told_apart() -> None:
    assert read(b'{"input": "hello"}') is None


@pytest.mark.parametrize("load", [0, 1, ITEM_BYTES, 10 * ITEM_BYTES + 5])
def test_a_load_is_so_many_characters_of_input_in_items_of_a_bounded_size(load: int) -> None:
    items = Ask(load=load).items()

    mark = len(items[-1].text)
    assert sum(len(item.text) for item in items) - mark == load
    assert all(len(item.text) <= ITEM_BYTES for item in items)


def test_the_output_of_a_call_names_the_call_that_the_answer_made() -> None:
    [item] = Ask(output_of=3, load=100).input()

    assert item["type"] == "function_call_output"
    assert item["call_id"] == "call_00000003"
    assert len(item["output"]) > 100


def test_what_is_asked_for_is_made_before_the_turn_begins() -> None:
    """To make a megabyte takes a millisecond, which would be measured with whoever sends it."""
    ask = Ask(load=10_001)
    Record(ask).begin()

    assert ask.items()[0].text is ask.items()[0].text
    made = _items.cache_info().misses
    ask.input()
    assert _items.cache_info().misses == made
