"""Whom the examples ask: the provider that the environment names, or the simulator; and how they end if that fails.

    OPENAI_API_KEY     with it, the provider is asked; without it, a simulator that answers from a script
    OPENAI_BASE_URL    default https://api.openai.com/v1
    OPENAI_MODEL       default gpt-5.5
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pixir_actors import PixirError, Request
from pixir_actors.simulator import Simulator
from pixir_actors.simulator.script import Script

Item = dict[str, Any]


@dataclass(frozen=True)
class Provider:
    """Where requests go. `simulator` is None when it is a real one."""

    base_url: str
    model: str
    api_key: str | None = None
    simulator: Simulator | None = None

    def request(self, history: list[Item], **fields: Any) -> Request:
        """Return a request with the whole conversation; what of it goes on the wire is not decided here."""
        return Request.responses(
            model=self.model, input=history, api_key=self.api_key, base_url=self.base_url, **fields
        )

    def __str__(self) -> str:
        return f"the simulator at {self.base_url}" if self.simulator else f"{self.model} at {self.base_url}"


@contextmanager
def provider(script: Script | None = None) -> Iterator[Provider]:
    """Yield the provider to ask; `script` says what the simulator answers, if it comes to that."""
    model = os.environ.get("OPENAI_MODEL", "gpt-5.5")
    api_key = os.environ.get("OPENAI_API_KEY")
    if api_key:
        yield Provider(os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1"), model, api_key)
        return
    with Simulator(script) as simulator:
        yield Provider(simulator.base_url, model, simulator=simulator)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the program with one line about what the package raises, and with none if nobody reads its output any more."""
    try:
        yield
        sys.stdout.flush()
    except PixirError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        sys.exit(1)
