"""Where a run is: one line in a terminal, a line per step in a pipe."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Writes to `stream`, standard error by default, so that results can be piped."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._case = ""

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def tick(self, said: str) -> None:
        """Show what is being done: "case, what". A pipe sees each case once."""
        if self._terminal:
            self._write(f"\r\033[K{self.seconds:4.0f} s  {said}")
        elif (case := said.partition(",")[0]) != self._case:
            self._case = case
            self._write(f"{self.seconds:4.0f} s  {case}\n")

    def clear(self) -> None:
        """Leave the line to what comes next."""
        if self._terminal:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
