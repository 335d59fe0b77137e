"""Whether a program and the admin that runs go together: the same version, the same cookie; and what to do if not."""

from __future__ import annotations

from pixir_actors.errors import AdminMismatch, CookieUnusable
from pixir_actors.system.cookie import proof, read_cookie, system_key
from pixir_actors.system.places import COOKIE_VARIABLE, Places
from pixir_actors.system.runtime import Runtime
from pixir_actors.version import __version__


def check_version(places: Places, runtime: Runtime) -> None:
    """See to it that the admin runs the version that this program has.

    Raises:
        AdminMismatch: It runs another one.
    """
    if runtime.version != __version__:
        raise AdminMismatch(
            f"the admin (pid {runtime.pid}) runs pixir_actors {runtime.version}, this program has {__version__}:"
            f" {how_to_restart(places)}"
        )


def key_for(places: Places, runtime: Runtime) -> bytes:
    """Return the key of the admin's actor system.

    Raises:
        AdminMismatch: It was started with another cookie.
        CookieUnusable: The cookie cannot be read. That `start` makes a good one helps nobody while an admin runs, so the
            text says how that is ended; `stop` needs no cookie.
    """
    try:
        cookie = read_cookie(places.cookie_file)
    except CookieUnusable as error:
        raise CookieUnusable(
            f"{error}; an admin runs (pid {runtime.pid}), and a new cookie counts once that was started anew:"
            f" {how_to_restart(places)}"
        ) from error
    key = system_key(cookie, runtime.system_id)
    if proof(key) != runtime.proof:
        raise AdminMismatch(
            f"the cookie {places.cookie_file} is not that of the admin (pid {runtime.pid}): name the one it was started with"
            f" in ${COOKIE_VARIABLE}, or start it anew: {how_to_restart(places)}"
        )
    return key


def how_to_restart(places: Places) -> str:
    """Say how the admin of these places is ended and started again."""
    port = "" if places.port is None else f" --port {places.port}"
    return f"`pixir-actors stop{port}`, then `pixir-actors start --detach{port}`"
