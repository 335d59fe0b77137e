"""python -m pixir_actors.simulator."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import websocket

from pixir_actors.simulator import FAULTS
from tests.conftest import within

COMMAND = [sys.executable, "-m", "pixir_actors.simulator"]


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_url_and_ends_well_on_a_signal(number: signal.Signals) -> None:
    with program() as process:
        client = websocket.create_connection(line(process), timeout=within(5))
        client.send('{"type": "response.create", "model": "m", "input": "x"}')
        assert "response.created" in str(client.recv())
        process.send_signal(number)
        assert process.wait(within(10)) == 0
        client.shutdown()
        assert process.stderr is not None and process.stderr.read() == ""


def test_with_tls_it_prints_the_file_to_trust() -> None:
    with program("--tls") as process:
        url, ca_file, base_url = line(process), line(process), line(process)
        settings = [line(process), line(process)]
        websocket.create_connection(url, sslopt={"ca_certs": ca_file}, timeout=within(5)).shutdown()
        assert base_url == url.replace("wss://", "https://").removesuffix("/responses")
        assert settings == [f"export OPENAI_BASE_URL={base_url}", f"export PIXIR_ACTORS_CA_FILE={ca_file}"]
        process.terminate()
        assert process.wait(within(10)) == 0


def test_faults_are_armed_with_their_arguments() -> None:
    with program(
        "--fault", "refuse_upgrade:status=429,times=2", "--fault", "redirect:url=ws://x/", "--api-key", "k"
    ) as process:
        url = line(process)
        for status in (429, 429, 307):
            with pytest.raises(
                websocket.WebSocketException, match=r"429|redirect|Redirect|name|resolution|known|x"
            ) as caught:
                websocket.create_connection(url, timeout=within(5), redirect_limit=0)
            assert (f"{status}" in str(caught.value)) is (status == 429)
        with pytest.raises(websocket.WebSocketBadStatusException, match="401"):
            websocket.create_connection(url, timeout=within(5))


def test_answers_are_as_slow_as_told() -> None:
    with program("--delay", "600") as process:
        client = websocket.create_connection(line(process), timeout=within(5))
        client.send('{"type": "response.create", "model": "m", "input": "x"}')
        assert "response.created" in str(client.recv())
        client.settimeout(0.2)
        with pytest.raises(websocket.WebSocketTimeoutException):
            client.recv()
        client.shutdown()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=within(20), check=False)


def test_the_faults_are_listed() -> None:
    result = run("--list-faults")
    assert result.returncode == 0
    assert all(name in result.stdout for name in FAULTS)
    assert "keys: within=2.0, every=1" in result.stdout
    assert all(f"  {key} " in result.stdout for key in ("times", "on_request", "on_connection", "on_via"))


@pytest.mark.parametrize("fault", ["no_such", "cut_mid_text:n=0", "stall:when=never", "stall:nonsense=1", "stall:when"])
def test_a_fault_that_does_not_exist_is_a_usage_error(fault: str) -> None:
    result = run("--fault", fault)
    assert result.returncode == 2
    assert "--fault" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_told_in_one_line() -> None:
    with program() as process:
        port = line(process).rpartition(":")[2].partition("/")[0]
        result = run("--port", port)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fault", "cut_mid_tex"), "no fault is called 'cut_mid_tex'; did you mean cut_mid_text?"),
        (("--fault", "stall:whem=upgrade"), "stall has no key 'whem'; did you mean when?"),
        (("--fault", "silent:seconds=1"), "silent has no key 'seconds'; it takes times, on_request"),
        (("--fault", "stall:when"), "stall: 'when' lacks its value"),
        (("--fault", "cut_mid_text:n=abc"), "--fault: 'cut_mid_text:n=abc': n='abc': allowed is a whole number\n"),
        (("--fault", "cut_mid_text:times=x"), "'cut_mid_text:times=x': times='x': allowed is a whole number or None"),
        (("--port", "70000"), "--port: allowed is a whole number from 0 to 65535"),
        (("--port", "-1"), "--port: allowed is a whole number from 0 to 65535"),
        (("--delay", "nan"), "--delay: allowed is a number of seconds from 0"),
    ],
)
def test_a_wrong_argument_is_told_with_what_is_allowed(arguments: tuple[str, str], said: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
