"""One request on its way: brought to the connection of its key, its frames brought back.

What dies on the way becomes a `StreamError` with a verdict that holds whatever it was, because a connection says `SENDING`
on the channel before the first byte of a request leaves.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from pixir_actors.actors import messages as m
from pixir_actors.channel.exchange import ListenerClosed
from pixir_actors.channel.frame import Frame, FrameType, failure_from, failure_payload
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


class Call:
    """One request on its way. Used by one thread at a time, but for `cancel`.

    Raises (from the constructor, which submits):
        StreamError: No connection took the request.
        InvalidRequest: The connection does not take such a request.
    """

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
        self._source: Source | None = None
        self._ended = False
        timeout = submit.settings.timeout
        # The connection ends a request at its time; this side only where that does not.
        self._deadline = None if timeout is None else time.monotonic() + timeout + TIMEOUT_GRACE
        try:
            self._place()
        except BaseException:
            self.cancel()  # as for an interrupt, after the request was sent
            raise

    def next_frame(self) -> Frame:
        """Return the next frame that is not about the request's way; the last one is FINISHED or FAILED.

        Raises:
            StreamError: The connection, the actor system or this client is no more.
        """
        try:
            return self._over_all(self._next())
        except StreamError as error:
            self._end()
            if not self._retried:
                raise
            raise exception_from(_overall(error.failure)) from None

    def _next(self) -> Frame:
        while True:
            frame = self._take()
            if frame.type == FrameType.DATA:
                self._event_seen = True
            elif frame.type == FrameType.METADATA:
                self._metadata_seen = True
            elif frame.type == FrameType.SENDING:
                self._sending = True
                continue
            elif frame.type == FrameType.QUEUED:
                continue
            elif frame.type == FrameType.FAILED and self._moved(frame):
                self._place(moved=True)
                continue
            if frame.type == FrameType.FAILED and failure_from(frame.payload).code is ErrorCode.SLOW_CONSUMER:
                self.cancel()  # it may have been found slow on this side, and the connection knows nothing of it
            elif frame.type in (FrameType.FINISHED, FrameType.FAILED):
                self._end()
            return frame

    def abandon(self) -> None:
        """Let go of what has been received, without a word to the connection. For destructors: waits for nothing."""
        self._ended = True
        if self._source is not None:
            self._source.drop()

    def cancel(self, *, callback_failed: bool = False) -> None:
        """Give the request up, if it has not ended. Returns within two seconds, whatever has died. Idempotent."""
        if self._ended:
            return
        self._end()
        self._send_cancel(callback_failed=callback_failed)

    def _send_cancel(self, *, callback_failed: bool = False) -> None:
        if self._connection is not None and not self._dispatcher.closing:
            cancel = m.Cancel(self._submit.request_id, self._submit.channel, callback_failed)
            self._link.ask(self._connection.address, cancel, timeout=CANCEL_TIMEOUT)

    # Placing

    def _place(self, *, moved: bool = False) -> None:
        """Bring the request to a connection that takes it; `moved` says that the last one sent it back untouched."""
        while self._placements < PLACEMENTS:
            self._placements += 1
            self._check_deadline(Delivery.NOT_SENT)
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
        return self._ended

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
        self._connection = connection
        answer = self._ask_connection(self._submit, timeout=SUBMIT_TIMEOUT)
        if isinstance(answer, m.Refused):
            self._end()
            if answer.failure.code is ErrorCode.INVALID_PROVIDER_REQUEST:
                details = answer.failure.details
                raise InvalidRequest(str(details.get("field", "body")), str(details.get("problem", "is not valid")))
            raise exception_from(answer.failure)
        # A goodbye to an idle channel may have crossed the request, which then opens another channel.
        source.bind(connection.connection_id)
        # A frame says as much as an answer; its connection may have ended since.
        return answer is not None or source.started

    def _renew_source(self) -> None:
        """Have a request id that no connection has seen: what an earlier one may still say must not be taken for ours."""
        if self._source is not None:
            self._source.close()
            self._submit = replace(self._submit, request_id=self._link.number())
        limit = self._submit.settings.max_buffered_bytes
        self._source = self._link.open(self._submit.request_id, max_buffered_bytes=limit)

    def _moved(self, frame: Frame) -> bool:
        return "moved" in failure_from(frame.payload).details and not self._dispatcher.closing

    # Waiting

    def _check_deadline(self, delivery: Delivery) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.cancel()
            raise self._failed(ErrorCode.REQUEST_TIMEOUT, delivery)

    def _patience(self, seconds: float) -> float:
        """Return `seconds`, or what is left of the request's time."""
        return seconds if self._deadline is None else max(0.001, min(seconds, self._deadline - time.monotonic()))

    def _take(self) -> Frame:
        assert self._source is not None
        while True:
            self._check_deadline(self._verdict())
            try:
                frame = self._source.get(self._patience(PROBE_AFTER))
                if frame is None and self._patience(PROBE_AFTER) >= PROBE_AFTER:
                    frame = self._probe()
            except ChannelLost:
                if self._may_retry():
                    self._place()
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
            if frame is not None:
                return frame

    def _probe(self) -> Frame | None:
        """Nothing has come for a while: find out whether the connection is alive and still has the request.

        Returns:
            A frame that came meanwhile, or None: go on waiting.
        """
        assert self._source is not None
        answer = self._ask_connection(m.Probe(self._submit.request_id, self._submit.channel), timeout=PROBE_TIMEOUT)
        if answer is None and self._source.lost is None:
            self._examine()
        if answer is None or answer.held:
            return None
        frame = self._source.get(LAST_FRAMES)
        if frame is None:
            raise self._failed(ErrorCode.CONNECTION_LOST, self._verdict())
        return frame

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

    def _over_all(self, frame: Frame) -> Frame:
        """Return the frame with the verdict over all attempts, should it be the end of the second one."""
        if not self._retried or not frame.payload or frame.type not in (FrameType.FINISHED, FrameType.FAILED):
            return frame
        whole = failure_payload(_overall(failure_from(frame.payload)))
        return Frame(frame.type, frame.kind, frame.request_id, whole)

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
        if self._source is not None:
            self._source.close()


def _overall(failure: Failure) -> Failure:
    """Return the failure of a request whose first attempt may have run, from that of its second one."""
    certain = failure.delivery in (Delivery.NOT_SENT, Delivery.REJECTED)
    return replace(failure, delivery=Delivery.AMBIGUOUS) if certain else failure
