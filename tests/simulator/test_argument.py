"""Arguments of faults against the types that are declared."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from pixir_actors.simulator import FAULTS
from pixir_actors.simulator.argument import check_arguments


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("cut_mid_text", {"n": "abc"}, "n='abc': allowed is a whole number"),
        ("cut_mid_text", {"n": 1.5}, "n=1.5: allowed is a whole number"),
        ("cut_mid_text", {"n": True}, "n=True: allowed is a whole number"),
        ("slow_accept", {"seconds": "x"}, "seconds='x': allowed is a number"),
        ("coalesce", {"size": "x"}, "size='x': allowed is a whole number or None"),
        ("refuse", {"headers": 1}, "headers=1: allowed is a mapping or None"),
        ("refuse", {"body": 1}, "body=1: allowed is bytes or a text"),
        ("fragment", {"pings": "x"}, "pings='x': allowed is True or False"),
        ("close_with", {"reason": 1}, "reason=1: allowed is a text"),
        ("stall", {"when": 1}, "when=1: allowed is 'upgrade' or 'before_first_event' or"),
        ("stall", {"times": "x"}, "times='x': allowed is a whole number or None"),
        ("stall", {"on_request": "x"}, "on_request='x': allowed is a whole number or None"),
        ("stall", {"on_connection": 0.5}, "on_connection=0.5: allowed is a whole number or None"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_name_and_what_is_allowed(
    name: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError) as caught:
        FAULTS[name](**arguments)
    assert str(caught.value).startswith(said)


def test_a_word_that_is_none_of_those_allowed_is_a_wrong_value() -> None:
    with pytest.raises(ValueError, match="form='x': allowed is 'nested' or"):
        FAULTS["not_found"]("x")


@pytest.mark.parametrize("name", FAULTS)
def test_every_default_is_of_its_type_and_every_type_has_words(name: str) -> None:
    build = inspect.unwrap(FAULTS[name])
    defaults = {key: parameter.default for key, parameter in inspect.signature(build).parameters.items()}
    check_arguments(build, **defaults)
    for key in typing.get_type_hints(build).keys() - {"return"}:
        with pytest.raises((TypeError, ValueError), match=f"{key}=.*allowed is"):
            check_arguments(build, **{key: object()})
