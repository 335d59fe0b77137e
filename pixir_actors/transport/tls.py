"""The TLS side of a connection: who is trusted."""

from __future__ import annotations

import os
import ssl
from typing import Final

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused

MOST_KEPT: Final = 4
"""Contexts that a process keeps: the system's authorities, and files of its callers."""

_Mark = tuple[tuple[int, int, int, int] | None, ...]
_kept: dict[str | None, tuple[_Mark, ssl.SSLContext]] = {}


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that verifies the certificate and the host name, TLS 1.2 and up.

    It is kept, and shared by all connections that trust the same, in this process and in its forks: the system's
    authorities take a megabyte, and 15 ms to load. Nothing else of a connection is in it. Change nothing in it.

    `ssl.create_default_context` is not used: it would write the session keys to the file that $SSLKEYLOGFILE names.

    Args:
        ca_file: PEM file of the only authorities to trust, or None for OpenSSL's defaults. It is loaded again when it
            has changed; of a directory of authorities only what is added and removed is noticed.

    Raises:
        Refused: The file is missing, cannot be read or holds no certificate (reason "ca_file").
    """
    mark = _mark(ca_file)  # before it is read: a change in between is found the next time
    kept = _kept.get(ca_file)
    if kept is not None and kept[0] == mark:
        return kept[1]
    context = _load(ca_file)
    if ca_file not in _kept and len(_kept) >= MOST_KEPT:
        _kept.clear()
    _kept[ca_file] = mark, context
    return context


def _mark(ca_file: str | None) -> _Mark:
    """Return what changes with the files that are trusted."""
    if ca_file is not None:
        return (_stat(ca_file),)
    paths = ssl.get_default_verify_paths()
    return _stat(paths.cafile), _stat(paths.capath)


def _stat(path: str | None) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path) if path is not None else None
    except (OSError, ValueError):
        return None
    return None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _load(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Refused(Fault(ErrorCode.WEBSOCKET_CONNECT_FAILED, {"reason": "ca_file", "step": "tls"})) from error
    return context
