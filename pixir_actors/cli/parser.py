"""The parsers of the command line: a help that says all there is to know, and complaints that repeat no value."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from pixir_actors.cli.options import Command, declare


class Parser(argparse.ArgumentParser):
    """A parser that repeats no value in its complaints: it may be a key that got into the wrong place."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with 2."""
        for mark in ("invalid choice: ", "unrecognized arguments: ", "ambiguous option: ", "ignored explicit argument "):
            if mark in message:
                _, choices, allowed = message.rpartition(" (choose from ")
                message = message.partition(mark)[0] + mark.strip(": ") + (choices + allowed if choices else "")
        super().error(message)


class _NoKeyHere(argparse.Action):
    """Refuses --api-key, and says why, before anybody gets used to it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        parser.error(
            "there is no --api-key: every user of this host could read it in `ps`. Put it into a variable, and name that"
            " with --api-key-env if it is not OPENAI_API_KEY"
        )


def add_command(subparsers: Any, command: Command, *positional: tuple[str, str, str | None]) -> argparse.ArgumentParser:
    """Add a command's parser to those of `main`, with a help that says all there is to know.

    Args:
        subparsers: What `add_subparsers` returned.
        command: What the help says.
        positional: Name, help and `nargs` of each positional argument.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        command.name,
        help=command.summary,
        description=command.description,
        epilog=_epilog(command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, help_text, nargs in positional:
        # One that may be missing is only taken so by argparse if it has a default.
        default: dict[str, Any] = {"default": []} if nargs == "*" else {}
        parser.add_argument(name, metavar=name.upper(), help=help_text, nargs=nargs, **default)
    declare(parser, command.options)
    parser.add_argument("--api-key", action=_NoKeyHere, nargs="?", help=argparse.SUPPRESS)
    return parser


def _epilog(command: Command) -> str:
    parts = ["examples:", *(f"  {line}" for line in command.examples), "", "exit codes:"]
    parts += [f"  {code:<4} {meaning}" for code, meaning in command.codes]
    parts += ["", "An option is taken from its flag, else from its environment variable, else from the config file"]
    parts += [f"(table [{command.name}]), else its default."]
    if command.settings:
        flag = "--option, " if any(option.name == "option" for option in command.options) else ""
        parts += [f"The fields of Settings come from {flag}$PIXIR_ACTORS_<FIELD> and the file's table [settings]."]
    return "\n".join(parts)
