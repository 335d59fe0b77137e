"""The actions are one closed set of frozen values."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import get_args

import pytest

from pixir_actors.core import actions


def test_the_union_names_every_action_of_the_module() -> None:
    defined = {
        kind for kind in vars(actions).values() if is_dataclass(kind) and getattr(kind, "__module__", "") == actions.__name__
    }

    assert set(get_args(actions.Action)) == defined


@pytest.mark.parametrize("kind", get_args(actions.Action))
def test_an_action_is_frozen_and_takes_no_further_attributes(kind: type) -> None:
    sample = kind(*["x"] * len(fields(kind)))

    with pytest.raises((AttributeError, TypeError)):
        sample.surprise = 1
    assert sample == kind(*["x"] * len(fields(kind)))
