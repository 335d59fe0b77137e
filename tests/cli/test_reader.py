"""Texts of options, and the values they are read as."""

from __future__ import annotations

import pytest

from pixir_actors.cli.reader import number


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", ""])
def test_seconds_are_finite_and_in_range(text: str) -> None:
    with pytest.raises(ValueError, match="a number of seconds from 0 to 9"):
        number(0, 9)(text)
