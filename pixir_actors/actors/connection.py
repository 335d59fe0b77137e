"""The connection actor: one process per key, one socket, one state machine.

A thin shell. A message, a readable socket or a wakeup becomes an input of `core.lifecycle.transition`, and what that
returns is performed. Reads never block; opening a socket runs in the transport's helper thread; so a stream, a cancel, a
status question and a wakeup are all heard within milliseconds of each other.
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.actors import process
from pixir_actors.actors.board import slot_at
from pixir_actors.actors.intake import Intake, refusal, target_of
from pixir_actors.actors.journal import Journal
from pixir_actors.actors.outbox import Outbox
from pixir_actors.actors.pulse import Pulse
from pixir_actors.actors.reporter import Reporter
from pixir_actors.actors.shell import ShellActor
from pixir_actors.actors.sink import ChannelSink, Sink
from pixir_actors.actors.submission import submission_from
from pixir_actors.actors.telling import encoded, frame_of
from pixir_actors.actors.wire import Wire
from pixir_actors.channel.frame import Frame, FrameType
from pixir_actors.channel.sender import ChannelUnavailable
from pixir_actors.core import actions as do
from pixir_actors.core import inputs
from pixir_actors.core.continuation import ResetReason
from pixir_actors.core.lifecycle import transition
from pixir_actors.core.report import describe, facts_of
from pixir_actors.core.state import Connection, State, Via, evolve
from pixir_actors.core.text import Text
from pixir_actors.core.verdict import verdict
from pixir_actors.errors import ErrorCode, Failure, InvalidRequest
from pixir_actors.settings import Settings
from pixir_actors.transport.base import Connector, Target
from pixir_actors.transport.http import open_http
from pixir_actors.transport.websocket import open_websocket

LINGER: Final = 1.0
"""Seconds a retired connection stays, to send back those who still have its address."""
STASH_LIMIT: Final = 1000

_DEFAULTS: Final = Settings()  # checked once, and not in every new process
_ALARM: Final = "alarm"
_REPORT: Final = "report"
_SWEEP: Final = "sweep"
_EXIT: Final = "exit"


class ConnectionActor(ShellActor):
    """Owns the socket of one key. Started by the supervisor, which introduces it with `Begin`."""

    takes_capabilities = True
    connect: Callable[[Target], Connector] = staticmethod(open_websocket)
    connect_http: Callable[[Target], Connector] = staticmethod(open_http)
    """What open sockets; a test may put others in their place."""

    def __init__(self, capabilities: dict[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(capabilities, **rest)
        self._begin: c.Begin | None = None
        self._supervisor: Any = None
        self._stash: list[tuple[Any, Any]] = []  # what overtook `Begin`
        self._conn = Connection.new(now=time.monotonic(), limits=_DEFAULTS)
        connect = {Via.WEBSOCKET: type(self).connect, Via.HTTP: type(self).connect_http}
        self._wire = Wire(self.watch, connect, self._drive)
        self._pulse = Pulse(self.watch, self._wire, self._drive)
        self._intake = Intake()
        self._unsent: Text | None = None  # a request that waits for its caller to take what comes before it
        self._reporter: Reporter | None = None
        self._sweeping = False
        self._leaving = False  # it has stopped, and ends when callers have taken what is theirs
        self._journal = Journal("pixir_actors.connection", limited=not self.in_process)
        self._outbox = self._new_outbox("")
        if not self.in_process:
            # From birth: the parent may be killed before its introduction comes.
            process.die_with_parent(os.getppid())

    # Messages

    def handle(self, message: Any, sender: Any) -> None:
        if isinstance(message, c.Begin):
            self._start(message, sender)
        elif self._begin is None:
            if len(self._stash) < STASH_LIMIT:
                self._stash.append((message, sender))
        elif (handler := _HANDLERS.get(type(message))) is not None:
            handler(self, message, sender)

    def _start(self, begin: c.Begin, supervisor: Any) -> None:
        self._supervisor = supervisor
        if not self.can_watch:
            self.send(supervisor, c.StartFailed(begin.connection_id, "no_watch"))
            return self.end()
        if begin.supervisor_pid is not None and not process.settle(f"pixir-{begin.label}", begin.supervisor_pid):
            return self.end()
        self._begin = begin
        self._journal.about(key=begin.label, connection_id=begin.connection_id)
        self._reporter = Reporter(
            None if begin.board is None else slot_at(begin.board, begin.slot),
            send=lambda facts: self.send(supervisor, c.Report(begin.connection_id, facts)),
            wake_after=lambda delay: self.wake_after(delay, _REPORT),
        )
        reason = ResetReason(begin.reset_reason or ResetReason.NO_PREVIOUS_RESPONSE)
        self._outbox = self._new_outbox(begin.connection_id)
        self._conn = Connection.new(now=time.monotonic(), limits=_DEFAULTS, reason=reason, attended=self.attend(self._pulse))
        self.send(supervisor, c.Began(begin.connection_id, os.getpid(), facts_of(self._conn)))
        self._drive([inputs.Begun()])
        while self._stash:
            self.handle(*self._stash.pop(0))

    def _new_outbox(self, connection_id: str) -> Outbox:
        return Outbox(
            connection_id,
            self.watch,
            send=self.send,
            on_gone=self._receiver_gone,
            on_drained=self._receiver_drained,
            on_frame=self._heard,
        )

    def _submit(self, submit: m.Submit, sender: Any) -> None:
        if self._outbox.find(submit.request_id, submit.channel, sender) is not None:
            self.send(sender, m.Accepted(submit.request_id, self._connection_id))  # it came twice, and runs once
            return
        try:
            self._take_in(submit, sender)
        except (InvalidRequest, ChannelUnavailable) as error:
            self.send(sender, m.Refused(submit.request_id, refusal(error)))
        else:
            self.send(sender, m.Accepted(submit.request_id, self._connection_id))

    def _heard(self, channel: str, frame: Frame) -> None:
        """Take a frame of a client that has a channel open: shorter than a message, and in order."""
        request_id = frame.request_id
        if frame.type == FrameType.CANCEL:
            self._give_up(m.Cancel(request_id, channel, callback_failed=bool(frame.kind)), None)
        elif self._outbox.find(request_id, channel, None) is None:  # or it came twice, and runs once
            try:
                self._take_in(submission_from(frame.payload, request_id=request_id, channel=channel), None)
            except (InvalidRequest, ChannelUnavailable) as error:
                self._outbox.refuse(channel, request_id, encoded(refusal(error)))

    def _take_in(self, submit: m.Submit, sender: Any) -> None:
        request = self._intake.prepare(submit)
        # What the server did since the last poll is heard first: a socket that it closed is not written to. It is held only
        # then: a ticket that the machine does not know could not be given up.
        if self._conn.state is State.IDLE:
            self._wire.read()
        ticket = self._outbox.hold(submit, sender)
        self._drive([inputs.Submitted(request.turn_request(ticket.number, now=time.monotonic(), jitter=random.random()))])
        self._sweep_later()

    def _cancel(self, cancel: m.Cancel, sender: Any) -> None:
        self._outbox.listen(cancel.channel)
        self._give_up(cancel, sender)
        self.send(sender, m.Probed(cancel.request_id, False))

    def _give_up(self, cancel: m.Cancel, sender: Any) -> None:
        ticket = self._outbox.find(cancel.request_id, cancel.channel, sender)
        if ticket is not None:
            reason = ResetReason.STREAM_CALLBACK_FAILED if cancel.callback_failed else ResetReason.CANCELLED
            self._drive([inputs.Cancelled(ticket.number, reason=reason)])
        elif cancel.callback_failed and self._outbox.ended_last(cancel.request_id, cancel.channel, sender):
            self._drive([inputs.Cancelled(0, reason=ResetReason.STREAM_CALLBACK_FAILED)])

    def _probe(self, probe: m.Probe, sender: Any) -> None:
        self._outbox.listen(probe.channel)
        held = self._outbox.find(probe.request_id, probe.channel, sender) is not None
        self.send(sender, m.Probed(probe.request_id, held))

    def _status(self, ask: m.GetStatus, sender: Any) -> None:
        assert self._begin is not None
        facts, begin = facts_of(self._conn), self._begin
        status = describe(facts, now=time.monotonic(), key=begin.label, connection_id=begin.connection_id, pid=os.getpid())
        self.send(sender, m.StatusReport(ask.ask_id, (status,)))

    def _acknowledged(self, ack: m.BatchAck, sender: Any) -> None:
        self._outbox.acknowledged(sender, ack.sequence, time.monotonic())
        self._leave()

    def _retire_answered(self, answer: c.RetireAnswer, _: Any) -> None:
        self._drive([inputs.RetireAnswered(answer.granted)])

    def _evict(self, _: c.Evict, __: Any) -> None:
        self._drive([inputs.EvictAsked()])

    def _stop_asked(self, stop: c.StopConnection, _: Any) -> None:
        if self._conn.state is State.STOPPED and not stop.linger:
            self.end()  # it lingers from an earlier stop, and nobody is to come any more
        else:
            self._drive([inputs.StopAsked(stop.code, linger=stop.linger)])

    def _drain_asked(self, drain: c.DrainConnection, _: Any) -> None:
        self._drive([inputs.DrainAsked(drain.within)])

    # Wakeups

    def rang(self, name: str, token: int) -> None:
        if name == _ALARM:
            self._drive([inputs.AlarmRang(token)])
        elif name == _REPORT and self._reporter is not None:
            self._reporter.due(self._conn)
        elif name == _SWEEP:
            self._sweeping = self._outbox.sweep(time.monotonic())
            if self._sweeping:
                self.wake_after(self._outbox.sweep_interval, _SWEEP)
        elif name == _EXIT:
            self.end()

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self.wake_after(self._outbox.sweep_interval, _SWEEP)

    # The machine

    def _drive(self, first: Iterable[inputs.Input]) -> None:
        """Feed inputs to the machine and perform what it answers, until nothing is left to do."""
        pending = deque(first)
        self._conn = self._pulse.end(self._conn)
        if self._conn.queue and pending and isinstance(pending[0], inputs.NotOfCallers):
            self._outbox.hear()  # what a caller has given up by now is not begun
        while pending:
            now = time.monotonic()
            before, input = self._conn, pending.popleft()
            self._conn, actions = transition(before, input, now=now)
            for action in actions:
                pending.extend(_PERFORM[type(action)](self, action))
            if actions:
                self._journal.observe(before, input, self._conn, actions, now)
            if not pending:
                self._report()
                self._outbox.flush(now)
                slow = self._outbox.overfull()
                pending.extend(inputs.Cancelled(ticket.number, ErrorCode.SLOW_CONSUMER) for ticket in slow)
        self._pulse.begin(self._conn)
        self._leave()

    def _open(self, action: do.Open) -> Iterable[inputs.Input]:
        return self._wire.open(target_of(self._outbox[action.request_id].submit), action.token, action.via)

    def _abandon_opening(self, _: do.AbandonOpening) -> Iterable[inputs.Input]:
        self._wire.abandon()
        return ()

    def _send(self, action: do.Send) -> Iterable[inputs.Input]:
        # `Sending` is in the kernel's hands before the first byte leaves: should this process die, the verdict is right. If
        # an earlier stream of the same caller is in the way, the request waits until that has been taken.
        self._outbox.flush(time.monotonic())
        if self._backlog():
            self._unsent = action.data
            return ()
        return self._wire.send(action.data)

    def _backlog(self) -> bool:
        turn = self._conn.turn
        sink = None if turn is None else self._outbox[turn.request.request_id].sink
        return isinstance(sink, ChannelSink) and not sink.delivered()

    def _receiver_drained(self, _: Sink) -> None:
        self._leave()
        if self._unsent is not None and not self._backlog():
            data, self._unsent = self._unsent, None
            self._drive(self._wire.send(data))

    def _ping(self, _: do.Ping) -> Iterable[inputs.Input]:
        return self._wire.ping()

    def _close_socket(self, action: do.CloseSocket) -> Iterable[inputs.Input]:
        self._unsent = None
        self._wire.close(action.code)
        return ()

    # Frames to the caller

    def _tell(self, action: Any) -> Iterable[inputs.Input]:
        if isinstance(action, do.Finish | do.Fail):
            self._report()  # before its caller knows: who asks then is told
        self._outbox.put(action.request_id, *frame_of(action))
        return ()

    def _sending(self, action: do.Sending) -> Iterable[inputs.Input]:
        self._wire.limit(self._outbox[action.request_id].submit.settings.max_message_bytes)
        return self._tell(action)

    def _deliver(self, action: do.Deliver) -> Iterable[inputs.Input]:
        self._outbox.put_events(action.request_id, action.events)
        return ()

    def _receiver_gone(self, sink: Sink) -> None:
        tickets = self._outbox.of_sink(sink)
        self._outbox.drop(sink)
        self._drive(inputs.Cancelled(ticket.number, reason=ResetReason.CALLER_GONE) for ticket in tickets)

    # The supervisor

    def _report(self) -> None:
        if self._reporter is not None:
            self._reporter.changed(self._conn)

    def _set_alarm(self, action: do.SetAlarm) -> Iterable[inputs.Input]:
        self.wake_instead(action.delay, _ALARM, action.token)
        return ()

    def _ask_retire(self, _: do.AskRetire) -> Iterable[inputs.Input]:
        self.send(self._supervisor, c.Retire(self._connection_id))
        return ()

    def _answer_evict(self, action: do.AnswerEvict) -> Iterable[inputs.Input]:
        self.send(self._supervisor, c.EvictAnswer(self._connection_id, action.accepted))
        return ()

    def _stop(self, action: do.Stop) -> Iterable[inputs.Input]:
        if action.linger:
            self.wake_after(LINGER, _EXIT)
        elif action.patience:
            self._leaving = True
            self.wake_after(action.patience, _EXIT)
        else:
            self.end()
        return ()

    def _leave(self) -> None:
        """End, once nothing is left to do and what was said has been taken."""
        if self._leaving and self._outbox.all_taken():
            self._leaving = False
            self.end()

    @property
    def _connection_id(self) -> str:
        return self._begin.connection_id if self._begin is not None else ""

    # Ending

    @property
    def busy(self) -> bool:
        return self._conn.turn is not None

    def defect(self) -> None:
        """A handler raised: answer everybody, close the socket, start over cold."""
        self._conn, self._unsent = self._pulse.end(self._conn), None
        self._wire.close()
        self._wire.abandon()
        for ticket in self._outbox:
            broken = encoded(Failure.of(ErrorCode.INTERNAL_ERROR, verdict(self._conn, ticket.number)))
            self._outbox.put(ticket.number, FrameType.FAILED, broken)
        now = time.monotonic()
        self._outbox.flush(now)  # without a report, which may be what raised
        fresh = Connection.new(now=now, limits=self._conn.limits, reason=ResetReason.WEBSOCKET_FAILED)
        # The token goes on, so that alarms and attempts of the connection that was are stale.
        by, self._conn = self._conn.drained_by, evolve(fresh, token=self._conn.token, attended=self._conn.attended)
        self._drive([inputs.Begun() if by is None else inputs.DrainAsked(by - now)])

    def exiting(self, sender: Any) -> None:
        """End at once: nothing is waited for. To callers, one that a signal has ended was killed."""
        if self._conn.state is not State.STOPPED:
            signalled = sender == self.myAddress
            self._drive([inputs.StopAsked(ErrorCode.CONNECTION_LOST if signalled else ErrorCode.SHUTTING_DOWN)])
        self._outbox.close()


_HANDLERS: Final[dict[type, Callable[[ConnectionActor, Any, Any], None]]] = {
    m.Submit: ConnectionActor._submit,
    m.Cancel: ConnectionActor._cancel,
    m.Probe: ConnectionActor._probe,
    m.GetStatus: ConnectionActor._status,
    m.BatchAck: ConnectionActor._acknowledged,
    c.RetireAnswer: ConnectionActor._retire_answered,
    c.Evict: ConnectionActor._evict,
    c.StopConnection: ConnectionActor._stop_asked,
    c.DrainConnection: ConnectionActor._drain_asked,
}

_PERFORM: Final[dict[type, Callable[[ConnectionActor, Any], Iterable[inputs.Input]]]] = {
    do.Open: ConnectionActor._open,
    do.AbandonOpening: ConnectionActor._abandon_opening,
    do.Send: ConnectionActor._send,
    do.Ping: ConnectionActor._ping,
    do.CloseSocket: ConnectionActor._close_socket,
    do.Queued: ConnectionActor._tell,
    do.Sending: ConnectionActor._sending,
    do.Show: ConnectionActor._tell,
    do.ShowStatus: ConnectionActor._tell,
    do.Deliver: ConnectionActor._deliver,
    do.Finish: ConnectionActor._tell,
    do.Fail: ConnectionActor._tell,
    do.Redirect: ConnectionActor._tell,
    do.SetAlarm: ConnectionActor._set_alarm,
    do.AskRetire: ConnectionActor._ask_retire,
    do.AnswerEvict: ConnectionActor._answer_evict,
    do.Stop: ConnectionActor._stop,
}
