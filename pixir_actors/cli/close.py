"""`pixir-actors close`: ends the connection of a key."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pixir_actors.cli import catalog
from pixir_actors.cli.lookup import KEY_HELP, look_up
from pixir_actors.cli.options import resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import complain, say
from pixir_actors.client import Client


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(subparsers, catalog.CLOSE, ("key", KEY_HELP, None))


def run(given: argparse.Namespace) -> int:
    """Close the connection; return the exit code.

    Raises:
        WrongUsage: An option cannot be used.
        PixirError: No admin runs, it cannot be talked to, or the connection does not answer.
    """
    chosen = resolve(catalog.CLOSE, given, os.environ, catalog.COMMANDS)
    with Client.attach(port=chosen.places.port, namespace=chosen.namespace) as client:
        meant = look_up(client, chosen.key, chosen.namespace)
        if meant.connection is None:
            complain(*meant.missing)
            return catalog.NO_CONNECTION
        if meant.as_text:
            client.close(chosen.key)
        else:
            client.close_connection(meant.connection.connection_id)
    say("closed")
    return catalog.DONE
