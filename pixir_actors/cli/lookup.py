"""Which connection a KEY of the command line means: that of a text key, or one that `status` shows as KEY.

A digest is made of key and namespace, and so names one connection, whatever its namespace is. A key that is shown as it is,
`5` or `('user', 7)`, is that key in the namespace that was given, as a text key is.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from pixir_actors.client import Client
from pixir_actors.core.key import Key, canonical
from pixir_actors.core.secret import digest
from pixir_actors.errors import PixirError
from pixir_actors.status import ConnectionStatus

DIGEST: Final = re.compile(r"[0-9a-f]{12}")
LONGEST: Final = 4096
"""Characters that a key may be written with to be read as one that is no text."""
KEY_HELP: Final = "a text key, or one as `status` shows it in its column KEY; in the --namespace, but for a digest"


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
    """
    own = client.status(key)
    if own:
        return Meant(own[0], as_text=True)
    literal = _literal(key)
    if literal is not None and (own := client.status(literal)):
        return Meant(own[0])
    everything = client.status()
    for each in everything:
        if key == each.connection_id or (key == each.key and DIGEST.fullmatch(key)):
            return Meant(each)
    return Meant(None, missing=_missing(key, namespace, {each.key for each in everything}))


def _literal(key: str) -> Key | None:
    """Return the key that is written so where keys are exposed; None if that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that escapes nothing
            literal = ast.literal_eval(key) if len(key) <= LONGEST else None
        canonical(literal, None)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, PixirError):
        return None
    return cast(Key, literal)


def _missing(key: str, namespace: str | None, labels: set[str]) -> list[str]:
    lines = [f"this key has no connection (namespace: {namespace or 'none'})"]
    if namespace is not None and digest(canonical(key, None)) in labels:
        lines.append("it has one without a namespace: leave out --namespace, or what else sets it")
    elif {key, repr(key)} & labels:
        lines.append("it has one in another namespace: name that with --namespace")
    return lines
