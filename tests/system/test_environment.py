"""Which proxy and which CA file an environment names."""

from __future__ import annotations

import pytest

from pixir_actors.system.environment import connection_environment

URL = "wss://api.example.com/v1/responses"
PROXY = "http://proxy:3128"

PROXIES = [
    ("none is named", URL, {}, None),
    ("wss goes the way of https", URL, {"https_proxy": PROXY}, PROXY),
    ("https", "https://api.example.com", {"https_proxy": PROXY}, PROXY),
    ("ws goes the way of http", "ws://api.example.com", {"http_proxy": PROXY}, PROXY),
    ("http", "http://api.example.com", {"http_proxy": PROXY}, PROXY),
    ("wss does not go the way of http", URL, {"http_proxy": PROXY}, None),
    ("ws does not go the way of https", "ws://api.example.com", {"https_proxy": PROXY}, None),
    ("upper case counts", URL, {"HTTPS_PROXY": PROXY}, PROXY),
    ("lower case wins", URL, {"HTTPS_PROXY": "http://other", "https_proxy": PROXY}, PROXY),
    ("empty lower case switches upper case off", URL, {"HTTPS_PROXY": PROXY, "https_proxy": ""}, None),
    ("all_proxy stands in", URL, {"all_proxy": PROXY}, PROXY),
    ("ALL_PROXY stands in", URL, {"ALL_PROXY": PROXY}, PROXY),
    ("its own variable wins over all_proxy", URL, {"all_proxy": "http://other", "HTTPS_PROXY": PROXY}, PROXY),
    ("a proxy without a scheme is an HTTP proxy", URL, {"https_proxy": "proxy:3128"}, PROXY),
    ("under CGI a header may set it", "ws://api.example.com", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
    ("lower case is safe under CGI", "ws://api.example.com", {"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, PROXY),
    ("another scheme", "ftp://api.example.com", {"https_proxy": PROXY, "all_proxy": PROXY}, None),
    ("localhost", "wss://localhost:8443/", {"https_proxy": PROXY}, None),
    ("a name below localhost", "wss://a.localhost:8443/", {"https_proxy": PROXY}, None),
    ("loopback of IPv4", "ws://127.0.0.2/", {"http_proxy": PROXY}, None),
    ("loopback of IPv6", "wss://[::1]:8443/", {"https_proxy": PROXY}, None),
]

NO_PROXY = [
    ("*", URL, True),
    ("other.org, *", URL, True),
    ("", URL, False),
    ("api.example.com", URL, True),
    ("API.Example.COM", URL, True),
    ("example.com", URL, True),
    (".example.com", URL, True),
    ("*.example.com", URL, True),
    ("ample.com", URL, False),
    ("example.org,example.com", URL, True),
    ("  example.com  ", URL, True),
    ("api.example.com:443", URL, True),
    ("api.example.com:444", URL, False),
    ("example.com:8443", "wss://api.example.com:8443", True),
    ("example.com:80", "ws://api.example.com", True),
    ("10.1.2.3", "wss://10.1.2.3", True),
    ("10.0.0.0/8", "wss://10.1.2.3", True),
    ("10.0.0.0/8", "wss://11.1.2.3", False),
    ("10.0.0.0/8", URL, False),
    ("10.0.0.0/99", "wss://10.1.2.3", False),
    ("fd00::/8", "wss://[fd00::7]:443", True),
    ("[fd00::7]", "wss://[fd00::7]", True),
    ("fe80::/10", "wss://10.1.2.3", False),
]

CA_FILES = [
    ({}, None),
    ({"SSL_CERT_FILE": "/a", "REQUESTS_CA_BUNDLE": "/b", "CURL_CA_BUNDLE": "/c"}, "/a"),
    ({"REQUESTS_CA_BUNDLE": "/b", "CURL_CA_BUNDLE": "/c"}, "/b"),
    ({"CURL_CA_BUNDLE": "/c"}, "/c"),
    ({"SSL_CERT_FILE": "", "CURL_CA_BUNDLE": "/c"}, "/c"),
]


@pytest.mark.parametrize(("url", "environ", "proxy"), [row[1:] for row in PROXIES], ids=[row[0] for row in PROXIES])
def test_the_proxy_is_the_one_the_environment_names(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert connection_environment(url, environ) == (proxy, None)


@pytest.mark.parametrize(("no_proxy", "url", "bypassed"), NO_PROXY)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_lists_what_is_reached_directly(name: str, no_proxy: str, url: str, bypassed: bool) -> None:
    assert connection_environment(url, {"all_proxy": PROXY, name: no_proxy})[0] == (None if bypassed else PROXY)


def test_lower_case_no_proxy_wins_even_when_it_is_empty() -> None:
    assert connection_environment(URL, {"all_proxy": PROXY, "NO_PROXY": "*", "no_proxy": ""})[0] == PROXY


@pytest.mark.parametrize(("environ", "ca_file"), CA_FILES)
def test_the_first_ca_file_that_is_named_counts(environ: dict[str, str], ca_file: str | None) -> None:
    assert connection_environment(URL, environ) == (None, ca_file)


def test_the_environment_of_the_test_itself_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "http://elsewhere")

    assert connection_environment(URL, {}) == (None, None)
