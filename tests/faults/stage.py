"""Plays one row of the matrix against a simulator of its own, and says what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import pytest

from pixir_actors import Client, Data, PixirError, ProviderError, Stream, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator, TurnContext
from tests.conftest import until, within
from tests.faults.places import PLACES, another_authority
from tests.faults.row import AT_ONCE, LIMIT_NOTICE, Outcome, Row
from tests.scenarios.caller import Caller, user

LARGE: Final = 8 * 1024 * 1024
"""Bytes of a request that a frozen peer's socket buffers do not take."""
UNDER_TEST, NEXT = "the turn", "the next turn"
SLACK: Final = within(6)
"""Seconds after its limit, or at once, in which a turn has to end while the whole matrix runs beside it."""
WINDOW: Final = within(1)
LIMITS: Final = {
    "connect_timeout": within(0.4),
    "send_timeout": within(0.4),
    "first_event_timeout": within(0.4),
    "idle_timeout": within(0.4),
    "pong_timeout": within(0.3),
    "queue_timeout": within(0.4),
    "timeout": within(2),
}
"""What a limit is set to in a row that is about it; in all others it is a minute."""
A_MINUTE: Final[dict[str, Any]] = dict.fromkeys(LIMITS, 60.0) | {"degraded_for": WINDOW}


class OwnError(Exception):
    """What the caller's own code raises."""


class Play:
    """One row, cold or continued. `run` returns what was seen; it raises AssertionError where a promise was broken."""

    def __init__(self, client: Client, row: Row, *, continued: bool) -> None:
        self.client, self.row, self.continued = client, row, continued
        self.released = threading.Event()
        self._replies = iter(row.replies)
        self._stack = contextlib.ExitStack()

    def run(self) -> Outcome:
        with self._stack:
            if self.row.act == "closes client":
                self.client = self._stack.enter_context(Client.embedded())
            self.sim = self._stack.enter_context(Simulator(self._reply, **self.row.server))
            self.caller = Caller(self.client, self.sim, uuid.uuid4().hex)
            if self.sim.ca_file is not None:
                self.caller.options["ca_file"] = self.sim.ca_file
            self._stack.callback(self._end)
            return self._played()

    def _played(self) -> Outcome:
        self._prepare()
        for fault in self.row.armed:
            self.sim.inject(fault)
        if self.row.frozen and not self.continued and not self._idles:
            self.sim.inject(FAULTS["freeze"]("upgrade"))
        if self._idles:
            self._pause()
        sent = len(self.sim.requests)
        outcome, verdict = self._bounded(self._queued if self.row.phase == "queued" else self._turn)
        sent = len(self.sim.requests) - sent
        self._ran_once()
        then = self._next()
        return Outcome(outcome, verdict, sent - self._running, then)

    @property
    def _idles(self) -> bool:
        return self.row.phase == "idle" or (self.row.phase == "closing" and self.row.at is None)

    @property
    def _running(self) -> int:
        """Requests of another turn that are sent while the one under test waits."""
        return int(self.row.phase == "queued")

    def _end(self) -> None:
        self.released.set()
        with contextlib.suppress(StreamError):
            self.client.close(self.caller.key)

    def _reply(self, turn: TurnContext) -> Reply:
        reply = next(self._replies, None) if turn.text.startswith(UNDER_TEST) else None
        if reply is None and turn.text == "running":
            reply = self.row.running or Reply.text("ran")
            return reply if self.row.running_fails else reply.held(self.released, "terminal")
        return reply or Reply.text(f"You said: {turn.text[:40]}", deltas=4)

    # Before the turn

    def _prepare(self) -> None:
        row, keep = self.row, dict(self.caller.options)
        self.caller.options |= A_MINUTE
        if self._idles:
            self.caller.options |= self._about_limit() | row.options
        if row.frozen and (self.continued or self._idles):
            self.sim.inject(FAULTS["freeze"]("after_terminal" if self.continued else "upgrade"))
        if self.continued:
            self.caller.say("first")
        elif self._idles:
            self.client.warm(self.caller.key, self.caller.request([user("first")]), **self.caller.options)
        if row.degraded:
            self.sim.inject(FAULTS["cut_before_first_event"]())
            with self.client.stream(self.caller.key, self.caller.request([user("fails")]), degraded_for=within(3)) as stream:
                with pytest.raises(StreamError):
                    list(stream)
        elif self.continued and (row.phase in ("connecting", "upgrading") or "upgrade" in row.fault):
            # Or the turn would find the socket open and open none.
            self.sim.close_connection(1001)
            self._closed()
        self.caller.options = keep | A_MINUTE

    def _about_limit(self) -> dict[str, Any]:
        limit = self.row.limit
        if limit == AT_ONCE:
            return {}
        if limit == "pong_timeout":
            return {"keepalive_interval": within(0.1), limit: LIMITS[limit]}
        return {limit: LIMITS[limit]}

    def _closed(self, seconds: float = SLACK) -> None:
        self.sim.wait_for(lambda seen: seen.open_connections == 0, seconds)

    def _pause(self) -> None:
        """Let the fault of an idle connection happen."""
        act = self.row.act
        if act is not None and act not in _CROSSING:
            _ACTS[act](self)
        if self.row.ends_socket:
            self._closed(LIMITS.get(self.row.limit, 0.0) + SLACK)
        if act == "retires":
            assert until(lambda: self.client.status(self.caller.key) == [], 10)

    # The turn

    def _bounded(self, turn: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        began = time.monotonic()
        result = turn()
        took = time.monotonic() - began
        limit = 0.0 if self._idles or self.row.limit == AT_ONCE else LIMITS[self.row.limit]
        assert 0.9 * limit <= took < limit + SLACK, f"the limit is {limit:g} s, it took {took:.2f} s"
        return result

    def _turn(self) -> tuple[str, str]:
        """Run the turn under test to whatever end it has; return the outcome and the verdict."""
        if self.row.act == "raises":
            return self._reduced()
        if self.row.act in _CROSSING:
            return self._crossed()
        history = self.caller.history
        result = self._ended(lambda: self._stream(UNDER_TEST), self._events)
        if not result[0].startswith(("answered", "recovered")):
            self.caller.history = history
        return result

    def _stream(self, text: str) -> Stream:
        row, caller = self.row, self.caller
        caller.history = [*caller.history, user(text + " " + "x" * (LARGE if row.large else 0))]
        options = {} if self._idles else self._about_limit() | row.options
        if row.elsewhere == "untrusted":
            options["ca_file"] = another_authority(self._stack)
        if row.elsewhere in PLACES:
            caller.url = self._stack.enter_context(PLACES[row.elsewhere]())
        if row.bearer is not None:
            caller.api_key = row.bearer
        try:
            return caller.stream(**options)
        finally:
            caller.url = None

    def _ended(self, start: Callable[[], Stream], read: Callable[[Stream], str | None]) -> tuple[str, str]:
        try:
            with start() as stream:
                left = read(stream)
                if left is not None:
                    return left, "-"
            stream.raise_for_failure()
        except StreamError as error:
            return failure(error), str(error.delivery)
        self.caller.history += stream.output
        if stream.response is not None:
            self.caller.check(self.caller.history[: -len(stream.output)], stream.response["id"])
        return answer(stream), "-"

    def _events(self, stream: Stream) -> str | None:
        """Read a stream, and do what the row does at its point; return a word if the caller left."""
        act = None if self._idles else self.row.act
        if act is not None and self.row.at in _POINTS:
            _POINTS[self.row.at](self)
            if act == "leaves":
                stream.cancel()
                return "left"
            _ACTS[act](self)
            act = None
        for event in stream:
            if act is not None and isinstance(event, Data) and event.type == self.row.at:
                if act == "leaves":
                    return "left"
                _ACTS[act](self)
                act = None
        return None

    def _reduced(self) -> tuple[str, str]:
        def fold(event: Any, acc: int) -> int:
            if isinstance(event, Data) and event.type == self.row.at:
                raise OwnError
            return acc + 1

        request = self.caller.request([*self.caller.history, user(UNDER_TEST)])
        try:
            self.client.reduce(self.caller.key, request, 0, fold, **self.caller.options)
        except OwnError:
            return "its own exception", "-"
        return "answered", "-"

    def _crossed(self) -> tuple[str, str]:
        """Let the request and what the server does meet at a connection that sees both at the same time."""
        pid = self._pid()
        os.kill(pid, signal.SIGSTOP)
        waking = threading.Timer(within(0.3), os.kill, (pid, signal.SIGCONT))
        try:
            assert self.row.act is not None
            _CROSSING[self.row.act](self)
            waking.start()
            return self._ended(lambda: self._stream(UNDER_TEST), self._events)
        finally:
            waking.join()

    def _queued(self) -> tuple[str, str]:
        """Have a turn run, and the one under test wait behind it."""
        caller, before = self.caller, self.caller.history
        ahead = [*before, user("running")]
        fails = self.row.running_fails
        with caller.client.stream(caller.key, caller.request(ahead), **caller.options) as running:
            if not fails:
                self._requested()
            if self.row.act == "fills":
                with caller.client.stream(caller.key, caller.request(ahead), **caller.options):
                    result = self._waited(running)
            else:
                result = self._waited(running)
            self.released.set()
            with contextlib.suppress(PixirError):
                for _ in running:
                    pass
        if result[0].startswith("answered"):
            return result
        caller.history = [*ahead, *running.output] if running.response is not None else before
        return result

    def _waited(self, running: Stream) -> tuple[str, str]:
        def read(stream: Stream) -> str | None:
            if self.row.act == "leaves":
                assert self._waiting()
                stream.cancel()
                return "left"
            if self.row.act == "runner leaves":
                assert self._waiting()
                running.cancel()
            elif self.row.act in _ACTS:
                assert self._waiting()
                assert self.row.act is not None
                _ACTS[self.row.act](self)
            elif self.row.act == "runner fails":
                self.released.set()
            for _ in stream:
                pass
            return None

        return self._ended(lambda: self._stream(UNDER_TEST), read)

    def _waiting(self) -> bool:
        return until(lambda: [one.queue_length for one in self.client.status(self.caller.key)] == [1], 10)

    # After the turn

    def _ran_once(self) -> None:
        ran = [
            turn
            for turn in self.sim.turns
            if UNDER_TEST in str(turn.seen[-1].get("content"))[:40] and turn.status not in ("error", "failed")
        ]
        assert len(ran) <= 1 or self.row.options.get("retry_ambiguous"), "the server ran it twice"

    def _next(self) -> str:
        """Say how the key's next turn went out; one that is told to wait comes back."""
        caller = self.caller
        if self.row.act == "closes client":
            caller.client = self.client = self._stack.enter_context(Client.embedded())
        if self.row.settles:
            self._closed()
        caller.history = [*caller.history, user(NEXT)]
        waited = ""
        while True:
            try:
                reason = caller.send().reason
            except StreamError as error:
                if error.code != "websocket_degraded" or waited:
                    raise
                assert error.delivery == "not_sent"
                waited = "window, then "
                time.sleep(error.retry_after or 0)
                continue
            return waited + ("delta" if reason is None else f"full: {reason}")

    # What happens

    def _pid(self) -> int:
        return self.client.status(self.caller.key)[0].pid

    def kill(self) -> None:
        pid = self._pid()
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.client.close(self.caller.key)

    def resets(self) -> None:
        self.sim.abort_connection()

    def closes(self) -> None:
        self.sim.close_connection(1001)

    def fails(self) -> None:
        self.sim.close_connection(1011, "internal error")

    def pushes_event(self) -> None:
        self.sim.push({"type": "response.output_text.delta", "delta": "late"})

    def pushes_error(self) -> None:
        self.sim.push({"type": "error", "status": 500, "error": {"code": "server_error", "message": "sorry"}})

    def pushes_private(self) -> None:
        self.sim.push({"type": "codex.rate_limits", "rate_limits": {}})
        self.sim.push({"type": "keepalive"})
        self.sim.ping(b"seen")
        self.sim.wait_for(lambda seen: seen.pongs, within(10))

    def pushes_limit(self) -> None:
        self.sim.push(LIMIT_NOTICE)

    def pushes_limit_and_closes(self) -> None:
        self.sim.close_connection(1000, "connection limit reached", behind=LIMIT_NOTICE)

    def does_not_read(self) -> None:
        self.sim.wait_for(lambda seen: seen.open_connections == 0, within(20))

    def close_client(self) -> None:
        self.client.close()

    def nothing(self) -> None:
        """What is to happen happens by itself."""

    # Where it happens

    def _connecting(self) -> None:
        states = [status.state for status in self.client.status(self.caller.key)]
        assert until(lambda: states == ["connecting"] or self._is("connecting"), 10)

    def _sending(self) -> None:
        assert until(lambda: self._is("streaming"), 10)

    def _is(self, state: str) -> bool:
        return [status.state for status in self.client.status(self.caller.key)] == [state]

    def _requested(self) -> None:
        earlier = int(self.continued)
        self.sim.wait_for(lambda seen: len(seen.requests) > earlier, within(10))

    def _created(self) -> None:
        """Wait until `response.created` has been read: a ping stands behind it."""
        earlier = int(self.continued)
        self.sim.wait_for(lambda seen: len(seen.turns) > earlier, within(10))
        self.sim.ping(b"behind")
        self.sim.wait_for(lambda seen: seen.pongs, within(10))


_ACTS: Final[dict[str, Callable[[Play], None]]] = {
    "kills": Play.kill,
    "closes key": Play.close,
    "server resets": Play.resets,
    "server closes": Play.closes,
    "server fails": Play.fails,
    "event": Play.pushes_event,
    "error": Play.pushes_error,
    "private event": Play.pushes_private,
    "limit": Play.pushes_limit,
    "limit and close": Play.pushes_limit_and_closes,
    "does not read": Play.does_not_read,
    "retires": Play.nothing,
    "nothing": Play.nothing,
    "closes client": Play.close_client,
}
_CROSSING: Final[dict[str, Callable[[Play], None]]] = {
    "crossing close": Play.closes,
    "crossing reset": Play.resets,
    "crossing limit": Play.pushes_limit_and_closes,
}
_POINTS: Final[dict[str | None, Callable[[Play], None]]] = {
    "connecting": Play._connecting,
    "sending": Play._sending,
    "requested": Play._requested,
    "created": Play._created,
}


def failure(error: StreamError) -> str:
    """Return a failure in words that are the same in every run."""
    words = [str(error.code)]
    status = error.status if isinstance(error, ProviderError) else error.details.get("status")
    number = status or error.details.get("close_code")
    if number is not None:
        words.append(str(number))
    text = " ".join(words)
    if error.code in ("websocket_handshake_failed", "provider_http_error") or number == 1009:
        text += "" if error.retryable else ", final"
    # The rest of a window is no whole number; what a provider asks for is.
    if error.retry_after is not None and float(error.retry_after).is_integer():
        text += f", again in {error.retry_after:g} s"
    return text


def answer(stream: Stream) -> str:
    evidence = stream.metadata
    reason = evidence["continuation_reset_reason"]
    how = "delta" if reason is None else f"full: {reason}"
    word = "answered" if evidence["delivery_attempts"] == 1 else "recovered"
    via = "" if evidence["active_transport"] == "websocket" else " over HTTP"
    return f"{word}{via}, {how}"
