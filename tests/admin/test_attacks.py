"""The stranger's program of tests/robustness against an admin daemon, and what a process of this user may see of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pixir_actors import Client
from pixir_actors.simulator import Simulator
from pixir_actors.system.processes import descendants
from pixir_actors.system.runtime import Runtime
from tests.conftest import is_running, until
from tests.robustness.test_attacks import LOOPBACK, Stranger, slowly, streaming
from tests.system.conftest import listeners

pytestmark = pytest.mark.processes


def test_strangers_at_every_port_of_a_daemon_change_nothing_but_the_count(
    start: Callable[..., Runtime], tmp_path: Path
) -> None:
    runtime, marker = start(), tmp_path / "executed"
    with Simulator(slowly) as sim, Client.attach() as client, streaming(client, sim, ["a", "b"]) as turns:
        system = descendants(runtime.pid)
        counted = {port for _, port in listeners(system)}
        found = listeners([runtime.pid, *system])
        assert {address for address, _ in found} == {LOOPBACK}
        assert runtime.port in counted
        assert len(counted) >= 5, "admin, logger, supervisor and two connections listen"
        before = client.system().refusals
        with Stranger(marker, counted, {port for _, port in found} - counted) as stranger:
            each = stranger.refused()
            assert client.system().refusals == before + each * len(counted)
            stranger.go_on()
            done = turns()
            with Client.attach() as another:
                assert len(another.status()) == 2
            assert until(lambda: turns() >= done + 2, 20), "a stream stands still"
        assert not marker.exists()
        assert all(map(is_running, (runtime.pid, *system)))


def test_no_process_of_a_daemon_shows_what_its_starter_knows(
    start: Callable[..., Runtime], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-environment-8d31")
    runtime = start()
    cookie = next(path for path in Path(environment["XDG_CONFIG_HOME"]).rglob("cookie")).read_text().strip()
    with Client.attach() as client:
        client.system()  # the supervisor is there
        system = [runtime.pid, *descendants(runtime.pid)]
    assert len(system) >= 5, "daemon, guardian, admin, logger and supervisor"
    for pid in system:
        process = Path(f"/proc/{pid}")
        for name in ("environ", "cmdline"):
            shown = (process / name).read_bytes().decode(errors="replace")
            assert "canary" not in shown
            assert cookie not in shown
        limits = next(line for line in (process / "limits").read_text().splitlines() if line.startswith("Max core"))
        assert limits.split()[4:6] == ["0", "0"]
        assert "Umask:\t0077" in (process / "status").read_text()
        assert (process / "comm").read_text().startswith("pixir-")
        assert int((process / "coredump_filter").read_text(), 16) == 0
    assert os.stat(Path(environment["PIXIR_ACTORS_RUNTIME_DIR"])).st_mode & 0o077 == 0
