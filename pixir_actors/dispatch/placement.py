"""A request at its connection: brought there, brought to the next one where that has not touched it, or given up.

What a connection did with a request that met its end decides where it may go: only what provably no connection has taken
goes to another one.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any, Final

from pixir_actors.actors import messages as m
from pixir_actors.actors.submission import submission_frame
from pixir_actors.channel.frame import Frame, FrameType, encode
from pixir_actors.channel.inbox import Loss
from pixir_actors.dispatch.dispatcher import Connection, Dispatcher, client_closed
from pixir_actors.dispatch.link import Source
from pixir_actors.errors import (
    Delivery,
    ErrorCode,
    Failure,
    InvalidRequest,
    PixirError,
    StreamError,
    WrongProcess,
    exception_from,
)

SUBMIT_TIMEOUT: Final = 10.0
CANCEL_TIMEOUT: Final = 2.0
PROBE_TIMEOUT: Final = 5.0
TIMEOUT_GRACE: Final = 1.0
"""Seconds that a connection gets to end a request at its `timeout`, with a better verdict than this side has."""
LAST_WORDS: Final = 0.1
"""Seconds that what a connection said before it ended may wait to be read in this process."""
PLACEMENTS: Final = 4
"""How often a request that no connection has touched is brought to the next one."""


class Placement:
    """One request, and the connection that has it. Used by one thread at a time, but for `disown` and `cancel`.

    Attributes:
        submit: The request as it was brought to its connection: each of them gets it under another id.
        source: Where its frames come from; None before it was first brought anywhere.
        connection: Who has it, or was last to be brought it.
        unanswered: That one has been found not to answer, and was examined.
        ended: Nobody wants anything of it any more.
    """

    def __init__(self, dispatcher: Dispatcher, ask: m.EnsureStarted, submit: m.Submit) -> None:
        self.submit = submit
        self.source: Source | None = None
        self.connection: Connection | None = None
        self.unanswered = False
        self.ended = False
        self._dispatcher, self._ask = dispatcher, ask
        self._link = dispatcher.link
        self._tries = 0
        self._direct = False  # whether it went over the channel
        self._arrived = False  # whether what goes over the channel comes behind it
        self._unwanted = False
        timeout = submit.settings.timeout
        # The connection ends a request at its time; this side only where that does not.
        self._deadline = None if timeout is None else time.monotonic() + timeout + TIMEOUT_GRACE

    @property
    def label(self) -> str:
        """What status shows for its key."""
        return self._ask.label

    # Bringing it there

    def place(self, *, moved: bool = False) -> None:
        """Bring the request to a connection that takes it; blocks.

        Args:
            moved: The last one sent it back untouched.

        Raises:
            StreamError: None takes it.
            InvalidRequest: The connection does not take such a request.
        """
        while self._tries < PLACEMENTS:
            self._tries += 1
            if self.late():
                self.cancel()
                raise self.failed(ErrorCode.REQUEST_TIMEOUT, Delivery.NOT_SENT)
            connection = self._dispatcher.connection(self._ask, fresh=moved)
            if self._given_up():  # by another thread, before anything was submitted here
                raise self.failed(ErrorCode.CANCELLED, Delivery.NOT_SENT)
            taken = self._try(connection) or self._taken_all_the_same(connection)
            if self._given_up():
                self._tell_cancelled()
                raise self.failed(ErrorCode.CANCELLED, Delivery.AMBIGUOUS if taken else Delivery.NOT_SENT)
            if taken:
                return
            moved = True
        raise self.failed(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT)

    def place_at_once(self) -> bool:
        """Send the request over the channel of its key's connection, where one is open. Asks nobody, waits for no answer.

        Returns:
            False where that is not possible, and nothing was done: `place` it.
        """
        connection = self._dispatcher.known(self._ask)
        if connection is None:
            return False
        self._tries += 1
        self._begin_at(connection)
        if self._direct and self._send_submit(connection):
            return True
        # As if it had not been tried: its id has been seen by nobody.
        self._tries -= 1
        self._direct = self._arrived = False
        self.connection = None
        return False

    def _given_up(self) -> bool:
        """Say whether another thread has cancelled meanwhile."""
        return self.ended or self._unwanted

    def _try(self, connection: Connection) -> bool:
        self._begin_at(connection)
        if self._direct and self._send_submit(connection):
            return True
        self._arrived = self._direct = False
        answer = self.ask(self.submit, timeout=SUBMIT_TIMEOUT)
        if isinstance(answer, m.Refused):
            raise self.refused(answer.failure)
        assert self.source is not None
        # A goodbye to an idle channel may have crossed the request, which then opens another channel.
        self.source.bind(connection.connection_id)
        # A frame says as much as an answer; its connection may have ended since.
        self._arrived = answer is not None or self.source.started
        return self._arrived

    def _begin_at(self, connection: Connection) -> None:
        """Have a request id that no connection has seen: what an earlier one may still say must not be taken for ours."""
        if self.source is not None:
            self.source.close()
            self.submit = replace(self.submit, request_id=self._link.number())
        limit = self.submit.settings.max_buffered_bytes
        self.source = self._link.open(self.submit.request_id, max_buffered_bytes=limit)
        self.source.bind(connection.connection_id)
        self.connection, self.unanswered = connection, False
        # So from the first: an interrupt may leave it on its way.
        self._arrived = self._direct = self._link.connected(connection.connection_id)

    def _send_submit(self, connection: Connection) -> bool:
        frame, request_id = submission_frame(self.submit), self.submit.request_id
        return frame is not None and self._link.send(connection.connection_id, *frame, request_id=request_id)

    def _taken_all_the_same(self, connection: Connection) -> bool:
        """Find out what has become of a request whose connection did not answer; False if nobody has it, or ever will.

        Raises:
            StreamError: There is no telling.
        """
        assert self.source is not None
        ended = self._dispatcher.ended(connection)
        if ended is False:
            self.ask(m.Probe(self.submit.request_id, self.submit.channel), timeout=PROBE_TIMEOUT)
        if ended and self.source.lost is None:
            time.sleep(LAST_WORDS)
        if self.source.started:
            return True
        if ended:
            return False
        raise self.failed(ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.AMBIGUOUS)

    # While it is there

    def untouched(self) -> bool:
        """Say whether it went over a channel that has ended before the connection had taken it."""
        assert self.source is not None
        return self._direct and not self.source.started and not self._dispatcher.closing

    def follow(self, loss: Loss) -> bool:
        """After a goodbye to a channel that a request did not go over, wait for its frames on the next one.

        Its connection, which took it by message, opens another channel for it if that one was closed: a goodbye that is
        read after the answer is older than the request.

        Returns:
            Whether that is the case: else the request has lost by it.
        """
        assert self.source is not None and self.connection is not None
        if not loss.clean or self.source.started or self._direct or self._dispatcher.closing:
            return False
        self.source.bind(self.connection.connection_id)
        return True

    def ask(self, question: m.Submit | m.Probe, *, timeout: float) -> Any | None:
        """Ask the connection, as long as its channel has neither brought a frame nor broken; blocks."""
        assert self.source is not None and self.connection is not None
        source = self.source

        def pointless() -> bool:
            return source.started or (source.lost is not None and not source.lost.clean)

        address = self.connection.address
        return self._link.ask(address, question, timeout=self.patience(timeout), give_up=pointless)

    def late(self) -> bool:
        """Say whether the request's time is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def has_waited(self, seconds: float) -> None:
        """Take note that so much of the request's time was over before this was made."""
        if self._deadline is not None:
            self._deadline -= seconds

    def patience(self, seconds: float) -> float:
        """Return `seconds`, or what is left of the request's time."""
        return seconds if self._deadline is None else max(0.001, min(seconds, self._deadline - time.monotonic()))

    # Its end

    def cancel(self, *, callback_failed: bool = False) -> None:
        """Give the request up and have its connection know. Blocks for two seconds at the most. Idempotent."""
        if self.ended:
            return
        self.ended = True
        if self.source is not None:
            self.source.close()  # which wakes who waits for its frames
        self._tell_cancelled(callback_failed=callback_failed)

    def disown(self) -> None:
        """Say that `cancel` follows: what has not been submitted yet never is. From any thread; waits for nothing."""
        self._unwanted = True

    def end(self) -> None:
        """Want nothing more of it, without a word to the connection. Waits for nothing."""
        self.ended = True
        self.drop()

    def drop(self) -> None:
        """Want no more frames. Waits for nothing, as this may be an event loop's thread, or a destructor."""
        if self.source is not None:
            self.source.drop()

    def failed(self, code: ErrorCode, delivery: Delivery) -> StreamError:
        """End it, and return the error that says why."""
        self.end()
        if self._dispatcher.closing:
            return client_closed(delivery)
        return StreamError(Failure.of(code, delivery))

    def refused(self, failure: Failure) -> PixirError:
        """End it, and return the error that says why its connection did not take it."""
        self.end()
        if failure.code is ErrorCode.INVALID_PROVIDER_REQUEST:
            details = failure.details
            return InvalidRequest(str(details.get("field", "body")), str(details.get("problem", "is not valid")))
        return exception_from(failure)

    def _tell_cancelled(self, *, callback_failed: bool = False) -> None:
        if self.connection is None or self._dispatcher.closing:
            return
        request_id = self.submit.request_id
        # In a fork of its process there is nothing to give up: the request is the parent's.
        with contextlib.suppress(WrongProcess):
            self._tell(request_id, callback_failed=callback_failed)

    def _tell(self, request_id: int, *, callback_failed: bool) -> None:
        assert self.connection is not None
        # Over the channel it arrives before the next request: no answer is needed.
        frame = encode(Frame(FrameType.CANCEL, callback_failed, request_id, b""))
        if not (self._arrived and self._link.send(self.connection.connection_id, frame)):
            cancel = m.Cancel(request_id, self.submit.channel, callback_failed)
            self._link.ask(self.connection.address, cancel, timeout=CANCEL_TIMEOUT)
