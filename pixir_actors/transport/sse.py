"""Server-sent events, out of bytes as they come.

The data is handed on as bytes: whether it is UTF-8 and JSON is judged by the JSON parser, as on a WebSocket. A library that
decodes lines to text first would put replacement characters where bytes are broken, and cut lines at characters that SSE
does not know as line ends (U+2028, U+0085).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.faults import Refused

_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = b"data: "


class EventReader:
    """Incremental reader of one event stream. Costs are linear in the bytes fed, whatever the cuts.

    Args:
        max_bytes: Limit of one event's data, over all its lines, and of any other single line.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun = False
        self._line = bytearray()  # a line that has not ended
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the data of the events that these bytes complete. Comments and all other fields are skipped.

        Raises:
            Refused: An event or a line is too large (`websocket_frame_too_large`); the events before it have been yielded.
        """
        if data and self._after_cr:
            data = data.removeprefix(b"\n")  # the second half of a line end
            self._after_cr = False
        if not data:
            return
        self._after_cr = data.endswith(b"\r")
        *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            event = self._event_after(bytes(self._line) + line if self._line else line)
            self._line.clear()
            if event is not None:
                yield event
        self._line += rest
        self._check(self._data_bytes + len(self._line) - len(_FIELD))

    def finish(self) -> Iterator[bytes]:
        """Yield the data of an event whose last line, or the empty line behind it, did not come before the end.

        Whether it is whole is for the caller to judge: a body that has no length may have been cut short.

        Raises:
            Refused: As `feed` does.
        """
        yield from self.feed(b"\n")
        yield from self.feed(b"\n")

    def _event_after(self, line: bytes) -> bytes | None:
        self._check(self._data_bytes + len(line) - len(_FIELD))
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:") or line == b"data":
            value = line[6:] if line.startswith(_FIELD) else line[5:]
            self._data_bytes += len(value) + bool(self._data)
            self._data.append(value)
            self._check(self._data_bytes)
        if line:
            return None
        event = b"\n".join(self._data)
        self._data, self._data_bytes = [], 0
        return event if event.strip() else None  # some servers keep a stream alive with events that say nothing

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise Refused(Fault(ErrorCode.WEBSOCKET_FRAME_TOO_LARGE, {"limit": self._max_bytes}))
