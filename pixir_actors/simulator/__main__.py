"""python -m pixir_actors.simulator: run the simulator until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import ast
import signal
import sys
import threading
from collections.abc import Sequence

from pixir_actors.simulator.fault import Fault
from pixir_actors.simulator.faults import FAULTS
from pixir_actors.simulator.server import Simulator

_KEEP = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the URL (and, with TLS, the CA file), serve until a signal comes, and return 0.

    Must run in the main thread, because it sets signal handlers; they are put back.
    """
    options = _parser().parse_args(arguments)
    if options.list_faults:
        print("\n".join(f"{name:24} {(factory.__doc__ or '').strip()}" for name, factory in sorted(FAULTS.items())))
        return 0
    stopped = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in signals}
    try:
        with Simulator(
            tls=options.tls,
            faults=options.fault,
            lifetime=options.lifetime,
            api_key=options.api_key,
            port=options.port,
            keep=_KEEP,
        ) as simulator:
            print(simulator.url, flush=True)
            if simulator.ca_file is not None:
                print(simulator.ca_file, flush=True)
            stopped.wait()
    except OSError as error:
        print(f"cannot listen on port {options.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pixir_actors.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 (the default) for a free one")
    parser.add_argument("--tls", action="store_true", help="serve wss; the CA file is printed on a second line")
    parser.add_argument("--lifetime", type=float, help="seconds a connection may live")
    parser.add_argument("--api-key", help="refuse any other bearer with 401")
    form = "NAME[:KEY=VALUE,...]"
    parser.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar=form, help="arm a fault; repeatable"
    )
    parser.add_argument("--list-faults", action="store_true", help="print the names of all faults and exit")
    return parser


def _fault(text: str) -> Fault:
    """Read "name:key=value,key=value"; a value is a Python literal, or else a text."""
    name, _, rest = text.partition(":")
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(f"no fault is called {name!r}; see --list-faults")
    try:
        pairs = [pair.split("=", 1) for pair in rest.split(",") if pair]
        return FAULTS[name](**{key: _literal(value) for key, value in pairs})
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main())
