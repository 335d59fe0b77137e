"""Who a socket belongs to.

Covers C16, C52, C53, C54, X3, X4, P8, the table of design section 6 for `ws`, and the ages of protocol section 4. The kept
socket of C53 and the lost one of C54 stand in test_lifecycle.py.
"""

from __future__ import annotations

import pytest

from pixir_actors.core.fingerprint import bearer, endpoint, fingerprint, is_loopback, max_age
from pixir_actors.errors import InvalidRequest

ENDPOINTS = {
    "C16 https becomes wss": ("https://h/p", "wss://h/p"),
    "C16 http keeps port, query and fragment": ("http://h:8080/p?q=1#f", "ws://h:8080/p?q=1#f"),
    "C16 the scheme's case does not matter, the host keeps its own": ("HTTP://H/p", "ws://H/p"),
    "C16 a user part is kept, a default port dropped": ("https://u:pw@h:443/x", "wss://u:pw@h/x"),
    "C16 https keeps explicit port": ("https://h:8443/x", "wss://h:8443/x"),
    "C16 wss is unchanged": ("wss://h/p", "wss://h/p"),
    "C16 fixed: ws stays ws, without a port": ("ws://h/p", "ws://h/p"),
    "C16 fixed: ws drops its default port": ("ws://h:80/p", "ws://h/p"),
    "C16 another scheme's default port is kept": ("http://h:443/p", "ws://h:443/p"),
    "C16 wss on port 80 keeps it": ("https://h:80/p", "wss://h:80/p"),
    "P8 no default port is invented": ("https://h", "wss://h"),
    "IPv6 with a default port": ("https://[2001:db8::1]:443/x", "wss://[2001:db8::1]/x"),
    "IPv6 with a port": ("http://[::1]:9000/x", "ws://[::1]:9000/x"),
    "an empty query is no query": ("https://h/x?a=b%20c", "wss://h/x?a=b%20c"),
}


@pytest.mark.parametrize(("url", "expected"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_the_endpoint_is_the_url_with_a_websocket_scheme(url: str, expected: str) -> None:
    assert endpoint(url, allow_plaintext=True) == expected


REFUSED = {
    "C16 fixed: ftp": ("ftp://h/x", "has the scheme 'ftp'"),
    "C16 fixed: no scheme": ("h/p", "has the scheme ''"),
    "C16 no host": ("https:///x", "has no host"),
    "C16 only a port": ("https://:443/x", "has no host"),
    "a port that is no number": ("https://h:port/x", "cannot be parsed"),
    "a port beyond all ports": ("https://h:65536/x", "cannot be parsed"),
    "half a bracket": ("https://[::1/x", "cannot be parsed"),
    "no address in brackets": ("https://[h]/x", "cannot be parsed"),
}


@pytest.mark.parametrize(("url", "problem"), REFUSED.values(), ids=REFUSED)
def test_another_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem) as caught:
        endpoint(url, allow_plaintext=True)

    assert caught.value.field == "url"


@pytest.mark.parametrize("url", ["http://h/p", "ws://10.0.0.1/p", "ws://localhost.example/p", "http://[2001:db8::1]/"])
def test_plain_ws_beyond_loopback_needs_allow_plaintext(url: str) -> None:
    with pytest.raises(InvalidRequest, match="allow_plaintext=True"):
        endpoint(url, allow_plaintext=False)

    assert endpoint(url, allow_plaintext=True).startswith("ws://")


@pytest.mark.parametrize("url", ["http://LOCALHOST/p", "ws://127.9.9.9:1/p", "ws://[::1]/", "http://a.localhost/p"])
def test_plain_ws_on_loopback_is_allowed(url: str) -> None:
    assert endpoint(url, allow_plaintext=False).startswith("ws://")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("128.0.0.1", False), ("localhost.evil", False), ("", False)],
)
def test_loopback_is_told_without_a_lookup(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


BASE = (("Authorization", "Bearer one"), ("X-Team", "a"), ("X-Team", "b"))
SAME = {
    "C52 order": (("X-Team", "b"), ("Authorization", "Bearer one"), ("X-Team", "a")),
    "C52 the case of names": (("AUTHORIZATION", "Bearer one"), ("x-team", "a"), ("X-TEAM", "b")),
    "C53 a rotated bearer": (("Authorization", "Bearer two"), ("X-Team", "a"), ("X-Team", "b")),
    "C53 fixed: a rotated bearer in any spelling": (("aUTHORIZATION", "x"), ("X-Team", "a"), ("X-Team", "b")),
}
OTHER = {
    "C52 a value": (("Authorization", "Bearer one"), ("X-Team", "a"), ("X-Team", "c")),
    "C52 a value's case": (("Authorization", "Bearer one"), ("X-Team", "a"), ("X-Team", "B")),
    "C52 a value's white space": (("Authorization", "Bearer one"), ("X-Team", "a"), ("X-Team", "b ")),
    "C52 a duplicate": (*BASE, ("X-Team", "b")),
    "C52 one duplicate less": BASE[:2],
    "C54 no bearer at all": BASE[1:],
    "C54 the account": (*BASE, ("chatgpt-account-id", "acc")),
    "names and values do not run together": (("Authorization", "Bearer one"), ("X-Team", "a"), ("X-Teamb", "")),
}


@pytest.mark.parametrize("headers", SAME.values(), ids=SAME)
def test_the_fingerprint_does_not_change_with(headers: tuple[tuple[str, str], ...]) -> None:
    assert fingerprint(headers, None) == fingerprint(BASE, None)


@pytest.mark.parametrize("headers", OTHER.values(), ids=OTHER)
def test_the_fingerprint_changes_with(headers: tuple[tuple[str, str], ...]) -> None:
    assert fingerprint(headers, None) != fingerprint(BASE, None)


def test_a_bearer_is_told_from_another_without_being_kept() -> None:
    digests = {bearer((("Authorization", value),)) for value in ("Bearer one", "Bearer two", "bearer one", "")}

    assert len(digests) == 4
    assert bearer(BASE) == bearer((("X-Team", "z"), ("aUTHORIZATION", "Bearer one")))
    assert bearer(BASE[1:]) == ""
    assert all("one" not in digest and len(digest) == 64 for digest in digests)


def test_an_identity_enters_and_none_is_one_of_its_own() -> None:
    prints = {fingerprint(BASE, identity) for identity in (None, "None", "acc-1", "acc-2")}

    assert len(prints) == 4


def test_the_fingerprint_is_64_hex_digits_and_says_nothing() -> None:
    digits = fingerprint(BASE, "acc-1")

    assert len(digits) == 64
    assert int(digits, 16) >= 0


AGES = {
    "OpenAI": ("wss://api.openai.com/v1/responses", 3300),
    "xAI": ("wss://api.x.ai/v1/responses", 1440),
    "xAI itself": ("wss://x.ai/", 1440),
    "Vercel": ("wss://ai-gateway.vercel.sh/v1/responses", 720),
    "a name that only ends alike": ("wss://notx.ai/", 3300),
    "a host in another case": ("wss://API.X.AI/", 1440),
}


@pytest.mark.parametrize(("url", "seconds"), AGES.values(), ids=AGES)
def test_the_age_limit_follows_the_host(url: str, seconds: float) -> None:
    assert max_age(url) == seconds
