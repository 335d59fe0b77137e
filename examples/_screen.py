"""The terminal of `agent_loop.py`: streamed texts as they come, each line under its key; colours only on a terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from pixir_actors import Delivery, StreamError

WIDTH = 118
STYLES = {"text": "", "user": "bold", "call": "cyan", "delta": "green", "full": "yellow", "note": "dim", "error": "red"}


class Screen:
    """Prints for several threads at once.

    Where two keys speak at the same time, the one that has begun a line ends it; what the other says meanwhile is kept,
    and printed then.
    """

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._lock = threading.Lock()
        self._speaker: str | None = None
        self._column = 0
        self._kept: list[tuple[str, str, str]] = []

    def stream(self, key: str, text: str) -> None:
        """Print a piece of streamed text as soon as it is there."""
        self._say(key, text, "text")

    def line(self, key: str, text: str, kind: str) -> None:
        """Print a line of its own, behind what the key has streamed so far."""
        self._say(key, text, kind)

    def call(self, key: str, name: str, arguments: str, result: str) -> None:
        """Print a tool call and the first line of what came of it."""
        try:
            shown = ", ".join(map(repr, json.loads(arguments).values()))
        except (ValueError, AttributeError):
            shown = arguments
        first, *rest = result.splitlines() or [""]
        self.line(key, f"{name}({shown}) → {first}" + (f" … {len(rest)} lines more" if rest else ""), "call")

    def error(self, key: str, error: StreamError, wait: float) -> None:
        """Print a failure, and what is done about it."""
        self.line(key, f"{type(error).__name__}: {error}", "error")
        unsent = error.delivery is Delivery.NOT_SENT
        why = "nothing was sent" if unsent else "no tool has run on half an answer"
        self.line(key, f"{why}, so the same request goes out again in {wait:.2f} s", "error")

    def title(self, *lines: str) -> None:
        """Print what stands above an act."""
        with self._lock:
            self._flush()
            self._console.print()
            for number, line in enumerate(filter(None, lines)):
                self._console.print(line, style="dim" if number else "bold")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table: the first column to the left, numbers to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        with self._lock:
            self._flush()
            self._console.print()
            self._console.print(table, soft_wrap=False)
            self._console.print()

    def check(self, good: bool, text: str) -> None:
        """Print the outcome of a check."""
        with self._lock:
            self._flush()
            self._console.print("ok  " if good else "FAILED  ", style="green" if good else "bold red", end="")
            self._console.print(text)

    # All below is called under the lock, except for _say.

    def _say(self, key: str, text: str, kind: str) -> None:
        with self._lock:
            if self._speaker not in (None, key):
                self._kept.append((key, text, kind))
                return
            self._print(key, text, kind)
            while self._speaker is None and self._kept:
                self._print(*self._kept.pop(0))
                self._print_kept_of_speaker()

    def _print_kept_of_speaker(self) -> None:
        while mine := [entry for entry in self._kept if entry[0] == self._speaker]:
            self._kept.remove(mine[0])
            self._print(*mine[0])

    def _print(self, key: str, text: str, kind: str) -> None:
        full = self._column + len(text) > WIDTH and text.startswith(" ")
        if self._speaker is not None and (kind != "text" or full):
            self._end_line()
        if self._speaker is None:
            self._console.print(f"{key:>6} │ ", style="dim", end="")
            self._speaker, self._column = key, 9
            text = text.lstrip()
        self._console.print(text, style=STYLES[kind], end="")
        self._column += len(text)
        if kind != "text":
            self._end_line()

    def _end_line(self) -> None:
        self._console.print()
        self._speaker, self._column = None, 0

    def _flush(self) -> None:
        """Print all that was kept, whoever still speaks."""
        if self._speaker is not None:
            self._end_line()
        kept, self._kept = self._kept, []
        for key, text, kind in kept:
            if self._speaker not in (None, key):
                self._end_line()
            self._print(key, text, kind)
        if self._speaker is not None:
            self._end_line()
