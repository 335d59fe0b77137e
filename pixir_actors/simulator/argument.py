"""Arguments of a fault, held against the types that its factory declares: they may come from a command line."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

_WORDS: Final[Mapping[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    bytes: "bytes",
    type(None): "None",
    Mapping: "a mapping",
}


def check_arguments(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Hold the arguments of a call against the annotations of the function.

    Raises:
        TypeError: One has another type, or the function does not take it.
        ValueError: One is none of the words that are allowed.
    """
    hints = typing.get_type_hints(function)
    for name, value in inspect.signature(function).bind(*args, **kwargs).arguments.items():
        check(name, value, hints[name])


def check(name: str, value: object, hint: Any) -> None:
    """Raise TypeError or ValueError, with the name and what is allowed, unless the value is what the annotation says."""
    kinds = _alternatives(hint)
    if any(_fits(value, kind) for kind in kinds):
        return
    wrong = ValueError if isinstance(value, str) and any(typing.get_origin(kind) is Literal for kind in kinds) else TypeError
    raise wrong(f"{name}={value!r}: allowed is {' or '.join(_in_words(kind) for kind in kinds)}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _fits(value: object, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if kind is float:
        kind = (int, float)
    elif typing.get_origin(kind):
        kind = typing.get_origin(kind)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _in_words(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    return _WORDS[typing.get_origin(kind) or kind]
