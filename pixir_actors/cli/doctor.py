"""`pixir-actors doctor`: tests the whole way step by step, and says for each failure what to do.

Nothing is changed on this host, and nothing is sent to the provider but the upgrade: no request is run. What is printed
holds no key, no header's value, no password and no query of a URL, so that it can be shown to others.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from rich.table import Table
from rich.text import Text

from pixir_actors.cli import catalog
from pixir_actors.cli.apikey import authorization, problem_of
from pixir_actors.cli.checkup import check_admin, check_cookie, check_runtime_directory
from pixir_actors.cli.diagnosis import Finding, Verdict, Way, diagnose
from pixir_actors.cli.options import resolve
from pixir_actors.cli.parser import add_command
from pixir_actors.cli.terminal import console, printable
from pixir_actors.core import fingerprint
from pixir_actors.core.secret import Secret
from pixir_actors.errors import InvalidRequest
from pixir_actors.request import Headers, Request
from pixir_actors.system.environment import connection_environment
from pixir_actors.transport.base import Target
from pixir_actors.transport.faults import Refused
from pixir_actors.transport.probe import Probe, Step

STYLES: Final = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.FAILED: "bold red", Verdict.SKIPPED: "dim"}
WIDTHS: Final = (max(map(len, Verdict)), len("directory"))
PROXY_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
MAX_MESSAGE_BYTES: Final = 1 << 16


def add_parser(subparsers: Any) -> None:
    """Add this command to those of the command line."""
    add_command(subparsers, catalog.DOCTOR)


def run(given: argparse.Namespace) -> int:
    """Take every step and print what it found; return the exit code.

    Raises:
        WrongUsage: An option cannot be used.
    """
    chosen = resolve(catalog.DOCTOR, given, os.environ, catalog.COMMANDS)
    report = Report(as_json=bool(chosen.json))
    report.take("directory", lambda: check_runtime_directory(chosen.places))
    report.take("cookie", lambda: check_cookie(chosen.places))
    report.take("admin", lambda: check_admin(chosen.places, timeout=chosen.timeout, required=bool(chosen.admin)))
    _examine_way(report, chosen, os.environ)
    report.close()
    return catalog.FAILED if report.failed else catalog.DONE


class Report:
    """Takes steps one after another and prints each when it is over."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = console()
        self.failed: list[str] = []

    def take(self, name: str, check: Callable[[], Finding]) -> bool:
        """Take a step, showing on a terminal that it is being taken; return whether it did not fail."""
        if self._console.is_terminal and not self._as_json:
            with self._console.status(f"{name} ..."):
                finding = check()
        else:
            finding = check()
        self._print(finding)
        if finding.verdict is Verdict.FAILED:
            self.failed.append(name)
        return finding.verdict is not Verdict.FAILED

    def close(self) -> None:
        """Say how it went as a whole."""
        if not self._as_json:
            words = f"failed: {', '.join(self.failed)}" if self.failed else "all is well"
            self._console.print(Text(words, style=STYLES[Verdict.FAILED if self.failed else Verdict.OK]))

    def _print(self, finding: Finding) -> None:
        if self._as_json:
            self._console.out(orjson.dumps(_plain(finding)).decode(), highlight=False)
            return
        if self._console.is_terminal:
            self._console.print(_row(finding), soft_wrap=False)
            return
        # A program that reads this finds each step on one line, however long that gets.
        verdict, step, found = _cells(finding)
        self._console.print(Text.assemble(verdict, "  ", step, "  ", found))
        if finding.advice:
            self._console.print(Text(f"{'':<{sum(WIDTHS) + 4}}{_advice(finding)}"))


def _cells(finding: Finding) -> tuple[Text, Text, Text]:
    took = "" if finding.seconds is None else f" ({1000 * finding.seconds:.0f} ms)"
    return (
        Text(f"{finding.verdict:<{WIDTHS[0]}}", style=STYLES[finding.verdict]),
        Text(f"{finding.step:<{WIDTHS[1]}}"),
        Text.assemble(printable(finding.found), (took, "dim")),
    )


def _row(finding: Finding) -> Table:
    """Return the same in columns, so that long texts are folded below their beginning."""
    grid = Table.grid(padding=(0, 2))
    for width in (*WIDTHS, None):
        grid.add_column(width=width, overflow="fold")
    grid.add_row(*_cells(finding))
    if finding.advice:
        grid.add_row("", "", Text(_advice(finding)))
    return grid


def _advice(finding: Finding) -> str:
    return f"to do: {printable(finding.advice or '')}"


def _plain(finding: Finding) -> dict[str, Any]:
    ms = None if finding.seconds is None else round(1000 * finding.seconds, 1)
    return {
        "step": finding.step,
        "status": finding.verdict,
        "found": finding.found,
        "advice": finding.advice,
        "ms": ms,
        "facts": dict(finding.facts),
    }


# The way to the provider.


def _examine_way(report: Report, chosen: argparse.Namespace, environ: Mapping[str, str]) -> None:
    key = environ.get(chosen.api_key_env, "")
    usable = report.take("key", lambda: _check_key(key, chosen.api_key_env))
    if not report.take("url", lambda: _check_url(chosen)):
        return
    endpoint = fingerprint.endpoint(_url(chosen), allow_plaintext=True)
    route = Route.of(endpoint, chosen, environ)
    if not report.take("route", lambda: _check_route(route)):
        return
    headers = authorization(key) if key and usable else ()
    with Probe(route.target(headers, chosen.timeout)) as probe:
        way = Way(fingerprint.host(endpoint), chosen.timeout, chosen.api_key_env, bool(headers), probe.proxy is not None)
        fine = True
        for name in probe.names:
            if name == "upgrade" and chosen.settings.transport == "http":
                report.take(name, _skip(name, "not needed: transport is http"))
            else:
                fine = report.take(name, _step(probe, name, way) if fine else _skip(name, "not tried")) and fine


def _step(probe: Probe, name: str, way: Way) -> Callable[[], Finding]:
    return lambda: diagnose(probe.take(name), way)


def _skip(name: str, why: str) -> Callable[[], Finding]:
    return lambda: Finding(name, Verdict.SKIPPED, why)


def _check_key(key: str, variable: str) -> Finding:
    if not key:
        return Finding("key", Verdict.NOTE, f"${variable} is not set: the way is tested without a key")
    problem = problem_of(key)
    if problem:
        advice = f"set it anew, e.g. {variable}=$(cat FILE)"
        return Finding("key", Verdict.FAILED, f"what is in ${variable} {problem}: it is not sent", advice)
    return Finding("key", Verdict.OK, f"there is one in ${variable}")


def _url(chosen: argparse.Namespace) -> str:
    if chosen.url:
        return str(chosen.url)
    return Request.responses(model="doctor", input="", base_url=chosen.base_url).url


def _check_url(chosen: argparse.Namespace) -> Finding:
    try:
        url = Request(_url(chosen)).url
    except InvalidRequest as error:
        advice = "correct --url" if chosen.url else "correct --base-url, or the variable that gives it"
        return Finding("url", Verdict.FAILED, f"the URL {error.problem}", advice)
    try:
        endpoint = fingerprint.endpoint(url, allow_plaintext=chosen.settings.allow_plaintext)
    except InvalidRequest:
        found = "the URL is plain http: or ws: beyond loopback: a key would be sent where others can read it"
        return Finding("url", Verdict.FAILED, found, "use https:, or set PIXIR_ACTORS_ALLOW_PLAINTEXT=true if nobody can")
    shown = urlsplit(endpoint)._replace(query="", fragment="").geturl()
    return Finding("url", Verdict.OK, shown, facts={"url": shown})


@dataclass(frozen=True, slots=True)
class Route:
    """How the server is reached.

    Attributes:
        endpoint: WebSocket URL.
        proxy: URL of the proxy, which may hold a password.
        source: What named the proxy, or why there is none.
        ca_file: As it will be used; None for the system's authorities.
    """

    endpoint: str
    proxy: Secret[str] | None
    source: str
    ca_file: str | None

    @classmethod
    def of(cls, endpoint: str, chosen: argparse.Namespace, environ: Mapping[str, str]) -> Self:
        """Return the route by flags, else settings, else the environment, as a client takes it."""
        settings = chosen.settings
        from_environment, ca_of_environment = connection_environment(endpoint, environ)
        proxy = chosen.proxy or settings.proxy or from_environment
        ca_file = chosen.ca_file or settings.ca_file or ca_of_environment
        named = [name for name in PROXY_VARIABLES if environ.get(name)]
        if chosen.proxy or settings.proxy:
            source = "--proxy" if chosen.proxy else "the settings"
        elif proxy:
            source = next((f"${name}" for name in named if _same(environ[name], proxy)), "the environment")
        else:
            source = f"what {', '.join(f'${name}' for name in named)} names does not apply to it" if named else ""
        return cls(endpoint, Secret(proxy) if proxy else None, source, os.path.abspath(ca_file) if ca_file else None)

    def target(self, headers: Headers, timeout: float) -> Target:
        """Return what a probe needs."""
        return Target(
            endpoint=self.endpoint,
            headers=Secret(headers),
            ca_file=self.ca_file,
            proxy=self.proxy,
            step_timeout=timeout,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )


def _same(value: str, proxy: str) -> bool:
    return value.strip() in (proxy, proxy.removeprefix("http://"))


def _check_route(route: Route) -> Finding:
    try:
        probe = Probe(route.target((), 1.0))
    except Refused as refused:
        way = Way(fingerprint.host(route.endpoint), 0.0, "", has_key=False, proxied=True)
        failure = diagnose(Step("proxy", 0.0, fault=refused.fault), way)
        return Finding("route", Verdict.FAILED, f"{failure.found} (from {route.source})", failure.advice)
    except ValueError:  # a name that IDNA cannot encode
        return Finding("route", Verdict.FAILED, "the URL's host is no name that can be looked up", "correct the URL")
    facts: dict[str, Any] = {"ca_file": route.ca_file}
    if probe.proxy is None:
        why = f"; {route.source}" if route.source else ""
        return Finding("route", Verdict.OK, f"direct, no proxy{why}", facts=facts | {"proxy": None})
    shown = f"{probe.proxy.host}:{probe.proxy.port}"
    found = f"through the proxy {shown}, from {route.source}"
    return Finding("route", Verdict.OK, found, facts=facts | {"proxy": shown})
