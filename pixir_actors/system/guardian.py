"""The program of the small process that an embedded actor system lives under.

It is started by `embedded.py` with two descriptors: standard input is the lifeline, on which one line of
configuration comes and then nothing, and standard output the report, on which one line goes back. Both lines are
JSON. It forks the actor system, adopts and collects whatever is orphaned in it, and ends everything and itself as
soon as the host program ends, the lifeline says so, or the admin has died.

The report's descriptor stays open in every process of the system: its end tells the host that all of them are gone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from thespian.system.utilis import thesplog_control

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system.logs import definitions
from pixir_actors.system.processes import adopt_orphans, descendants, kill, living_children, set_process_name
from pixir_actors.system.signed import LOG_NOWHERE, LOOPBACK, share_refusals, start_admin, total_refusals
from pixir_actors.system.tether import Tether

PROCESS_NAME: Final = "pixir-guardian"
MAX_DESCRIPTORS: Final = 1 << 20
KILL_PAUSE: Final = 0.002
"""Seconds between two rounds of killing."""
KILL_LIMIT: Final = 5.0
"""Seconds after which the guardian leaves; its tether takes whoever is left."""
PORT_PATIENCE: Final = 2.0
PORT_PAUSE: Final = 0.05
SHARED_PACKAGES: Final = ("pixir_actors.actors", "pixir_actors.transport", "pixir_actors.channel")
SHARED_MODULES: Final = ("ssl", "orjson", "websocket")
"""Imported once before the first fork, so that all processes share their memory and start at once."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the host sends down the lifeline."""

    key: bytes = field(repr=False)
    host: int
    port: int
    log: tuple[str, int] | None
    ca_file: str | None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Config:
        log = fields["log"]
        return cls(
            key=bytes.fromhex(fields["key"]),
            host=int(fields["host"]),
            port=int(fields["port"]),
            log=None if log is None else (str(log[0]), int(log[1])),
            ca_file=fields["ca_file"],
        )


def main(fields: Mapping[str, Any]) -> NoReturn:
    """Run one embedded actor system; never returns. Its main thread collects dead processes, another watches the host.

    Args:
        fields: The configuration as it came down the lifeline; its import path is in use already.
    """
    config = Config.of(fields)
    lifeline, report = _detach_stdio()
    host = _open_host(config.host)
    threading.Thread(target=_end_with_host, args=(lifeline, host), name="lifeline", daemon=True).start()
    try:
        port, admin = _start(config, [lifeline] if host is None else [lifeline, host])
    except Exception as error:
        _tell(report, {"error": f"{type(error).__name__}: {error}"})
        end_system()
    _tell(report, {"port": port})
    _collect_until(admin)
    end_system()


def _detach_stdio() -> tuple[int, int]:
    """Move lifeline and report off the standard descriptors, which go nowhere from now on."""
    lifeline, report = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
    return lifeline, report


def _open_host(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the host ends; None where there is no such thing.

    The lifeline alone would do, but for processes that inherited the host's end of it without its leave.
    """
    try:
        host = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
    if os.getppid() != pid:  # started through a wrapper, or the number is somebody else's by now
        os.close(host)
        return None
    return host


def _tell(report: int, line: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(line).encode() + b"\n")


def _start(config: Config, private: list[int]) -> tuple[int, int]:
    """Start the actor system; return the admin's port and its pid.

    Args:
        config: What the host wants.
        private: Descriptors that no process of the system may keep.
    """
    _import_shared()
    os.umask(0o077)
    _limit_resources()
    thesplog_control(logging.CRITICAL, False, 0)
    share_refusals()
    _have_refusals_told()
    adopt_orphans()
    _share_memory(config.ca_file)
    with _reserve_port(config.port) as reserved:
        Tether([*private, reserved.fileno()])
        port = reserved.getsockname()[1]
        start_admin(config.key, port, LOG_NOWHERE if config.log is None else definitions(*config.log))
    set_process_name(PROCESS_NAME)
    return port, _find_admin()


def _import_shared() -> None:
    """Import what the actors need. What cannot be imported is missed where it is needed, and named there."""
    for name in (*SHARED_MODULES, *SHARED_PACKAGES):
        with contextlib.suppress(ImportError):
            path = getattr(importlib.import_module(name), "__path__", ()) if name in SHARED_PACKAGES else ()
            for module in pkgutil.iter_modules(path):
                importlib.import_module(f"{name}.{module.name}")


def _share_memory(ca_file: str | None) -> None:
    """Load what connections need alike, and keep forks from writing to what they share: a page that is, is copied.

    Args:
        ca_file: What is trusted by those that are told nothing else; None: the system's authorities.
    """
    from pixir_actors.transport import faults, tls

    with contextlib.suppress(faults.Refused):  # the connections say so
        tls.client_context(ca_file)
    # Thespian looks for it in every new process, along the whole path. Ours name themselves.
    sys.modules["setproctitle"] = None  # type: ignore[assignment]
    gc.collect()
    gc.freeze()
    # What a parent has come to hold since: a collection in its child would go through all of it.
    os.register_at_fork(after_in_child=gc.freeze)
    # A method that is looked up takes another's place in this cache, and the count of that one's name is written, which may
    # lie on any page. Later versions of Python have no such call.
    if hasattr(sys, "_clear_type_cache"):
        os.register_at_fork(before=sys._clear_type_cache)


def _have_refusals_told() -> None:
    """Let the supervisor, which is forked from here, tell how many messages the system has refused."""
    from pixir_actors.actors import refusals

    refusals.counted_by(total_refusals)


def _limit_resources() -> None:
    """Allow as many descriptors as the system does (callers and channels take them), and no core dumps."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reserve_port(port: int = 0) -> socket.socket:
    """Bind a port, or for 0 a free one, without listening on it: the admin can still take it, nobody else is given it.

    Raises:
        SystemStartFailed: The port is taken, and stays so for two seconds: those of a system that has just been killed
            need a moment to be given back.
    """
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    give_up = time.monotonic() + PORT_PATIENCE
    while True:
        try:
            reserved.bind((LOOPBACK, port))
            return reserved
        except OSError as error:
            if time.monotonic() > give_up:
                reserved.close()
                raise SystemStartFailed(f"port {port} of {LOOPBACK} cannot be used: {error.strerror}") from error
        time.sleep(PORT_PAUSE)


def _find_admin() -> int:
    """Return the admin's pid, once the process between it and the guardian has been collected.

    Raises:
        SystemStartFailed: The admin has died already.
    """
    os.waitpid(-1, 0)
    children = living_children(os.getpid())
    if len(children) != 1:
        raise SystemStartFailed("the admin of the actor system died while it started")
    return children[0]


def _collect_until(admin: int) -> None:
    """Collect dead processes until the admin is among them: without it the system cannot be used any more."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0] != admin:
            pass


def _end_with_host(lifeline: int, host: int | None) -> None:
    """Wait for the lifeline or the host to end, then end the system. Runs in a thread of its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if host is not None:
        poll.register(host, select.POLLIN)
    poll.poll()
    end_system()


def end_system() -> NoReturn:
    """Kill every process below this one, collect them all, and exit. Safe to run in two threads at once."""
    give_up = time.monotonic() + KILL_LIMIT
    while _collect() and time.monotonic() < give_up:
        for pid in descendants(os.getpid()):
            kill(pid)
        time.sleep(KILL_PAUSE)
    os._exit(0)


def _collect() -> bool:
    """Collect dead children; False when there are none left, dead or alive. Every orphan below is a child of this
    process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
