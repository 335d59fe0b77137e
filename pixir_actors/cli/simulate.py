"""`pixir-actors simulate`: the simulator as a program; its arguments are its own."""

from __future__ import annotations

import argparse
from typing import Any

from pixir_actors.cli import catalog
from pixir_actors.cli.terminal import complain


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    subparsers.add_parser(catalog.SIMULATE.name, help=catalog.SIMULATE.summary, add_help=False)


def run(given: argparse.Namespace) -> int:
    """Hand `given.rest` to the simulator, and return its exit code."""
    try:
        from pixir_actors.simulator.__main__ import main
    except ModuleNotFoundError as missing:
        complain(f"{missing.name} is not installed", "to do: pip install 'pixir_actors[simulator]'")
        return catalog.FAILED
    return main(given.rest, program="pixir-actors simulate")
