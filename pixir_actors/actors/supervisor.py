"""The supervisor actor: one per actor system, found by its global name. It finds, starts, retires and replaces connections.

One for one, without a restart: a connection that has crashed is started again when its key is next asked for, and one key's
crashes never touch another key. Requests do not pass through here; a client asks once per key and then talks to the
connection itself.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from thespian.actors import ChildActorExited

from pixir_actors.actors import control as c
from pixir_actors.actors import messages as m
from pixir_actors.actors import process, refusals
from pixir_actors.actors.board import Board
from pixir_actors.actors.connection import ConnectionActor
from pixir_actors.actors.ending import Ending, drain_time
from pixir_actors.actors.journal import Journal
from pixir_actors.actors.registry import Child, Registry
from pixir_actors.actors.room import Room
from pixir_actors.actors.shell import ShellActor
from pixir_actors.actors.vigil import Vigil
from pixir_actors.errors import Delivery, ErrorCode, Failure
from pixir_actors.status import SystemStatus
from pixir_actors.version import __version__

START_TIMEOUT: Final = 10.0
"""Seconds a connection's process may take to introduce itself."""
RETIRE_GRACE: Final = 2.0
"""Seconds after an address was given out within which its connection may not retire: a request is on its way."""
MAX_WATCHERS: Final = 64
"""Who hears of a connection's end, at the most: those who asked last."""
TICK: Final = 1.0
DESCRIPTORS_PER_CHILD: Final = 4
DESCRIPTOR_RESERVE: Final = 64
AS_ASKED: Final = frozenset({"retired", "evicted", "closed", "drained", "shutting_down"})
"""Why a connection ends with nothing to be looked into."""

_TICK: Final = "tick"
_STOPPED: Final = "stopped"


class SupervisorActor(ShellActor):
    """Key to connection. Runs in a process of its own; answers within milliseconds and never waits for a connection."""

    takes_capabilities = True
    connection_class: type[ConnectionActor] = ConnectionActor

    def __init__(self, capabilities: dict[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(capabilities, **rest)
        self._registry = Registry()
        self._board = Board(shared=not self.in_process)
        self._room = Room(
            self._registry,
            start=self._ensure_started,
            refuse=self._refuse,
            evict=lambda child: self.send(child.address, c.Evict()),
        )
        self._vigil = Vigil(
            self._registry,
            ask=lambda child: self.send(child.address, m.GetStatus(0)),
            tell=self.send,
            kill=self._kill,
        )
        self._ending = Ending()
        self._journal = Journal("pixir_actors.supervisor", limited=not self.in_process)
        self._born_at = time.monotonic()
        self._ticking = False
        self._missed = False  # whether a connection may have ended unreported
        self._descriptors = 0
        self._prepared = False

    # Messages

    def handle(self, message: Any, sender: Any) -> None:
        self._prepare()
        handler = _HANDLERS.get(type(message))
        if isinstance(message, ChildActorExited):
            self._child_exited(message.childAddress)
        elif handler is not None:
            handler(self, message, sender)
        if not isinstance(message, c.Report | m.GetSystem):  # the many: what they change needs no tick
            self._tick_later()

    def _prepare(self) -> None:
        if self._prepared:
            return
        self._prepared = True
        if not self.in_process:
            self._descriptors = process.raise_descriptor_limit()
            process.name_process("pixir-superv")
            # The admin starts this process; without it nobody would find these connections again.
            process.die_with_parent(os.getppid())

    def _ensure_started(self, ask: m.EnsureStarted, asker: Any) -> None:
        now = time.monotonic()
        if self._ending.refusing:
            self._refuse(ask, asker, Failure.of(ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT))
            return
        child = self._registry.of_key(ask.key)
        if child is not None and self._has_ended(child):
            self._ended(child)
            child = None
        if child is None:
            self._start_or_wait(ask, asker, now)
            return
        self._watch_for(child, ask, asker)
        if child.address is None:
            child.waiting.append((asker, ask.ask_id))
        else:
            self._give(child, asker, ask.ask_id, now)

    def _watch_for(self, child: Child, ask: m.EnsureStarted, asker: Any) -> None:
        if ask.notify and asker not in child.watchers:
            child.watchers = [*child.watchers[-MAX_WATCHERS + 1 :], asker]

    def _start_or_wait(self, ask: m.EnsureStarted, asker: Any, now: float) -> None:
        if self._room.joined(ask, asker):
            return
        if self._out_of_descriptors():
            no_more = Failure.of(ErrorCode.TOO_MANY_CONNECTIONS, Delivery.NOT_SENT, reason="descriptors")
            self._refuse(ask, asker, no_more)
        elif self._registry.serving < ask.max_connections:
            self._start(ask, asker, now)
        else:
            self._room.wait(ask, asker, now)

    def _start(self, ask: m.EnsureStarted, asker: Any, now: float) -> None:
        connection_id = uuid.uuid4().hex
        before = process.children()
        address = self.createActor(self.connection_class)
        child = Child(ask.key, connection_id, address, now, now, label=ask.label, waiting=[(asker, ask.ask_id)])
        born = process.children() - before
        if not self.in_process and len(born) == 1:
            child.pid = born.pop()  # known from birth, so that one that is stuck before it introduces itself can be ended
        self._watch_for(child, ask, asker)
        reason = self._registry.reason(ask.key)
        self._registry.add(child)
        pid = None if self.in_process else os.getpid()
        child.slot = slot = self._board.take()
        board, number = (None, 0) if slot is None else (slot.board, slot.number)
        self.send(address, c.Begin(connection_id, ask.label, reason, pid, board, number))

    def _began(self, began: c.Began, sender: Any) -> None:
        child = self._registry.of_id(began.connection_id)
        if child is None:
            return
        # Only now is the address one that other processes can use: at creation it has a meaning in this process alone.
        child.address, child.pid = sender, began.pid
        child.facts = began.facts
        self._registry.told(child.key)
        self._note(logging.INFO, "connection_started", child, ms=round((time.monotonic() - child.started_at) * 1000))
        waiting, child.waiting = child.waiting, []
        for asker, ask_id in waiting:
            self._give(child, asker, ask_id, time.monotonic())

    def _give(self, child: Child, asker: Any, ask_id: int, now: float) -> None:
        child.used_at = now
        self.send(asker, m.Started(ask_id, child.connection_id, child.address))

    def _refuse(self, ask: m.EnsureStarted, asker: Any, failure: Failure) -> None:
        if failure.code is ErrorCode.TOO_MANY_CONNECTIONS:
            facts = {"key": ask.label, "code": failure.code.value, **failure.details}
            self._journal.write(logging.WARNING, "connection_refused", **facts)
        self.send(asker, m.StartRefused(ask.ask_id, failure))

    def _start_failed(self, failed: c.StartFailed, _: Any) -> None:
        child = self._registry.of_id(failed.connection_id)
        if child is not None:
            self._fail_start(child, failed.reason)

    def _fail_start(self, child: Child, reason: str) -> None:
        failure = Failure.of(ErrorCode.WEBSOCKET_START_FAILED, Delivery.NOT_SENT, reason=reason)
        for asker, ask_id in child.waiting:
            self.send(asker, m.StartRefused(ask_id, failure))
        child.waiting, child.why = [], f"start_failed_{reason}"
        self._registry.forget(child)

    # Room, retirement and eviction

    def _out_of_descriptors(self) -> bool:
        if self.in_process:
            return False
        wanted = (len(self._registry) + 1) * DESCRIPTORS_PER_CHILD + DESCRIPTOR_RESERVE
        return wanted > self._descriptors

    def _evict_answered(self, answer: c.EvictAnswer, _: Any) -> None:
        child = self._registry.of_id(answer.connection_id)
        if child is not None:
            self._vigil.lives(child)
            self._room.evict_answered(child, accepted=answer.accepted)

    def _retire(self, ask: c.Retire, sender: Any) -> None:
        child = self._registry.of_id(ask.connection_id)
        granted = child is None or child.leaving or time.monotonic() - child.used_at > RETIRE_GRACE
        if child is not None and granted:
            child.why = "retired" if child.crashes else child.why
            self._registry.forget(child)
            child.silent = None  # it leaves by itself, if need be after a turn that has begun meanwhile
        self.send(sender, c.RetireAnswer(granted))

    def _child_exited(self, address: Any) -> None:
        child = self._registry.of_address(address)
        if child is not None:  # Thespian may say it twice
            self._ended(child)
            self.release(child.created_address)
        # Of another one that ended at the same moment it may say nothing.
        self._missed = True

    def _ended(self, child: Child) -> None:
        crashed = child.crashes
        self._registry.remove(child)
        if child.slot is not None:
            self._board.give_back(child.slot)
        self._note(logging.INFO if child.why in AS_ASKED else logging.WARNING, "connection_ended", child, why=child.why)
        failure = Failure.of(ErrorCode.WEBSOCKET_START_FAILED, Delivery.NOT_SENT, reason="process_exited")
        for asker, ask_id in child.waiting:
            self.send(asker, m.StartRefused(ask_id, failure))
        for watcher in child.watchers:
            self.send(watcher, m.ConnectionDown(child.connection_id, crashed))
        self._vigil.ended(child)
        self._room.serve()
        self._answer_stop()

    # Signs of life

    def _suspect(self, ask: m.Suspect, asker: Any) -> None:
        child = self._registry.of_id(ask.connection_id)
        if child is not None and not self._has_ended(child):
            self._vigil.suspect(child, asker, ask.ask_id)
            return
        if child is not None:
            self._ended(child)
        self.send(asker, m.Examined(ask.ask_id, True))

    def _answered(self, report: m.StatusReport, _: Any) -> None:
        for status in report.connections:
            child = self._registry.of_id(status.connection_id)
            if child is not None:
                self._vigil.lives(child)

    def _kill(self, child: Child) -> None:
        if self.in_process:
            return
        child.why = "killed"
        process.kill_child(child.pid)
        self._missed = True

    def _find_the_missed(self) -> None:
        """Look for connections whose end was not reported."""
        missed, self._missed = self._missed, False
        for child in self._registry if missed else ():
            if self._has_ended(child):
                self._ended(child)

    def _has_ended(self, child: Child) -> bool:
        """Look at the process itself."""
        return not self.in_process and child.pid != 0 and not process.child_lives(child.pid)

    # Status and ending

    def _reported(self, report: c.Report, _: Any) -> None:
        child = self._registry.of_id(report.connection_id)
        if child is not None:
            child.facts = report.facts
            self._vigil.lives(child)

    def _find(self, ask: m.FindConnection, asker: Any) -> None:
        child = self._registry.of_key(ask.key)
        self.send(asker, m.Found(ask.ask_id, None if child is None else child.address))

    def _status(self, ask: m.GetStatus, asker: Any) -> None:
        now = time.monotonic()
        known = [child.status_at(now) for child in self._registry if not child.leaving]
        self.send(asker, m.StatusReport(ask.ask_id, tuple(status for status in known if status is not None)))

    def _system(self, ask: m.GetSystem, asker: Any) -> None:
        status = SystemStatus(
            pid=os.getpid(),
            version=__version__,
            connections=self._registry.serving,
            max_descriptors=self._descriptors or process.descriptor_limit(),
            refusals=refusals.total(),
            draining=self._ending.draining,
            uptime_s=round(time.monotonic() - self._born_at, 3),
        )
        self.send(asker, m.SystemReport(ask.ask_id, status))

    def _close(self, ask: m.CloseConnection, asker: Any) -> None:
        child = self._registry.of_id(ask.connection_id) if ask.key is None else self._registry.of_key(ask.key)
        existed = child is not None and not child.leaving
        if child is not None and existed:
            self._stop_child(child, ErrorCode.CANCELLED, "closed")
        self.send(asker, m.ConnectionClosed(ask.ask_id, existed))

    def _stop_child(self, child: Child, code: ErrorCode, why: str) -> None:
        child.why = why if child.crashes else child.why
        self._registry.forget(child)
        waiting, child.waiting = child.waiting, []
        for asker, ask_id in waiting:
            self.send(asker, m.StartRefused(ask_id, Failure.of(code, Delivery.NOT_SENT)))
        # The key may be asked for again at once, by those who know this address: they are sent back.
        stop = c.StopConnection(code, linger=code is ErrorCode.CANCELLED)
        self.send(child.created_address if child.address is None else child.address, stop)

    def _stop_all(self, ask: m.StopAll, asker: Any) -> None:
        now, within, drains = time.monotonic(), drain_time(ask.within), self._ending.draining
        token, delay = self._ending.asked(asker, ask.ask_id, within=within, now=now)
        self._room.close()
        if self._ending.draining and not drains:
            self._journal.write(logging.INFO, "drain_begun", within_s=within, connections=self._registry.serving)
        for child in self._registry:
            if within and child.address is not None:
                self._drain_child(child, within)
            else:
                self._stop_child(child, ErrorCode.SHUTTING_DOWN, "shutting_down")
        self.wake_after(delay, _STOPPED, token)
        self._answer_stop()

    def _drain_child(self, child: Child, within: float) -> None:
        if child.crashes:
            # Until it has ended it serves its key and tells how it is: if not soon, it is stuck.
            child.draining, child.why, child.silent = True, "drained", 0
        self.send(child.address, c.DrainConnection(within))

    def _answer_stop(self, *, late: bool = False) -> None:
        if not self._ending.waited_for or not (late or not len(self._registry)):
            return
        if late and self._ending.draining:
            for child in self._registry:
                self._kill(child)
        if self._ending.drains_since is not None:
            seconds = round(time.monotonic() - self._ending.drains_since, 3)
            self._journal.write(logging.INFO, "drain_ended", seconds=seconds, left=len(self._registry))
        for asker, ask_id in self._ending.answered():
            self.send(asker, m.ConnectionClosed(ask_id, True))

    def _note(self, level: int, event: str, child: Child, **fields: Any) -> None:
        self._journal.write(level, event, key=child.label, connection_id=child.connection_id, pid=child.pid, **fields)

    # Wakeups

    def rang(self, name: str, token: int) -> None:
        if name == _STOPPED:
            self._answer_stop(late=self._ending.is_over(token))
            return
        self._ticking = False
        now = time.monotonic()
        for child in self._registry:
            if child.waiting and now - child.started_at > START_TIMEOUT:
                self._fail_start(child, "timeout")
                # Should it come up after all, nobody would know it.
                self._stop_child(child, ErrorCode.SHUTTING_DOWN, "start_failed")
        self._find_the_missed()
        self._vigil.tick()
        self._room.serve()
        self._tick_later()

    def _tick_later(self) -> None:
        if self._ticking:
            return
        if self._room or self._missed or any(child.waiting or child.silent is not None for child in self._registry):
            self._ticking = True
            self.wake_after(TICK, _TICK)


_HANDLERS: Final[dict[type, Callable[[SupervisorActor, Any, Any], None]]] = {
    m.EnsureStarted: SupervisorActor._ensure_started,
    c.Began: SupervisorActor._began,
    c.StartFailed: SupervisorActor._start_failed,
    c.EvictAnswer: SupervisorActor._evict_answered,
    c.Retire: SupervisorActor._retire,
    c.Report: SupervisorActor._reported,
    m.FindConnection: SupervisorActor._find,
    m.Suspect: SupervisorActor._suspect,
    m.StatusReport: SupervisorActor._answered,
    m.GetStatus: SupervisorActor._status,
    m.GetSystem: SupervisorActor._system,
    m.CloseConnection: SupervisorActor._close,
    m.StopAll: SupervisorActor._stop_all,
}
