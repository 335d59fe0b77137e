"""Who a socket belongs to: its endpoint and the identity in its headers (`behaviours.md` C16, C52 to C54)."""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from pixir_actors.errors import InvalidRequest

_SCHEMES: Final = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}

_MAX_AGES: Final = (("x.ai", 24 * 60.0), ("vercel.sh", 12 * 60.0))
_DEFAULT_MAX_AGE: Final = 55 * 60.0


def endpoint(url: str, *, allow_plaintext: bool) -> str:
    """Return the WebSocket URL of a request's URL: http and ws become ws, https and wss become wss.

    Raises:
        InvalidRequest: Another scheme, no host, or plain ws beyond loopback without `allow_plaintext`.
    """
    return _endpoint(url, allow_plaintext)


@lru_cache(64)
def _endpoint(url: str, allow_plaintext: bool) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts = None
    if parts is None:  # raised out here, so that the parser's error, which may quote the URL, is not even its context
        raise InvalidRequest("url", "cannot be parsed: its host or port is malformed")
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise InvalidRequest("url", f"has the scheme {parts.scheme!r}: allowed are http, https, ws, wss")
    if not parts.hostname:
        raise InvalidRequest("url", "has no host")
    if scheme == "ws" and not allow_plaintext and not is_loopback(parts.hostname):
        raise InvalidRequest("url", "is plain ws beyond loopback: use https or wss, or set allow_plaintext=True")
    netloc = parts.netloc
    if port == _DEFAULT_PORTS[scheme]:
        netloc = netloc.rpartition(":")[0]
    return parts._replace(scheme=scheme, netloc=netloc).geturl()


def host(endpoint: str) -> str:
    """Return host and port of a URL as they may be shown: without what stands before an @."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def authority(endpoint: str) -> str:
    """Return host and port of a WebSocket URL, the port also where it is the scheme's own."""
    parts = urlsplit(endpoint)
    name = parts.hostname or ""
    return f"{f'[{name}]' if ':' in name else name}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine's loopback, without a look-up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fingerprint(headers: tuple[tuple[str, str], ...], identity: str | None) -> str:
    """Return the identity of a set of headers; order and the case of names do not matter, duplicates and values do.

    The value of `Authorization` never enters, because bearers rotate and the socket keeps the one it was opened with; that
    there is one does. `identity` names the account behind it.
    """
    normal = sorted((name.lower(), "<bearer>" if name.lower() == "authorization" else value) for name, value in headers)
    return hashlib.sha256(repr((normal, identity)).encode()).hexdigest()


def bearer(headers: tuple[tuple[str, str], ...]) -> str:
    """Return a digest of the value of `Authorization`, to tell an older one from a newer; empty where there is none."""
    values = [value for name, value in headers if name.lower() == "authorization"]
    return hashlib.sha256(repr(values).encode()).hexdigest() if values else ""


def max_age(endpoint: str) -> float:
    """Return the age in seconds at which a socket to this host is replaced when the caller says "auto".

    Somewhat below the providers' own limits: 60 minutes for OpenAI and Azure, 25 for xAI, 13 for Vercel (`protocol.md` 4).
    """
    host = urlsplit(endpoint).hostname or ""
    for suffix, age in _MAX_AGES:
        if host == suffix or host.endswith("." + suffix):
            return age
    return _DEFAULT_MAX_AGE
