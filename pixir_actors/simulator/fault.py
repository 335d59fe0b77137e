"""What a fault is, and the register of those that have a name. `faults.py` has the faults themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, ParamSpec

from pixir_actors.simulator.argument import check, check_arguments
from pixir_actors.simulator.record import Via
from pixir_actors.simulator.rejection import Rejection
from pixir_actors.simulator.rewrite import Rewrite

Phase = Literal["accept", "upgrade", "upgraded", "request", "events", "stream", "framing", "ping"]
_BEFORE_IT_IS_KNOWN: Final[tuple[Phase, ...]] = ("accept",)
_WEBSOCKET_PHASES: Final[tuple[Phase, ...]] = ("upgraded", "ping")
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A bad answer to an upgrade or a POST: `seconds` later, `refusal` (status, headers, body), or `never` anything.

    `drip` is the time between two bytes, `cut_after` the bytes of the answer's head that are sent at all,
    `wrong_accept` spoils the Sec-WebSocket-Accept header.
    """

    seconds: float = 0.0
    refusal: tuple[int, tuple[tuple[str, str], ...], bytes] | None = None
    never: bool = False
    drip: float | None = None
    cut_after: int | None = None
    wrong_accept: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Made by the factories in `FAULTS`; which of the last fields is set depends on the phase.

    Attributes:
        name: Its name in `FAULTS`.
        phase: Where it applies.
        times: How often it still may; None: always.
        on_request: Index of the request it is for, or None.
        on_connection: Number of the connection it is for, or None.
        on_via: The way it is for, "websocket" or "http"; None: both.
        continuation: It is for requests with a `previous_response_id` only.
    """

    name: str
    phase: Phase
    times: int | None = 1
    on_request: int | None = None
    on_connection: int | None = None
    on_via: Via | None = None
    continuation: bool = False
    rewrite: Rewrite | None = None
    upgrade: Upgrade | None = None
    reject: Callable[[Mapping[str, Any]], Rejection] | None = None

    def __repr__(self) -> str:
        return f"Fault({self.name})"

    def fits(self, via: Via | None) -> bool:
        """Say whether the fault is for this way; None is one that is not known yet."""
        return self.on_via in (None, via)


def checked(fault: object) -> Fault:
    """Return a fault as it is; raise TypeError for anything else, which would break the server when its point comes."""
    if isinstance(fault, Fault):
        return fault
    name = getattr(fault, "__name__", None)
    if name in REGISTER:
        raise TypeError(f"FAULTS[{name!r}] is a factory: call it, FAULTS[{name!r}]()")
    raise TypeError(f"a {type(fault).__name__} is no fault: take one from FAULTS")


REGISTER: Final[dict[str, Callable[..., Fault]]] = {}
"""Name -> factory; filled by `faults.py`."""


def named(build: Callable[_P, Fault]) -> Callable[..., Fault]:
    """Register a factory under its name, and give it the selectors. A fault built with `on_via` is for that way only.

    The factory raises TypeError or ValueError for an argument that is not what it declares, ValueError for `times` below 1,
    and for an `on_via` where the fault cannot be.
    """

    @functools.wraps(build)
    def factory(
        *args: Any,
        times: int | None = 1,
        on_request: int | None = None,
        on_connection: int | None = None,
        on_via: Via | None = None,
        **kwargs: Any,
    ) -> Fault:
        for name, value in (("times", times), ("on_request", on_request), ("on_connection", on_connection)):
            check(name, value, int | None)
        if times is not None and times < 1:
            raise ValueError(f"times={times}: allowed are None and integers from 1")
        check_arguments(build, *args, **kwargs)
        fault = build(*args, **kwargs)
        way = _way(fault, on_via)
        return replace(fault, times=times, on_request=on_request, on_connection=on_connection, on_via=way)

    REGISTER[build.__name__] = factory
    return factory


def _way(fault: Fault, wanted: Via | None) -> Via | None:
    own: Via | None = "websocket" if fault.phase in _WEBSOCKET_PHASES else fault.on_via
    if wanted not in (None, "websocket", "http"):
        raise ValueError(f"on_via={wanted!r}: allowed are None, 'websocket' and 'http'")
    if wanted is not None and own is not None and wanted != own:
        raise ValueError(f"on_via={wanted!r}: this {fault.name} is for {own!r} only")
    if wanted is not None and fault.phase in _BEFORE_IT_IS_KNOWN:
        raise ValueError(f"on_via={wanted!r}: {fault.name} comes before it is known")
    return own if wanted is None else wanted
