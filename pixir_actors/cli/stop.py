"""`pixir-actors stop`: ends the admin and waits until it has ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any, Final

from pixir_actors.cli import catalog
from pixir_actors.cli.options import resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import complain, console, count, is_terminal, say
from pixir_actors.client import Client
from pixir_actors.errors import PixirError
from pixir_actors.system.launch import stop_admin
from pixir_actors.system.processes import is_stopped
from pixir_actors.system.runtime import find

LOOK_EVERY: Final = 1.0


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(subparsers, catalog.STOP)


def run(given: argparse.Namespace) -> int:
    """End the admin, and say on a terminal what it waits for; return the exit code."""
    chosen = resolve(catalog.STOP, given, os.environ, catalog.COMMANDS)
    runtime = find(chosen.places)
    if runtime is None:
        complain("no admin is running")
        return catalog.NOT_RUNNING
    with Waiting(chosen.places.port) as waiting:
        ended = stop_admin(runtime, timeout=chosen.timeout, progress=waiting.tick)
    if ended:
        say(f"the admin (pid {runtime.pid}) has ended")
        return catalog.DONE
    if is_stopped(runtime.pid):
        complain(
            f"the admin (pid {runtime.pid}) was stopped by a signal, and hears nothing",
            f"to do: `kill -CONT {runtime.pid}` lets it go on, and end; `kill -KILL {runtime.pid}` ends it and all it runs",
        )
        return catalog.FAILED
    complain(
        f"the admin (pid {runtime.pid}) still runs after {chosen.timeout:g} s; it goes on ending",
        "to do: `pixir-actors stop` waits again; its --drain-timeout bounds how long running turns may go on",
    )
    return catalog.FAILED


class Waiting:
    """Says on a terminal what a stopping admin waits for; in a pipe, nothing."""

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._stack = ExitStack()
        self._client: Client | None = None
        self._looked_at = 0.0
        self._line: Any = None

    def __enter__(self) -> Waiting:
        if is_terminal(sys.stderr):
            # Before the admin is told to stop: it takes nobody new after that. One of another version can be ended, too.
            with suppress(PixirError):
                self._client = self._stack.enter_context(Client.attach(port=self._port))
            self._line = self._stack.enter_context(console(to_stderr=True).status("stopping the admin"))
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(PixirError):
            self._stack.close()

    def tick(self) -> None:
        """Look at what still runs, once a second."""
        now = time.monotonic()
        if self._client is None or now < self._looked_at + LOOK_EVERY:
            return
        self._looked_at = now
        try:
            turns = sum(connection.running for connection in self._client.status())
        except PixirError:
            self._line.update("stopping the admin: closing its connections")
            return
        if turns:
            self._line.update(f"stopping the admin: waiting for {count(turns, 'running turn')}")
