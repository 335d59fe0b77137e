"""What went wrong on a socket, as a word.

Every foreign exception is translated here, once. Its own text never travels on: websocket-client's holds the server's
headers and body, and the operating system's holds addresses.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Final

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault

_ERRNO_WORDS: Final[Mapping[int, str]] = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ENOTCONN: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.ENETUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.EMFILE: "too_many_open_files",
    errno.ENFILE: "too_many_open_files",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
}
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
_OTHER_NAME: Final = (62, 64)


class Refused(Exception):
    """Carries a fault up to whoever returns it; never leaves this package."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.code)


def connect_fault(error: Exception, step: str) -> Fault:
    """Say why no socket was had.

    Args:
        error: What the blocking step raised.
        step: "name", "tcp", "proxy", "tls" or "upgrade"; goes into the details.
    """
    reason = reason_of(error)
    code = ErrorCode.WEBSOCKET_CONNECT_TIMEOUT if reason == "timeout" else ErrorCode.WEBSOCKET_CONNECT_FAILED
    problem = _tls_problem(error)
    details: dict[str, str] = {"reason": reason, "step": step}
    return Fault(code, details | {"problem": problem} if problem else details)


def broken(error: Exception) -> Fault:
    """Say why an open socket is no more."""
    return Fault(ErrorCode.WEBSOCKET_READ_FAILED, {"reason": reason_of(error)})


def protocol_error() -> Fault:
    """Say that the server broke RFC 6455."""
    return Fault(ErrorCode.WEBSOCKET_FAILED, {"reason": "protocol_error"})


def reason_of(error: Exception) -> str:
    """Return the word for an exception of `socket`, `ssl` or the standard library."""
    match error:
        case ssl.SSLCertVerificationError():
            return "hostname_mismatch" if error.verify_code in _OTHER_NAME else "certificate_verify_failed"
        case EOFError() | ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "eof"
        case TimeoutError():
            return "timeout"
        case ssl.SSLError():
            return "tls_error"
        case socket.gaierror():
            return "nxdomain" if error.errno in _NO_SUCH_NAME else "name_lookup_failed"
        case OSError():
            number = error.errno or 0
            return _ERRNO_WORDS.get(number) or errno.errorcode.get(number, "os_error").lower()
        case ValueError():  # a name that IDNA or TLS cannot encode
            return "invalid_host"
        case _:
            return type(error).__name__


def _tls_problem(error: Exception) -> str | None:
    """Return OpenSSL's own words, which are constants but for the name that was looked for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    # an SSLError that was raised in Python, not in C, has no reason
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    return str(reason).lower() if reason else None
