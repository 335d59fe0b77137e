"""`pixir-actors start`: the admin daemon, in the foreground or on its own."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any

from pixir_actors.cli import catalog
from pixir_actors.cli.options import resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import console, is_terminal
from pixir_actors.system.launch import AdminOptions, start_detached
from pixir_actors.system.runtime import Runtime


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(subparsers, catalog.START)


def run(given: argparse.Namespace) -> int:
    """Run the admin until it is told to stop, or start it and return when it is ready.

    Raises:
        AdminAlreadyRunning: One runs; the text says where.
        CookieUnusable, SystemStartFailed: It cannot start; the text says what to do.
    """
    chosen = resolve(catalog.START, given, os.environ, catalog.COMMANDS)
    options = AdminOptions(
        places=chosen.places,
        port=chosen.port,
        drain_timeout=chosen.drain_timeout,
        log_level=chosen.log_level,
        log_format=chosen.log_format,
        log_file=chosen.log_file and chosen.log_file.absolute(),
    )
    if not chosen.detach:
        return _in_foreground(options)
    options = replace(options, log_file=options.log_file or options.places.log_file)
    progress = console(to_stderr=True)
    if is_terminal(sys.stderr):
        with progress.status("starting the admin"):
            runtime = start_detached(options)
    else:
        runtime = start_detached(options)
    print(ready_line(runtime, detached=True), flush=True)
    return catalog.DONE


def _in_foreground(options: AdminOptions) -> int:
    from pixir_actors.admin.daemon import run_admin

    return run_admin(options, ready=lambda runtime: print(ready_line(runtime), flush=True))


def ready_line(runtime: Runtime, *, detached: bool = False) -> str:
    """Return the one line that says where the admin is, where it logs, and how it is ended."""
    # In the foreground it fits into 80 columns.
    end = "`pixir-actors stop`" if detached else "Ctrl-C"
    return f"the admin is running: pid {runtime.pid}, port {runtime.port}, log: {runtime.log or 'stderr'}; {end} ends it"
