"""Which proxy and which CA file an environment names for a URL.

The environment is an argument. It is read once in the caller's process, and what it says travels with the
request; the processes of an actor system have another environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from pixir_actors.core.fingerprint import is_loopback
from pixir_actors.errors import InvalidSettings

CA_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
HTTP_SCHEME: Final = {"ws": "http", "http": "http", "wss": "https", "https": "https"}
DEFAULT_PORT: Final = {"http": 80, "https": 443}


def connection_environment(url: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the proxy's URL and the CA file that `environ` names for `url`; None for what it does not.

    A proxy is looked for as for http or https: `https_proxy`, then `all_proxy`, in lower case first, and a lower-case
    variable that is empty switches its upper-case twin off. Loopback is never reached through a proxy, nor is what
    `no_proxy` lists: names with all their subdomains, `name:port`, addresses, networks (`10.0.0.0/8`), or `*` for
    everything. `HTTP_PROXY` does not count where `REQUEST_METHOD` is set: under CGI a request's header could set it
    (httpoxy). The CA file is that of SSL_CERT_FILE, else REQUESTS_CA_BUNDLE, else CURL_CA_BUNDLE, as it stands there.

    Raises:
        ValueError: The URL has no port number where it should, or an unfinished IPv6 address.
    """
    return _proxy(url, environ), named_ca_file(environ)


def named_ca_file(environ: Mapping[str, str]) -> str | None:
    """Return the CA file that `environ` names, the same for every URL; None if it names none."""
    return next((environ[name] for name in CA_VARIABLES if environ.get(name)), None)


def check_ca_file(path: str) -> None:
    """Raise InvalidSettings for a CA file that is no file, or that this process may not read."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        variables = ", ".join(f"${name}" for name in CA_VARIABLES)
        raise InvalidSettings("ca_file", path, f"a PEM file that this process can read (given, or named by {variables})")


def check_proxy(url: str | None) -> None:
    """Raise InvalidSettings for a proxy that cannot be used; of its URL, which may hold a password, it shows the scheme."""
    if url is None or url == "direct":
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        # Without a scheme it may be anything: `direkt`, `none`, a password.
        shown = f"{parts.scheme}://***" if "://" in url else "***"
    except ValueError:
        usable, shown = False, "***"
    if not usable:
        # Out here, so that the parser's error, which may quote the URL, is not even its context.
        allowed = 'http://[user:password@]host[:port] (given, or named by the environment), or "direct" for none'
        raise InvalidSettings("proxy", shown, allowed)


def _proxy(url: str, environ: Mapping[str, str]) -> str | None:
    parts = urlsplit(url)
    scheme = HTTP_SCHEME.get(parts.scheme)
    if scheme is None or not parts.hostname:
        return None
    proxy = _variable(f"{scheme}_proxy", environ) or _variable("all_proxy", environ)
    port = parts.port or DEFAULT_PORT[scheme]
    if not proxy or is_loopback(parts.hostname) or _bypassed(parts.hostname, port, _variable("no_proxy", environ)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """Return a variable's value, the lower-case one first, even if it is empty."""
    if name in environ:
        return environ[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return ""
    return environ.get(name.upper(), "").strip()


def _bypassed(host: str, port: int, no_proxy: str) -> bool:
    names = [name for name in (part.strip() for part in no_proxy.split(",")) if name]
    address = _address(host)
    if address is not None and any(_holds(name, address) for name in names):
        return True
    # As in urllib.request.proxy_bypass_environment, which however knows "*" only where it stands alone.
    return "*" in names or any(_is_below(name.lower(), place) for name in names for place in (host, f"{host}:{port}"))


def _is_below(name: str, host: str) -> bool:
    """Tell whether `host` is `name` or one of its subdomains; `.name` and `*.name` mean the same as `name`."""
    domain = name.removeprefix("*").lstrip(".")
    return host == domain or host.endswith(f".{domain}")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _holds(name: str, address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an entry of `no_proxy` is a network, or a single address, that holds `address`."""
    try:
        return address in ip_network(name.strip("[]"), strict=False)
    except ValueError:
        return False
