"""Run the simulator until SIGINT or SIGTERM: a Responses API on loopback, which echoes, calls tools, and fails as told."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from pixir_actors.simulator.fault import Fault
from pixir_actors.simulator.faults import FAULTS
from pixir_actors.simulator.script import Reply, TurnContext, coding_agent
from pixir_actors.simulator.server import Simulator

_KEEP: Final = 100
_HIGHEST_PORT: Final = 65535
_PROGRAM: Final = "python -m pixir_actors.simulator"
_SELECTORS: Final = {
    "times": "how often, 1 if not given; None: always",
    "on_request": "at the request of this number only, from 0",
    "on_connection": "at the connection of this number only, from 0",
    "on_via": "websocket or http: this way only",
}
"""The keys that every fault takes, and what they mean."""


def main(arguments: Sequence[str] | None = None, *, program: str = _PROGRAM) -> int:
    """Print the URL, with TLS the CA file, the base URL and how it is set; serve until a signal comes, and return 0.

    Must run in the main thread, because it sets signal handlers; they are put back.

    Args:
        arguments: The command line behind the program's name; None: that of this process.
        program: How it was called, for the help.
    """
    options = _parser(program).parse_args(arguments)
    if options.list_faults:
        print("\n".join(_listed_faults()))
        return 0
    stopped = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in signals}
    try:
        with Simulator(
            _slow(options.delay),
            tls=options.tls,
            faults=options.fault,
            lifetime=options.lifetime,
            api_key=options.api_key,
            port=options.port,
            keep=_KEEP,
        ) as simulator:
            print("\n".join(_ready(simulator)), flush=True)
            stopped.wait()
    except OSError as error:
        print(f"cannot listen on port {options.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _ready(simulator: Simulator) -> Iterator[str]:
    yield simulator.url
    if simulator.ca_file is not None:
        yield simulator.ca_file
    yield simulator.base_url
    yield f"export OPENAI_BASE_URL={simulator.base_url}"
    if simulator.ca_file is not None:
        yield f"export PIXIR_ACTORS_CA_FILE={simulator.ca_file}"


def _slow(delay: float) -> Callable[[TurnContext], Reply]:
    return lambda turn: coding_agent(turn).paced(delay)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=__doc__, allow_abbrev=False)
    parser.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1; 0 (the default) for a free one")
    parser.add_argument("--tls", action="store_true", help="serve wss; the CA file is printed on a second line")
    help_text = "wait so long between two events of an answer, of which there are about ten"
    parser.add_argument("--delay", type=_seconds, default=0.0, metavar="SECONDS", help=help_text)
    parser.add_argument("--lifetime", type=_seconds, metavar="SECONDS", help="seconds a connection may live")
    parser.add_argument("--api-key", metavar="KEY", help="refuse any other bearer with 401; for made-up keys only")
    form = "NAME[:KEY=VALUE,...]"
    help_text = "arm a fault, such as cut_mid_text:n=2,times=3; repeatable"
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar=form, help=help_text)
    parser.add_argument("--list-faults", action="store_true", help="print all faults with their keys, and exit")
    parser.add_argument("--debug", action="store_true", help="show where an unexpected error arose")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"allowed is a whole number from 0 to {_HIGHEST_PORT}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("allowed is a number of seconds from 0")
    return value


def _listed_faults() -> Iterator[str]:
    for name, factory in sorted(FAULTS.items()):
        yield f"{name:24} {(factory.__doc__ or '').strip()}"
        own = [f"{key}={parameter.default!r}" for key, parameter in _own_keys(name).items()]
        if own:
            yield f"{'':24} keys: {', '.join(own)}"
    yield "\nEvery fault takes these keys as well:"
    yield from (f"  {key:14} {meaning}" for key, meaning in _SELECTORS.items())


def _own_keys(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(FAULTS[name]).parameters)


def _fault(text: str) -> Fault:
    """Read "name:key=value,key=value"; a value is a Python literal, or else a text."""
    name, _, rest = text.partition(":")
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(f"no fault is called {name!r}{_meant(name, FAULTS)}; --list-faults shows all")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    known = [*_own_keys(name), *_SELECTORS]
    for key, separator, _value in pairs:
        if not separator:
            raise argparse.ArgumentTypeError(f"{name}: {key!r} lacks its value: NAME:KEY=VALUE,KEY=VALUE")
        if key not in known:
            raise argparse.ArgumentTypeError(f"{name} has no key {key!r}{_meant(key, known)}; it takes {', '.join(known)}")
    try:
        return FAULTS[name](**{key: _literal(value) for key, _, value in pairs})
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main())
