"""The command `pixir-actors`: parses what it is asked for and hands it on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pixir_actors.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 if it did what it was asked to, 1 if not, 2 for a wrong command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="pixir-actors", description="Warm WebSocket connections to Responses APIs.")
    parser.add_argument("--version", action="version", version=f"pixir-actors {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("simulate", add_help=False, help="run a scriptable Responses server on loopback (extra: simulator)")
    chosen, rest = parser.parse_known_args(given)
    if chosen.command == "simulate":
        return _simulate(rest)
    parser.print_help()
    return 0 if not given else 2


def _simulate(arguments: list[str]) -> int:
    try:
        from pixir_actors.simulator.__main__ import main as simulate
    except ModuleNotFoundError as missing:
        print(f"{missing.name} is not installed: pip install 'pixir_actors[simulator]'", file=sys.stderr)
        return 1
    return simulate(arguments)
