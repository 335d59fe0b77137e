"""Which connection a KEY of the command line means: that of a text key, or one that `status` shows as KEY.

A digest is made of key and namespace, and so names one connection, whatever its namespace is. Keys that are no text can be
given in no other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pixir_actors.cli.options import WrongUsage
from pixir_actors.client import Client
from pixir_actors.core.key import canonical
from pixir_actors.core.secret import digest
from pixir_actors.status import ConnectionStatus

KEY_HELP: Final = "a text key, in the --namespace; or what `status` shows in its column KEY, such as a digest"


@dataclass(frozen=True, slots=True)
class Meant:
    """What a KEY means.

    Attributes:
        connection: Its connection, None if there is none.
        as_text: Whether it is the key itself, and not what is shown of it.
        missing: What to say where there is none: the gist, and what to do.
    """

    connection: ConnectionStatus | None
    as_text: bool = False
    missing: Sequence[str] = ()


def look_up(client: Client, key: str, namespace: str | None) -> Meant:
    """Return what a KEY means to a client of that namespace.

    Raises:
        PixirError: The admin, or the connection, does not answer; or it can be no key.
        WrongUsage: Several connections are shown as it: those of one exposed key in several namespaces.
    """
    own = client.status(key)
    if own:
        return Meant(own[0], as_text=True)
    everything = client.status()
    shown = [each for each in everything if key in (each.key, each.connection_id)]
    if len(shown) > 1:
        raise WrongUsage(
            f"{len(shown)} connections are shown as this KEY: in its place give the `connection_id` that"
            " `pixir-actors status --json` says"
        )
    if shown:
        return Meant(shown[0])
    return Meant(None, missing=_missing(key, namespace, {each.key for each in everything}))


def _missing(key: str, namespace: str | None, labels: set[str]) -> list[str]:
    lines = [f"this key has no connection (namespace: {namespace or 'none'})"]
    if namespace is not None and digest(canonical(key, None)) in labels:
        lines.append("it has one without a namespace: leave out --namespace, or what else sets it")
    elif repr(key) in labels:
        lines.append("it has one in another namespace: name that with --namespace")
    return lines
