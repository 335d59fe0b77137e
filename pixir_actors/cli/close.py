"""`pixir-actors close`: ends the connection of a key."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pixir_actors.cli import catalog
from pixir_actors.cli.options import resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import complain, say
from pixir_actors.client import Client


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(subparsers, catalog.CLOSE, ("key", "the key, a text", None))


def run(given: argparse.Namespace) -> int:
    """Close the connection; return the exit code.

    Raises:
        PixirError: No admin runs, it cannot be talked to, or the connection does not answer.
    """
    chosen = resolve(catalog.CLOSE, given, os.environ, catalog.COMMANDS)
    with Client.attach(port=chosen.places.port, namespace=chosen.namespace) as client:
        if not client.status(chosen.key):
            complain("this key has no connection")
            return catalog.NO_CONNECTION
        client.close(chosen.key)
    say("closed")
    return catalog.DONE
