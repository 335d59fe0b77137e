"""`pixir-actors start`: the admin daemon, in the foreground or on its own."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any

from pixir_actors.cli import catalog
from pixir_actors.cli.options import WrongUsage, resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import NAME, console, is_terminal, warn
from pixir_actors.errors import AdminAlreadyRunning, AdminMismatch, CookieUnusable
from pixir_actors.system.fit import check_version, key_for
from pixir_actors.system.launch import AdminOptions, start_detached
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime, find


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(subparsers, catalog.START)


def run(given: argparse.Namespace) -> int:
    """Run the admin until it is told to stop, or start it and return when it is ready.

    Raises:
        AdminAlreadyRunning: One runs; the text says where.
        WrongUsage: An option cannot be used, or the log file's directory is missing.
        CookieUnusable, SystemStartFailed: It cannot start; the text says what to do.
    """
    chosen = resolve(catalog.START, given, os.environ, catalog.COMMANDS)
    if chosen.log_file and not chosen.log_file.absolute().parent.is_dir():
        # A directory that nobody has made is in all likelihood a mistyped one.
        raise WrongUsage(f"the log file's directory does not exist: {chosen.log_file.absolute().parent}")
    options = AdminOptions(
        places=chosen.places,
        port=chosen.port,
        drain_timeout=chosen.drain_timeout,
        log_level=chosen.log_level,
        log_format=chosen.log_format,
        log_file=chosen.log_file and chosen.log_file.absolute(),
    )
    try:
        return _detached(options) if chosen.detach else _in_foreground(options)
    except AdminAlreadyRunning as error:
        misfit = _misfit(options.places)
        if misfit is None:
            raise
        raise AdminAlreadyRunning(f"{error}, but this program cannot use it: {misfit}") from error


def _misfit(places: Places) -> str | None:
    """Say why programs like this one cannot use the admin that runs; None if they can."""
    runtime = find(places)
    if runtime is None:
        return None
    try:
        check_version(places, runtime)
        key_for(places, runtime)
    except (AdminMismatch, CookieUnusable) as error:
        return str(error)
    return None


def _detached(options: AdminOptions) -> int:
    options = replace(options, log_file=options.log_file or options.places.log_file)
    progress, said = console(to_stderr=True), list[str]()
    if is_terminal(sys.stderr):
        with progress.status("starting the admin"):
            runtime = start_detached(options, complain=said.append)
    else:
        runtime = start_detached(options, complain=said.append)
    for line in said:
        warn(line.removeprefix(f"{NAME}: "))
    print(ready_line(runtime, end=_stop_command(options.places)), flush=True)
    return catalog.DONE


def _in_foreground(options: AdminOptions) -> int:
    from pixir_actors.admin.daemon import run_admin

    return run_admin(options, ready=lambda runtime: print(ready_line(runtime), flush=True))


def _stop_command(places: Places) -> str:
    return "`pixir-actors stop`" if places.port is None else f"`pixir-actors stop --port {places.port}`"


def ready_line(runtime: Runtime, *, end: str = "Ctrl-C") -> str:
    """Return the one line that says where the admin is, where it logs, and how it is ended."""
    # In the foreground it fits into 80 columns.
    return f"the admin is running: pid {runtime.pid}, port {runtime.port}, log: {runtime.log or 'stderr'}; {end} ends it"
