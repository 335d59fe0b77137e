"""The command `pixir-actors`: finds the command that is asked for, runs it, and turns what it raises into an exit code.

Exit codes, of all commands:

    0    done
    1    failed; standard error says why
    2    wrong usage, also in the environment or the config file
    3    no admin is running
    4    the key has no connection
    5    the admin has another version or another cookie, or the cookie cannot be used
    130  Ctrl-C
    141  standard output was closed
    143  SIGTERM or SIGHUP

Results go to standard output, messages to standard error. A traceback is shown with --debug only, and without the
messages of the exceptions in it, which may quote anything.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from pixir_actors import spelling
from pixir_actors.cli import catalog, terminal
from pixir_actors.cli.failure import Terminated, code_of, lines_of
from pixir_actors.cli.parser import Parser
from pixir_actors.version import __version__

COMMANDS: Final = {command.name: command for command in catalog.COMMANDS}
COMMAND_NAME: Final = re.compile(r"[a-z]{1,20}")
DESCRIPTION: Final = "Warm WebSocket connections to Responses APIs, shared by every program of this user."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Runs in the main thread; SIGTERM and SIGHUP end it as Ctrl-C does, so that terminals are put back and requests are
    cancelled.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    previous = _catch_signals()
    try:
        try:
            return _run(given)
        finally:
            sys.stdout.flush()  # here, and not when the interpreter ends, a closed pipe can be dealt with
    except BrokenPipeError:
        _abandon_stdout()
        return catalog.CLOSED_PIPE
    except KeyboardInterrupt:
        return catalog.INTERRUPTED
    except Terminated:
        return catalog.TERMINATED
    except Exception as error:  # a traceback never reaches the user
        terminal.complain(*lines_of(error, debug="--debug" in given))
        return code_of(error)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(given: list[str]) -> int:
    name = next((word for word in given if not word.startswith("-")), None)
    parser, chosen_parser = _parsers(name)
    if name == catalog.SIMULATE.name and given[0] == name:
        from pixir_actors.cli import simulate

        return simulate.run(argparse.Namespace(rest=given[1:]))
    if name and given[0] == name and name not in COMMANDS:
        parser.error(_no_command(name))
    chosen, rest = parser.parse_known_args(given)
    literal = given[given.index("--") + 1 :] if "--" in given else []
    _take_words(chosen, rest, chosen_parser or parser, literal)
    if chosen.command is None:  # nothing was asked for: a script that lost its arguments should not take it for success
        parser.print_help(sys.stderr)
        return catalog.WRONG_USAGE
    return int(import_module(f"pixir_actors.cli.{chosen.command}").run(chosen))


def _no_command(word: str) -> str:
    """Say that a word is no command. One that could not be the name of one may be anything, a key as well: not repeated."""
    shown = word if COMMAND_NAME.fullmatch(word) else "this"
    return f"{shown} is no command{spelling.hint(word, COMMANDS)} (commands: {', '.join(COMMANDS)})"


def _take_words(chosen: argparse.Namespace, rest: list[str], parser: argparse.ArgumentParser, literal: list[str]) -> None:
    """Take what argparse left: words of the message that stand behind a flag; `literal` are those behind a `--`."""
    rest = [word for word in rest if word != "--"]
    if literal and rest[-len(literal) :] == literal:
        rest = rest[: -len(literal)]
    else:
        literal = []
    words = getattr(chosen, "text", None)
    unknown = [word.partition("=")[0] for word in rest if word.startswith("-")]
    if unknown or (words is None and (rest or literal)):
        known = COMMANDS[chosen.command].options if chosen.command else ()
        meant = spelling.hint(unknown[0], [option.flag for option in known]) if unknown else ""
        parser.error(f"not known here: {', '.join(unknown) or 'more words than it takes'}{meant}")
    if words is not None:
        words.extend(rest + literal)


def _parsers(name: str | None) -> tuple[Parser, argparse.ArgumentParser | None]:
    """Return the parser, and that of the command `name`: only that one is loaded, so that help comes at once."""
    codes = "\n".join(["exit codes:", *(__doc__ or "").partition("all commands:\n\n")[2].partition("\n\n")[0].splitlines()])
    parser = Parser(
        prog="pixir-actors",
        description=DESCRIPTION,
        epilog=f"`pixir-actors COMMAND --help` says more.\n\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pixir-actors {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in catalog.COMMANDS:
        if command.name == name:
            import_module(f"pixir_actors.cli.{name}").add_parser(commands)
        else:
            commands.add_parser(command.name, help=command.summary, add_help=False)
    return parser, commands.choices.get(name) if name else None


def _prepare_streams() -> None:
    """Let no text fail on its way out: what the terminal's encoding lacks is replaced, a missing stream as well."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _catch_signals() -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    wanted = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]  # nohup
    return {number: signal.signal(number, _terminate) for number in wanted}


def _terminate(*_: object) -> None:
    raise Terminated


def _abandon_stdout() -> None:
    """Whoever read the output has closed it; the interpreter would complain about that when it ends."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
