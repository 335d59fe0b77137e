"""What was meant by a misspelled name."""

from __future__ import annotations

from pixir_actors.spelling import hint, nearest, unknown


def test_a_name_that_is_nearly_right_has_one_meaning_and_any_other_none() -> None:
    assert nearest("stauts", ["start", "status", "stop"]) == "status"
    assert nearest("sk-0123456789", ["start", "status", "stop"]) is None


def test_the_hint_is_said_only_where_there_is_one() -> None:
    assert hint("modle", ["model", "start"]) == "; did you mean model?"
    assert hint("x", ["model", "start"]) == ""


def test_an_unknown_name_is_told_with_what_was_meant_or_with_all_that_are_known() -> None:
    assert unknown("modle", ["start", "model"]) == "modle is not known; did you mean model?"
    assert unknown("x", ["start", "model"]) == "x is not known: allowed are model, start"
