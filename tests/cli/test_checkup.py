"""What the doctor looks at on this host: nothing is made, and each problem says what to do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pixir_actors.cli.checkup import check_admin, check_cookie, check_runtime_directory
from pixir_actors.cli.diagnosis import Verdict
from pixir_actors.client import Client
from pixir_actors.errors import AdminMismatch, CookieUnusable, PixirError
from pixir_actors.status import SystemStatus
from pixir_actors.system.cookie import ensure_cookie
from pixir_actors.system.places import Places, secure_directory
from pixir_actors.system.processes import start_time
from pixir_actors.system.runtime import Runtime, boot_id, publish
from tests.conftest import within

STATUS = SystemStatus(
    pid=7, version="1.2", connections=3, max_descriptors=1024, refusals=0, draining=False, uptime_s=5.0
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    usual = (tmp_path / "with session", tmp_path / "without")
    monkeypatch.setattr("pixir_actors.system.runtime.usual_runtime_dirs", lambda: usual)
    return Places.of({"HOME": str(tmp_path), "PIXIR_ACTORS_RUNTIME_DIR": str(tmp_path / "run")})


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no path be writable: root may write everywhere."""
    monkeypatch.setattr("os.access", lambda _path, mode: not mode & os.W_OK)


# Directory and cookie.


def test_what_the_first_start_will_make_is_noted_and_not_made(places: Places, tmp_path: Path) -> None:
    for finding in (check_runtime_directory(places), check_cookie(places)):
        assert finding.verdict is Verdict.NOTE
        assert "the first start of an admin makes it" in finding.found

    assert os.listdir(tmp_path) == []


def test_what_is_in_order_is_named(places: Places) -> None:
    secure_directory(places.runtime_dir)
    cookie = ensure_cookie(places.cookie_file)

    assert check_runtime_directory(places).found == str(places.runtime_dir)
    finding = check_cookie(places)
    assert finding.verdict is Verdict.OK
    assert str(places.cookie_file) in finding.found
    assert cookie.reveal().decode() not in repr(finding)


def test_what_cannot_be_made_is_a_failure_with_the_variable_that_moves_it(places: Places, unwritable: None) -> None:
    for finding, variable in (
        (check_runtime_directory(places), "PIXIR_ACTORS_RUNTIME_DIR"),
        (check_cookie(places), "PIXIR_ACTORS_COOKIE_FILE"),
    ):
        assert finding.verdict is Verdict.FAILED
        assert "cannot be written" in finding.found
        assert variable in str(finding.advice)


def test_a_runtime_directory_that_cannot_be_written_is_a_failure(places: Places, unwritable: None) -> None:
    places.runtime_dir.mkdir(mode=0o700)

    assert check_runtime_directory(places).verdict is Verdict.FAILED


def test_a_runtime_directory_of_others_is_a_failure_with_a_command(places: Places) -> None:
    places.runtime_dir.mkdir()
    places.runtime_dir.chmod(0o777)

    finding = check_runtime_directory(places)

    assert finding.verdict is Verdict.FAILED
    assert "others can write in it" in finding.found
    assert str(finding.advice).startswith(f"chmod 700 {places.runtime_dir}")


def test_a_cookie_that_others_can_read_is_a_failure_with_a_command(places: Places) -> None:
    ensure_cookie(places.cookie_file)
    places.cookie_file.chmod(0o644)

    finding = check_cookie(places)

    assert finding.verdict is Verdict.FAILED
    assert "others can use it (mode 0644)" in finding.found
    assert finding.advice == f"chmod 600 {places.cookie_file}"


def test_a_cookie_that_is_gone_while_an_admin_runs_is_a_failure_and_both_stop_and_start_are_named(places: Places) -> None:
    published(places)

    finding = check_cookie(places)

    assert finding.verdict is Verdict.FAILED
    assert str(finding.advice).startswith("`pixir-actors stop`, then `pixir-actors start --detach`")


def test_a_bad_cookie_is_not_mended_by_a_start_beside_the_admin_that_runs(places: Places) -> None:
    places.cookie_file.parent.mkdir(parents=True)
    places.cookie_file.write_text("short")
    places.cookie_file.chmod(0o600)
    alone = str(check_cookie(places).advice)
    published(places)

    assert "`pixir-actors stop" not in alone and "`pixir-actors start` makes" in alone
    assert str(check_cookie(places).advice).endswith("`pixir-actors stop`, then `pixir-actors start --detach`")


def test_a_cookie_that_cannot_be_read_is_a_failure(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_cookie(places.cookie_file)

    def fail(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", fail)
        finding = check_cookie(places)

    assert finding.found.endswith("cannot be read: permission denied")
    assert str(finding.advice).startswith("set PIXIR_ACTORS_COOKIE_FILE")


# The admin.


def published(places: Places, port: int = 4711) -> Runtime:
    """Publish this process as an admin."""
    born = start_time(os.getpid())
    assert born is not None
    runtime = Runtime(
        pid=os.getpid(), born=born, boot_id=boot_id(), port=port, system_id="s", proof="p", version="1.2", thespian="4",
        started_at=1.0, log="/var/log/admin.log",
    )  # fmt: skip
    publish(places, runtime)
    return runtime


class FakeClient:
    """Stands in for an attached client."""

    def __init__(self, answer: Callable[[], SystemStatus]) -> None:
        self._answer = answer

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def system(self) -> SystemStatus:
        return self._answer()


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], SystemStatus]) -> list[int | None]:
    """Let every attached client answer so; return the list of ports that were asked for."""
    asked: list[int | None] = []

    def attach(port: int | None = None) -> FakeClient:
        asked.append(port)
        return FakeClient(answer)

    monkeypatch.setattr(Client, "attach", attach)
    return asked


def test_that_no_admin_runs_is_a_note_with_the_command_that_starts_one(places: Places) -> None:
    finding = check_admin(places, timeout=1.0, required=False)

    assert finding.verdict is Verdict.NOTE
    assert finding.found == f"none runs (looked in {places.runtime_dir})"
    assert finding.advice == "start it with `pixir-actors start --detach`"
    assert check_admin(places, timeout=1.0, required=True).verdict is Verdict.FAILED


def test_an_admin_at_another_port_and_one_that_has_ended_are_mentioned(places: Places) -> None:
    published(places, port=9)
    asked = replace(places, port=7)
    asked.runtime_file.write_text("{}")

    finding = check_admin(asked, timeout=1.0, required=False)

    assert "is of one that has ended" in finding.found
    assert "start --detach --port 7" in str(finding.advice)
    assert "runs at port 9" in str(finding.advice)


def test_an_admin_in_another_runtime_directory_of_this_user_is_mentioned(places: Places, tmp_path: Path) -> None:
    published(replace(places, runtime_dir=tmp_path / "with session"))

    finding = check_admin(places, timeout=1.0, required=False)

    assert finding.verdict is Verdict.NOTE
    assert str(finding.advice).endswith(f"another one is found with PIXIR_ACTORS_RUNTIME_DIR={tmp_path / 'with session'}")


@pytest.mark.parametrize("port", [None, 7])
def test_an_admin_that_answers_is_in_order(places: Places, port: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(places, port=port)
    runtime = published(here)
    asked = answering(monkeypatch, lambda: STATUS)

    finding = check_admin(here, timeout=within(5), required=True)

    assert finding.verdict is Verdict.OK
    assert f"pid {runtime.pid}, port 4711, started " in finding.found
    assert finding.found.endswith("version 1.2) and holds 3 connections")
    assert finding.facts["max_descriptors"] == 1024
    assert asked == [port]


def test_an_admin_that_is_about_to_end_is_noted(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    published(places)
    answering(monkeypatch, lambda: replace(STATUS, draining=True))

    assert check_admin(places, timeout=within(5), required=True).verdict is Verdict.NOTE


def test_an_admin_that_cannot_be_talked_to_says_why(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    published(places)

    def refuse() -> SystemStatus:
        raise AdminMismatch("it has version 9: start it again")

    answering(monkeypatch, refuse)
    finding = check_admin(places, timeout=within(5), required=False)

    assert finding.verdict is Verdict.FAILED
    assert finding.found.endswith("but: it has version 9")
    assert finding.advice == "start it again"


def test_an_admin_without_a_good_cookie_points_to_the_cookie(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    published(places)

    def refuse() -> SystemStatus:
        raise CookieUnusable("the cookie is refused: others can use it; chmod 600")

    answering(monkeypatch, refuse)
    finding = check_admin(places, timeout=within(5), required=False)

    assert finding.verdict is Verdict.FAILED
    assert str(finding.advice).endswith("`pixir-actors stop`, then `pixir-actors start --detach`")


def test_an_admin_that_does_not_answer_is_left_behind(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    published(places)
    done = threading.Event()

    def hang() -> SystemStatus:
        done.wait(within(10))
        raise PixirError("too late")

    answering(monkeypatch, hang)
    started = time.monotonic()
    try:
        finding = check_admin(places, timeout=0.1, required=False)
    finally:
        done.set()

    assert time.monotonic() - started < within(2)
    assert "no answer within 0.1 s" in finding.found
    assert "/var/log/admin.log" in str(finding.advice)
