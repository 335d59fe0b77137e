"""The service files of examples/service, as far as a machine without systemd and containers can tell."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixir_actors.system.places import Places
from pixir_actors.system.processes import descendants
from pixir_actors.system.runtime import find
from tests.admin.conftest import environment  # noqa: F401
from tests.conftest import is_running, until, within

SERVICE = Path(__file__).parents[1] / "examples" / "service"
ROOT = Path(__file__).parents[1]
COMMAND = f'#!/bin/sh\nexec "{sys.executable}" -m pixir_actors "$@"\n'


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(SERVICE / "pixir-actors.service")
    return parser


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """Where `pixir-actors` is, for scripts that look for it on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "pixir-actors").write_text(COMMAND)
    (directory / "pixir-actors").chmod(0o755)
    return directory


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(within(30))
        yield listener


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path, unit: configparser.ConfigParser, bin_directory: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    text = (SERVICE / "pixir-actors.service").read_text().replace("%h/.local/bin", str(bin_directory))
    (tmp_path / "pixir-actors.service").write_text(text)

    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "pixir-actors.service")],
        capture_output=True, text=True, timeout=within(60), check=False,
    )  # fmt: skip

    assert "pixir-actors.service" not in checked.stdout + checked.stderr
    assert checked.returncode == 0, checked.stderr


def test_the_unit_gives_the_drain_the_time_it_needs(unit: configparser.ConfigParser) -> None:
    words = unit["Service"]["ExecStart"].split()
    drain = float(words[words.index("--drain-timeout") + 1])

    assert float(unit["Service"]["TimeoutStopSec"]) > drain + 10


def test_the_unit_s_command_says_when_it_is_ready_and_when_it_stops(
    unit: configparser.ConfigParser, environment: dict[str, str], notices: socket.socket  # noqa: F811
) -> None:
    words = unit["Service"]["ExecStart"].split()[1:]
    assert unit["Service"]["Type"] == "notify"
    daemon = subprocess.Popen(
        [sys.executable, "-m", "pixir_actors", *words],
        env={**environment, "NOTIFY_SOCKET": str(notices.getsockname()), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert notices.recv(100) == b"READY=1"
        daemon.send_signal(signal.SIGTERM)
        while (word := notices.recv(100)) == b"WATCHDOG=1":
            pass
        assert word == b"STOPPING=1"
        assert daemon.wait(within(30)) == 0
    finally:
        daemon.kill()
        daemon.communicate()


def test_the_entry_point_becomes_the_daemon_and_keeps_its_cookie_to_itself(
    environment: dict[str, str], bin_directory: Path  # noqa: F811
) -> None:
    cookie = "c0ffee" * 8
    container = subprocess.Popen(
        [str(SERVICE / "entrypoint.sh"), "start", "--log-format", "json"],
        env={
            **environment,
            "PATH": f"{bin_directory}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PIXIR_ACTORS_COOKIE": cookie,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    places = Places.of(environment)
    try:
        assert until(lambda: find(places) is not None, 30)
        runtime = find(places)
        assert runtime is not None and runtime.pid == container.pid
        everyone = [container.pid, *descendants(container.pid)]
        for pid in everyone:
            assert cookie.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        assert (Path(environment["XDG_CONFIG_HOME"]) / "pixir_actors" / "cookie").stat().st_mode & 0o777 == 0o600
        container.send_signal(signal.SIGTERM)
        assert container.wait(within(30)) == 0
        assert until(lambda: not any(map(is_running, everyone)))
    finally:
        container.kill()
        said = container.communicate()[1]
    assert cookie not in said
