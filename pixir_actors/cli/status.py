"""`pixir-actors status`: the admin and its connections, once or again and again."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Group
from rich.live import Live
from rich.text import Text

from pixir_actors.cli import catalog
from pixir_actors.cli.lookup import KEY_HELP, Meant, look_up
from pixir_actors.cli.options import resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.table import Snapshot, as_json, connection_json, details, head, overview
from pixir_actors.cli.terminal import complain, console, is_terminal, printable
from pixir_actors.client import Client
from pixir_actors.errors import AdminNotRunning, PixirError
from pixir_actors.status import ConnectionStatus
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime, find


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    help_text = f"show all about one connection: {KEY_HELP}; one word, quote it if it has blanks"
    add_command(subparsers, catalog.STATUS, ("key", help_text, "?"))


def run(given: argparse.Namespace) -> int:
    """Print the status; return the exit code.

    Raises:
        WrongUsage: An option cannot be used.
        PixirError: No admin runs, or it cannot be talked to.
    """
    if given.watch is not None and given.key is None and not _is_number(given.watch):
        given.key, given.watch = given.watch, "1"  # `status --watch KEY`
    chosen = resolve(catalog.STATUS, given, os.environ, catalog.COMMANDS)
    view = View(chosen.places, chosen.key, chosen.namespace)
    try:
        if chosen.watch is not None:
            return _watch(view, chosen.watch, as_lines=chosen.json)
        return _once(view, as_document=chosen.json)
    finally:
        view.close()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class View:
    """What is looked at, and the client that looks. It follows an admin that was stopped and started again."""

    def __init__(self, places: Places, key: str | None, namespace: str | None) -> None:
        self._places, self._namespace = places, namespace
        self._client: Client | None = None
        self._runtime: Runtime | None = None
        self.key = key
        self.meant = Meant(None)
        self.restarted: str | None = None

    def look(self) -> Snapshot:
        """Return what there is now; with a key, its connection alone.

        Raises:
            PixirError: There is nothing to see: no admin runs, or it does not answer.
        """
        if self._client is not None and find(self._places) is None:
            self.close()  # it would find out by itself, but not at once
        try:
            client = self._client = self._client or Client.attach(port=self._places.port, namespace=self._namespace)
            connections = client.status() if self.key is None else self._one(client, self.key)
            system, runtime = client.system(), client.admin
        except PixirError:
            self.close()
            raise
        assert runtime is not None
        self._note(runtime)
        return Snapshot(runtime, system, connections)

    def _one(self, client: Client, key: str) -> list[ConnectionStatus]:
        self.meant = look_up(client, key, self._namespace)
        return [] if self.meant.connection is None else [self.meant.connection]

    def _note(self, runtime: Runtime) -> None:
        before, self._runtime = self._runtime, runtime
        if before is None or runtime.system_id == before.system_id:
            return
        now = time.strftime("%H:%M:%S")
        if runtime.pid != before.pid:
            self.restarted = f"the admin was restarted at {now}: pid {before.pid} is now {runtime.pid}"
        else:
            self.restarted = f"the admin has started its actor system anew at {now}: all connections are new"

    def close(self) -> None:
        """Leave the admin."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _once(view: View, *, as_document: bool) -> int:
    snapshot = view.look()
    if view.key is not None and not snapshot.connections:
        complain(*view.meant.missing)
        return catalog.NO_CONNECTION
    if as_document:
        print(_document(view, snapshot, orjson.OPT_INDENT_2))
        return catalog.DONE
    out = console()
    width = out.width if is_terminal(sys.stdout) else None
    for line in _lines(view, snapshot, width=width):
        out.print(line)
    return catalog.DONE


def _document(view: View, snapshot: Snapshot, option: int = 0) -> str:
    if view.key is None:
        return orjson.dumps(as_json(snapshot), option=option).decode()
    found = [connection_json(connection) for connection in snapshot.connections]
    return orjson.dumps(found[0] if found else None, option=option).decode()


def _lines(view: View, snapshot: Snapshot, *, width: int | None, height: int | None = None) -> list[Text]:
    if view.key is None:
        return overview(snapshot, width=width, height=height)
    if snapshot.connections:
        found = details(snapshot.connections[0], typed=view.key if view.meant.as_text else None)
    else:
        found = [Text(printable(line)) for line in view.meant.missing]
    return found if height is None else [*head(snapshot, width=width), *found]


# Again and again.


def _watch(view: View, interval: float, *, as_lines: bool) -> int:
    """Show the status every `interval` seconds until Ctrl-C. A key that has no connection at the first look is no subject.

    Raises:
        PixirError: There was nothing to see at the first look; later ones are shown and waited out.
    """
    first = view.look()
    if view.key is not None and not first.connections:
        complain(*view.meant.missing)
        return catalog.NO_CONNECTION
    live = is_terminal(sys.stdout) and not as_lines
    try:
        with _screen() if live else _pipe(view, as_lines=as_lines) as show:
            show(view, first, None)
            while True:
                time.sleep(interval)
                _show_now(show, view)
    except KeyboardInterrupt:
        return catalog.DONE


def _show_now(show: Any, view: View) -> None:
    try:
        show(view, view.look(), None)
    except PixirError as error:
        show(view, None, _waiting(error))


def _waiting(error: PixirError) -> str:
    return "no admin is running: waiting for one" if isinstance(error, AdminNotRunning) else f"no answer: {error}"


@contextmanager
def _pipe(view: View, *, as_lines: bool) -> Iterator[Any]:
    """Print one table, or one JSON line, for each look."""
    out = console()

    def show(view: View, snapshot: Snapshot | None, problem: str | None) -> None:
        if view.restarted:
            complain(view.restarted)
            view.restarted = None
        if snapshot is None:
            complain(problem or "")
        elif as_lines:
            print(_document(view, snapshot), flush=True)
        else:
            for line in [Text(time.strftime("%H:%M:%S")), *_lines(view, snapshot, width=None, height=None), Text()]:
                out.print(line)
            out.file.flush()

    yield show


@contextmanager
def _screen() -> Iterator[Any]:
    """Show it on the whole terminal; what was there before comes back, and the last picture is left below."""
    out = console()
    last: list[Text] = []

    def show(view: View, snapshot: Snapshot | None, problem: str | None) -> None:
        lines = [Text(problem, style="bold yellow")] if problem else []
        if view.restarted:
            lines.append(Text(view.restarted, style="yellow"))
        if snapshot is not None:
            lines += _lines(view, snapshot, width=out.width, height=out.height - len(lines) - 1)
        last[:] = lines
        live.update(Group(*lines, Text("Ctrl-C ends this", style="dim")), refresh=True)

    try:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            yield show
    finally:
        for line in last:
            out.print(line)
