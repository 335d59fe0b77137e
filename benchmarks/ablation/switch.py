"""Puts something else in the place of module attributes, and what was there back again.

An embedded actor system is no fork of the program that uses it: its guardian is a program of its own, of which all actors
are forks. So what is to be replaced there is replaced as the guardian begins, before its first fork.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from typing import Any, Final

from pixir_actors.system import embedded

BOOTSTRAP: Final = "pixir_actors.system.embedded:BOOTSTRAP"
_MAIN: Final = "from pixir_actors.system.guardian import main;"


class NoSuchTarget(LookupError):
    """There is nothing of that name to be replaced: the program has changed, and who replaces it has to follow."""


def replace(replacements: Mapping[str, Any]) -> ExitStack:
    """Put values in the place of what is there; closing the result puts that back.

    Args:
        replacements: By their targets, as "package.module:name" or "package.module:Class.name". What other modules have
            imported by name is replaced in those.

    Raises:
        NoSuchTarget: One of them is not there; then all is as it was.
    """
    with ExitStack() as stack:
        for target, value in replacements.items():
            owner, name = found(target)
            stack.callback(setattr, owner, name, vars(owner)[name])
            setattr(owner, name, value)
        return stack.pop_all()


def found(target: str) -> tuple[Any, str]:
    """Return the module or class that has an attribute of its own, and the attribute's name.

    Raises:
        NoSuchTarget: There is none.
    """
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    try:
        owner: Any = import_module(module)
        for each in owners:
            owner = vars(owner)[each]
        vars(owner)[name]
    except (ImportError, KeyError) as error:
        raise NoSuchTarget(f"there is no {target} to be replaced") from error
    return owner, name


def in_guardians(statement: str) -> dict[str, Any]:
    """Return the replacement that has the guardians which this process starts execute a statement first.

    Raises:
        NoSuchTarget: They do not begin as they did.
    """
    if _MAIN not in embedded.BOOTSTRAP:
        raise NoSuchTarget(f"{BOOTSTRAP} does not hold `{_MAIN}`")
    return {BOOTSTRAP: embedded.BOOTSTRAP.replace(_MAIN, f"{statement}; {_MAIN}")}
