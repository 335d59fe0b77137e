"""The admin daemon as nobody's child. Started by `system.launch.start_detached`, to which it reports on standard output."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NoReturn

from pixir_actors.admin.daemon import run_admin
from pixir_actors.errors import PixirError
from pixir_actors.system.launch import AdminOptions
from pixir_actors.system.runtime import Runtime


def main(config: Mapping[str, Any]) -> NoReturn:
    """Run a daemon; never returns.

    Args:
        config: What came down standard input; its import path is in use already.
    """
    # Its starter waits for this process alone; the daemon becomes a child of init, which collects it when it ends.
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    options = AdminOptions.of(config["options"])
    if options.log_file is None:
        options = replace(options, log_file=options.places.log_file)
    code = 1
    try:
        code = run_admin(options, ready=_say_ready)
    except PixirError as error:
        _report({"kind": type(error).__name__, "error": str(error)})
    except OSError as error:
        _report({"kind": "SystemStartFailed", "error": f"{error.filename or 'the system'}: {error.strerror}"})
    os._exit(code)


def _say_ready(runtime: Runtime) -> None:
    _report({"ready": asdict(runtime)})
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)


def _report(line: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")
