"""The API key, as the environment holds it: whether it can be sent, and what is said if not. It is never repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pixir_actors.cli.options import WrongUsage
from pixir_actors.core.fingerprint import is_loopback
from pixir_actors.errors import InvalidRequest
from pixir_actors.request import Headers, Request

VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def authorization(key: str) -> Headers:
    """Return the header that carries a key."""
    return (("Authorization", f"Bearer {key}"),)


def problem_of(key: str) -> str | None:
    """Say why a key cannot be sent as it is; None if it can."""
    if key.strip() != key or " " in key:
        return "has blanks or line ends"
    try:
        Request("wss://localhost/", authorization(key))
    except InvalidRequest:
        return "has a character that no header can carry"
    return None


def key_of(base_url: str, variable: str, environ: Mapping[str, str]) -> str | None:
    """Return the API key out of the environment; None where none is needed.

    Raises:
        WrongUsage: There is none, or it cannot be sent as it is; what was given in place of a variable's name is not
            repeated: it may be a key.
    """
    if not VARIABLE_NAME.fullmatch(variable):
        raise WrongUsage("--api-key-env: allowed is the name of an environment variable; the key itself stands in that")
    # A key that stands where a name should is no name in capitals.
    name = f"${variable}" if variable.isupper() else "the variable that --api-key-env names"
    key = environ.get(variable, "")
    problem = problem_of(key) if key else None
    if problem:
        raise WrongUsage(f"the API key in {name} {problem}: nothing was sent; set it anew, e.g. NAME=$(cat FILE)")
    if key:
        return key
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        host = ""  # the request says what is wrong with the URL
    if not host or is_loopback(host):
        return None
    raise WrongUsage(
        f"no API key: {name} is not set. Set it, or name another variable with --api-key-env. A provider on loopback needs"
        " none: `pixir-actors simulate` gives one to try"
    )
