"""One request on its way: brought to the connection of its key, its frames brought back.

One machine for threads and event loops. Submitting and cancelling block, as questions to actors do. Reading is a generator
of what it needs, `Wait` or `Work`: `Call.next_frames` does that in the thread of its caller, `loop.LoopReader` without
blocking the event loop's.

What dies on the way becomes a `StreamError` with a verdict that holds whatever it was, because a connection says `SENDING`
on the channel before the first byte of a request leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from pixir_actors.actors import messages as m
from pixir_actors.actors.submission import submission_frame
from pixir_actors.channel.exchange import ListenerClosed
from pixir_actors.channel.frame import Frame, FrameType, encode, failure_from, failure_payload
from pixir_actors.channel.inbox import ChannelLost, InboxClosed
from pixir_actors.core.state import Purpose
from pixir_actors.dispatch.dispatcher import Connection, Dispatcher
from pixir_actors.dispatch.link import Source
from pixir_actors.errors import Delivery, ErrorCode, Failure, InvalidRequest, PixirError, StreamError, exception_from

SUBMIT_TIMEOUT: Final = 10.0
CANCEL_TIMEOUT: Final = 2.0
TIMEOUT_GRACE: Final = 1.0
"""Seconds that a connection gets to end a request at its `timeout`, with a better verdict than this side has."""
PROBE_AFTER: Final = 10.0
"""Seconds of silence after which a connection is asked whether it is alive."""
PROBE_TIMEOUT: Final = 5.0
LAST_FRAMES: Final = 2.0
"""Seconds that the last frames of a request may be on their way when its connection says that it has ended."""
LAST_WORDS: Final = 0.1
"""Seconds that what a connection said before it ended may wait to be read in this process."""
PLACEMENTS: Final = 4
"""How often a request that no connection has touched is brought to the next one."""


_SENDING: Final = int(FrameType.SENDING)
_METADATA: Final = int(FrameType.METADATA)
_DATA: Final = int(FrameType.DATA)
_FINISHED: Final = int(FrameType.FINISHED)


class Wait(NamedTuple):
    """Wait for frames; to be answered as `Source.take` would, errors included."""

    source: Source
    timeout: float


class Work(NamedTuple):
    """Call a function that may block for seconds; to be answered with what it returns or raises."""

    run: Callable[[], Any]


Step = Wait | Work


class Call:
    """One request on its way: `submit` it, read it, or `cancel` it. Used by one thread at a time, but for `cancel`."""

    def __init__(self, dispatcher: Dispatcher, ask: m.EnsureStarted, submit: m.Submit) -> None:
        self._dispatcher, self._ask, self._submit = dispatcher, ask, submit
        self._link = dispatcher.link
        self._placements = 0
        self._sending = False
        self._event_seen = False
        self._metadata_seen = False
        self._retried = False
        self._unanswered = False
        self._connection: Connection | None = None
        self._direct = False  # whether it went over the channel
        self._arrived = False  # whether what goes over the channel comes behind it
        self._source: Source | None = None
        self._ended = False
        self._unwanted = False
        self._read_out = False
        timeout = submit.settings.timeout
        # The connection ends a request at its time; this side only where that does not.
        self._deadline = None if timeout is None else time.monotonic() + timeout + TIMEOUT_GRACE

    def submit(self) -> None:
        """Bring the request to its connection. Once, before anything is read; blocks.

        Raises:
            StreamError: No connection took the request.
            InvalidRequest: The connection does not take such a request.
        """
        try:
            self._place()
        except BaseException:
            self.cancel()  # as for an interrupt, after the request was sent
            raise

    def next_frames(self) -> list[Frame]:
        """Return the next frames that are not about the request's way, at least one, waiting in this thread.

        The last one of all is FINISHED or FAILED.

        Raises:
            StreamError: The connection, the actor system or this client is no more.
        """
        steps = self.read()
        try:
            step = next(steps)
            while True:
                try:
                    answer = step.source.take(step.timeout) if isinstance(step, Wait) else step.run()
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            frames: list[Frame] = end.value
            return frames

    def read(self) -> Generator[Step, Any, list[Frame]]:
        """As `next_frames`, for whoever does the steps: an answer is sent, an error thrown into the generator."""
        try:
            return self._over_all((yield from self._next()))
        except StreamError as error:
            self._end()
            if not self._retried:
                raise
            raise exception_from(_overall(error.failure)) from None

    def _next(self) -> Generator[Step, Any, list[Frame]]:
        while True:
            frames = yield from self._take()
            failure = failure_from(frames[-1].payload) if frames[-1].type == FrameType.FAILED else None
            if failure is not None and "moved" in failure.details and not self._dispatcher.closing:
                yield Work(partial(self._place, moved=True))
                frames.pop()
            elif failure is not None and failure.code is ErrorCode.INVALID_PROVIDER_REQUEST:
                raise self._refused(failure)
            elif failure is not None and failure.code is ErrorCode.SLOW_CONSUMER:
                yield Work(self.cancel)  # it may have been found slow on this side, and the connection knows nothing of it
            if kept := self._noted(frames):
                return kept

    def _noted(self, frames: list[Frame]) -> list[Frame]:
        """Take note of what frames say of the request's way; return those that are the caller's."""
        if not self._event_seen:
            types = {frame.type for frame in frames}
            self._sending |= _SENDING in types
            self._metadata_seen |= _METADATA in types
            self._event_seen = _DATA in types
        if frames and frames[-1].type >= _FINISHED:
            self._read_out = True
            self._drop()
        return [frame for frame in frames if frame[0] > _SENDING]

    def abandon(self) -> None:
        """Let go of what has been received, without a word to the connection. For destructors: waits for nothing."""
        self._ended = True
        self._drop()

    def disown(self) -> None:
        """Say that `cancel` follows: what has not been submitted yet never is. From any thread; waits for nothing."""
        self._unwanted = True

    def cancel(self, *, callback_failed: bool = False) -> None:
        """Give the request up, if it has not ended. Blocks for two seconds at the most, whatever has died. Idempotent."""
        # Of one that was read to its end the connection wants to know only how its caller fared with it.
        if self._ended or (self._read_out and not callback_failed):
            return
        self._ended = True
        if self._source is not None:
            self._source.close()  # which wakes who waits for its frames
        self._send_cancel(callback_failed=callback_failed)

    def _send_cancel(self, *, callback_failed: bool = False) -> None:
        if self._connection is None or self._dispatcher.closing:
            return
        request_id = self._submit.request_id
        # Over the channel it arrives before the next request: no answer is needed.
        frame = encode(Frame(FrameType.CANCEL, callback_failed, request_id, b""))
        if not (self._arrived and self._link.send(self._connection.connection_id, frame)):
            cancel = m.Cancel(request_id, self._submit.channel, callback_failed)
            self._link.ask(self._connection.address, cancel, timeout=CANCEL_TIMEOUT)

    # Placing

    def _place(self, *, moved: bool = False) -> None:
        """Bring the request to a connection that takes it; `moved` says that the last one sent it back untouched."""
        while self._placements < PLACEMENTS:
            self._placements += 1
            if self._late():
                self.cancel()
                raise self._failed(ErrorCode.REQUEST_TIMEOUT, Delivery.NOT_SENT)
            connection = self._dispatcher.connection(self._ask, fresh=moved)
            if self._given_up():  # by another thread, before anything was submitted here
                raise self._failed(ErrorCode.CANCELLED, Delivery.NOT_SENT)
            taken = self._try(connection) or self._taken_all_the_same(connection)
            if self._given_up():
                self._send_cancel()
                raise self._failed(ErrorCode.CANCELLED, Delivery.AMBIGUOUS if taken else Delivery.NOT_SENT)
            if taken:
                return
            moved = True
        raise self._failed(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT)

    def _given_up(self) -> bool:
        """Say whether another thread has cancelled meanwhile."""
        return self._ended or self._unwanted

    def _taken_all_the_same(self, connection: Connection) -> bool:
        """Find out what has become of a request whose connection did not answer; False if nobody has it, or ever will.

        Raises:
            StreamError: There is no telling.
        """
        assert self._source is not None
        ended = self._dispatcher.ended(connection)
        if ended is False:
            self._ask_connection(m.Probe(self._submit.request_id, self._submit.channel), timeout=PROBE_TIMEOUT)
        if ended and self._source.lost is None:
            time.sleep(LAST_WORDS)
        if self._source.started:
            return True
        if ended:
            return False
        raise self._failed(ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.AMBIGUOUS)

    def _try(self, connection: Connection) -> bool:
        self._renew_source()
        assert self._source is not None
        source = self._source
        source.bind(connection.connection_id)
        self._connection, self._unanswered = connection, False
        # So from the first: an interrupt may leave it on its way.
        self._arrived = self._direct = self._link.connected(connection.connection_id)
        if self._direct and self._send_submit(connection):
            return True
        self._arrived = self._direct = False
        answer = self._ask_connection(self._submit, timeout=SUBMIT_TIMEOUT)
        if isinstance(answer, m.Refused):
            raise self._refused(answer.failure)
        # A goodbye to an idle channel may have crossed the request, which then opens another channel.
        source.bind(connection.connection_id)
        # A frame says as much as an answer; its connection may have ended since.
        self._arrived = answer is not None or source.started
        return self._arrived

    def _send_submit(self, connection: Connection) -> bool:
        frame, request_id = submission_frame(self._submit), self._submit.request_id
        return frame is not None and self._link.send(connection.connection_id, *frame, request_id=request_id)

    def _refused(self, failure: Failure) -> PixirError:
        self._end()
        if failure.code is ErrorCode.INVALID_PROVIDER_REQUEST:
            details = failure.details
            return InvalidRequest(str(details.get("field", "body")), str(details.get("problem", "is not valid")))
        return exception_from(failure)

    def _untouched(self) -> bool:
        """Say whether the request went over a channel that ended before its connection had taken it."""
        assert self._source is not None
        return self._direct and not self._source.started and not self._dispatcher.closing

    def _renew_source(self) -> None:
        """Have a request id that no connection has seen: what an earlier one may still say must not be taken for ours."""
        if self._source is not None:
            self._source.close()
            self._submit = replace(self._submit, request_id=self._link.number())
        limit = self._submit.settings.max_buffered_bytes
        self._source = self._link.open(self._submit.request_id, max_buffered_bytes=limit)

    # Waiting

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _patience(self, seconds: float) -> float:
        """Return `seconds`, or what is left of the request's time."""
        return seconds if self._deadline is None else max(0.001, min(seconds, self._deadline - time.monotonic()))

    def _take(self) -> Generator[Step, Any, list[Frame]]:
        while True:
            if self._late():
                yield Work(self.cancel)
                raise self._failed(ErrorCode.REQUEST_TIMEOUT, self._verdict())
            assert self._source is not None
            try:
                frames: list[Frame] | None = yield Wait(self._source, self._patience(PROBE_AFTER))
                if frames is None and self._patience(PROBE_AFTER) >= PROBE_AFTER:
                    frames = yield from self._probe()
            except ChannelLost:
                if self._untouched():
                    yield Work(partial(self._place, moved=True))
                    continue
                if self._may_retry():
                    yield Work(self._place)
                    continue
                code = ErrorCode.CONNECTION_UNRESPONSIVE if self._unanswered else ErrorCode.CONNECTION_LOST
                # Closing the client, this side did not read to the end.
                raise self._failed(code, self._verdict(lost=not self._dispatcher.closing)) from None
            except InboxClosed:
                raise self._failed(ErrorCode.CANCELLED, self._verdict()) from None
            except ListenerClosed as closed:
                if self._dispatcher.closing:
                    raise self._failed(ErrorCode.SHUTTING_DOWN, self._verdict()) from None
                raise PixirError(str(closed)) from closed
            if frames is not None:
                return frames

    def _probe(self) -> Generator[Step, Any, list[Frame] | None]:
        """Nothing has come for a while: find out whether the connection is alive and still has the request.

        Returns:
            Frames that came meanwhile, or None: go on waiting.
        """
        assert self._source is not None
        held = yield Work(self._holds)
        if held is not False:
            return None
        frames: list[Frame] | None = yield Wait(self._source, LAST_FRAMES)
        if frames is None:
            raise self._failed(ErrorCode.CONNECTION_LOST, self._verdict())
        return frames

    def _holds(self) -> bool | None:
        """Ask the connection whether it has the request; None where it does not say, and has been examined."""
        assert self._source is not None
        answer = self._ask_connection(m.Probe(self._submit.request_id, self._submit.channel), timeout=PROBE_TIMEOUT)
        if answer is None and self._source.lost is None:
            self._examine()
        return None if answer is None else bool(answer.held)

    def _examine(self) -> None:
        """Have a connection that does not answer examined: killed, its channel breaks after its last word, which says
        whether the request was sent. One that lives after all gets another chance, once.
        """
        assert self._connection is not None
        if self._unanswered or self._dispatcher.ended(self._connection) is None:
            raise self._failed(ErrorCode.CONNECTION_UNRESPONSIVE, self._verdict())
        self._unanswered = True

    def _ask_connection(self, question: m.Submit | m.Probe, *, timeout: float) -> Any | None:
        """Ask the connection, as long as its channel has neither brought a frame nor broken."""
        assert self._source is not None and self._connection is not None
        source = self._source

        def pointless() -> bool:
            return source.started or (source.lost is not None and not source.lost.clean)

        address = self._connection.address
        return self._link.ask(address, question, timeout=self._patience(timeout), give_up=pointless)

    def _verdict(self, *, lost: bool = False) -> Delivery:
        if self._event_seen:
            return Delivery.ACCEPTED
        # A channel that broke had held the word that the request is being sent; where it has not, there is no telling.
        return Delivery.NOT_SENT if lost and not self._sending else Delivery.AMBIGUOUS

    def _over_all(self, frames: list[Frame]) -> list[Frame]:
        """Put the verdict over all attempts into the last frame, should it be the end of the second one."""
        last = frames[-1]
        if self._retried and last.payload and last.type >= _FINISHED:
            frames[-1] = last._replace(payload=failure_payload(_overall(failure_from(last.payload))))
        return frames

    def _may_retry(self) -> bool:
        """Say whether the caller wants a request again that may have run, and it has not been sent again yet."""
        wanted = self._submit.settings.retry_ambiguous and self._submit.purpose is Purpose.RUN
        ambiguous = self._verdict(lost=True) is Delivery.AMBIGUOUS and not self._metadata_seen
        if not wanted or self._retried or not ambiguous or self._dispatcher.closing:
            return False
        self._retried, self._sending, self._unanswered = True, False, False
        return True

    def _failed(self, code: ErrorCode, delivery: Delivery) -> StreamError:
        self._end()
        if self._dispatcher.closing:
            code = ErrorCode.SHUTTING_DOWN
        return StreamError(Failure.of(code, delivery))

    def _end(self) -> None:
        self._ended = True
        self._drop()

    def _drop(self) -> None:
        """Want no more frames. Waits for nothing, as this may be an event loop's thread, or a destructor."""
        if self._source is not None:
            self._source.drop()


def _overall(failure: Failure) -> Failure:
    """Return the failure of a request whose first attempt may have run, from that of its second one."""
    certain = failure.delivery in (Delivery.NOT_SENT, Delivery.REJECTED)
    return replace(failure, delivery=Delivery.AMBIGUOUS) if certain else failure
