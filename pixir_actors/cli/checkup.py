"""The steps of `pixir-actors doctor` on this host: runtime directory, cookie, admin. Nothing is made or changed."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pixir_actors.cli.diagnosis import Finding, Verdict
from pixir_actors.cli.terminal import count
from pixir_actors.client import Client
from pixir_actors.errors import CookieUnusable, PixirError, SystemStartFailed
from pixir_actors.status import SystemStatus
from pixir_actors.system.cookie import read_cookie
from pixir_actors.system.fit import how_to_restart
from pixir_actors.system.places import COOKIE_VARIABLE, RUNTIME_VARIABLE, Places, check_directory
from pixir_actors.system.runtime import find, how_to_start, where

THREAD_NAME: Final = "doctor-admin"


def check_runtime_directory(places: Places) -> Finding:
    """Say whether the runtime directory is there and this user's alone, or can be made."""
    path = places.runtime_dir
    facts = {"path": str(path)}
    try:
        check_directory(path)
    except SystemStartFailed as error:
        if not os.path.lexists(path):
            return _to_be_made("directory", path, RUNTIME_VARIABLE)
        found, _, advice = str(error).rpartition(": ")
        return Finding("directory", Verdict.FAILED, found, advice, facts=facts)
    if not os.access(path, os.W_OK | os.X_OK):
        return _unwritable("directory", path, RUNTIME_VARIABLE)
    return Finding("directory", Verdict.OK, str(path), facts=facts)


def check_cookie(places: Places) -> Finding:
    """Say whether the cookie is there and can be used, or can be made."""
    path = places.cookie_file
    runs = find(places) is not None
    if not os.path.lexists(path):
        if not runs:
            return _to_be_made("cookie", path, COOKIE_VARIABLE)
        found = f"{path} is not there, and an admin runs, which has another"
        advice = f"{how_to_restart(places)}; or set {COOKIE_VARIABLE} to where its cookie is"
        return Finding("cookie", Verdict.FAILED, found, advice, facts={"path": str(path)})
    try:
        read_cookie(path)
    except CookieUnusable as error:
        found, mark, advice = str(error).partition("; ")
        if not mark:
            found, _, advice = str(error).rpartition(": ")
        if runs:
            advice += f"; a new cookie counts once the admin was started anew: {how_to_restart(places)}"
        return Finding("cookie", Verdict.FAILED, found, advice, facts={"path": str(path)})
    return Finding("cookie", Verdict.OK, f"{path}, which only this user can read", facts={"path": str(path)})


def _to_be_made(step: str, path: Path, variable: str) -> Finding:
    """Say that something is missing, and whether the first start of an admin can make it."""
    nearest = next(parent for parent in path.parents if parent.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return _unwritable(step, path, variable, nearest)
    found = f"{path} is not there yet: the first start of an admin makes it"
    return Finding(step, Verdict.NOTE, found, facts={"path": str(path)})


def _unwritable(step: str, path: Path, variable: str, nearest: Path | None = None) -> Finding:
    found = f"{path} cannot be written" if nearest is None else f"{path} is not there, and {nearest} cannot be written"
    advice = f"make it writable, or set {variable} to a path that is"
    return Finding(step, Verdict.FAILED, found, advice, facts={"path": str(path)})


def check_admin(places: Places, *, timeout: float, required: bool) -> Finding:
    """Ask the admin how it is.

    Args:
        places: Where it is looked for.
        timeout: Seconds that it gets to answer.
        required: Whether it is a failure that none runs.
    """
    runtime = find(places)
    if runtime is None:
        return _no_admin(places, required=required)
    at = where(runtime)
    facts: dict[str, Any] = {"pid": runtime.pid, "port": runtime.port, "version": runtime.version}
    try:
        status = _bounded(lambda: _ask(places.port), timeout)
    except TimeoutError:
        log = f"its log, {runtime.log}" if runtime.log else "its log"
        found = f"it runs ({at}), but gave no answer within {timeout:g} s"
        advice = f"look at {log}; start it anew: {how_to_restart(places)}"
        return Finding("admin", Verdict.FAILED, found, advice, facts=facts)
    except CookieUnusable:
        found = f"it runs ({at}), but cannot be talked to without its cookie"
        advice = f"mend the cookie as said above; for a new one: {how_to_restart(places)}"
        return Finding("admin", Verdict.FAILED, found, advice, facts=facts)
    except PixirError as error:
        found, mark, advice = str(error).partition(": ")
        return Finding("admin", Verdict.FAILED, f"it runs ({at}), but: {found}", advice if mark else None, facts=facts)
    found = f"it runs ({at}, version {status.version}) and holds {count(status.connections, 'connection')}"
    if status.draining:
        found, advice = found + "; it ends as soon as its running turns have", "start it again: pixir-actors start"
        return Finding("admin", Verdict.NOTE, found, advice, facts=facts | asdict(status))
    return Finding("admin", Verdict.OK, found, facts=facts | asdict(status))


def _no_admin(places: Places, *, required: bool) -> Finding:
    stale = ", and the runtime file there is of one that has ended" if places.runtime_file.exists() else ""
    verdict = Verdict.FAILED if required else Verdict.NOTE
    return Finding("admin", verdict, f"none runs (looked in {places.runtime_dir}{stale})", how_to_start(places))


def _ask(port: int | None) -> SystemStatus:
    with Client.attach(port) as client:
        return client.system()


def _bounded(work: Callable[[], SystemStatus], timeout: float) -> SystemStatus:
    """Run `work` in a thread, and leave it behind when its time is over.

    Raises:
        TimeoutError: It is.
        PixirError: What `work` raised.
    """
    outcome: queue.SimpleQueue[SystemStatus | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(work())
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, name=THREAD_NAME, daemon=True).start()
    try:
        answer = outcome.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer
