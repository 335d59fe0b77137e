"""What goes over the wire between the processes of a signed system: `<decimal length>><seal><signature><pickled message>`.

The seal authenticates the length, so that a stranger, who may connect, can make nobody keep more than its few bytes. The
signature authenticates the message, before it is unpickled. Both are HMAC-SHA256 under keys derived from the system's.
"""

from __future__ import annotations

import hmac
import pickle
from typing import Any, Final

from thespian.system.transport.streamBuffer import ReceiveBuffer

from pixir_actors.system.refusals import count_refusal

MAX_FRAME_BYTES: Final = 128 * 1024 * 1024
"""Bytes of one message between processes, seal and signature included."""
MAX_LENGTH_DIGITS: Final = len(str(MAX_FRAME_BYTES))
FIRST_READ_BYTES: Final = 65536
"""Bytes asked for before a frame's length is known. Safe to read ahead, since a connection carries one message."""
SEAL_BYTES: Final = 16
TAG_BYTES: Final = 32
CONTEXT: Final = b"pixir_actors.system.signed/2"
"""Separates these signatures from any other use of the same key."""


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
        self._length_key = hmac.digest(key, CONTEXT + b" length", "sha256")

    def seal(self, length: int) -> bytes:
        """Return what the frame of a message of this system begins with, if it has so many bytes."""
        return hmac.digest(self._length_key, b"%d" % length, "sha256")[:SEAL_BYTES]

    def dumps(self, message: object) -> bytes:
        """Pickle and sign.

        Raises:
            ValueError: The message is larger than `MAX_FRAME_BYTES`; the receiver would refuse it.
        """
        pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        length = SEAL_BYTES + TAG_BYTES + len(pickled)
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a message between actors may have {MAX_FRAME_BYTES} bytes, this one has {len(pickled)}")
        return b"".join((self.seal(length), hmac.digest(self._key, pickled, "sha256"), pickled))

    def loads(self, frame: bytes) -> Any:
        """Check the signature, then unpickle.

        Raises:
            Refused: The signature is not this system's; nothing was unpickled.
        """
        signed = frame[SEAL_BYTES:]
        tag, pickled = signed[:TAG_BYTES], signed[TAG_BYTES:]
        if not hmac.compare_digest(tag, hmac.digest(self._key, pickled, "sha256")):
            raise Refused("not signed by this system")
        return pickle.loads(pickled)


class StrictReceiveBuffer(ReceiveBuffer):
    """Thespian's receive buffer, for bytes from strangers.

    It never raises for what arrives. A frame with a bad length, seal or signature counts as read in full and as corrupted,
    which is what makes the transport close the connection, or try its own message again.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._sealed = False
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
            self._check_seal(self._size)

    @property
    def sealed(self) -> bool:
        """Whether a length of this system has come."""
        return self._sealed

    def _check_seal(self, size: int) -> None:
        """Go no further with a length that nobody of this system has given."""
        if not self._sealed and len(self._body) >= SEAL_BYTES:
            self._sealed = hmac.compare_digest(self._body[:SEAL_BYTES], self._signer.seal(size))
            if not self._sealed:
                self._refuse()

    def _read_length(self, buf: bytes) -> bytes:
        """Take the length off the front; return what follows it."""
        seen = self._header + buf[: MAX_LENGTH_DIGITS + 1]
        digits, mark, _ = seen.partition(b">")
        # bytes.isdigit knows ASCII digits only: no sign, no blank, no underscore as in int().
        if (digits and not digits.isdigit()) or len(digits) > MAX_LENGTH_DIGITS or (mark and not digits):
            self._refuse()
        elif not mark:
            self._header = seen
        elif SEAL_BYTES + TAG_BYTES < int(digits) <= MAX_FRAME_BYTES:
            self._size = int(digits)
            return buf[len(digits) + 1 - len(self._header) :]
        else:
            self._refuse()
        return b""

    def _refuse(self) -> None:
        self._corrupted = True
        self._body.clear()
        self._extra = b""
        count_refusal()

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
            return self._signer.loads(bytes(self._body)), self._extra
        except Refused:
            self._refuse()
            return None
