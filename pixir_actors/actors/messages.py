"""Every message between processes, one by one.

A host's own actors may send the public ones, those under "asking the supervisor" and "talking to a connection". All are
frozen and picklable; what must not be printed is a `Secret`. Times are in seconds.

    EnsureStarted ──► supervisor ──► Started | StartRefused
    Submit ──► connection ──► Accepted | Refused, then frames: on the channel, or in Batch messages (each acknowledged)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pixir_actors.channel import frame as frames
from pixir_actors.core import fingerprint, payload
from pixir_actors.core.key import canonical
from pixir_actors.core.secret import Secret, digest
from pixir_actors.core.state import Purpose
from pixir_actors.core.text import Text
from pixir_actors.errors import Failure, InvalidRequest
from pixir_actors.events import Data, Event, Metadata, Status
from pixir_actors.request import Headers, Request
from pixir_actors.settings import Settings
from pixir_actors.status import ConnectionStatus, SystemStatus

SUPERVISOR_NAME: Final = "pixir_actors.supervisor"
"""Global name of the supervisor: `system.createActor(SupervisorActor, globalName=SUPERVISOR_NAME)` finds or starts it."""


# --- asking the supervisor ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnsureStarted:
    """Have the connection of a key started, if it is not.

    Sent by clients and actors to the supervisor; answered with `Started` or `StartRefused`, after the connection's process
    is up, or at the latest after 10 seconds.

    Attributes:
        ask_id: Comes back in the answer.
        key: The canonical key (`core.key.canonical`).
        label: What status shows for it: a digest, or the key itself.
        max_connections: How many connections the system may have; the longest idle one makes room.
        notify: Send the asker a `ConnectionDown` when this connection's process ends.
    """

    ask_id: int
    key: Secret[str]
    label: str
    max_connections: int
    notify: bool = False

    @classmethod
    def of(
        cls, ask_id: int, key: object, settings: Settings, *, namespace: str | None = None, notify: bool = False
    ) -> EnsureStarted:
        """Build one for a key as callers write it.

        Raises:
            InvalidRequest: The key cannot be a key.
        """
        text = canonical(key, namespace)
        label = repr(key) if settings.expose_keys else digest(text)
        return cls(ask_id, Secret(text), label, settings.max_connections, notify)


@dataclass(frozen=True, slots=True)
class Started:
    """The key's connection is up. Sent by the supervisor.

    Attributes:
        ask_id: Of the `EnsureStarted`.
        connection_id: Names this process of the key.
        address: Actor address to send `Submit` to.
    """

    ask_id: int
    connection_id: str
    address: Any


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The key's connection could not be started. Sent by the supervisor.

    The failure's code is `too_many_connections`, `websocket_start_failed` or `shutting_down`.
    """

    ask_id: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class ConnectionDown:
    """A connection's process has ended. Sent by the supervisor to those who asked for it with `notify=True`.

    Requests of that connection that had not ended got no answer and get none.
    """

    connection_id: str
    crashed: bool


@dataclass(frozen=True, slots=True)
class FindConnection:
    """Ask which connection a key has, without starting one. Sent to the supervisor, answered with `Found`."""

    ask_id: int
    key: Secret[str]


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to `FindConnection`; `address` is None if the key has no connection."""

    ask_id: int
    address: Any


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask for status. Sent to the supervisor or to a connection, answered with `StatusReport`: by the supervisor from what
    connections last reported (without a common board about a second after it happened), by a connection from its own state,
    also in the middle of a stream."""

    ask_id: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The answer to `GetStatus`; one entry per connection."""

    ask_id: int
    connections: tuple[ConnectionStatus, ...]


@dataclass(frozen=True, slots=True)
class GetSystem:
    """Ask how the actor system is. Sent to the supervisor, which answers with `SystemReport` at once, whatever there is to
    report: a sign of life of the whole system."""

    ask_id: int


@dataclass(frozen=True, slots=True)
class SystemReport:
    """The answer to `GetSystem`: how the `system` is now."""

    ask_id: int
    system: SystemStatus


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close the connection of a `key`, or else the one that a status calls `connection_id`, now: its running request fails
    with `cancelled`, so do those waiting. Sent to the supervisor, which answers with `ConnectionClosed` once the key is
    forgotten."""

    ask_id: int
    key: Secret[str] | None
    connection_id: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The answer to `CloseConnection` and `StopAll`: there is no connection any more; `existed` says whether there was."""

    ask_id: int
    existed: bool


@dataclass(frozen=True, slots=True)
class StopAll:
    """Stop every connection: running and waiting requests fail with `shutting_down`.

    Sent to the supervisor, answered with `ConnectionClosed` when the last one has gone, at the latest after two seconds.

    With `within` greater than 0 they *drain*: a running turn goes on for so many seconds (at the most a week), and fails
    then; all else fails at once, and is refused from now on, until the supervisor ends. The answer comes at the latest two
    seconds after that; whatever has not ended by then is killed. A second one may shorten a drain, not prolong it.
    """

    ask_id: int
    within: float = 0.0


@dataclass(frozen=True, slots=True)
class Suspect:
    """Say that a connection has not answered. Sent to the supervisor, answered with `Examined`.

    The supervisor asks the connection itself, for about four seconds; one that gives no sign of life then is killed.
    """

    ask_id: int
    connection_id: str


@dataclass(frozen=True, slots=True)
class Examined:
    """The answer to `Suspect`: whether the connection's process has ended, by itself or killed by the supervisor."""

    ask_id: int
    ended: bool


# --- talking to a connection --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    """Run one request. Sent to a connection; answered with `Accepted` or `Refused`, then by frames.

    Frames end with exactly one `FINISHED` or `FAILED` (in a `Batch`: one `Ended`). A failure `connection_lost` with the
    detail `moved` means that this connection is ending and has not touched the request: ask the supervisor again and send
    it there. The same `Submit` twice, as when a message is delivered again, runs once.

    Attributes:
        request_id: Greater than 0, unique among the sender's requests.
        key: The key as its caller wrote it (a repr), for the evidence.
        url: As in `Request`.
        headers: As in `Request`.
        body: The full `response.create` payload, encoded.
        settings: Limits; its `proxy` is not used.
        proxy: URL of an HTTP proxy, resolved in the caller's process, or None.
        channel: Path of the listener of the sender's event channel, or None to have the frames in `Batch` messages.
        purpose: What the request is for; a warm-up ends with `FINISHED` like any other.
    """

    request_id: int
    key: Secret[str]
    url: Secret[str]
    headers: Secret[Headers]
    body: Secret[Text] = field(hash=False)  # a large one has none
    settings: Settings
    proxy: Secret[str] | None = None
    channel: str | None = None
    purpose: Purpose = Purpose.RUN

    @classmethod
    def of(
        cls, request_id: int, key: object, request: Request, settings: Settings,
        *, channel: str | None = None, purpose: Purpose = Purpose.RUN,
    ) -> Submit:
        """Check and encode a request, once, in the caller's process.

        Raises:
            InvalidRequest: The body is not a JSON object or larger than `max_request_bytes`, the URL is plain ws beyond
                loopback, or the key cannot be a key.
        """
        canonical(key, None)
        fingerprint.endpoint(request.url, allow_plaintext=settings.allow_plaintext)
        body = payload.full_text(request.body, request.field_names)
        if len(body) > settings.max_request_bytes:
            limit = settings.max_request_bytes
            raise InvalidRequest("body", f"has {len(body)} bytes as a request: max_request_bytes is {limit}")
        proxy = None if settings.proxy in (None, "direct") else Secret(str(settings.proxy))
        return cls(
            request_id=request_id,
            key=Secret(repr(key)),
            url=Secret(request.url),
            headers=Secret(request.headers),
            body=Secret(body),
            settings=settings if settings.proxy is None else replace(settings, proxy=None),
            proxy=proxy,
            channel=channel,
            purpose=purpose,
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """The connection holds the request. Sent by the connection; frames may have come before it."""

    request_id: int
    connection_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The connection does not take the request, and nothing more comes. Sent by the connection."""

    request_id: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up a request. Sent to a connection, answered with `Probed`.

    The request's frames end with `FAILED`, unless they had ended.

    Attributes:
        request_id: Of the `Submit`.
        channel: As in the `Submit`.
        callback_failed: The caller's own callback raised; the next reset reason says so.
    """

    request_id: int
    channel: str | None = None
    callback_failed: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask whether a connection is alive and still holds a request. Sent to a connection, answered with `Probed`."""

    request_id: int
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """The answer to `Probe` and `Cancel`. `held` is False when the request has ended, or was never there."""

    request_id: int
    held: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames for a requester that has no channel. Sent by a connection; the next comes only after `BatchAck`.

    Attributes:
        connection_id: Who sends.
        sequence: Counts up from 1 per requester.
        encoded: Frames as on the channel; `events()` says what they mean.
    """

    connection_id: str
    sequence: int
    encoded: Secret[bytes] = field(repr=False)

    def events(self) -> Iterator[tuple[int, Event | Ended]]:
        """Yield (request id, event) in order. The last one of each request is an `Ended`."""
        for frame in self.frames():
            match frame.type:
                case frames.FrameType.METADATA:
                    yield frame.request_id, Metadata(frames.metadata_from(frame.payload))
                case frames.FrameType.STATUS:
                    yield frame.request_id, Status(frames.status_from(frame.payload))
                case frames.FrameType.DATA:
                    yield frame.request_id, Data(frame.payload)
                case frames.FrameType.FINISHED | frames.FrameType.FAILED:
                    failure = frames.failure_from(frame.payload) if frame.payload else None
                    yield frame.request_id, Ended(failure, complete=frame.type == frames.FrameType.FINISHED)

    def frames(self) -> Iterator[frames.Frame]:
        """Yield the frames in order; each carries the `request_id` of its request."""
        yield from frames.Decoder().feed(self.encoded.reveal())


@dataclass(frozen=True, slots=True)
class Ended:
    """A request has ended.

    Attributes:
        failure: The provider's in-band error if `complete`, else why there was no terminal event; None if all went well.
        complete: A terminal event was delivered.
    """

    failure: Failure | None
    complete: bool

    @property
    def moved(self) -> bool:
        """The connection is ending and has not touched the request: ask the supervisor again and send it there."""
        return self.failure is not None and "moved" in self.failure.details


@dataclass(frozen=True, slots=True)
class BatchAck:
    """The batch of that `sequence` has been taken. Sent to the connection that it came from, which may send the next."""

    sequence: int


ANSWERS: Final[dict[type, tuple[type, ...]]] = {
    EnsureStarted: (Started, StartRefused),
    FindConnection: (Found,),
    GetStatus: (StatusReport,),
    GetSystem: (SystemReport,),
    CloseConnection: (ConnectionClosed,),
    StopAll: (ConnectionClosed,),
    Suspect: (Examined,),
    Submit: (Accepted, Refused),
    Cancel: (Probed,),
    Probe: (Probed,),
}
"""Which messages answer which, each with the `ask_id` or `request_id` of its question."""


def answers(reply: object, question: object) -> bool:
    """Say whether `reply` is the answer to `question`: late answers to earlier questions come on the same way."""
    if not isinstance(reply, ANSWERS.get(type(question), ())):
        return False
    name = "ask_id" if hasattr(question, "ask_id") else "request_id"
    return bool(getattr(reply, name) == getattr(question, name))
