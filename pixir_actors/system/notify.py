"""Telling the service manager that started this process how it is: systemd's sd_notify(3), without its library."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"
TIMEOUT: Final = 1.0
"""Seconds to wait for a manager that does not read."""


def notify(message: str, environ: Mapping[str, str]) -> None:
    """Send `READY=1`, `STOPPING=1` or the like to the socket that $NOTIFY_SOCKET names; do nothing without one.

    Never raises: a service runs on when its manager does not listen.

    Args:
        message: Assignments, one a line.
    """
    name = environ.get(VARIABLE, "")
    if name[:1] not in ("/", "@"):
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendto(message.encode(), address)
