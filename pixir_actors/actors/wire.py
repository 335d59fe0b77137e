"""The connection's hold on its transport: what the machine wants done to the socket, and what the socket says back."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Final

from pixir_actors.actors.intake import parse_events
from pixir_actors.actors.watch import Watch
from pixir_actors.core import inputs
from pixir_actors.core.state import Via
from pixir_actors.core.text import Text
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Connector, Fault, Received, Target, Transport

SLICE_MESSAGES: Final = 256
SLICE_BYTES: Final = 1024 * 1024


class Wire:
    """At most one socket, or one attempt to open it. Used from the actor's thread only; nothing blocks.

    Args:
        watch: Where the socket is registered.
        connect: What starts opening a socket, for each way to the provider.
        feed: Takes inputs for the machine, in order. What a method returns is for its caller to feed.
    """

    def __init__(
        self,
        watch: Watch,
        connect: Mapping[Via, Callable[[Target], Connector]],
        feed: Callable[[list[inputs.Input]], None],
    ) -> None:
        self._watch, self._connect, self._feed = watch, connect, feed
        self._connector: Connector | None = None
        self._token = 0
        self._transport: Transport | None = None
        self._held: Received | None = None  # read at rest, and still to be fed
        self._written_before: int | None = None  # bytes written before the request that is being written

    def open(self, target: Target, token: int, via: Via) -> list[inputs.Input]:
        """Start opening a socket; its end is fed as `Connected` or `ConnectFailed`, or returned if there is no start."""
        self._token = token
        try:
            self._connector = self._connect[via](target)
        except OSError as error:
            reason = "too_many_open_files" if error.errno in (errno.EMFILE, errno.ENFILE) else "os_error"
            return [inputs.ConnectFailed(token, ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": reason})]
        self._watch.add(self._connector.fileno(), self._opened)
        return []

    def abandon(self) -> None:
        """Give up opening, if that is under way."""
        connector, self._connector = self._connector, None
        if connector is not None:
            self._watch.remove(connector.fileno())
            connector.abandon()

    def limit(self, max_message_bytes: int) -> None:
        """Bound each incoming message by what the request that is about to be sent allows."""
        assert self._transport is not None
        self._transport.limit(max_message_bytes)

    def send(self, data: Text) -> list[inputs.Input]:
        """Write a request; `Sent` or `SocketFailed` is returned now or fed later."""
        assert self._transport is not None
        self._written_before = self._transport.written_bytes()
        return self._written(self._transport.send_text(data))

    def ping(self) -> list[inputs.Input]:
        """Write a ping; its pong is a frame like any other."""
        assert self._transport is not None
        return self._written(self._transport.ping(b"pixir"))

    def close(self, code: int | None = None) -> None:
        """Close the socket, if there is one."""
        transport, self._transport = self._transport, None
        self._written_before = self._held = None
        if transport is not None:
            self._watch.remove(transport.fileno())
            transport.close(code)

    def read(self) -> None:
        """Read one slice and feed what it holds. What is left in user space is read in the next round of the watch."""
        transport, held, self._held = self._transport, self._held, None
        if transport is None:
            return
        if held is not None and (heard := self._heard(held)):
            self._feed(heard)
            if self._transport is not transport:
                return
        received = transport.receive(max_messages=SLICE_MESSAGES, max_bytes=SLICE_BYTES)
        if received.more:
            self._watch.again(self.read)
        if heard := self._heard(received):
            self._feed(heard)
        # A pong was buffered while reading, and the socket did not take all of it.
        if self._transport is transport and transport.pending_bytes():
            self._feed(self._written(transport.flush()))

    # At rest: outside of the watch's rounds, without the machine (`pulse`). What is not for there is left to `read`.

    def ping_at_rest(self) -> bool:
        """Write a ping; False where the socket is no more, which is still to be fed then."""
        assert self._transport is not None
        fault = self._transport.ping(b"pixir")
        if fault is not None:
            self._hold(self._last_received(fault))
            return False
        self._watch.writing(self._transport.fileno(), self._transport.pending_bytes() > 0)
        return True

    def hear_at_rest(self) -> bool | None:
        """Read what came; say whether there was a sign of life. None: there is something else, here or elsewhere."""
        transport = self._transport
        if transport is None or not self._watch.only_readable(transport.fileno()):
            return None
        received = transport.receive(max_messages=SLICE_MESSAGES, max_bytes=SLICE_BYTES)
        if received.messages or received.more or received.fault is not None or transport.pending_bytes():
            self._hold(received)
            return None
        return received.frames > 0

    def _hold(self, received: Received) -> None:
        self._held = received
        self._watch.again(self.read)

    def _heard(self, received: Received) -> list[inputs.Input]:
        events, malformed = parse_events(received.messages)
        heard: list[inputs.Input] = []
        last = malformed or received.fault is not None
        if received.frames:
            heard.append(inputs.Received(tuple(events), last=last))
        if malformed:
            heard.append(inputs.SocketFailed(ErrorCode.WEBSOCKET_FAILED, {"reason": "invalid_json"}))
        elif received.fault is not None:
            heard.append(self._failed(received.fault))
        return heard

    def _last_words(self, fault: Fault) -> list[inputs.Input]:
        held, self._held = self._held, None
        heard = [] if held is None else self._heard(held)
        if heard and isinstance(heard[-1], inputs.SocketFailed):
            return heard  # it has ended already, and ends once
        return heard + self._heard(self._last_received(fault))

    def _last_received(self, fault: Fault) -> Received:
        """Return what a server said before a write to it failed: an error event or a close frame tell more than "reset"."""
        assert self._transport is not None
        received = self._transport.receive(max_messages=SLICE_MESSAGES, max_bytes=SLICE_BYTES)
        received.fault = received.fault or fault
        return received

    def _opened(self, _: bool) -> None:
        connector, self._connector = self._connector, None
        assert connector is not None
        self._watch.remove(connector.fileno())
        outcome = connector.result()
        if isinstance(outcome, Fault):
            self._feed([inputs.ConnectFailed(self._token, outcome.code, outcome.details, outcome.retry_after)])
            return
        self._transport = outcome
        self._watch.add(outcome.fileno(), self._ready)
        # What the server sent right behind the upgrade may be in user space already (TLS), where no poll shows it.
        self._watch.again(self.read)
        self._feed([inputs.Connected(self._token)])

    def _ready(self, readable: bool) -> None:
        if self._transport is not None and self._transport.pending_bytes():
            self._feed(self._written(self._transport.flush()))
        if readable:
            self.read()

    def _written(self, fault: Fault | None) -> list[inputs.Input]:
        """Return what follows from a write: it failed, it is complete, or it goes on when the socket takes more."""
        transport = self._transport
        assert transport is not None
        if fault is not None:
            return self._last_words(fault)
        pending = transport.pending_bytes() > 0
        self._watch.writing(transport.fileno(), pending)
        if pending or self._written_before is None:
            return []
        self._written_before = None
        return [inputs.Sent()]

    def _failed(self, fault: Fault) -> inputs.SocketFailed:
        assert self._transport is not None
        written = self._transport.written_bytes()
        # Over HTTP the request leaves in a helper thread, after it was taken: nothing has left while nothing is written.
        unsent = written in (0, self._written_before)
        return inputs.SocketFailed(fault.code, fault.details, unsent)
