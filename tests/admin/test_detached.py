"""What a daemon says that cannot start: something a person can act on, and nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pixir_actors.errors import CookieUnusable, SystemStartFailed
from pixir_actors.system.launch import AdminOptions, start_detached
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import find
from tests.conftest import is_running, until, within

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os
from pixir_actors import Client, PixirError
try:
    with Client.attach(start=True) as client:
        print("started", client.admin.pid)
        os.kill(client.admin.pid, 15)
except PixirError as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_cookie_that_others_can_read_is_refused(places: Places) -> None:
    places.cookie_file.parent.mkdir(parents=True)
    places.cookie_file.write_bytes(b"c" * 64)
    places.cookie_file.chmod(0o644)

    with pytest.raises(CookieUnusable, match=r"others can use it .*chmod 600"):
        start_detached(AdminOptions(places=places), timeout=within(20))
    assert find(places) is None


def test_a_runtime_directory_that_others_can_write_in_is_refused(places: Places) -> None:
    places.runtime_dir.mkdir()
    places.runtime_dir.chmod(0o777)

    with pytest.raises(SystemStartFailed, match=r"others can write in it .*chmod 700"):
        start_detached(AdminOptions(places=places), timeout=within(20))


def test_a_runtime_file_that_a_killed_daemon_left_is_no_obstacle(places: Places) -> None:
    runtime = start_detached(AdminOptions(places=places), timeout=within(20))
    os.kill(runtime.pid, 9)
    assert until(lambda: not is_running(runtime.pid))
    assert places.runtime_file.exists()

    assert find(places) is None
    again = start_detached(AdminOptions(places=places), timeout=within(20))
    assert find(places) == again


def test_it_logs_to_the_place_s_file(places: Places) -> None:
    runtime = start_detached(AdminOptions(places=places), timeout=within(20))

    assert runtime.log == str(places.log_file)
    assert "ready" in places.log_file.read_text()
    assert places.log_file.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_does_not_keep_it_from_serving(places: Places) -> None:
    said: list[str] = []
    options = AdminOptions(places=places, log_file=Path("/dev/full"))
    runtime = start_detached(options, timeout=within(20), complain=said.append)

    assert find(places) == runtime
    assert said == ["pixir-actors: cannot write the log /dev/full: No space left on device"]


@pytest.fixture
def elsewhere(environment: dict[str, str], tmp_path: Path) -> Callable[[str], str]:
    """Run PROGRAM where a shell has mounted something else over the test's directories; return what it prints."""
    unshare = shutil.which("unshare")
    command = [str(unshare), "--user", "--map-root-user", "--mount"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces here")

    def run(mount: str) -> str:
        script = f'set -e\ncd "$HOME/.."\n{mount}\nexec "$0" -c "$1"'
        ran = subprocess.run(
            [*command, "/bin/sh", "-c", script, sys.executable, PROGRAM],
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=within(60),
            check=True,
        )
        return ran.stdout

    return run


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (
            "mkdir config && mount -t tmpfs -o ro none config",
            r"CookieUnusable: the cookie \S+ cannot be made: .*read-only: set PIXIR_ACTORS_COOKIE_FILE",
        ),
        (
            "mkdir run && chmod 700 run && mount -t tmpfs -o ro,mode=700 none run",
            r"SystemStartFailed: .*run\S* cannot be made: .*read-only: set PIXIR_ACTORS_RUNTIME_DIR",
        ),
        (
            "mkdir config && mount -t tmpfs -o size=4k none config && cat /dev/zero > config/full || true",
            r"CookieUnusable: the cookie \S+ cannot be made: no space is left .* set PIXIR_ACTORS_COOKIE_FILE",
        ),
        (
            "mkdir run && mount -t tmpfs -o size=4k,mode=700 none run && cat /dev/zero > run/full || true",
            r"SystemStartFailed: .* no space is left there: free some, or set PIXIR_ACTORS_RUNTIME_DIR",
        ),
        ("mkdir state && mount -t tmpfs -o ro none state", r"started \d+"),
        ("mkdir state && mount -t tmpfs -o size=4k none state && cat /dev/zero > state/full || true", r"started \d+"),
    ],
    ids=["read-only config", "read-only run", "full config", "full run", "read-only state", "full state"],
)
def test_a_disk_that_takes_nothing_is_named_with_what_to_do(elsewhere: Callable[[str], str], mount: str, said: str) -> None:
    assert re.match(said, printed := elsewhere(mount)), printed
