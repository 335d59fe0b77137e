"""The inputs are one closed set of frozen values."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import get_args

import pytest

from pixir_actors.core import inputs


def test_the_union_names_every_input_of_the_module() -> None:
    defined = {
        kind for kind in vars(inputs).values() if is_dataclass(kind) and getattr(kind, "__module__", "") == inputs.__name__
    }

    assert set(get_args(inputs.Input)) == defined


@pytest.mark.parametrize("kind", get_args(inputs.Input))
def test_an_input_is_frozen_and_takes_no_further_attributes(kind: type) -> None:
    sample = kind(*["x"] * len(fields(kind)))

    with pytest.raises((AttributeError, TypeError)):
        sample.surprise = 1
    assert sample == kind(*["x"] * len(fields(kind)))
