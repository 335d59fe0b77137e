"""The frames of the event channel. Pure: bytes in, frames out; no socket, clock or thread.

    0        4      5      6              14
    ┌────────┬──────┬──────┬──────────────┬─────────────┐
    │ length │ type │ kind │  request id  │   payload   │     integers are big-endian
    └────────┴──────┴──────┴──────────────┴─────────────┘

A connection sends HELLO first and is answered with one HELLO. From then on the client may send SUBMIT and CANCEL. For each
request, however it was submitted, there come

    QUEUED? SENDING? METADATA* STATUS? DATA* METADATA* then exactly one of FINISHED and FAILED

and GOODBYE where the connection closes a channel that is idle: what the client sent and was not answered by then was not
taken. HELLO and GOODBYE are about the channel and carry request id 0; all others carry the id of their request, which is
not 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from pixir_actors.errors import Delivery, ErrorCode, Failure

PROTOCOL_VERSION: Final = 2
MAX_PAYLOAD: Final = 1024 * 1024 * 1024
"""Bytes of the largest payload worth waiting for; the upper bound of `max_message_bytes`."""

_TO_CLIENT: Final = (3, 9)
_TO_CONNECTION: Final = (10, 11)
"""The types of frames about requests, from the first to the last."""
_HEADER: Final = struct.Struct("!IBBQ")
HEADER_BYTES: Final = _HEADER.size

_GREETING: Final = struct.Struct("!8sH")
_MAGIC: Final = b"pixir/ch"
_SCALARS: Final = (str, int, float, bool, type(None))
_MAX_HELLO: Final = _GREETING.size + 255
_LARGE: Final = 64 * 1024
"""Bytes of a payload from a client that is read to where it stays: each fresh page that a copy takes costs more than the
copying."""


class FrameType(IntEnum):
    """What a frame says. Those up to GOODBYE are about the channel, the others about one request; the last two go to it."""

    HELLO = 1
    GOODBYE = 2
    QUEUED = 3
    SENDING = 4
    METADATA = 5
    STATUS = 6
    DATA = 7
    FINISHED = 8
    FAILED = 9
    SUBMIT = 10
    CANCEL = 11


class Frame(NamedTuple):
    """One frame. `type` and `kind` are plain integers, equal to their `FrameType` and, for DATA, `core.server_event.Tag`.

    A large payload that a connection has read is a `bytearray`, and its to keep: nobody else has it.
    """

    type: int
    kind: int
    request_id: int
    payload: bytes

    def __repr__(self) -> str:
        name = FrameType(self.type).name if self.type in FrameType._value2member_map_ else self.type
        return f"Frame({name}, kind={self.kind}, request_id={self.request_id}, <{len(self.payload)} bytes>)"


class ChannelProtocolError(Exception):
    """The peer does not speak this protocol, or not this version of it. The channel is of no further use.

    Attributes:
        frames: The complete frames that came before the fault in the same bytes.
    """

    def __init__(self, problem: str, *, frames: list[Frame] | None = None) -> None:
        super().__init__(problem)
        self.frames = frames or []


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes.

    Raises:
        struct.error: A field does not fit: a payload has at most 4 GiB.
    """
    kind_of_frame, kind, request_id, payload = frame
    return _HEADER.pack(len(payload), kind_of_frame, kind, request_id) + payload


def header(kind_of_frame: FrameType, request_id: int, size: int) -> bytes:
    """Return what stands in front of a payload of so many bytes.

    Raises:
        struct.error: As `encode`.
    """
    return _HEADER.pack(size, kind_of_frame, 0, request_id)


def encode_events(request_id: int, events: Iterable[tuple[int, bytes]]) -> bytes:
    """Return DATA frames of one request, each given as its kind and its payload.

    Raises:
        struct.error: As `encode`.
    """
    pack, data = _HEADER.pack, int(FrameType.DATA)
    parts: list[bytes] = []
    for kind, payload in events:
        parts += (pack(len(payload), data, kind, request_id), payload)
    return b"".join(parts)


class Decoder:
    """Incremental decoder of one direction of a channel.

    Costs are linear in the bytes fed, whatever the cuts: a large frame is joined once, when it is complete; one for a
    connection never, where whoever reads asks for the `room` for its rest, and says how much of that is `filled`.

    Args:
        max_payload: Bytes; a frame that announces more is refused when its header is seen.
        to_connection: Whether this is the way from a client to a connection, which has other frames.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD, *, to_connection: bool = False) -> None:
        self._max_payload = max_payload
        self._to_connection = to_connection
        self._place: Frame | None = None  # a large frame that has begun
        self._first, self._last = _TO_CONNECTION if to_connection else _TO_CLIENT
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = HEADER_BYTES
        self._fault: str | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they came, return the frames that they complete.

        Raises:
            ChannelProtocolError: A frame of unknown type, of a type that does not go with its request id, or too long.
                The error holds the frames before it; every later call raises again.
        """
        if self._fault is not None:
            raise ChannelProtocolError(self._fault)
        if self._place is not None:
            count = min(len(data), self.missing)
            self.room[:count] = data[:count]
            return self.filled(count) + (self.feed(data[count:]) if count < len(data) else [])
        if self._parts:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return []
            data = b"".join(self._parts)
        return self._split(data)

    @property
    def missing(self) -> int:
        """Bytes that the frame that has begun is short of; 0 between two frames."""
        return self._wanted - self._held if self._held else 0

    @property
    def room(self) -> memoryview:
        """Where the rest of a large frame goes; empty where none has begun. To be let go of before `filled`."""
        return memoryview(b"" if self._place is None else self._place.payload)[self._held - HEADER_BYTES :]

    def filled(self, count: int) -> list[Frame]:
        """Take note that so many bytes were put into the `room`; return the frame, if that was the rest of it."""
        self._held += count
        if self._place is None or self._held < self._wanted:
            return []
        frame, self._place = self._place, None
        self._held, self._wanted = 0, HEADER_BYTES
        return [frame]

    def _split(self, data: bytes) -> list[Frame]:
        """Cut `data` into frames and keep what is left over. The hot path of a client process."""
        frames: list[Frame] = []
        append, unpack, new = frames.append, _HEADER.unpack_from, tuple.__new__
        offset, end, most, first, last = 0, len(data), self._max_payload, self._first, self._last
        self._wanted = HEADER_BYTES
        while end - offset >= HEADER_BYTES:
            length, frame_type, kind, request_id = unpack(data, offset)
            if length > most or not (
                first <= frame_type <= last if request_id else 1 <= frame_type <= 2 and length <= _MAX_HELLO
            ):
                self._refuse(length, frame_type, request_id, frames)
            start = offset + HEADER_BYTES
            stop = start + length
            if stop > end:
                self._wanted = HEADER_BYTES + length
                if self._to_connection and length > _LARGE and frame_type == FrameType.SUBMIT:
                    self._reserve(memoryview(data)[start:], frame_type, kind, request_id, bytearray(length))
                    return frames
                break
            # Twice as fast as Frame(...), whose __new__ is Python code.
            append(new(Frame, (frame_type, kind, request_id, data[start:stop])))
            offset = stop
        rest = data[offset:]
        self._parts = [rest] if rest else []
        self._held = len(rest)
        return frames

    def _reserve(self, begun: memoryview, frame_type: int, kind: int, request_id: int, payload: bytearray) -> None:
        """Begin with a large frame, of whose payload the beginning is there."""
        payload[: len(begun)] = begun
        self._place = Frame(frame_type, kind, request_id, payload)  # type: ignore[arg-type]  # see `Frame`
        self._parts, self._held = [], HEADER_BYTES + len(begun)

    def _refuse(self, length: int, frame_type: int, request_id: int, frames: list[Frame]) -> NoReturn:
        """Fail for good, and let go of what was held."""
        if length > self._max_payload and frame_type in FrameType._value2member_map_:
            self._fault = f"a frame announces {length} bytes; the limit is {self._max_payload}"
        else:
            self._fault = f"a frame of type {frame_type} for request {request_id} is not of this protocol"
        self._parts.clear()
        raise ChannelProtocolError(self._fault, frames=frames)


def hello(connection_id: str) -> bytes:
    """Return an encoded HELLO: magic, version and the id of the connection whose channel this is.

    Raises:
        ValueError: The id is empty or has more than 255 bytes.
    """
    name = connection_id.encode()
    if not 0 < len(name) <= 255:
        raise ValueError("a connection id has 1 to 255 bytes")
    return encode(Frame(FrameType.HELLO, 0, 0, _GREETING.pack(_MAGIC, PROTOCOL_VERSION) + name))


def hello_from(frame: Frame) -> str:
    """Return the connection id of a HELLO.

    Raises:
        ChannelProtocolError: It is no HELLO, or one of another protocol or version.
    """
    if frame.type != FrameType.HELLO or not _GREETING.size < len(frame.payload) <= _MAX_HELLO:
        raise ChannelProtocolError("the channel does not begin with a greeting")
    magic, version = _GREETING.unpack_from(frame.payload)
    if magic != _MAGIC:
        raise ChannelProtocolError("the greeting is not that of an event channel")
    if version != PROTOCOL_VERSION:
        raise ChannelProtocolError(f"the peer speaks version {version} of the channel, this side {PROTOCOL_VERSION}")
    try:
        return frame.payload[_GREETING.size :].decode()
    except UnicodeDecodeError:
        raise ChannelProtocolError("the greeting's connection id is not UTF-8") from None


GOODBYE: Final = encode(Frame(FrameType.GOODBYE, 0, 0, b""))


def metadata_payload(values: Mapping[str, Any]) -> bytes:
    """Return evidence as JSON.

    Raises:
        TypeError: A value is not of JSON, or a whole number beyond 64 bits.
    """
    return orjson.dumps(dict(values))


def metadata_from(payload: bytes) -> dict[str, Any]:
    """Return the evidence in a METADATA payload.

    Raises:
        ChannelProtocolError: It is not a JSON object.
    """
    return _object(payload)


def status_payload(code: int) -> bytes:
    """Return a status code as JSON."""
    return b"%d" % code


def status_from(payload: bytes) -> int:
    """Return the code in a STATUS payload.

    Raises:
        ChannelProtocolError: It is not a whole number.
    """
    code = _json(payload)
    if type(code) is not int:
        raise ChannelProtocolError("a status is not a whole number")
    return code


def failure_payload(failure: Failure) -> bytes:
    """Return a failure as JSON.

    Raises:
        TypeError: `details` or `error` hold what is not of JSON, or a whole number beyond 64 bits.
    """
    error = None if failure.error is None else dict(failure.error)
    return orjson.dumps(
        {
            "code": failure.code.value,
            "delivery": failure.delivery.value,
            "retryable": failure.retryable,
            "retry_after": failure.retry_after,
            "details": dict(failure.details),
            "status": failure.status,
            "error": error,
        }
    )


def failure_from(payload: bytes) -> Failure:
    """Return the failure in a FAILED payload.

    Raises:
        ChannelProtocolError: It is no failure of this version.
    """
    values = _object(payload)
    try:
        details = _typed(values["details"], dict)
        for value in details.values():
            _typed(value, *_SCALARS)
        return Failure(
            code=ErrorCode(_typed(values["code"], str)),
            delivery=Delivery(_typed(values["delivery"], str)),
            retryable=_typed(values["retryable"], bool),
            retry_after=_typed(values["retry_after"], float, int, type(None)),
            details=details,
            status=_typed(values["status"], int, type(None)),
            error=_typed(values["error"], dict, type(None)),
        )
    except (KeyError, TypeError, ValueError):
        raise ChannelProtocolError("a failure has not the fields of this version") from None


def _typed(value: Any, *types: type) -> Any:
    if type(value) not in types:
        raise TypeError
    return value


def _json(payload: bytes) -> Any:
    """Parse JSON; what is wrong with it is not repeated, as it may quote the payload."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise ChannelProtocolError("a payload is not JSON") from None


def _object(payload: bytes) -> dict[str, Any]:
    values = _json(payload)
    if not isinstance(values, dict):
        raise ChannelProtocolError("a payload is not a JSON object")
    return values
