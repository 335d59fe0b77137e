"""A terminal with somebody who reads its screen: a pty, and a model of what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import pyte

from tests.conftest import within

# A program gets Ctrl-C from the terminal that controls its session: the first one that a session's leader opens.
TAKE_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background it is ignored, and that is inherited
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.argv[1], sys.argv[1:])
"""
PIXIR_ACTORS = (sys.executable, "-m", "pixir_actors")
CTRL_C = b"\x03"
CTRL_D = b"\x04"


class Terminal:
    """One terminal, in which one program runs after another. A context manager; kills what still runs at its end."""

    def __init__(self, environment: Mapping[str, str], *, columns: int = 80, lines: int = 24) -> None:
        self._environment = {
            name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self._environment |= {"TERM": "xterm-256color"}
        self._screen = pyte.Screen(columns, lines)
        self._model = pyte.ByteStream(self._screen)
        self._keyboard, self._tty = os.openpty()
        fcntl.ioctl(self._tty, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._program: subprocess.Popen[bytes] | None = None
        self.raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._program is not None and self._program.poll() is None:
            self._program.kill()
            self._program.wait()
        os.close(self._keyboard)
        os.close(self._tty)

    def start(self, *words: str) -> None:
        """Start `pixir-actors` with these words, on a screen that has been cleared."""
        self._screen.reset()
        self.raw = b""
        self._program = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *PIXIR_ACTORS, *words],
            stdin=self._tty,
            stdout=self._tty,
            stderr=self._tty,
            start_new_session=True,
            env=self._environment,
        )

    def type(self, keys: bytes) -> None:
        """Type on the keyboard."""
        os.write(self._keyboard, keys)

    @property
    def rows(self) -> list[str]:
        """What the screen shows, without the empty rows."""
        return [row.rstrip() for row in self._screen.display if row.strip()]

    def shows(self, *texts: str) -> bool:
        """Wait until the screen shows all of these at once; fail with what it shows instead."""
        return self._until(lambda: all(text in "\n".join(self.rows) for text in texts), f"no {texts}")

    def ends(self) -> int:
        """Wait until the program has ended, and return its exit code."""
        assert self._program is not None
        self._until(lambda: self._program is not None and self._program.poll() is not None, "it does not end")
        self._read(0)
        return self._program.returncode

    def run(self, *words: str) -> int:
        """Run `pixir-actors` to its end, and return its exit code."""
        self.start(*words)
        return self.ends()

    def _until(self, condition: Callable[[], bool], otherwise: str) -> bool:
        deadline = time.monotonic() + within(20)
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{otherwise}; the screen shows:\n" + "\n".join(self.rows))
            self._read(0.05)
        return True

    def _read(self, seconds: float) -> None:
        while select.select([self._keyboard], [], [], seconds)[0]:
            more = os.read(self._keyboard, 65536)
            self.raw += more
            self._model.feed(more)
            seconds = 0
