"""One request on its way: brought to the connection of its key (`placement`), its frames brought back.

One machine for threads and event loops. Submitting and cancelling block, as questions to actors do. Reading is a generator
of what it needs, `Wait` or `Work`: `Call.next_frames` does that in the thread of its caller, `loop.LoopReader` without
blocking the event loop's.

What dies on the way becomes a `StreamError` with a verdict that holds whatever it was, because a connection says `SENDING`
on the channel before the first byte of a request leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from pixir_actors.actors import messages as m
from pixir_actors.channel.exchange import ListenerClosed
from pixir_actors.channel.frame import Frame, FrameType, failure_from, failure_payload
from pixir_actors.channel.inbox import ChannelLost, InboxClosed
from pixir_actors.core.state import Purpose
from pixir_actors.dispatch.dispatcher import Dispatcher
from pixir_actors.dispatch.link import Source
from pixir_actors.dispatch.placement import PROBE_TIMEOUT, Placement
from pixir_actors.errors import Delivery, ErrorCode, Failure, PixirError, StreamError, exception_from

PROBE_AFTER: Final = 10.0
"""Seconds of silence after which a connection is asked whether it is alive."""
LAST_FRAMES: Final = 2.0
"""Seconds that the last frames of a request may be on their way when its connection says that it has ended."""

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
        self._dispatcher = dispatcher
        self._at = Placement(dispatcher, ask, submit)
        self._sending = False
        self._event_seen = False
        self._metadata_seen = False
        self._retried = False
        self._read_out = False

    @property
    def source(self) -> Source | None:
        """Where its frames come from, once it was submitted."""
        return self._at.source

    def has_waited(self, seconds: float) -> None:
        """Take note that so much of its `timeout` was over before it was made."""
        self._at.has_waited(seconds)

    @property
    def label(self) -> str:
        """What status shows for its key: a digest, or the key itself."""
        return self._at.label

    def submit(self) -> None:
        """Bring the request to its connection. Once, before anything is read; blocks.

        Raises:
            StreamError: No connection took the request.
            InvalidRequest: The connection does not take such a request.
        """
        try:
            self._at.place()
        except BaseException:
            self.cancel()  # as for an interrupt, after the request was sent
            raise

    def submit_at_once(self) -> bool:
        """As `submit`, without ever waiting for another process, so that an event loop's thread may do it.

        Returns:
            False where its key has no connection with an open channel: nothing was done, and it is still to be submitted.
        """
        try:
            return self._at.place_at_once()
        except BaseException:
            self.cancel()
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
            self._at.end()
            if not self._retried:
                raise
            raise exception_from(_overall(error.failure)) from None

    def _next(self) -> Generator[Step, Any, list[Frame]]:
        while True:
            frames = yield from self._take()
            failure = failure_from(frames[-1].payload) if frames[-1].type == FrameType.FAILED else None
            if failure is not None and "moved" in failure.details and not self._dispatcher.closing:
                yield Work(partial(self._at.place, moved=True))
                frames.pop()
            elif failure is not None and failure.code is ErrorCode.INVALID_PROVIDER_REQUEST:
                raise self._at.refused(failure)
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
            self._at.drop()
        return [frame for frame in frames if frame[0] > _SENDING]

    def abandon(self) -> None:
        """Let go of what has been received, without a word to the connection. For destructors: waits for nothing."""
        self._at.end()

    def disown(self) -> None:
        """Say that `cancel` follows: what has not been submitted yet never is. From any thread; waits for nothing."""
        self._at.disown()

    def cancel(self, *, callback_failed: bool = False) -> None:
        """Give the request up, if it has not ended. Blocks for two seconds at the most, whatever has died. Idempotent."""
        # Of one that was read to its end the connection wants to know only how its caller fared with it.
        if not self._read_out or callback_failed:
            self._at.cancel(callback_failed=callback_failed)

    # Waiting

    def _take(self) -> Generator[Step, Any, list[Frame]]:
        while True:
            if self._at.late():
                yield Work(self.cancel)
                raise self._at.failed(ErrorCode.REQUEST_TIMEOUT, self._verdict())
            assert self._at.source is not None
            try:
                frames: list[Frame] | None = yield Wait(self._at.source, self._at.patience(PROBE_AFTER))
                if frames is None and self._at.patience(PROBE_AFTER) >= PROBE_AFTER:
                    frames = yield from self._probe()
            except ChannelLost as lost:
                if self._at.follow(lost.loss):
                    continue
                if self._at.untouched():
                    yield Work(partial(self._at.place, moved=True))
                    continue
                if self._may_retry():
                    yield Work(self._at.place)
                    continue
                code = ErrorCode.CONNECTION_UNRESPONSIVE if self._at.unanswered else ErrorCode.CONNECTION_LOST
                # Closing the client, this side did not read to the end.
                raise self._at.failed(code, self._verdict(lost=not self._dispatcher.closing)) from None
            except InboxClosed:
                raise self._at.failed(ErrorCode.CANCELLED, self._verdict()) from None
            except ListenerClosed as closed:
                if self._dispatcher.closing:
                    raise self._at.failed(ErrorCode.SHUTTING_DOWN, self._verdict()) from None
                raise PixirError(str(closed)) from closed
            if frames is not None:
                return frames

    def _probe(self) -> Generator[Step, Any, list[Frame] | None]:
        """Nothing has come for a while: find out whether the connection is alive and still has the request.

        Returns:
            Frames that came meanwhile, or None: go on waiting.
        """
        assert self._at.source is not None
        held = yield Work(self._holds)
        if held is not False:
            return None
        frames: list[Frame] | None = yield Wait(self._at.source, LAST_FRAMES)
        if frames is None:
            raise self._at.failed(ErrorCode.CONNECTION_LOST, self._verdict())
        return frames

    def _holds(self) -> bool | None:
        """Ask the connection whether it has the request; None where it does not say, and has been examined."""
        assert self._at.source is not None
        answer = self._at.ask(m.Probe(self._at.submit.request_id, self._at.submit.channel), timeout=PROBE_TIMEOUT)
        if answer is None and self._at.source.lost is None:
            self._examine()
        return None if answer is None else bool(answer.held)

    def _examine(self) -> None:
        """Have a connection that does not answer examined: killed, its channel breaks after its last word, which says
        whether the request was sent. One that lives after all gets another chance, once.
        """
        assert self._at.connection is not None
        if self._at.unanswered or self._dispatcher.ended(self._at.connection) is None:
            raise self._at.failed(ErrorCode.CONNECTION_UNRESPONSIVE, self._verdict())
        self._at.unanswered = True

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
        wanted = self._at.submit.settings.retry_ambiguous and self._at.submit.purpose is Purpose.RUN
        ambiguous = self._verdict(lost=True) is Delivery.AMBIGUOUS and not self._metadata_seen
        if not wanted or self._retried or not ambiguous or self._dispatcher.closing:
            return False
        self._retried, self._sending, self._at.unanswered = True, False, False
        return True


def _overall(failure: Failure) -> Failure:
    """Return the failure of a request whose first attempt may have run, from that of its second one."""
    certain = failure.delivery in (Delivery.NOT_SENT, Delivery.REJECTED)
    return replace(failure, delivery=Delivery.AMBIGUOUS) if certain else failure
