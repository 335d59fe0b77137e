"""Thespian's TCP transport, bound to loopback and authenticated, per actor system.

Plain Thespian listens on every interface and unpickles whatever arrives. Here each actor system gets its own private
copy of the module `thespian.system.transport.TCPTransport`, and only in that copy

- every message carries an HMAC-SHA256 under the system's key, which is checked before anything is unpickled,
- frames are read with a bounded, strictly decimal length,
- every listener is bound to 127.0.0.1, and no other address is ever looked for,
- a connection carries one message (on kept connections, messages that both sides send at once cross: they lose their
  order, and wait), many connections may wait to be accepted, and a message that met a closing peer is tried again soon.

So plain actor systems and signed ones, with different keys, live side by side in one process. Messages that are
unsigned, damaged or meant for another system are dropped and counted (`refusals`); the process that got them goes on.

The names that are replaced are Thespian's module-level names, no public interface: `load_transport` refuses to work
when one is missing, and `tests/system/test_signed.py` shows with real sockets that each of them still carries.
"""

from __future__ import annotations

import hmac
import importlib.util
import itertools
import os
import pickle
import socket
import weakref
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import thespian.system.transport.TCPTransport as plain_transport
from thespian.actors import ActorSystem
from thespian.system.multiprocCommon import multiprocessCommon
from thespian.system.transport.IPBase import TCPv4ActorAddress
from thespian.system.transport.streamBuffer import ReceiveBuffer, ackDataErrPacket, ackPacket, toSendBuffer

from pixir_actors.errors import SystemStartFailed

LOOPBACK: Final = "127.0.0.1"
MAX_FRAME_BYTES: Final = 128 * 1024 * 1024
"""Bytes of one message between processes, signature included."""
MAX_LENGTH_DIGITS: Final = len(str(MAX_FRAME_BYTES))
FIRST_READ_BYTES: Final = 65536
"""Bytes asked for before a frame's length is known. Safe to read ahead, since a connection carries one message."""
TAG_BYTES: Final = 32
CONTEXT: Final = b"pixir_actors.system.signed/1"
"""Separates these signatures from any other use of the same key."""
RETRY_PERIOD: Final = timedelta(milliseconds=100)
"""Wait before a message is tried again whose peer closed without an answer. Thespian's own is 35 s."""

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
    "thesplog",
)
"""Names of Thespian's transport module that are replaced in a private copy."""
CLASS_SEAM: Final = ("serializer", "_next_XMIT_6", "close")
"""Names of its `TCPTransport` class that are replaced there, or relied on."""

LOG_NOWHERE: Final = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["nowhere"], "level": "CRITICAL"},
}
"""Logging of a system's processes: records would travel as messages, and could tell what nobody should read."""

_refused = 0


def refusals() -> int:
    """Return how many frames the calling process has refused, over all its signed transports, since it was forked."""
    return _refused


def _count_refusal() -> None:
    global _refused
    _refused += 1


def _forget_refusals() -> None:
    global _refused
    _refused = 0


os.register_at_fork(after_in_child=_forget_refusals)


class Refused(ValueError):
    """A frame that this system did not sign. Says nothing about what was in it."""


class Signer:
    """What Thespian takes for its pickle module: signs what it dumps, and loads only what it signed."""

    def __init__(self, key: bytes) -> None:
        """Take the system's key.

        Raises:
            ValueError: The key has fewer than 16 bytes.
        """
        if len(key) < 16:
            raise ValueError("the key of a signed system has at least 16 bytes")
        self._key = hmac.digest(key, CONTEXT, "sha256")

    def dumps(self, message: object) -> bytes:
        """Pickle and sign.

        Raises:
            ValueError: The message is larger than `MAX_FRAME_BYTES`; the receiver would refuse it.
        """
        pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(pickled) + TAG_BYTES > MAX_FRAME_BYTES:
            raise ValueError(f"a message between actors may have {MAX_FRAME_BYTES} bytes, this one has {len(pickled)}")
        return hmac.digest(self._key, pickled, "sha256") + pickled

    def loads(self, frame: bytes) -> Any:
        """Check the signature, then unpickle.

        Raises:
            Refused: The signature is not this system's; nothing was unpickled.
        """
        tag, pickled = frame[:TAG_BYTES], frame[TAG_BYTES:]
        if not hmac.compare_digest(tag, hmac.digest(self._key, pickled, "sha256")):
            raise Refused("not signed by this system")
        return pickle.loads(pickled)


class StrictReceiveBuffer(ReceiveBuffer):
    """Thespian's receive buffer, for bytes from strangers: `<decimal length>><frame>`.

    It never raises for what arrives. A frame with a bad length or signature counts as read in full and as corrupted,
    which is what makes the transport close the connection, or try its own message again.
    """

    def __init__(self, serializer: Callable[[bytes], Any]) -> None:
        self._deserialize = serializer
        self._header = b""
        self._body = bytearray()
        self._size: int | None = None
        self._extra = b""
        self._corrupted = False

    def addMore(self, buf: bytes) -> None:
        """Take what the socket had; anything beyond the frame is kept as extra."""
        if not buf or self._corrupted:
            return
        if self._size is None:
            buf = self._read_length(buf)
        if self._size is not None:
            missing = self._size - len(self._body)
            self._body += buf[:missing]
            self._extra += buf[missing:]

    def _read_length(self, buf: bytes) -> bytes:
        """Take the length off the front; return what follows it."""
        seen = self._header + buf[: MAX_LENGTH_DIGITS + 1]
        digits, mark, _ = seen.partition(b">")
        # bytes.isdigit knows ASCII digits only: no sign, no blank, no underscore as in int().
        if (digits and not digits.isdigit()) or len(digits) > MAX_LENGTH_DIGITS or (mark and not digits):
            self._refuse()
        elif not mark:
            self._header = seen
        elif TAG_BYTES < int(digits) <= MAX_FRAME_BYTES:
            self._size = int(digits)
            return buf[len(digits) + 1 - len(self._header) :]
        else:
            self._refuse()
        return b""

    def _refuse(self) -> None:
        self._corrupted = True
        self._body.clear()
        _count_refusal()

    def is_empty(self) -> bool:
        return not self._header and self._size is None

    def remainingAmount(self) -> int:
        """Return how many bytes to read next."""
        return FIRST_READ_BYTES if self._size is None else self._size - len(self._body)

    def isDone(self) -> bool:
        return self._corrupted or (self._size is not None and len(self._body) == self._size)

    def removeExtra(self) -> None:
        self._extra = b""

    def completed(self) -> tuple[Any, bytes] | None:
        """Return the message and what followed it, or None if it is incomplete or refused.

        Raises whatever unpickling a message of this system raises.
        """
        if self._corrupted or not self.isDone():
            return None
        try:
            return self._deserialize(bytes(self._body)), self._extra
        except Refused:
            self._refuse()
            return None


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


def load_transport(key: bytes) -> ModuleType:
    """Return a private copy of Thespian's TCP transport module that signs with `key` and listens on loopback.

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
    return module


def _sign(module: Any, signer: Signer) -> None:
    """Replace the names of `SEAM` in a private copy of the transport module."""
    module.serializer = signer
    module.ackMsg = toSendBuffer(ackPacket, signer.dumps)
    module.ackDataErrMsg = toSendBuffer(ackDataErrPacket, signer.dumps)
    module.ReceiveBuffer = StrictReceiveBuffer
    module.TCPv4ActorAddress = LoopbackAddress
    module.REUSE_SOCKETS = False
    module.LISTEN_DEPTH = LISTEN_DEPTH
    module.thesplog = _log_nothing
    transport = module.TCPTransport
    transport._next_XMIT_6 = _retry_soon(transport._next_XMIT_6)
    transport.close = _close_all(transport.close)


def _log_nothing(*_args: object, **_options: object) -> None:
    """Stand in for Thespian's own log file: it would print the messages of this system, and strangers' bytes."""


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

    def __init__(self, key: bytes, port: int, *, start: bool) -> None:
        """Join the admin at `port` of 127.0.0.1, after starting it as a fork of this process if `start`.

        Raises:
            SystemStartFailed: There is no admin to join, or this Thespian cannot be signed.
            thespian.actors.InvalidActorAddress: The port's owner does not answer as an admin with this key (after 5
            to 11 s).
        """
        self.transportType = load_transport(key).TCPTransport
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
        super().__init__(SimpleNamespace(capabilities=self.capabilities), LOG_NOWHERE)

    def _startAdmin(self, adminAddr: Any, *args: Any) -> None:
        if not self._may_start:
            raise SystemStartFailed(f"no actor system listens at {adminAddr}")
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


def start_admin(key: bytes, port: int) -> None:
    """Start admin and logger at `port` of 127.0.0.1 as forks of this process; return when they answer.

    Raises as `SignedBase` does.
    """
    SignedBase(key, port, start=True).release()


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
