"""The session's own checks, tried on small sessions that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import is_running, until, within

CONFTEST = Path(__file__).with_name("conftest.py")
ORPHAN = """
import subprocess, sys
# A process that is scrubbed, detached and orphaned, as those of an actor system are; it says its pid, then sleeps.
MIDDLE = '''
import subprocess, sys
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={}, start_new_session=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(sleeper.pid)
sleeper.returncode = 0
'''
def orphan():
    return subprocess.run([sys.executable, "-c", MIDDLE], capture_output=True, text=True, check=True).stdout.strip()
"""


def run_session(directory: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run `tests` in a pytest of its own, under a copy of the conftest; its output holds what it printed."""
    (directory / "conftest.py").write_text(CONFTEST.read_text().replace("GRACE = 5.0", "GRACE = 0.5"))
    (directory / "test_it.py").write_text(tests)
    arguments = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(directory), "."]
    return subprocess.run(arguments, cwd=directory, capture_output=True, text=True, timeout=within(60))


@pytest.mark.parametrize("ending", ["pass", "assert False"])
def test_an_orphan_left_by_a_test_fails_the_run_and_is_killed(tmp_path: Path, ending: str) -> None:
    session = run_session(tmp_path, f"{ORPHAN}\ndef test_it():\n    print('pid', orphan())\n    {ending}\n")

    pid = int(session.stdout.split("pid ")[1].split()[0])
    assert session.returncode == 1
    assert "processes are left behind" in session.stdout
    assert f"{pid}: " in session.stdout
    assert until(lambda: not is_running(pid))


@pytest.mark.parametrize("name", ["pixir-abc", "thespian.log"])
def test_a_file_left_in_the_temporary_directory_fails_the_run(tmp_path: Path, name: str) -> None:
    session = run_session(
        tmp_path, f"import os, tempfile\ndef test_it():\n    os.mkdir(tempfile.gettempdir() + '/{name}')\n"
    )

    assert session.returncode == 1
    assert f"left in the temporary directory: {name}" in session.stdout


def test_a_tidy_session_passes_and_its_temporary_directory_is_gone(tmp_path: Path) -> None:
    session = run_session(
        tmp_path,
        "import subprocess, sys, tempfile\n"
        "def test_it(tmp_path):\n"
        "    (tmp_path / 'thespian.log').touch()\n"
        "    subprocess.run([sys.executable, '-c', ''], check=True)\n"
        "    print('home', tempfile.gettempdir())\n",
    )

    home = session.stdout.split("home ")[1].split()[0]
    assert session.returncode == 0, session.stdout
    assert home.startswith(os.environ["TMPDIR"])
    assert not os.path.exists(home)
