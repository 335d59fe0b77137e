"""All changes, each with what stood there before it, and by what it is measured."""

from __future__ import annotations

import dataclasses
import multiprocessing
import selectors
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.ablation.switch import in_guardians, replace

Former = Mapping[str, Any]
"""What stood there before, by the targets of `switch.replace`."""


@dataclass(frozen=True)
class Change:
    """Something that was done for speed.

    Attributes:
        name: As one types it.
        what: What it is.
        former: Returns what stood in its place. It is called in each process in which the change is switched off, and
            imports what it needs only there: the other side has the modules that it always has.
        measured: The metrics that it is about, by case.
        profiled: The case and the process whose profiles tell of it; None: none would.
    """

    name: str
    what: str
    former: Callable[[], Former]
    measured: Mapping[str, tuple[str, ...]]
    profiled: tuple[str, str] | None = None

    @contextmanager
    def off(self) -> Iterator[None]:
        """Have it switched off within the block, here and in the actor systems that are started there."""
        statement = f"from benchmarks.ablation.changes import switch_off; switch_off({self.name!r})"
        with replace(self.former()), replace(in_guardians(statement)):
            yield


def switch_off(name: str) -> None:
    """Switch a change off in this process, for good."""
    replace(known(name).former())


def known(name: str) -> Change:
    """Return the change of that name, or what noise is measured with."""
    return NOISE if name == NOISE.name else CHANGES[name]


def _evolve_by_dataclasses() -> Former:
    def evolve(value: Any, **changes: Any) -> Any:
        return dataclasses.replace(value, **changes)

    return {"pixir_actors.core.lifecycle:evolve": evolve, "pixir_actors.actors.connection:evolve": evolve}


def _library_reader() -> Former:
    from benchmarks.ablation.former import LibraryReader

    return {"pixir_actors.transport.websocket:MessageReader": LibraryReader}


def _masked_in_python() -> Former:
    from pixir_actors.transport import masking

    return {"pixir_actors.transport.frames:masked": masking.translated}


def _joined() -> Former:
    from benchmarks.ablation.former import frame_in_two

    def joined(*parts: Any) -> bytes:
        return b"".join(parts)

    return {
        "pixir_actors.core.payload:spliced": joined,
        "pixir_actors.core.continuation:_cut": _nothing,
        "pixir_actors.transport.websocket:frame": frame_in_two,
    }


def _forgetful() -> Former:
    from benchmarks.ablation.former import forget_all_without_channel

    return {"pixir_actors.dispatch.dispatcher:Dispatcher._forget_ended": forget_all_without_channel}


def _frozen_once() -> Former:
    from benchmarks.ablation.former import frozen_here

    return {"gc:freeze": frozen_here()}


def _nothing(*_: object, **__: object) -> None:
    """Stand where something is done now that was not done before."""


def _unchanged(wrapped: Any) -> Any:
    """Stand where something is wrapped now that was not before."""
    return wrapped


_UNATTENDED: Final[Former] = {"pixir_actors.actors.shell:ShellActor.attend": lambda self, attendant: False}
_WARM: Final = ("warm", "connection")
_LARGE: Final = ("body", "connection")
_OF_TURNS: Final = {"warm": ("turn", "cpu_connection")}
_OF_BODIES: Final = {"body": ("new", "more", "behind", "cpu_connection")}
_OF_PINGS: Final = {"idle": ("cpu_ping", "wakes_ping")}
_OF_MEMORY: Final = {"memory": ("pss",)}

_ALL: Final = (
    Change(
        "delta-parsing",
        "only the part of a body that differs from the one before is parsed",
        lambda: {"pixir_actors.core.payload:_grown": _nothing},
        _OF_TURNS | {"body": ("behind", "cpu_connection")},
        _WARM,
    ),
    Change(
        "encoded-once",
        "a mapping is encoded once, and parsed nowhere in the client",
        lambda: {
            "pixir_actors.core.payload:is_ready": lambda names: False,
            "pixir_actors.aio:is_ready": lambda names: False,
        },
        {"warm": ("turn", "cpu_client"), "body": ("new", "behind")},
        ("warm", "client"),
    ),
    Change(
        "dictionary-copies",
        "the machine's frozen values are copied by their dictionary, not field by field",
        _evolve_by_dataclasses,
        _OF_TURNS,
        _WARM,
    ),
    Change(
        "bulk-frames",
        "frames are read in bulk, not by websocket-client's `frame_buffer`",
        _library_reader,
        {"warm": ("turn", "burst", "cpu_connection")},
        _WARM,
    ),
    Change(
        "channel-requests",
        "a warm turn's request goes over the event channel, not as an actor message with an answer",
        lambda: {"pixir_actors.dispatch.placement:submission_frame": _nothing},
        _OF_TURNS,
        _WARM,
    ),
    Change(
        "lingering",
        "an actor with a turn running waits on its own sockets before it goes round Thespian's loop",
        lambda: {"pixir_actors.actors.shell:LINGER": 0.0, "pixir_actors.actors.shell:PAUSE": 0.0},
        {"warm": ("turn", "burst", "cpu_connection")},
        _WARM,
    ),
    Change(
        "short-rounds",
        "an actor that only waits goes short rounds of Thespian's loop",
        lambda: {"pixir_actors.system.signed:shorten": _unchanged},
        _OF_TURNS | _OF_PINGS,
        ("idle", "connection"),
    ),
    Change(
        "poll",
        "Thespian's transport waits with poll(2), not with a new epoll per round",
        # What waits so asks nobody to see to pings; what that is worth is another change.
        lambda: {"pixir_actors.system.signed:polling": selectors, **_UNATTENDED},
        _OF_TURNS,
        _WARM,
    ),
    Change(
        "alarms-replaced",
        "an alarm that another has taken the place of does not ring",
        lambda: {"pixir_actors.system.signed:replace_wakeups": _unchanged},
        _OF_PINGS,
        ("idle", "connection"),
    ),
    Change(
        "masking-in-c",
        "large requests are masked in C, where the package `websockets` is installed",
        _masked_in_python,
        _OF_BODIES,
        _LARGE,
    ),
    Change(
        "read-in-place",
        "a large request is read to where it stays, and parsed there",
        lambda: {"pixir_actors.channel.frame:_LARGE": 1 << 40},
        _OF_BODIES,
        _LARGE,
    ),
    Change(
        "pieces",
        "a large request stays in the pieces that it was put together of, and is masked as it is written",
        _joined,
        _OF_BODIES,
        _LARGE,
    ),
    Change(
        "heartbeat-apart",
        "between turns pings and pongs go past Thespian and the machine",
        lambda: _UNATTENDED,
        _OF_PINGS,
        ("idle", "connection"),
    ),
    Change(
        "board",
        "reports are written on a board in shared memory, not sent to the supervisor",
        lambda: {"pixir_actors.actors.board:Board.take": _nothing},
        {"keys": ("turn", "cpu_all")},
        ("keys", "supervisor"),
    ),
    Change(
        "starting-remembered",
        "connections that are just starting are remembered, also by a program with more than 256 keys",
        _forgetful,
        {"many": ("turn", "cpu_all")},
    ),
    Change(
        "plain-forks",
        "processes are plain forks, not those of `multiprocessing`",
        lambda: {"pixir_actors.system.signed:ForkContext": multiprocessing.get_context("fork")},
        {"memory": ("pss", "start")},
    ),
    Change(
        "method-cache-cleared",
        "the interpreter's cache of methods is cleared before each fork",
        lambda: {"sys:_clear_type_cache": _nothing},
        _OF_MEMORY,
    ),
    Change(
        "frozen-forks",
        "what a fork was given is left out by its garbage collector",
        _frozen_once,
        _OF_MEMORY,
    ),
    Change(
        "newest-first",
        "Thespian looks for a new child among the newest first, not through all of them",
        lambda: {"pixir_actors.system.signed:find_newest_first": _nothing},
        _OF_MEMORY,
    ),
    Change(
        "made-plainly",
        "a connection is made without Thespian's look at its class",
        lambda: {"pixir_actors.system.signed:make_plainly": _nothing},
        _OF_MEMORY,
    ),
    Change(
        "no-tether",
        "no thread in each connection waits for the guardian's end: the kernel ends it with its parent",
        lambda: {"pixir_actors.system.tether:DEEPEST_THREAD": 1 << 10},
        _OF_MEMORY,
    ),
)
CHANGES: Final = {change.name: change for change in _ALL}

NOISE: Final = Change(
    "nothing",
    "none: both sides are the same, so that what differs is noise",
    dict,
    {"warm": ("turn", "burst", "cpu_connection"), "body": ("new", "behind"), "idle": ("cpu_ping",), "memory": ("pss",)},
)
"""What the others are to be held against."""
