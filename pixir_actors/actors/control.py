"""Messages between the supervisor and its connections. Not for others: `messages` has the public ones."""

from __future__ import annotations

from dataclasses import dataclass

from pixir_actors.core.report import Facts
from pixir_actors.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Begin:
    """A connection's first message: who it is. Sent by the supervisor; answered with `Began`.

    Attributes:
        connection_id: Names this process.
        label: For status and the process name.
        reset_reason: Why it starts cold, if an earlier process of the key was warm: "connection_crashed" or "evicted".
        supervisor_pid: The process to die with, or None where both share one.
        board: Name of the board to report on (`board.slot_at`), or None: reports are messages.
        slot: Its place there.
    """

    connection_id: str
    label: str
    reset_reason: str | None
    supervisor_pid: int | None
    board: str | None = None
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Began:
    """The answer to `Begin`: the connection is up; its sender address is the one to give to others.

    Attributes:
        connection_id: As in `Begin`.
        pid: Its process.
        facts: Its first report, so that status knows of it from the start.
    """

    connection_id: str
    pid: int
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The answer to `Begin` of a connection that cannot run here; `reason` is a word."""

    connection_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a connection has to report that shares no board with its supervisor, at most about once a second. Sent to the
    supervisor, not answered."""

    connection_id: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Retire:
    """Sent by an idle connection to the supervisor, which forgets the key first and answers with `RetireAnswer`."""

    connection_id: str


@dataclass(frozen=True, slots=True)
class RetireAnswer:
    """The answer to `Retire`: not granted when somebody has just been given the connection's address."""

    granted: bool


@dataclass(frozen=True, slots=True)
class Evict:
    """Make room for another key, if idle. Sent by the supervisor; answered with `EvictAnswer`."""


@dataclass(frozen=True, slots=True)
class EvictAnswer:
    """The answer to `Evict`: whether the connection makes room; if so it ends."""

    connection_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class StopConnection:
    """End now. Sent by the supervisor; requests fail with `code`. Not answered but by the process's end.

    With `linger` the process stays a moment, to send back those who still have its address.
    """

    code: ErrorCode
    linger: bool = False


@dataclass(frozen=True, slots=True)
class DrainConnection:
    """End as soon as no turn runs, at the latest after `within` seconds; nobody else is served.

    Sent by the supervisor. Not answered but by the process's end.
    """

    within: float
