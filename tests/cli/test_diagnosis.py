"""The words about each step: every failure has a meaning and an advice, and none shows a secret."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from pixir_actors.cli.diagnosis import FAILURES, NO_TLS, Finding, Verdict, Way, diagnose
from pixir_actors.errors import ErrorCode
from pixir_actors.transport.base import Fault
from pixir_actors.transport.probe import Step

WAY = Way("api.example:443", 10.0, "MY_KEY", has_key=True, proxied=False)
CODE = ErrorCode.WEBSOCKET_CONNECT_FAILED
ATTEMPTS = {
    "host": "api.example",
    "port": 443,
    "attempts": [{"address": "192.0.2.1", "reason": "refused", "ms": 3.2}, {"address": "192.0.2.2", "ms": 12.0}],
}
TLS = {"host": "api.example", "version": "TLSv1.3", "cipher": "X", "issuer": "A CA", "ca": "/etc/ca.pem"}


def failed(name: str, reason: str, facts: dict[str, Any] | None = None, *, way: Way = WAY, **details: Any) -> Finding:
    step = Step(name, 0.5, facts or {}, Fault(CODE, {"reason": reason, "step": name, **details}))
    finding = diagnose(step, way)
    assert finding.verdict is Verdict.FAILED
    assert finding.advice
    assert "{" not in finding.found + finding.advice
    return finding


def refused(status: int, *, way: Way = WAY, retry_after: float | None = None) -> Finding:
    fault = Fault(ErrorCode.WEBSOCKET_HANDSHAKE_FAILED, {"reason": "upgrade_refused", "status": status}, retry_after)
    return diagnose(Step("upgrade", 0.1, {}, fault), way)


@pytest.mark.parametrize(("name", "reason"), FAILURES)
def test_every_known_failure_makes_a_sentence_and_an_advice(name: str, reason: str) -> None:
    finding = failed(name, reason or "something_new", {"host": "api.example"})

    assert finding.step == name
    assert finding.seconds == 0.5
    assert finding.facts["code"] == CODE


@pytest.mark.parametrize("name", ["name", "tcp", "proxy", "tls", "upgrade"])
def test_a_failure_that_nobody_thought_of_is_named(name: str) -> None:
    assert "econnwhatever" in failed(name, "econnwhatever").found


def test_refused_addresses_are_listed_one_by_one() -> None:
    finding = failed("tcp", "refused", ATTEMPTS)

    assert finding.found == "nothing listens there: 192.0.2.1 refused in 3 ms, 192.0.2.2 connected in 12 ms"
    assert "is the server running?" in str(finding.advice)
    assert "is the proxy running?" in str(failed("tcp", "refused", ATTEMPTS, way=replace(WAY, proxied=True)).advice)


def test_the_usual_failures_of_tls_are_told_apart() -> None:
    problems = {
        "certificate has expired": "has expired",
        "certificate is not yet valid": "is not valid yet",
        "self-signed certificate in certificate chain": "is of an authority that is not trusted",
        "unable to get local issuer certificate": "is of an authority that is not trusted",
    }
    for problem, words in problems.items():
        finding = failed("tls", "certificate_verify_failed", TLS, problem=problem)
        assert finding.found.startswith(f"the server's certificate {words}")

    unknown = failed("tls", "certificate_verify_failed", TLS, problem="unable to get local issuer certificate")
    assert "unable to get local issuer certificate" in unknown.found
    assert "/etc/ca.pem" in unknown.found
    assert "--ca-file" in str(unknown.advice)
    assert "not for api.example" in failed("tls", "hostname_mismatch", TLS).found
    for problem in NO_TLS:
        assert "does not speak TLS" in failed("tls", "tls_error", TLS, problem=problem).found
    assert "unsupported_protocol" in failed("tls", "tls_error", TLS, problem="unsupported_protocol").found


STATUSES = [
    (200, "does not change to WebSocket", "transport=http"),
    (302, "sends elsewhere", "--url"),
    (401, "the API key in $MY_KEY is not accepted", "still valid"),
    (403, "not allowed", "region"),
    (404, "nothing is at this path", "/v1"),
    (405, "does not change to WebSocket", "transport=http"),
    (407, "password", "$https_proxy"),
    (426, "does not change to WebSocket", "transport=http"),
    (429, "too many", "limits"),
    (500, "has trouble", "status page"),
    (503, "has trouble", "status page"),
]


@pytest.mark.parametrize(("status", "said", "advice"), STATUSES)
def test_every_status_of_a_refused_upgrade_has_a_meaning(status: int, said: str, advice: str) -> None:
    finding = refused(status)

    assert finding.found.startswith(f"status {status}: ")
    assert said in finding.found
    assert advice in str(finding.advice)
    assert finding.facts["status"] == status


def test_without_a_key_a_401_asks_for_one() -> None:
    finding = refused(401, way=replace(WAY, has_key=False))

    assert "$MY_KEY is not set" in finding.found
    assert "--api-key-env" in str(finding.advice)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_when_to_come_back_is_quoted(status: int) -> None:
    assert "in 7 s" in str(refused(status, retry_after=7.0).advice)


@pytest.mark.parametrize(
    ("status", "words"), [(407, "password"), (502, "does not reach"), (403, "does not allow"), (None, "HTTP proxy")]
)
def test_a_proxy_that_refuses(status: int | None, words: str) -> None:
    details = {} if status is None else {"status": status}

    assert words in failed("proxy", "proxy_refused", **details).found


def test_a_certificate_that_ends_soon_is_noted() -> None:
    later, soon = time.time() + 90 * 86400, time.time() + 3.1 * 86400

    good = diagnose(Step("tls", 0.1, {**TLS, "expires": later}), WAY)
    assert good.verdict is Verdict.OK
    assert "issued by A CA, valid until 20" in good.found
    assert good.found.endswith("trusted by /etc/ca.pem")

    near = diagnose(Step("tls", 0.1, {**TLS, "expires": soon}), WAY)
    assert near.verdict is Verdict.NOTE
    assert "in 3 days" in near.found
    assert near.advice


def test_a_certificate_without_an_end_or_an_issuer_is_no_failure() -> None:
    finding = diagnose(Step("tls", 0.1, {**TLS, "issuer": None}), WAY)

    assert finding.verdict is Verdict.OK
    assert "nobody named" in finding.found


def test_an_address_that_does_not_answer_beside_one_that_does_is_noted() -> None:
    finding = diagnose(Step("tcp", 0.1, ATTEMPTS), WAY)

    assert finding.verdict is Verdict.NOTE
    assert finding.found.startswith("port 443 answers at 1 of 2: ")


def test_names_are_shown_with_their_addresses() -> None:
    one = {"host": "a.example", "addresses": ["192.0.2.1"]}
    two = {"host": "a.example", "addresses": ["192.0.2.1", "2001:db8::1", "192.0.2.1"]}

    assert diagnose(Step("name", 0.1, one), WAY).found == "a.example has 1 address: 192.0.2.1"
    assert diagnose(Step("name", 0.1, two), WAY).found == "a.example has 2 addresses: 192.0.2.1, 2001:db8::1"
    assert "nothing to look up" in diagnose(Step("name", 0.1, {"host": "::1", "addresses": ["::1"]}), WAY).found


def test_a_tunnel_and_an_upgrade_are_said_to_be_there() -> None:
    assert diagnose(Step("proxy", 0.1, {"host": "p", "port": 3128}), WAY).found == "p:3128 opened a tunnel"
    assert "no request was sent" in diagnose(Step("upgrade", 0.1, {"status": 101}), WAY).found
