"""What the fuzzer aims at. A check takes any bytes, and fails unless nothing but the documented errors comes of them.

Where bytes may come in any pieces, they are read twice, whole and in pieces, and both readings have to agree.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from pixir_actors.actors.intake import parse_events
from pixir_actors.channel import frame as channel
from pixir_actors.channel.frame import ChannelProtocolError, Decoder, Frame, FrameType
from pixir_actors.core import actions as act
from pixir_actors.core import inputs as put
from pixir_actors.core import server_event
from pixir_actors.core.continuation import Anchor, ResetReason, after_response, delta
from pixir_actors.core.lifecycle import RULES, transition
from pixir_actors.core.payload import encode, parse
from pixir_actors.core.server_event import MalformedEvent, ProviderFault
from pixir_actors.core.state import Connection, Purpose, TurnRequest
from pixir_actors.errors import Delivery, ErrorCode, Failure, InvalidRequest, PixirError, exception_from
from pixir_actors.settings import Settings
from pixir_actors.stream import Stream
from pixir_actors.transport.answer import refusal, texts
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.sse import EventReader
from pixir_actors.transport.websocket import WebSocketTransport
from tests.long import corpus, mutation

LIMIT: Final = 20_000
SOCKET_CODES: Final = frozenset(
    {
        ErrorCode.WEBSOCKET_READ_FAILED,
        ErrorCode.WEBSOCKET_CLOSED,
        ErrorCode.WEBSOCKET_FAILED,
        ErrorCode.WEBSOCKET_FRAME_TOO_LARGE,
    }
)


# Events


def check_event(data: bytes, _: Random) -> str:
    """Ask of one text message all that is ever asked of it."""
    try:
        event = server_event.parse(data)
    except MalformedEvent as error:
        assert error.__cause__ is None and error.__context__ is None and not error.args, "it holds the event"
        return "malformed"
    if event is None:
        return "skipped"
    id, listed = server_event.response_id(event), server_event.listed_output(event)
    assert id is None or id
    assert str(len(data)) in repr(event) and len(repr(event)) < len(event.type) + 50
    fault = server_event.provider_fault(event)
    assert fault is None or not server_event.succeeded(event)
    if fault is not None:
        _check_fault(fault)
        return "fault"
    _check_continuation(id, listed)
    return event.stage.name.lower()


def _check_fault(fault: ProviderFault) -> None:
    assert fault.rejection is None or fault.rejection in server_event.Rejection
    assert fault.status is None or (type(fault.status) is int and 100 <= fault.status <= 999)
    _check_failure(fault.failure(Delivery.REJECTED))


def _check_failure(failure: Failure) -> bytes:
    """Send a failure through a channel, as a connection does, and make the caller's exception of it."""
    wait = failure.retry_after
    assert wait is None or (math.isfinite(wait) and 0 <= wait < 1e9), f"retry after {wait}"
    assert all(isinstance(value, (str, int, float, bool)) for value in failure.details.values())
    try:
        payload = channel.failure_payload(failure)
    except TypeError:  # nested deeper than JSON is written
        payload = channel.failure_payload(Failure.of(failure.code, failure.delivery))
    assert str(exception_from(channel.failure_from(payload)))
    return payload


def _check_continuation(id: str | None, output: list[Any]) -> None:
    """Plan the turn after a response, for a caller who puts its output behind the input."""
    before, question = [{"role": "user", "content": "hi"}], {"role": "user", "content": "and?"}
    continuation = after_response({"model": "m", "input": before}, id, output)
    if not isinstance(continuation, Anchor):
        return
    for echo in (output, output[1:], [*output, *output]):
        payload = {"model": "m", "input": [*before, *echo, question]}
        try:
            encode(payload)
        except InvalidRequest:
            return  # nested deeper than JSON is written: refused before anything is compared
        decided = delta(continuation, payload)
        assert isinstance(decided, ResetReason) or decided[-1] == question


# A whole turn


class _Call:
    """What a stream reads from."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = iter(frames)

    def next_frames(self) -> list[Frame]:
        frame = next(self._frames, None)
        assert frame is not None, "a stream without an end"
        return [frame]


class _Run:
    """A connection whose socket takes everything, and whose server says what it is given to say."""

    def __init__(self, messages: list[bytes], rng: Random) -> None:
        self.rng, self.now, self.messages = rng, 1000.0, messages
        options: dict[str, Any] = {
            "transport": rng.choice(("websocket", "websocket", "auto", "http")),
            "retry_ambiguous": rng.random() < 0.3,
        }
        self.limits = Settings(**options)
        self.conn = Connection.new(now=self.now, limits=self.limits)
        self.frames: dict[str, list[Frame]] = {}
        self.ends: Counter[str] = Counter()

    def feed(self, *inputs: put.Input) -> None:
        """Feed inputs, and what follows from them by itself."""
        waiting = deque(inputs)
        while waiting:
            input, before = waiting.popleft(), self.conn
            self.conn, actions = transition(before, input, now=self.now)
            rule = RULES.get((before.state, type(input)))
            assert self.conn.state in ({before.state} if rule is None else rule.targets)
            for action in actions:
                waiting += self._perform(action)

    def submit(self, name: str, items: list[Any]) -> None:
        self.frames[name] = []
        try:
            body = encode({"model": "m", "input": items})
        except InvalidRequest:  # nested deeper than JSON is written: a caller's own problem, and its error says so
            body = encode({"model": "m", "input": []})
        payload, text, *_ = parse(body)
        purpose = self.rng.choice((Purpose.RUN, Purpose.RUN, Purpose.RUN, Purpose.PREFILL))
        values = {"request_id": name, "endpoint": "wss://a/", "fingerprint": "f", "key": "'k'", "jitter": 0.5}
        request = TurnRequest(
            payload=payload, body=text, limits=self.limits, received_at=self.now, purpose=purpose, **values
        )  # type: ignore[arg-type]
        self.feed(put.Submitted(request))

    def listen(self) -> None:
        """Read the server's messages, several at a time, as long as there is a socket."""
        while self.messages and self.conn.socket is not None:
            count = self.rng.choice((1, 1, 2, 5, 50))
            some, self.messages = self.messages[:count], self.messages[count:]
            events, malformed = parse_events(some)
            self.now += 0.01
            self.feed(put.Received(tuple(events)))
            if malformed:
                self.feed(put.SocketFailed(ErrorCode.WEBSOCKET_FAILED, {"reason": "invalid_json"}))

    def _perform(self, action: act.Action) -> Iterator[put.Input]:
        name = getattr(action, "request_id", None)
        assert name is None or not self.ends[name], f"{action} after the end"
        match action:
            case act.Open():
                yield put.Connected(action.token)
            case act.Send():
                orjson.loads(bytes(action.data))
                yield put.Sent()
            case act.Show():
                self._frame(name, FrameType.METADATA, channel.metadata_payload(action.values))
            case act.ShowStatus():
                self._frame(name, FrameType.STATUS, channel.status_payload(action.code))
            case act.Deliver():
                for tag, raw in action.events:
                    self._frame(name, FrameType.DATA, raw, tag)
            case act.Finish():
                self.ends[action.request_id] += 1
                self._frame(name, FrameType.FINISHED, b"" if action.failure is None else _check_failure(action.failure))
            case act.Fail():
                self.ends[action.request_id] += 1
                self._frame(name, FrameType.FAILED, _check_failure(action.failure))
            case act.SetAlarm():
                assert math.isfinite(action.delay) and action.delay >= 0

    def _frame(self, name: str | None, kind: FrameType, payload: bytes, tag: int = 0) -> None:
        assert name is not None
        self.frames[name].append(Frame(kind, tag, 7, payload))


def check_turn(data: bytes, rng: Random) -> str:
    """Play messages to a connection as the answers to two requests; each is answered once, and its stream can be read."""
    run = _Run(data.split(b"\n"), rng)
    history: list[Any] = [{"role": "user", "content": "hi"}]
    run.submit("first", history)
    run.listen()
    while not run.ends["first"]:  # more than once where it is sent again
        run.feed(put.SocketFailed(ErrorCode.WEBSOCKET_CLOSED))
        run.listen()
    output = _read_as_a_caller_does(run.frames["first"])
    run.submit("second", [*history, *output, {"role": "user", "content": "and?"}])
    run.listen()
    run.feed(put.StopAsked(ErrorCode.SHUTTING_DOWN))
    assert run.ends == {"first": 1, "second": 1}, f"answered {dict(run.ends)}"
    _read_as_a_caller_does(run.frames["second"])
    return f"{run.conn.statistics.turns} turns"


def _read_as_a_caller_does(frames: list[Frame]) -> list[Any]:
    decoded = Decoder().feed(b"".join(map(channel.encode, frames)))
    assert decoded == frames
    stream = Stream(_Call(decoded))  # type: ignore[arg-type]
    try:
        for event in stream:
            assert repr(event)
        stream.raise_for_failure()
    except PixirError as error:
        assert str(error)
    assert stream.response is None or isinstance(stream.response, dict)
    assert isinstance(stream.text, str)
    output: list[Any] = stream.output
    assert isinstance(output, list)
    return output


# Bytes that come in any pieces


class _Socket:
    """A socket that is given its bytes beforehand, and takes what is written as it likes."""

    def __init__(self, parts: list[bytes], rng: Random) -> None:
        self._parts, self._rng = deque(parts), rng
        self._pause = False

    def setblocking(self, _: bool) -> None: ...

    def fileno(self) -> int:
        return 5

    def shutdown(self, _: int) -> None: ...

    def close(self) -> None: ...

    def recv(self, size: int) -> bytes:
        self._pause = not self._pause
        if self._pause and self._parts:
            raise BlockingIOError
        if not self._parts:
            return b""
        part = self._parts.popleft()
        if len(part) > size:
            self._parts.appendleft(part[size:])
        return part[:size]

    def send(self, data: bytes) -> int:
        kind = self._rng.random()
        if kind < 0.2:
            raise BlockingIOError
        return len(data) if kind < 0.8 else max(1, len(data) // 2)


def check_frames(data: bytes, rng: Random) -> str:
    """Read what a server writes behind the upgrade."""
    whole = _received([data], Random(0), 64)
    assert whole == _received(mutation.pieces(data, rng), rng, rng.choice((1, 2, 64))), "the pieces matter"
    messages, code, reason = whole
    assert code in SOCKET_CODES and all(len(message) <= LIMIT for message in messages)
    parse_events(messages)
    return f"{code} {reason}"


def _received(parts: list[bytes], rng: Random, max_messages: int) -> tuple[list[bytes], str, str]:
    transport = WebSocketTransport(_Socket([part for part in parts if part], rng), LIMIT)  # type: ignore[arg-type]
    messages: list[bytes] = []
    # Each slice reads a byte or a frame, and every other read says that there is nothing yet.
    for _ in range(10 + 4 * len(parts) + sum(map(len, parts))):
        received = transport.receive(max_messages=max_messages, max_bytes=rng.choice((100, 4096, 1 << 18)))
        assert received.frames <= max_messages and all(len(pong) <= 125 for pong in received.pongs)
        messages += received.messages
        if received.fault is not None:
            again = transport.receive(max_messages=1, max_bytes=1)
            assert again.fault == received.fault and not again.messages
            transport.close(1000)
            details = received.fault.details
            return messages, received.fault.code, str(details.get("reason", details.get("close_code", "")))
        assert transport.flush() is None
    raise AssertionError("reading does not end")


def check_channel(data: bytes, rng: Random) -> str:
    """Read what comes on an event channel."""
    frames, refused = _decoded([data])
    assert (frames, refused) == _decoded(mutation.pieces(data, rng)), "the pieces matter"
    outcome = refused or "read"
    for frame in frames:
        assert repr(frame)
        try:
            _interpret(frame)
        except ChannelProtocolError as error:
            outcome = str(error)
    return outcome


def _decoded(parts: list[bytes]) -> tuple[list[Frame], str | None]:
    decoder = Decoder(LIMIT)
    frames: list[Frame] = []
    for part in parts:
        try:
            frames += decoder.feed(part)
        except ChannelProtocolError as error:
            return frames + error.frames, "refused"
    return frames, None


def _interpret(frame: Frame) -> None:
    match frame.type:
        case FrameType.HELLO:
            channel.hello_from(frame)
        case FrameType.METADATA:
            assert isinstance(channel.metadata_from(frame.payload), dict)
        case FrameType.STATUS:
            channel.status_from(frame.payload)
        case FrameType.FAILED | FrameType.FINISHED if frame.payload:
            assert str(exception_from(channel.failure_from(frame.payload)))


def check_sse(data: bytes, rng: Random) -> str:
    """Read a stream of server-sent events."""
    limit = rng.choice((LIMIT, LIMIT, 200, 20))
    events, refused = _events_of([data], limit)
    assert (events, refused) == _events_of(mutation.pieces(data, rng), limit), "the pieces matter"
    assert all(event.strip() and len(event) <= limit for event in events)
    return "refused" if refused else "read"


def _events_of(parts: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    reader = EventReader(limit)
    events: list[bytes] = []
    try:
        for part in parts:
            for event in reader.feed(part):
                events.append(event)
        for event in reader.finish():
            events.append(event)
    except Refused as error:
        assert error.fault.code == ErrorCode.WEBSOCKET_FRAME_TOO_LARGE
        return events, True
    return events, False


def check_answer(data: bytes, rng: Random) -> str:
    """Read an HTTP response of any status and type."""
    kind = rng.choice((b"application/json", b"text/event-stream; charset=x", b"text/html", b"", data[:20]))
    name = rng.choice((b"retry-after", b"retry-after-ms", b"content-encoding", b"x"))
    value = rng.choice((b"7", b"-1", b"nan", b"Wed, 21 Oct 2099 07:28:00 GMT", data[-9:]))
    headers = [(b"Content-Type", kind), (name, value)]
    event = server_event.parse(refusal(rng.choice((204, 307, 400, 429, 503)), headers, iter(mutation.pieces(data, rng))))
    assert event is not None and event.type == "error"
    fault = server_event.provider_fault(event)
    assert fault is not None
    _check_fault(fault)
    try:
        for text in texts(headers, iter(mutation.pieces(data, rng)), LIMIT):
            parse_events([text])
    except Refused as error:
        return str(error.fault.details.get("reason", error.fault.code))
    return "read"


# The list


@dataclass(frozen=True)
class Target:
    """A check, what its inputs start from and how they are spoiled, and its share among all inputs."""

    name: str
    check: Callable[[bytes, Random], str]
    seeds: Sequence[bytes]
    spoil: Callable[[bytes, Sequence[bytes], Random], bytes]
    share: int

    def make(self, rng: Random) -> bytes:
        """Return one input."""
        return self.spoil(rng.choice(self.seeds), self.seeds, rng)


def _spoiled_turn(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Return two responses' events, some of them spoiled, lost, doubled or out of order; a line is a message."""
    messages = data.split(b"\n") + rng.choice(TURNS).split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, kind = rng.randrange(len(messages)), rng.random()
        if kind < 0.7:
            messages[at] = mutation.spoiled_json(messages[at], corpus.EVENTS, rng).replace(b"\n", b" ")
        elif kind < 0.8:
            messages.insert(at, rng.choice(corpus.EVENTS))
        elif kind < 0.9 and len(messages) > 1:
            messages.pop(at)
        else:
            messages.insert(rng.randrange(len(messages)), messages[at])
    return b"\n".join(messages)


def _spoiled_channel(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Return frames with their bytes spoiled, or whole frames with what they carry spoiled."""
    frames, _ = _decoded([data])
    if not frames or rng.random() < 0.5:
        return mutation.spoiled(data, others, rng)
    at = rng.randrange(len(frames))
    frames[at] = frames[at]._replace(payload=mutation.spoiled_json(frames[at].payload, corpus.EVENTS, rng))
    return b"".join(map(channel.encode, frames))


TURNS: Final = [b"\n".join(conversation) for conversation in corpus.CONVERSATIONS]
TARGETS: Final = [
    Target("event", check_event, corpus.EVENTS, mutation.spoiled_json, 60),
    Target("turn", check_turn, TURNS, _spoiled_turn, 4),
    Target("frames", check_frames, corpus.FRAMES, mutation.spoiled_frames, 9),
    Target("channel", check_channel, corpus.CHANNELS, _spoiled_channel, 9),
    Target("sse", check_sse, corpus.STREAMS, mutation.spoiled, 9),
    Target("answer", check_answer, corpus.BODIES, mutation.spoiled_json, 9),
]

