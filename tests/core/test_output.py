"""What a response put out, in the order in which it stands there; the same through whole turns: test_lifecycle.py."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.core.continuation import text_message
from pixir_actors.core.output import indexed_item, output_of
from tests.core.machine import assistant, completed, event

ONE, TWO, THREE = assistant("one"), assistant("two"), assistant("three")


def test_what_the_end_lists_goes_before_what_came() -> None:
    assert output_of(completed("resp_1", ONE, TWO), [(0, THREE)], "text") == [ONE, TWO]


def test_else_it_is_what_came_by_its_place_and_where_that_is_the_same_as_it_came() -> None:
    assert output_of(completed("resp_1"), [(1, TWO), (0, ONE), (1, THREE)], "text") == [ONE, TWO, THREE]


@pytest.mark.parametrize(("text", "output"), [("text", [text_message("text")]), ("", [])])
def test_else_it_is_the_text_alone(text: str, output: list[Any]) -> None:
    assert output_of(completed("resp_1"), [], text) == output


@pytest.mark.parametrize(("index", "place"), [(2, 2), (None, 0), ("2", 0)])
def test_an_item_whose_place_is_not_said_is_the_first(index: object, place: int) -> None:
    done = event("response.output_item.done", output_index=index, item=ONE)

    assert indexed_item(done) == (place, ONE)
