"""Where the files of an admin lie, and which directory is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system.places import Places, advice, check_directory, secure_directory, usual_runtime_dirs

UID = os.geteuid()


def test_the_variables_of_the_package_come_first() -> None:
    places = Places.of(
        {
            "HOME": "/home/me",
            "XDG_RUNTIME_DIR": "/run/user/1",
            "XDG_CONFIG_HOME": "/etc/me",
            "PIXIR_ACTORS_RUNTIME_DIR": "/run/mine",
            "PIXIR_ACTORS_COOKIE_FILE": "~/secret/cookie",
            "PIXIR_ACTORS_CONFIG": "/etc/mine.toml",
        }
    )

    assert places.runtime_dir == Path("/run/mine")
    assert places.cookie_file == Path("/home/me/secret/cookie")
    assert places.config_file == Path("/etc/mine.toml")


def test_the_desktops_variables_come_second() -> None:
    places = Places.of(
        {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/1", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}
    )

    assert places.runtime_dir == Path("/run/user/1/pixir_actors")
    assert places.cookie_file == Path("/c/pixir_actors/cookie")
    assert places.config_file == Path("/c/pixir_actors/config.toml")
    assert places.log_file == Path("/s/pixir_actors/admin.log")


def test_without_any_variable_but_home_everything_has_a_place() -> None:
    places = Places.of({"HOME": "/home/me"})

    assert places.runtime_dir == Path(f"/tmp/pixir_actors-{UID}")
    assert places.cookie_file == Path("/home/me/.config/pixir_actors/cookie")
    assert places.config_file == Path("/home/me/.config/pixir_actors/config.toml")
    assert places.log_file == Path("/home/me/.local/state/pixir_actors/admin.log")


def test_the_usual_runtime_directories_are_those_with_and_without_a_login_session() -> None:
    with_session, without = usual_runtime_dirs()

    assert Places.of({"HOME": "/h", "XDG_RUNTIME_DIR": f"/run/user/{UID}"}).runtime_dir == with_session
    assert Places.of({"HOME": "/h"}).runtime_dir == without


def test_an_empty_or_relative_xdg_path_does_not_count() -> None:
    assert Places.of({"HOME": "/h", "XDG_RUNTIME_DIR": ""}) == Places.of({"HOME": "/h", "XDG_RUNTIME_DIR": "run"})
    assert Places.of({"HOME": "/h", "XDG_RUNTIME_DIR": "run"}).runtime_dir == Path(f"/tmp/pixir_actors-{UID}")


def test_a_relative_path_is_meant_from_where_the_program_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Places.of({"HOME": "/h", "PIXIR_ACTORS_RUNTIME_DIR": "run"}).runtime_dir == tmp_path / "run"


def test_a_user_without_a_home_gets_places_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000_000)

    assert Places.of({}).cookie_file == Path("/.config/pixir_actors/cookie")


def test_each_port_has_files_of_its_own() -> None:
    usual, other = Places.of({"HOME": "/h"}), Places.of({"HOME": "/h"}, port=7)

    assert (usual.runtime_file.name, usual.lock_file.name) == ("admin.json", "admin.lock")
    assert (other.runtime_file.name, other.lock_file.name) == ("admin-7.json", "admin-7.lock")


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        secure_directory(tmp_path / "a" / "run")
        secure_directory(tmp_path / "a" / "run")
    finally:
        os.umask(before)

    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o700


def test_an_existing_directory_is_used_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    secure_directory(tmp_path)

    assert tmp_path.stat().st_mode & 0o777 == 0o755, "it may be /run of root: closing it is not ours to do"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_directory_that_others_can_write_in_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(SystemStartFailed, match=f"others can write in it .*chmod 700 {tmp_path}"):
        secure_directory(tmp_path)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: UID + 1)

    with pytest.raises(SystemStartFailed, match=rf"another user \(uid {UID}.* set PIXIR_ACTORS_RUNTIME_DIR"):
        secure_directory(tmp_path)


def test_a_link_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "real")

    with pytest.raises(SystemStartFailed, match="is no directory"):
        secure_directory(tmp_path / "run")


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    path.touch() if kind == "file" else path.symlink_to(tmp_path / "nothing")

    with pytest.raises(SystemStartFailed, match=f"{path} cannot be used: it is no directory"):
        secure_directory(path)


def test_a_file_on_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SystemStartFailed, match=r"cannot be made: a part of its path is no directory.*RUNTIME_DIR"):
        secure_directory(tmp_path / "file" / "run")


def test_a_directory_that_is_locked_to_its_owner_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o500)

    with pytest.raises(SystemStartFailed, match="chmod 700"):
        secure_directory(tmp_path / "run")


def test_checking_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemStartFailed, match="does not exist"):
        check_directory(tmp_path / "run")

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "no space is left"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.ENOENT, "does not exist"),
        (errno.ELOOP, "no directory"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_each_error_of_the_disk_says_what_to_do(
    tmp_path: Path, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)

    with pytest.raises(SystemStartFailed) as caught:
        secure_directory(tmp_path / "run")

    assert words in str(caught.value)
    assert "set PIXIR_ACTORS_RUNTIME_DIR to" in str(caught.value)


def test_an_error_without_a_text_has_a_name() -> None:
    assert advice(OSError(), "VARIABLE") == "OSError: set VARIABLE to another path"
