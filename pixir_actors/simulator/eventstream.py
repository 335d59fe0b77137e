"""The bytes of an HTTP answer's body: server-sent events, each in one chunk. Pure."""

from __future__ import annotations

from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"
"""What ends a chunked body."""


def server_sent(kind: str, data: bytes) -> bytes:
    """Return one event: its `event` line, unless `kind` is "", one `data` line for each line of data, a blank one."""
    name = b"event: %s\n" % kind.encode() if kind else b""
    return name + b"".join(b"data: %s\n" % line for line in data.splitlines() or [b""]) + b"\n"


def chunk(data: bytes) -> bytes:
    """Return data, not empty, as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)
