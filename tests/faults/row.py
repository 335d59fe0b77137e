"""What a row of the matrix says, and the outcomes that many rows share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pixir_actors.simulator import Fault, Reply

AT_ONCE: Final = "at once"
LIMIT_NOTICE: Final = {
    "type": "error",
    "status": 400,
    "error": {"code": "websocket_connection_limit_reached", "message": "Responses websocket connection limit reached."},
}


@dataclass(frozen=True)
class Outcome:
    """What came of the turn under test, and of the key's next turn.

    Attributes:
        what: The error code; "answered" or "recovered" with how the request went out; or how the caller left.
        verdict: The delivery verdict of an error.
        sent: How many requests the server received for it.
        then: How the next turn goes out: "delta", or "full" and its reset reason; after a degraded window if there is one.
    """

    what: str
    verdict: str
    sent: int
    then: str


@dataclass(frozen=True)
class Row:
    """One fault at one phase.

    Attributes:
        cold: What has to come of it on a key without a response to continue; None: it cannot happen there.
        continued: The same on a key whose last response can be continued.
        limit: The option that bounds it, or `AT_ONCE`.
        armed: Simulator faults for the turn under test.
        frozen: The server neither reads nor writes on the key's open socket.
        replies: What the server answers to the turn under test, one after another; then the default.
        running: For a queued request: what the server answers to the one ahead.
        running_fails: That one is not held up until the row is done with it.
        act: What the caller, the server or the system does; see `stage.py`.
        at: Where: a point of `stage.py`, or the type of an event as it reaches the caller.
        options: Options of the turn under test; for an idle connection, of the turn before.
        server: Arguments of the simulator.
        elsewhere: The turn goes to another place than the simulator.
        large: Its request is larger than the kernel's buffers.
        bearer: Its token, if it is a new one.
        ends_socket: The idle socket ends of it; the turn comes after that.
        settles: The socket ends after the turn; the next turn comes after that.
        degraded: The turn before has failed, and its window is open.
    """

    phase: str
    fault: str
    cold: Outcome | None
    continued: Outcome | None
    limit: str = AT_ONCE
    armed: tuple[Fault, ...] = ()
    frozen: bool = False
    replies: tuple[Reply, ...] = ()
    running: Reply | None = None
    running_fails: bool = False
    act: str | None = None
    at: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: str | None = None
    large: bool = False
    bearer: str | None = None
    ends_socket: bool = False
    settles: bool = False
    degraded: bool = False


FAILED: Final = "window, then full: websocket_failed"
NO_PONG: Final = "window, then full: keepalive_failed"
CLOSED: Final = "full: connection_closed"
CRASHED: Final = "full: connection_crashed"
AFRESH: Final = "full: no_previous_response"
LEFT: Final = "full: cancelled"
REFUSED: Final = "full: response_failed"
NEW: Final = "answered, full: no_previous_response"
ON: Final = "answered, delta"


def both(phase: str, fault: str, what: str, verdict: str = "-", *, sent: int = 1, then: str = FAILED, **how: Any) -> Row:
    """Return a row with one outcome for cold and continued."""
    outcome = Outcome(what, verdict, sent, then)
    return Row(phase, fault, outcome, outcome, **how)


def harmless(phase: str, fault: str, *, then: str = "delta", **how: Any) -> Row:
    """Return a row in which the turn is answered as if nothing had happened."""
    return Row(phase, fault, Outcome(NEW, "-", 1, then), Outcome(ON, "-", 1, then), **how)


def recovered(phase: str, fault: str, reason: str, *, sent: int = 2, **how: Any) -> Row:
    """Return a row in which the request goes out again in full, unseen, and the next turn continues."""
    outcome = Outcome(f"recovered, full: {reason}", "-", sent, "delta")
    return Row(phase, fault, outcome, outcome, **how)


def continued_only(phase: str, fault: str, what: str, verdict: str, sent: int, then: str, **how: Any) -> Row:
    """Return a row for a continuation's id, which a cold turn does not send."""
    return Row(phase, fault, None, Outcome(what, verdict, sent, then), **how)


def unchanged(phase: str, fault: str, what: str, verdict: str, sent: int, **how: Any) -> Row:
    """Return a row that leaves the key as it was: cold, or with its socket closed by the server."""
    return Row(phase, fault, Outcome(what, verdict, sent, AFRESH), Outcome(what, verdict, sent, CLOSED), **how)


def harmless_reopened(phase: str, fault: str, **how: Any) -> Row:
    """Return a row in which the turn is answered on a new socket."""
    lost = Outcome("answered, full: connection_closed", "-", 1, "delta")
    return Row(phase, fault, Outcome(NEW, "-", 1, "delta"), lost, **how)
