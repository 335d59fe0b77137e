"""What connections and their actor system tell of themselves. Pure: numbers and words, no key unless the program
chose to expose it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatus:
    """One connection, as it last reported or as it answers itself.

    Attributes:
        key: Digest of the key, or its repr with `expose_keys`.
        connection_id: Names this process of the key; a restarted one has another.
        pid: Process id.
        state: One of `core.state.State`.
        model: Model of the newest response that can be continued, or None.
        host: Host and port of the open socket, or None.
        queue_length: Requests waiting behind the running one.
        age_s: Seconds the open socket has been open, or None.
        idle_s: Seconds since the last turn ended; 0 during one.
        degraded_for_s: Seconds until the degraded window ends; 0 where there is none.
        next_wakeup_s: Seconds until the next deadline; None where there is none, or where it has passed and the connection,
            which had nothing to do then, has not told the one after it.
        wakeup_every_s: Seconds between deadlines as long as nothing happens, or None: an idle connection pings.
        turns: Turns that ended with a terminal event.
        delta_turns: Those of them that went out as a delta.
        sockets: Sockets opened.
        replays: Full replays after a refused continuation or socket.
        failures: Requests that ended without a terminal event. Also those that were sent nowhere: refused with
            `websocket_degraded` while the window lasts, or with `queue_full`, timed out in the queue, or cancelled. A
            response that the provider itself says has failed is a turn.
        wire_bytes: Bytes of the requests as sent.
        full_bytes: Bytes that full replays would have taken.
        last_reset_reason: Reset reason of the latest attempt, or None if it was a delta.
        last_error: Code of the latest failure but `websocket_degraded`, which says no more than that one holds on; or None.
    """

    key: str
    connection_id: str
    pid: int
    state: str
    model: str | None
    host: str | None
    queue_length: int
    age_s: float | None
    idle_s: float
    degraded_for_s: float
    next_wakeup_s: float | None
    turns: int
    delta_turns: int
    sockets: int
    replays: int
    failures: int
    wire_bytes: int
    full_bytes: int
    last_reset_reason: str | None
    last_error: str | None
    wakeup_every_s: float | None = None

    @property
    def saved_bytes(self) -> int:
        """Bytes that deltas have saved so far."""
        return self.full_bytes - self.wire_bytes

    @property
    def running(self) -> bool:
        """Whether a turn runs."""
        return self.state in ("connecting", "streaming")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStatus:
    """One actor system, as its supervisor answers.

    Attributes:
        pid: Process id of the supervisor.
        version: Of this package, in the supervisor's process.
        connections: Keys that have a connection, those that drain included.
        max_descriptors: Descriptors that the supervisor may have open; new keys are refused before they run out.
        refusals: Messages that the system had not signed and did not read, over all its processes; 0 where nobody counts.
        draining: Whether it ends as soon as the running turns have; new requests are refused.
        uptime_s: Seconds since the supervisor started.
    """

    pid: int
    version: str
    connections: int
    max_descriptors: int
    refusals: int
    draining: bool
    uptime_s: float
