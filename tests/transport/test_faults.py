"""Foreign exceptions, as words."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.faults import broken, connect_fault, reason_of


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "reset"),
        (BrokenPipeError(errno.EPIPE, "x"), "reset"),
        (OSError(errno.ENETUNREACH, "x"), "unreachable"),
        (OSError(errno.EHOSTUNREACH, "x"), "unreachable"),
        (OSError(errno.EMFILE, "x"), "too_many_open_files"),
        (PermissionError(errno.EPERM, "x"), "forbidden"),
        (OSError(errno.ENOBUFS, "x"), "enobufs"),
        (OSError("no number"), "os_error"),
        (TimeoutError("timed out"), "timeout"),
        (OSError(errno.ETIMEDOUT, "x"), "timeout"),
        (EOFError(), "eof"),
        (ssl.SSLEOFError(8, "x"), "eof"),
        (ssl.SSLZeroReturnError(6, "x"), "eof"),
        (ssl.SSLError(1, "x"), "tls_error"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "nxdomain"),
        (socket.gaierror(socket.EAI_NODATA, "x"), "nxdomain"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "name_lookup_failed"),
        (UnicodeError("label too long"), "invalid_host"),
        (KeyError("secret"), "KeyError"),
    ],
)
def test_every_exception_has_a_word_and_its_text_goes_nowhere(error: Exception, word: str) -> None:
    assert reason_of(error) == word
    assert "secret" not in repr(connect_fault(error, "tcp"))


def test_a_step_that_ran_out_of_time_is_a_connect_timeout_and_anything_else_a_failed_connect() -> None:
    assert connect_fault(TimeoutError(), "tls").code == ErrorCode.WEBSOCKET_CONNECT_TIMEOUT
    fault = connect_fault(EOFError(), "tls")
    assert (fault.code, fault.details) == (ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": "eof", "step": "tls"})


def test_an_open_socket_that_broke_is_a_failed_read() -> None:
    fault = broken(ConnectionResetError(errno.ECONNRESET, "x"))
    assert (fault.code, fault.details) == (ErrorCode.WEBSOCKET_READ_FAILED, {"reason": "reset"})
