"""What a client is made with, looked at before anything is started or sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from pixir_actors.actors.messages import EnsureStarted
from pixir_actors.errors import InvalidSettings, PixirError
from pixir_actors.settings import Settings
from pixir_actors.system.environment import check_proxy

LARGEST_PORT: Final = 65535


def check_defaults(settings: object, namespace: object) -> None:
    """Raise InvalidSettings for settings or a namespace that a client cannot be made with.

    Called before a link is made: what has been started by then would be left behind.
    """
    if isinstance(settings, Settings):
        check_proxy(settings.proxy)
    elif settings is not None:
        raise _unlike("settings", settings, "a Settings, such as Settings(idle_timeout=60), or None")
    if namespace is not None and not isinstance(namespace, str):
        raise _unlike("namespace", namespace, "a text, or None")


def check_port(port: object) -> None:
    """Raise InvalidSettings for what is no port of an admin."""
    allowed = f"a whole number from 1 to {LARGEST_PORT}, or None"
    if port is None:
        return
    if not isinstance(port, int) or isinstance(port, bool):
        raise _unlike("port", port, allowed)
    if not 0 < port <= LARGEST_PORT:
        raise InvalidSettings("port", port, allowed)


def capabilities_of(actor_system: object) -> Mapping[str, Any]:
    """Return what an actor system says of itself.

    Raises:
        InvalidSettings: It is none.
    """
    capabilities = getattr(actor_system, "capabilities", None)
    if not isinstance(capabilities, Mapping):
        raise _unlike("actor_system", actor_system, "a Thespian ActorSystem on multiprocTCPBase")
    return capabilities


class Defaults(Protocol):
    """What a client fills in for a request."""

    settings: Settings
    namespace: str | None


def label_of(key: object, options: dict[str, Any], defaults: Defaults) -> str:
    """Return what status shows for a key, for a `repr`, which is not the place to refuse one."""
    try:
        settings = defaults.settings.override(options)
        return EnsureStarted.of(0, key, settings, namespace=defaults.namespace).label
    except PixirError:
        return "?"


def _unlike(field: str, value: object, allowed: str) -> InvalidSettings:
    """Return the error for a value of the wrong type, which is named and the value not: it may be anything."""
    kind = type(value).__name__
    return InvalidSettings(field, f"<{kind}>", allowed, problem=f"{field} is a {kind}: allowed is {allowed}")
