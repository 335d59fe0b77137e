"""What the service manager is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pixir_actors.system.notify import notify
from tests.conftest import within


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_message_reaches_the_socket_that_is_named(kind: str, tmp_path: Path) -> None:
    name = f"@pixir-notify-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(within(5))

        notify("READY=1\nMAINPID=7", {"NOTIFY_SOCKET": name})

        assert manager.recv(1024) == b"READY=1\nMAINPID=7"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_nothing_is_sent(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket", lambda *_args: pytest.fail("a socket was opened"))

    notify("READY=1", environ)


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nothing")})
    notify("READY=1", {"NOTIFY_SOCKET": "/" + "x" * 200})


def test_a_manager_that_does_not_read_holds_nobody_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixir_actors.system.notify.TIMEOUT", 0.0005)
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        before = os.listdir("/proc/self/fd")

        for _ in range(1000):  # more than any queue holds
            notify("WATCHDOG=1", {"NOTIFY_SOCKET": name})

        assert len(os.listdir("/proc/self/fd")) == len(before)
