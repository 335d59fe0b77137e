"""Counts calls in this process and in the actor systems that it starts: a line of a file for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.ablation.switch import found, in_guardians, replace


def counting(path: str, targets: Iterable[str]) -> ExitStack:
    """Count calls of what `switch.replace` calls targets, until the result is closed."""
    listed = list(targets)
    statement = f"from tests.benchmarks.tally import count; count({path!r}, {listed!r})"
    with ExitStack() as stack:
        stack.enter_context(count(path, listed))
        stack.enter_context(replace(in_guardians(statement)))
        return stack.pop_all()


def count(path: str, targets: Iterable[str]) -> ExitStack:
    """Count calls in this process and its forks."""
    return replace({target: _counted(path, target) for target in targets})


def counted(path: Path) -> Counter[str]:
    """Return how often each target was called."""
    return Counter(path.read_text().splitlines())


def _counted(path: str, target: str) -> Callable[..., Any]:
    owner, name = found(target)
    call = vars(owner)[name]

    def counts(*arguments: Any, **named: Any) -> Any:
        with open(path, "a") as file:  # opened each time: a fork closes what it does not know
            file.write(f"{target}\n")
        return call(*arguments, **named)

    return counts
