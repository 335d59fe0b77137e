"""What `pixir-actors doctor` says about each step: what was found, and what to do where it failed.

No text holds a header's value, a key, a password or the query of a URL.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pixir_actors.cli.terminal import count
from pixir_actors.transport.base import Fault
from pixir_actors.transport.probe import Step

DAY: Final = 86400.0
EXPIRES_SOON: Final = 7 * DAY


class Verdict(StrEnum):
    """How a step ended."""

    OK = "ok"
    NOTE = "note"  # nothing failed, but it should be known
    FAILED = "failed"
    SKIPPED = "skipped"  # not tried: a step before it failed, or it is not needed


@dataclass(frozen=True, slots=True)
class Finding:
    """One step, as a person reads it.

    Attributes:
        step: Its name.
        found: What was found, in a sentence.
        advice: What to do, if anything is to be done.
        seconds: How long it took; None where it was only a look.
        facts: The same for programs.
    """

    step: str
    verdict: Verdict
    found: str
    advice: str | None = None
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Way:
    """What the words about a step need to know of the way as a whole.

    Attributes:
        place: Host and port of the server.
        timeout: Seconds that each step may take.
        key_variable: The environment variable that was asked for the API key.
        has_key: Whether it held one.
        proxied: Whether a proxy stands in the way.
    """

    place: str
    timeout: float
    key_variable: str
    has_key: bool
    proxied: bool


def diagnose(step: Step, way: Way) -> Finding:
    """Say in words what a step of the probe found."""
    if step.fault is not None:
        found, advice = _failure(step.name, step.fault, step.facts, way)
        details = {name: value for name, value in step.fault.details.items() if name != "step"}
        facts = {**step.facts, "code": str(step.fault.code), **details}
        return Finding(step.name, Verdict.FAILED, found, advice, step.seconds, facts)
    verdict, said, to_do = _SUCCESSES[step.name](step.facts)
    return Finding(step.name, verdict, said, to_do, step.seconds, step.facts)


# What went well.

Words = tuple[Verdict, str, str | None]


def _named(facts: Mapping[str, Any]) -> Words:
    addresses = list(dict.fromkeys(facts["addresses"]))
    if addresses == [facts["host"]]:
        return Verdict.OK, f"{facts['host']} is an address: nothing to look up", None
    shown = ", ".join(addresses)
    return Verdict.OK, f"{facts['host']} has {count(len(addresses), 'address', 'addresses')}: {shown}", None


def _connected(facts: Mapping[str, Any]) -> Words:
    attempts = facts["attempts"]
    lost = [attempt for attempt in attempts if "reason" in attempt]
    shown = _attempts(attempts)
    if not lost:
        return Verdict.OK, f"port {facts['port']} answers: {shown}", None
    advice = "connections get through at another address, but may wait for the one that does not answer: check its route"
    return Verdict.NOTE, f"port {facts['port']} answers at {len(attempts) - len(lost)} of {len(attempts)}: {shown}", advice


def _attempts(attempts: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{each['address']} {each.get('reason', 'connected')} in {each['ms']:.0f} ms" for each in attempts)


def _tunnelled(facts: Mapping[str, Any]) -> Words:
    return Verdict.OK, f"{facts['host']}:{facts['port']} opened a tunnel", None


def _secured(facts: Mapping[str, Any]) -> Words:
    shown = f"{facts['version']}; certificate for {facts['host']}, issued by {facts['issuer'] or 'nobody named'}"
    shown_ca = f"; trusted by {facts['ca']}"
    if "expires" not in facts:
        return Verdict.OK, shown + shown_ca, None
    left = facts["expires"] - time.time()
    shown += f", valid until {time.strftime('%Y-%m-%d', time.gmtime(facts['expires']))}"
    if left < EXPIRES_SOON:
        advice = "whoever runs the server, or the proxy that looks into TLS, has to renew it in time"
        return Verdict.NOTE, f"{shown}: that is in {max(left, 0) / DAY:.0f} days{shown_ca}", advice
    return Verdict.OK, shown + shown_ca, None


def _upgraded(facts: Mapping[str, Any]) -> Words:
    return Verdict.OK, f"the server speaks WebSocket (status {facts['status']}); no request was sent", None


_SUCCESSES: Final = {
    "name": _named,
    "tcp": _connected,
    "proxy": _tunnelled,
    "tls": _secured,
    "upgrade": _upgraded,
}


# What went wrong.


def _failure(name: str, fault: Fault, facts: Mapping[str, Any], way: Way) -> tuple[str, str]:
    reason = str(fault.details.get("reason", "failed"))
    known = {"place": way.place, "timeout": f"{way.timeout:g}", "variable": way.key_variable}
    known |= dict.fromkeys(("ca", "host", "port"), "")
    known |= {key: value for key, value in facts.items() if key in known}
    known |= {"reason": reason, "problem": str(fault.details.get("problem", reason)), "server": _server(name, way)}
    if name == "tcp":
        known["attempts"] = _attempts(facts.get("attempts", []))
    found, advice = _words(name, reason, fault, way)
    return found.format_map(known), advice.format_map(known)


def _server(name: str, way: Way) -> str:
    return "the proxy" if way.proxied and name in ("name", "tcp") else "the server"


def _words(name: str, reason: str, fault: Fault, way: Way) -> tuple[str, str]:
    status = fault.details.get("status")
    if reason == "upgrade_refused" and isinstance(status, int):
        return _refused(status, fault.retry_after, way)
    if reason == "proxy_refused":
        return _refused_by_proxy(status)
    if reason == "certificate_verify_failed":
        return _distrusted(str(fault.details.get("problem", "")))
    if reason == "tls_error" and fault.details.get("problem") in NO_TLS:
        reason = "no_tls"
    return FAILURES.get((name, reason)) or FAILURES.get((name, "")) or UNKNOWN


NO_TLS: Final = ("wrong_version_number", "http_request", "packet_length_too_long", "record_layer_failure")
"""OpenSSL's words for an answer that is no TLS."""
UNKNOWN: Final = ("{reason}", "try again; if it stays so, look at the network between this host and {place}")
ONLY_A_PROXY: Final = "where only a proxy leads outside, name it in $https_proxy or with --proxy"
OVER_HTTP: Final = "set transport=http (--option transport=http, or Settings): it needs no WebSocket"
WHERE_NO_WEBSOCKET: Final = f"where something between does not pass WebSockets on, {OVER_HTTP}"

FAILURES: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("name", "nxdomain"): ("no address is known for {host}", f"check the name for a typing error; {ONLY_A_PROXY}"),
    ("name", "name_lookup_failed"): (
        "the resolver gave no answer about {host}",
        f"check the network and /etc/resolv.conf; {ONLY_A_PROXY}",
    ),
    ("name", "timeout"): (
        "the resolver did not answer within {timeout} s",
        f"check the network and /etc/resolv.conf; {ONLY_A_PROXY}",
    ),
    ("name", "invalid_host"): ("{host} is no name that can be looked up", "check the URL"),
    ("tcp", "refused"): ("nothing listens there: {attempts}", "check host and port; is {server} running?"),
    ("tcp", "timeout"): (
        "no answer within {timeout} s: {attempts}",
        f"a firewall may drop it: ask for {{host}}:{{port}} to be opened; {ONLY_A_PROXY}",
    ),
    ("tcp", "unreachable"): ("no route: {attempts}", "check this host's network, VPN and IPv6 routes"),
    ("tcp", "forbidden"): ("this host forbids it: {attempts}", "look at its firewall, container or sandbox rules"),
    ("tcp", "too_many_open_files"): ("no file descriptor is left", "raise the limit (ulimit -n)"),
    ("tcp", ""): ("{reason}: {attempts}", "check host, port and network"),
    ("proxy", "timeout"): ("the proxy did not answer within {timeout} s", "is that an HTTP proxy? Ask whoever runs it"),
    ("proxy", "eof"): ("the proxy hung up", "is that an HTTP proxy? Check its URL and port"),
    ("proxy", "reset"): ("the proxy hung up", "is that an HTTP proxy? Check its URL and port"),
    ("proxy", "proxy_unsupported"): ("the proxy's URL is not http:", "only HTTP proxies will do, no SOCKS or HTTPS ones"),
    ("proxy", "proxy_invalid"): ("the proxy's URL cannot be parsed", "it is http://[user:password@]host:port"),
    ("proxy", ""): ("the proxy failed: {reason}", "check its URL and port"),
    ("tls", "hostname_mismatch"): (
        "the server's certificate is not for {host}",
        "check the URL; if it is right, somebody else answers there: a wrong DNS entry, a login page, a proxy",
    ),
    ("tls", "no_tls"): (
        "the server does not speak TLS at this port",
        "check the port; a server without TLS has a URL with http: or ws:",
    ),
    ("tls", "ca_file"): (
        "the CA file {ca} cannot be read or holds no certificate",
        "name a PEM file with --ca-file or $SSL_CERT_FILE, or unset it",
    ),
    ("tls", "timeout"): (
        "the server did not answer within {timeout} s",
        "perhaps it does not speak TLS at this port, or a firewall drops it",
    ),
    ("tls", "eof"): ("the server hung up", "perhaps it does not speak TLS at this port, or a firewall blocks {host}"),
    ("tls", "reset"): ("the server hung up", "perhaps it does not speak TLS at this port, or a firewall blocks {host}"),
    ("tls", ""): ("the handshake failed: {problem}", "TLS 1.2 or later is needed; ask whoever runs the server"),
    ("upgrade", "bad_upgrade"): (
        "the answer is no WebSocket handshake",
        f"check the URL: https: where the port speaks TLS; {WHERE_NO_WEBSOCKET}",
    ),
    ("upgrade", "head_too_large"): ("the answer has no end", "check the URL: this is no Responses API"),
    ("upgrade", "invalid_header"): ("a header cannot be sent", "check ${variable}: a key is one line of ASCII"),
    ("upgrade", "timeout"): (
        "the server did not answer within {timeout} s",
        f"it may be overloaded; {WHERE_NO_WEBSOCKET}",
    ),
    ("upgrade", "eof"): ("the server hung up", f"check the URL; {WHERE_NO_WEBSOCKET}"),
    ("upgrade", "reset"): ("the server hung up", f"check the URL; {WHERE_NO_WEBSOCKET}"),
    ("upgrade", ""): ("the upgrade failed: {problem}", "check the URL"),
}
"""What each failure means, by step and reason; an empty reason stands for all others of its step."""


def _refused(status: int, retry_after: float | None, way: Way) -> tuple[str, str]:
    wait = "" if retry_after is None else f" in {retry_after:.0f} s"
    match status:
        case 401 if not way.has_key:
            said = "an API key is wanted, and ${variable} is not set"
            advice = "set it, or name another variable with --api-key-env"
        case 401:
            said = "the API key in ${variable} is not accepted"
            advice = "is it whole, still valid, and this provider's?"
        case 403:
            said = "not allowed"
            advice = "the key's project, region or address list forbids it, or a firewall answers in the server's place"
        case 404:
            said = "nothing is at this path"
            advice = f"check the URL (a base URL often ends in /v1); if this provider has no WebSocket mode, {OVER_HTTP}"
        case 407:
            said, advice = "a proxy wants a password", "http://user:password@host:port in $https_proxy or --proxy"
        case 429:
            said = "too many requests or connections"
            advice = f"try again{wait or ' later'}; if it stays so, look at the account's limits and credit"
        case _ if 300 <= status < 400:
            said, advice = "the server sends elsewhere, which is not followed", "give the URL it should be with --url"
        case _ if status >= 500:
            said, advice = "the server has trouble", f"try again{wait or ' later'}; look at the provider's status page"
        case _:  # 426 above all, 400, 405, and 200 of a server that does not know upgrades
            said = "the server does not change to WebSocket"
            advice = f"check the URL; if this provider has no WebSocket mode, or a proxy does not pass it on, {OVER_HTTP}"
    return f"status {status}: {said}", advice


def _refused_by_proxy(status: object) -> tuple[str, str]:
    match status:
        case 407:
            return "the proxy wants a password (status 407)", "http://user:password@host:port in $https_proxy or --proxy"
        case 502 | 503 | 504:
            return (
                f"the proxy does not reach {{place}} (status {status})",
                "ask whoever runs the proxy; check host and port of the URL",
            )
        case None:
            return "the answer is not that of an HTTP proxy", "check the proxy's URL and port"
        case _:
            return (
                f"the proxy does not allow {{place}} (status {status})",
                "ask whoever runs the proxy to allow it, or reach it without: $no_proxy",
            )


def _distrusted(problem: str) -> tuple[str, str]:
    if "expired" in problem:
        advice = "whoever runs the server has to renew it; check this host's clock, too"
        return "the server's certificate has expired", advice
    if "not yet valid" in problem:
        return "the server's certificate is not valid yet", "check this host's clock"
    return (
        "the server's certificate is of an authority that is not trusted here ({problem}); trusted is {ca}",
        "where a company looks into TLS, or has an authority of its own, name its PEM file with --ca-file or"
        " $SSL_CERT_FILE; else install this system's ca-certificates",
    )
