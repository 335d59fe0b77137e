"""How a daemon is started out of any program; that it works is shown in tests/admin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pixir_actors.errors import AdminAlreadyRunning, CookieUnusable, InvalidSettings, SystemStartFailed
from pixir_actors.system import launch
from pixir_actors.system.launch import AdminOptions, start_detached, stop_admin
from pixir_actors.system.places import Places
from pixir_actors.system.processes import start_time
from pixir_actors.system.runtime import Runtime, boot_id
from tests.conftest import is_running, until, within


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of({"HOME": str(tmp_path), "PIXIR_ACTORS_RUNTIME_DIR": str(tmp_path / "run")})


def runtime_of(pid: int) -> Runtime:
    return Runtime(
        pid=pid, born=start_time(pid) or 0, boot_id=boot_id(), port=1, system_id="i", proof="p", version="0", thespian="0",
        started_at=0.0, log=None,
    )  # fmt: skip


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch):
    """Put a program in the daemon's place."""

    def put(script: str) -> None:
        first = "import json, os, sys, time\nconfig = json.loads(sys.stdin.readline())\n"
        monkeypatch.setattr(launch, "BOOTSTRAP", first + script)

    return put


def test_options_come_through_json_unchanged(places: Places, tmp_path: Path) -> None:
    options = AdminOptions(places=places, port=9, drain_timeout=1.5, log_level="DEBUG", log_file=tmp_path / "log")

    assert AdminOptions.of(json.loads(json.dumps(options.fields()))) == options
    assert AdminOptions.of(json.loads(json.dumps(AdminOptions(places=places).fields()))) == AdminOptions(places=places)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 0), ("port", 65536), ("drain_timeout", -1), ("log_level", "LOUD"), ("log_format", "xml")],
)
def test_an_option_out_of_range_is_named(places: Places, name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"{name}="):
        AdminOptions(places=places, **{name: value})  # type: ignore[arg-type]


def test_what_the_daemon_reports_is_its_runtime(places: Places, bootstrap) -> None:
    runtime = runtime_of(os.getpid())
    bootstrap(f"print(json.dumps({{'ready': {json.loads(json.dumps(asdict(runtime)))!r}}}))")

    assert start_detached(AdminOptions(places=places), timeout=within(20)) == runtime


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("AdminAlreadyRunning", AdminAlreadyRunning),
        ("CookieUnusable", CookieUnusable),
        ("SystemStartFailed", SystemStartFailed),
        ("SomethingElse", SystemStartFailed),
    ],
)
def test_why_it_could_not_start_is_raised(places: Places, bootstrap, kind: str, raised: type[Exception]) -> None:
    bootstrap(f"print(json.dumps({{'kind': {kind!r}, 'error': 'because'}}))")

    with pytest.raises(raised, match="because"):
        start_detached(AdminOptions(places=places), timeout=within(20))


def test_one_that_ends_without_a_report_is_quoted(places: Places, bootstrap) -> None:
    bootstrap("sys.exit('ImportError: no such thing')")

    with pytest.raises(SystemStartFailed, match="ended before it was ready: ImportError: no such thing"):
        start_detached(AdminOptions(places=places), timeout=within(20))


def test_one_that_is_never_ready_is_not_waited_for_any_longer(places: Places, bootstrap, tmp_path: Path) -> None:
    bootstrap(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nsys.stdin.close()\ntime.sleep(3600)")

    with pytest.raises(SystemStartFailed, match="not ready in time"):
        start_detached(AdminOptions(places=places), timeout=1.0)
    assert until(lambda: (tmp_path / "pid").exists())
    assert until(lambda: not is_running(int((tmp_path / "pid").read_text())))


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    yield process
    process.kill()
    process.wait()


def test_stopping_waits_for_the_end(sleeper: subprocess.Popen[bytes]) -> None:
    assert stop_admin(runtime_of(sleeper.pid), timeout=within(10))
    assert not is_running(sleeper.pid)


def test_stopping_leaves_a_process_alone_that_only_has_the_pid(sleeper: subprocess.Popen[bytes]) -> None:
    other = runtime_of(sleeper.pid)
    other = replace(other, born=other.born - 1)

    assert stop_admin(other, timeout=within(10))
    assert is_running(sleeper.pid)


def test_stopping_what_has_ended_is_done() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    runtime = runtime_of(ended.pid)
    ended.wait()

    assert stop_admin(runtime, timeout=0)


def test_one_that_takes_longer_than_allowed_is_said_to_run(tmp_path: Path) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: None); print('up', flush=True);"
        " signal.pause(); signal.pause()"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    looks: list[int] = []
    try:
        assert not stop_admin(runtime_of(stubborn.pid), timeout=0.3, progress=lambda: looks.append(1))
        assert looks
    finally:
        stubborn.kill()
        stubborn.communicate()
