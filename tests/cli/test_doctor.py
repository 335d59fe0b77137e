"""`pixir-actors doctor`, as it is typed: what it prints, what it returns, and that it gives nothing away."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from pixir_actors.cli.main import main
from pixir_actors.simulator import Simulator
from pixir_actors.system.environment import CA_VARIABLES
from tests.conftest import within
from tests.transport.peer import Peer, answering, wait_for_end
from tests.transport.test_connector import closed_port
from tests.transport.test_probe import context_of
from tests.transport.test_upgrade import RecordingProxy

KEY = "sk-CANARY-key-61c2"
PASSWORD = "CANARY-password-61c2"
QUERY = "CANARY-query-61c2"
SECRETS = (KEY, PASSWORD, QUERY, b64encode(f"user:{PASSWORD}".encode()).decode())
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no proxy and no authority of this host stand in the way."""
    for name in [*CA_VARIABLES, *PROXIES, *(proxy.upper() for proxy in PROXIES)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@dataclass
class Visit:
    """What one call printed and returned."""

    code: int
    text: str

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        return {step["step"]: step for step in map(json.loads, self.text.splitlines())}

    @property
    def verdicts(self) -> dict[str, str]:
        return {name: step["status"] for name, step in self.steps.items()}


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Visit]:
    """Call the command; whatever is asked of it, no secret is printed."""

    def call(*arguments: str) -> Visit:
        code = main(["doctor", "--timeout", str(within(5)), *arguments])
        printed = capsys.readouterr()
        assert not any(secret in printed.out + printed.err for secret in SECRETS)
        assert "Traceback" not in printed.err
        return Visit(code, printed.out)

    return call


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def test_all_is_well_with_a_server_that_answers(doctor: Any, sim: Simulator) -> None:
    visit = doctor("--url", f"{sim.url}?key={QUERY}", "--json")

    assert visit.code == 0
    assert visit.verdicts == {
        "directory": "note", "cookie": "note", "admin": "note",
        "key": "ok", "url": "ok", "route": "ok", "name": "ok", "tcp": "ok", "upgrade": "ok",
    }  # fmt: skip
    assert visit.steps["url"]["found"] == sim.url
    assert visit.steps["upgrade"]["facts"]["status"] == 101
    assert visit.steps["tcp"]["ms"] >= 0
    assert len(sim.handshakes) == 1
    assert sim.requests == []


def test_it_makes_nothing_on_this_host(doctor: Any, sim: Simulator, tmp_path: Path) -> None:
    doctor("--url", sim.url)

    assert os.listdir(tmp_path) == []


def test_in_a_pipe_it_prints_plain_lines(doctor: Any, sim: Simulator) -> None:
    visit = doctor("--url", sim.url)
    lines = visit.text.splitlines()

    assert "\x1b" not in visit.text
    assert lines[0].split()[:2] == ["note", "directory"]
    assert "to do: start it with `pixir-actors start --detach`" in visit.text
    assert lines[-2].startswith("ok       upgrade    the server speaks WebSocket (status 101)")
    assert lines[-1] == "all is well"


def test_the_base_url_is_that_of_the_environment_plus_responses(
    doctor: Any, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url)

    visit = doctor("--json")

    assert visit.code == 0
    assert visit.steps["url"]["found"] == sim.url


def test_without_any_url_it_is_the_providers_own(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    visit = doctor("--json")

    assert visit.steps["url"]["found"] == "wss://api.openai.com/v1/responses"
    assert (visit.code, visit.verdicts["name"], visit.verdicts["tcp"]) == (1, "failed", "skipped")


def test_the_key_goes_to_the_server_and_nowhere_else(doctor: Any, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", KEY + "-other")

    doctor("--url", sim.url, "--api-key-env", "OTHER_KEY")

    assert [handshake.header("authorization") for handshake in sim.handshakes] == [f"Bearer {KEY}-other"]


def test_without_a_key_the_way_is_tested_all_the_same(doctor: Any, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    visit = doctor("--url", sim.url, "--json")

    assert (visit.code, visit.verdicts["key"], visit.verdicts["upgrade"]) == (0, "note", "ok")
    assert [handshake.header("authorization") for handshake in sim.handshakes] == [None]


@pytest.mark.parametrize("key", [KEY + "\n", KEY + " ", KEY + "\N{BULLET}", f"Bearer {KEY}"])
def test_a_key_that_no_header_can_carry_is_told_and_not_sent(
    doctor: Any, sim: Simulator, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    visit = doctor("--url", sim.url, "--json")

    assert (visit.code, visit.verdicts["key"], visit.verdicts["upgrade"]) == (1, "failed", "ok")
    assert [handshake.header("authorization") for handshake in sim.handshakes] == [None]


def test_an_admin_may_be_asked_for(doctor: Any, sim: Simulator) -> None:
    visit = doctor("--url", sim.url, "--admin", "--json")

    assert (visit.code, visit.verdicts["admin"]) == (1, "failed")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{PASSWORD}@api.example/",
        f"ftp://api.example/?{QUERY}",
        f"http://api.example/?{QUERY}",
        f"https://[::1?{QUERY}",
        "https://",
        QUERY,
    ],
)
def test_a_url_that_cannot_be_used_is_a_failure_and_not_repeated(doctor: Any, url: str) -> None:
    visit = doctor("--url", url, "--json")

    assert (visit.code, visit.verdicts["url"]) == (1, "failed")
    assert list(visit.steps)[-1] == "url"


def test_after_a_failure_the_other_steps_are_skipped(doctor: Any) -> None:
    visit = doctor("--url", f"wss://127.0.0.1:{closed_port()}/", "--json")

    assert visit.code == 1
    assert [visit.verdicts[name] for name in ("tcp", "tls", "upgrade")] == ["failed", "skipped", "skipped"]
    assert "nothing listens there" in visit.steps["tcp"]["found"]


@pytest.mark.parametrize("status", [401, 403, 404, 426, 429, 503])
def test_a_refused_upgrade_is_a_failure_with_an_advice(doctor: Any, status: int) -> None:
    answer = f"HTTP/1.1 {status} {PASSWORD}\r\nX-Echo: {PASSWORD}\r\n\r\n{PASSWORD}".encode()
    with Peer(answering(answer)) as peer:
        visit = doctor("--url", peer.url(), "--json")

    assert (visit.code, visit.verdicts["upgrade"]) == (1, "failed")
    assert visit.steps["upgrade"]["found"].startswith(f"status {status}: ")
    assert visit.steps["upgrade"]["advice"]


def test_where_http_is_the_transport_no_upgrade_is_needed(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_ACTORS_TRANSPORT", "http")
    with Peer(answering(b"HTTP/1.1 404 No\r\n\r\n")) as peer:
        visit = doctor("--url", peer.url(), "--json")

    assert (visit.code, visit.verdicts["upgrade"]) == (0, "skipped")


# TLS and proxies.


def test_tls_with_an_authority_of_ones_own(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(tls=True) as sim:
        unknown = doctor("--url", sim.url, "--json")
        named = doctor("--url", sim.url, "--ca-file", str(sim.ca_file), "--json")
        monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
        inherited = doctor("--url", sim.url, "--json")

    assert (unknown.code, named.code, inherited.code) == (1, 0, 0)
    assert "authority that is not trusted" in unknown.steps["tls"]["found"]
    assert named.steps["tls"]["facts"]["ca"] == inherited.steps["tls"]["facts"]["ca"] == sim.ca_file


@pytest.mark.parametrize(
    ("name", "expires", "words"),
    [("127.0.0.1", datetime(2020, 1, 1, tzinfo=UTC), "has expired"), ("other.example", None, "is not for 127.0.0.1")],
)
def test_a_certificate_that_is_expired_or_anothers_is_told(
    doctor: Any, tmp_path: Path, name: str, expires: datetime | None, words: str
) -> None:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with Peer(wait_for_end, context=context_of(authority, name, expires=expires)) as peer:
        visit = doctor("--url", peer.url(), "--ca-file", str(ca_file), "--json")

    assert (visit.code, visit.verdicts["upgrade"]) == (1, "skipped")
    assert words in visit.steps["tls"]["found"]


def test_a_plain_server_behind_a_tls_url_is_told(doctor: Any) -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Peer(script) as peer:
        visit = doctor("--url", peer.url().replace("ws:", "wss:"), "--json")

    assert "does not speak TLS" in visit.steps["tls"]["found"]


def test_a_proxy_is_named_without_its_password(doctor: Any, sim: Simulator) -> None:
    with Peer(RecordingProxy()) as front:
        visit = doctor("--url", sim.url, "--proxy", f"http://user:{PASSWORD}@127.0.0.1:{front.port}", "--json")

    assert visit.code == 0
    assert visit.steps["route"]["found"] == f"through the proxy 127.0.0.1:{front.port}, from --proxy"
    assert visit.verdicts["proxy"] == "ok"


def test_a_proxy_of_the_environment_applies_beyond_loopback_only(
    doctor: Any, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(RecordingProxy(b"HTTP/1.1 407 No\r\n\r\n")) as front:
        monkeypatch.setenv("https_proxy", f"http://user:{PASSWORD}@127.0.0.1:{front.port}")
        beyond = doctor("--url", "https://api.example/v1/responses", "--json")
        here = doctor("--url", sim.url, "--json")

    assert beyond.steps["route"]["found"].endswith("from $https_proxy")
    assert (beyond.code, beyond.verdicts["proxy"]) == (1, "failed")
    assert "status 407" in beyond.steps["proxy"]["found"]
    assert here.steps["route"]["found"] == "direct, no proxy; what $https_proxy names does not apply to it"


def test_a_proxy_of_another_kind_is_a_failure(doctor: Any, sim: Simulator) -> None:
    visit = doctor("--url", sim.url, "--proxy", f"socks5://user:{PASSWORD}@127.0.0.1:1080", "--json")

    assert (visit.code, visit.verdicts["route"]) == (1, "failed")


# As a program.


def test_wrong_usage_is_told_from_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--timeout", "soon"]) == 2
    assert "--timeout: allowed is a number of seconds" in capsys.readouterr().err


def test_on_a_terminal_it_has_colours(sim: Simulator) -> None:
    controller, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(controller, 65536))
            except OSError:  # the program has closed its end
                return

    program = [sys.executable, "-m", "pixir_actors", "doctor", "--url", sim.url]
    environ = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"}
    environ.pop("NO_COLOR", None)
    try:
        with subprocess.Popen(program, stdin=terminal, stdout=terminal, stderr=terminal, env=environ) as process:
            os.close(terminal)
            reader = threading.Thread(target=read)
            reader.start()
            assert process.wait(within(30)) == 0
        reader.join(within(5))
    finally:
        os.close(controller)

    text = shown.decode()
    assert "\x1b[32mok" in text
    assert "\x1b[32mall is well" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is left hidden"
    assert KEY not in text
