"""What both ends share of Unix sockets: the directory they meet in, and whose process the peer is.

The directory is `pixir-<pid>-<random>` with mode 0700, so nobody else's process reaches the socket; the peer's uid is
checked all the same. One that a killed process left behind is removed when the next listener of that user starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import struct
import tempfile
import time
from typing import Final

from pixir_actors.errors import SystemStartFailed

_SUN_PATH_BYTES: Final = 107
"""Bytes of a Unix socket's path, its closing NUL not counted (unix(7))."""

_SOCKET: Final = "channel"
_OURS: Final = re.compile(r"pixir-(\d+)-")
_UCRED: Final = struct.Struct("iII")
_ABANDONED_AFTER: Final = 60.0


def peer_is_ours(sock: socket.socket) -> bool:
    """Return whether the process at the other end runs, or ran when it connected or listened, as this one's user."""
    _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return bool(uid == os.geteuid())


def listen(backlog: int, preferred: str | None = None) -> tuple[str, socket.socket]:
    """Make a directory with a listening, non-blocking socket in it, and clear away what dead processes left.

    Args:
        backlog: Connections that may wait to be accepted.
        preferred: Where to make it, if the path is short enough there; None: where temporary files go.

    Returns:
        The socket's path and the socket.

    Raises:
        SystemStartFailed: No directory with a path short enough can be made, or no descriptor is left, or the platform
            cannot tell whose a Unix socket's peer is.
    """
    if not hasattr(socket, "SO_PEERCRED") or not hasattr(os, "eventfd"):
        raise SystemStartFailed("the event channel needs Linux: Unix sockets with SO_PEERCRED, and eventfd")
    base, directory = _base_directory(preferred), None
    _sweep(base)
    try:
        directory = tempfile.mkdtemp(prefix=f"pixir-{os.getpid()}-", dir=base)
        path = os.path.join(directory, _SOCKET)
        return path, _listen_at(path, backlog)
    except OSError as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        raise SystemStartFailed(f"the event channel's socket could not be made in {base}: {error.strerror}") from error


def remove(path: str) -> None:
    """Remove a socket and its directory, as far as they are there."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def _listen_at(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path + "~")
        sock.listen(backlog)
        # Under its name only once it listens: to a sweep, a socket that refuses is a dead one.
        os.rename(path + "~", path)
    except OSError:
        sock.close()
        raise
    return sock


def _base_directory(wanted: str | None = None) -> str:
    """Return the directory for temporary files, or /tmp where the path of a socket in it would be too long.

    Args:
        wanted: Comes before both of them.

    Raises:
        SystemStartFailed: Neither will do.
    """
    longest = f"pixir-{2**22}-xxxxxxxx/{_SOCKET}~"
    try:
        preferred = tempfile.gettempdir()
    except OSError as error:
        raise SystemStartFailed("there is no writable directory for temporary files; set TMPDIR to one") from error
    for base in (wanted or preferred, preferred, "/tmp"):
        if len(os.fsencode(os.path.join(base, longest))) <= _SUN_PATH_BYTES and os.access(base, os.W_OK | os.X_OK):
            return base
    raise SystemStartFailed(
        f"the path of a Unix socket has at most {_SUN_PATH_BYTES} bytes: {preferred} is too long for one "
        "and /tmp is not writable; set TMPDIR to a shorter directory"
    )


def _sweep(base: str) -> None:
    """Remove the directories of this user's dead processes. Never raises: it is a courtesy."""
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in entries:
            match = _OURS.match(entry.name)
            if match is not None and _is_abandoned(entry, int(match[1])):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_abandoned(entry: os.DirEntry[str], pid: int) -> bool:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or (pid != os.getpid() and _is_alive(pid)):
        return False
    # A pid proves little: containers that share a directory for temporary files have processes that this one does not
    # see, and a restarted container uses its pids again. Whether somebody listens is certain.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.path.join(entry.path, _SOCKET))
        except ConnectionRefusedError:
            return True
        except FileNotFoundError:  # being made, or half removed
            return time.time() - facts.st_mtime > _ABANDONED_AFTER
        except OSError:
            return False
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
