"""Thespian's TCP transport, bound to loopback and authenticated, per actor system.

Plain Thespian listens on every interface and unpickles whatever arrives. Here each actor system gets its own private
copy of the module `thespian.system.transport.TCPTransport`, and only in that copy

- messages are signed under the system's key, which is checked before anything is unpickled, and so is a message's length,
  before anything of it is kept (`frames.py`),
- every listener is bound to 127.0.0.1, and no other address is ever looked for,
- connections that bring nothing are bounded (`crowd.py`),
- processes are plain forks, which share their memory for longer (`forks.py`),
- an actor that only waits goes short rounds (`rounds.py`),
- a log record never holds up its sender, and a logger that died is replaced (`forwarding.py`),
- a connection carries one message (on kept connections, messages that both sides send at once cross: they lose their
  order, and wait), many connections may wait to be accepted, and a message that met a closing peer is tried again soon.

So plain actor systems and signed ones, with different keys, live side by side in one process. Messages that are
unsigned, damaged or meant for another system are dropped and counted (`refusals`); the process that got them goes on.

What this protects from is another user of this host, and any program that has not got the key. A key belongs to one run
of a system, so a message that was recorded means nothing to any other. Within that run a recorded message would be taken
a second time: whoever can record what goes over loopback is root, or reads this user's memory and cookie anyway, and needs
no recording. Nothing is encrypted, for the same reason.

The names that are replaced are Thespian's module-level names, no public interface: `load_transport` refuses to work
when one is missing, and `tests/system/test_signed.py` shows with real sockets that each of them still carries.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import socket
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import thespian.system.transport.TCPTransport as plain_transport
from thespian.actors import ActorSystem
from thespian.system import actorManager
from thespian.system.multiprocCommon import MultiProcAdmin, MultiProcReplicator, get_min_log_level, multiprocessCommon
from thespian.system.transport.IPBase import TCPv4ActorAddress
from thespian.system.transport.streamBuffer import ackDataErrPacket, ackPacket, toSendBuffer

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system import polling
from pixir_actors.system.crowd import bound_strangers
from pixir_actors.system.forks import ForkContext, find_newest_first, make_plainly
from pixir_actors.system.forwarding import LOGGER_INSTANCE, bound_records, keep_loggers_place, outlive_loggers
from pixir_actors.system.frames import Signer, StrictReceiveBuffer
from pixir_actors.system.processes import no_core_dumps, set_process_name
from pixir_actors.system.records import prepare
from pixir_actors.system.refusals import refusals as refusals
from pixir_actors.system.refusals import share_refusals as share_refusals
from pixir_actors.system.refusals import total_refusals as total_refusals
from pixir_actors.system.rounds import realize_wakeups, replace_wakeups, shorten

LOOPBACK: Final = "127.0.0.1"
LOGGER_NAME: Final = "pixir-logger"
"""Process name of a system's log director."""
RETRY_PERIOD: Final = timedelta(milliseconds=100)
"""Wait before a message is tried again whose peer closed without an answer. Thespian's own is 35 s."""

INCOMING_PERIOD: Final = timedelta(seconds=30)
"""How long a connection may take to bring its message; Thespian's own is seven minutes."""
LISTEN_DEPTH: Final = 4096
"""Connections that may wait to be accepted; Thespian's own 100 overflow, and each one over waits a second to be tried
again."""

SEAM: Final = (
    "serializer",
    "ackMsg",
    "ackDataErrMsg",
    "ReceiveBuffer",
    "TCPv4ActorAddress",
    "REUSE_SOCKETS",
    "LISTEN_DEPTH",
    "MAX_INCOMING_SOCKET_PERIOD",
    "selectors",
    "thesplog",
)
"""Names of Thespian's transport module that are replaced in a private copy."""
CLASS_SEAM: Final = (
    "__init__",
    "serializer",
    "_next_XMIT_6",
    "close",
    "scheduleTransmit",
    "prepEndpoint",
    "_acceptNewIncoming",
    "_runWithExpiry",
    "addWakeup",
    "_realizeWakeups",
)
"""Names of its `TCPTransport` class that are replaced there, or relied on."""

LOG_NOWHERE: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["nowhere"], "level": "CRITICAL"},
}
"""Logging of a system's processes where nobody asked for any."""


class LoopbackAddress(TCPv4ActorAddress):
    """A TCP address on 127.0.0.1, whatever was asked for.

    Thespian binds 0.0.0.0 and looks for a public address (by the route to 8.8.8.8); this does neither, and resolves
    no name.
    """

    def __init__(self, initialIPAddr: object = None, initialIPPort: int | str = 0, external: object = False) -> None:
        self.af, self.socktype, self.proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        self.sockname = self.bindname = (LOOPBACK, int(initialIPPort))

    @property
    def bindArgs(self) -> tuple[tuple[str, int]]:
        return (self.bindname,)


_copies = itertools.count()


def load_transport(key: bytes, log_level: int = logging.CRITICAL) -> ModuleType:
    """Return a private copy of Thespian's TCP transport module that signs with `key` and listens on loopback.

    Args:
        key: What messages are signed with.
        log_level: The lowest level that the processes of its system log.

    Raises:
        SystemStartFailed: This Thespian's transport is not the one that can be signed.
    """
    origin = plain_transport.__file__
    spec = importlib.util.spec_from_file_location(f"pixir_actors.system._signed_tcp_{next(_copies)}", origin)
    if spec is None or spec.loader is None:
        raise SystemStartFailed(f"cannot load a private copy of Thespian's transport from {origin}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in SEAM if not hasattr(module, name)]
    missing += [f"TCPTransport.{name}" for name in CLASS_SEAM if not hasattr(module.TCPTransport, name)]
    if missing:
        raise SystemStartFailed(f"this version of Thespian cannot be signed: its transport has no {', '.join(missing)}")
    _sign(module, Signer(key))
    _adapt(module.TCPTransport, log_level)
    return module


def _sign(module: Any, signer: Signer) -> None:
    """Replace the names of `SEAM` in a private copy of the transport module."""
    module.serializer = signer
    module.ackMsg = toSendBuffer(ackPacket, signer.dumps)
    module.ackDataErrMsg = toSendBuffer(ackDataErrPacket, signer.dumps)
    module.ReceiveBuffer = lambda _loads: StrictReceiveBuffer(signer)
    module.TCPv4ActorAddress = LoopbackAddress
    module.REUSE_SOCKETS = False
    module.LISTEN_DEPTH = LISTEN_DEPTH
    module.MAX_INCOMING_SOCKET_PERIOD = INCOMING_PERIOD
    module.selectors = polling
    module.thesplog = _log_nothing


def _adapt(transport: Any, log_level: int) -> None:
    """Replace the names of `CLASS_SEAM` in the class of a private copy."""
    transport.__init__ = _log_harmlessly(transport.__init__, log_level)
    transport._next_XMIT_6 = _retry_soon(transport._next_XMIT_6)
    transport.close = _close_all(transport.close)
    transport.scheduleTransmit = bound_records(transport.scheduleTransmit)
    transport.prepEndpoint = keep_loggers_place(transport.prepEndpoint, LoopbackAddress)
    transport._acceptNewIncoming = bound_strangers(transport._acceptNewIncoming)
    transport._runWithExpiry = shorten(transport._runWithExpiry)
    transport.attends = True
    transport.addWakeup = replace_wakeups(transport.addWakeup)
    transport._realizeWakeups = realize_wakeups


def _log_nothing(*_args: object, **_options: object) -> None:
    """Stand in for Thespian's own log file: it would print the messages of this system, and strangers' bytes."""


def _log_harmlessly(begin: Callable[..., None], level: int) -> Callable[..., None]:
    """Wrap the transport's initialiser: to each process that Thespian forks it is the first thing to happen."""

    def begins(self: Any, kind: Any, *args: Any) -> None:
        # The logger has set its logging up by then; a process that joins keeps its own.
        instance = getattr(kind, "addrInst", None)
        if instance == LOGGER_INSTANCE:
            set_process_name(LOGGER_NAME)
        elif instance is not None:
            prepare(level)
        begin(self, kind, *args)

    return begins


def _retry_soon(retry_step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap the transport's retry step so that its waits are short."""

    def step(self: Any, intent: Any) -> Any:
        intent.transmit_retry_period = RETRY_PERIOD
        return retry_step(self, intent)

    return step


def _close_all(close: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap the transport's close so that it closes its sockets: Thespian leaves some to the garbage collector."""

    def close_all(self: Any) -> None:
        intents = getattr(self, "_transmitIntents", {}).values()
        sockets = [getattr(owner, "socket", None) for owner in (self, *intents)]
        close(self)
        for each in sockets:
            # No shutdown(): it would reach what a fork has inherited, or has left to its parent.
            if each is not None:
                each.close()

    return close_all


class SignedBase(multiprocessCommon):
    """A system base as `multiprocTCPBase`, over a signed transport of its own."""

    def __init__(self, key: bytes, port: int, *, start: bool, log_definitions: Mapping[str, Any] = LOG_NOWHERE) -> None:
        """Join the admin at `port` of 127.0.0.1, after starting it as a fork of this process if `start`.

        Args:
            key: The system's key.
            port: The admin's.
            start: Whether to start it.
            log_definitions: Where a system that is started here logs (`logs.definitions`).

        Raises:
            SystemStartFailed: There is no admin to join, or this Thespian cannot be signed.
            thespian.actors.InvalidActorAddress: The port's owner does not answer as an admin with this key (after 5
            to 11 s).
        """
        definitions = dict(log_definitions)
        self.transportType = load_transport(key, get_min_log_level(definitions)).TCPTransport
        self._may_start = start
        self.capabilities = {
            "Admin Port": port,
            "Process Startup Method": "fork",  # the private copy of the transport exists in forks only
            "AllowRemoteActorSources": "No",
            "Thespian ActorSystem Name": "multiprocTCPBase",
            "Thespian ActorSystem Version": 2,
            "Thespian Watch Supported": True,
        }
        _endpoints.add(self)
        super().__init__(SimpleNamespace(capabilities=self.capabilities), definitions)

    def _startAdmin(self, adminAddr: Any, *args: Any) -> None:
        if not self._may_start:
            raise SystemStartFailed(f"no actor system listens at {adminAddr}")
        outlive_loggers(MultiProcAdmin)
        find_newest_first(MultiProcReplicator)
        make_plainly(actorManager)
        self.mpcontext = ForkContext
        super()._startAdmin(adminAddr, *args)

    def release(self) -> None:
        """Close this process's own endpoint. The system goes on."""
        self.transport.close()

    def abandon(self) -> None:
        """Close what a fork inherited of its parent's endpoint: the parent alone answers there."""
        listener = getattr(getattr(self, "transport", None), "socket", None)
        if listener is not None:
            listener.close()


_endpoints: weakref.WeakSet[SignedBase] = weakref.WeakSet()


def _abandon_endpoints() -> None:
    for endpoint in list(_endpoints):
        endpoint.abandon()


os.register_at_fork(after_in_child=_abandon_endpoints)


def start_admin(key: bytes, port: int, log_definitions: Mapping[str, Any] = LOG_NOWHERE) -> None:
    """Start admin and logger at `port` of 127.0.0.1 as forks of this process; return when they answer.

    A core dump of this process, or of one forked from it, holds no memory from now on.

    Raises as `SignedBase` does.
    """
    no_core_dumps()
    SignedBase(key, port, start=True, log_definitions=log_definitions).release()


def join_system(key: bytes, port: int) -> ActorSystem:
    """Join a running signed system from any process that has its key.

    The result is no process-wide singleton; end it with `leave_system`.

    Raises as `SignedBase` does.
    """
    base = SignedBase(key, port, start=False)
    return ActorSystem(systemBase=base, capabilities=base.capabilities, transientUnique=True)


def leave_system(actor_system: ActorSystem) -> None:
    """Close the calling process's endpoint of a system it joined. The system goes on."""
    base = actor_system._systemBase
    if isinstance(base, SignedBase):
        base.release()
