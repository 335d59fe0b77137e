"""Server-sent events, out of bytes as they come.

The data is handed on as bytes: whether it is UTF-8 and JSON is judged by the JSON parser, as on a WebSocket. A library that
decodes lines to text first would put replacement characters where bytes are broken.
"""

from __future__ import annotations


class TooLarge(Exception):
    """An event is larger than allowed."""


class EventReader:
    """Incremental reader of one event stream. Costs are linear in the bytes fed.

    Args:
        max_bytes: Limit of one event's data, over all its lines.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line: list[bytes] = []  # parts of a line that has not ended
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that these bytes complete. Comments and all other fields are skipped.

        Raises:
            TooLarge: The reader is of no further use.
        """
        events: list[bytes] = []
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r" if data else self._after_cr
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            whole = b"".join([*self._line, line]) if self._line else line
            self._line, self._line_bytes = [], 0
            self._take(whole, events)
        rest = lines[-1]
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)
            self._check(self._line_bytes + self._data_bytes)
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._data_bytes = [], 0
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value)
            self._check(self._data_bytes)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge
