"""The cookie: who may read it, and that all who start at once agree on one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pixir_actors.core.secret import Secret
from pixir_actors.errors import CookieUnusable
from pixir_actors.system.cookie import MAX_LENGTH, MIN_LENGTH, ensure_cookie, proof, read_cookie, system_key

GOOD = "c" * MIN_LENGTH


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "cookie"


def written(path: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def failing(number: int) -> Callable[..., None]:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_the_first_start_makes_a_cookie_that_only_its_owner_reads(path: Path) -> None:
    before = os.umask(0)
    try:
        cookie = ensure_cookie(path)
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["cookie"]
    assert read_cookie(path) == ensure_cookie(path) == cookie
    assert len(cookie.reveal()) == 64


def test_two_cookies_differ(tmp_path: Path) -> None:
    assert ensure_cookie(tmp_path / "a") != ensure_cookie(tmp_path / "b")


def test_of_many_first_starts_all_get_the_same_cookie(tmp_path: Path) -> None:
    for round_ in range(10):
        path, together, cookies = tmp_path / str(round_) / "cookie", threading.Barrier(8), []

        def start(path: Path = path, together: threading.Barrier = together, cookies: list = cookies) -> None:
            together.wait()
            cookies.append(ensure_cookie(path))

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(cookies) == 8
        assert len(set(cookies)) == 1


def test_who_comes_second_keeps_the_cookie_of_who_came_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_cookie(path)
    monkeypatch.setattr("os.path.lexists", lambda _path: False)  # it looked just before the first had finished

    assert ensure_cookie(path) == first
    assert os.listdir(path.parent) == ["cookie"]


def test_a_cookie_of_ones_own_making_is_taken_without_its_line_end(path: Path) -> None:
    assert read_cookie(written(path, GOOD + "\r\n")) == Secret(GOOD.encode())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_cookie_that_others_can_use_is_refused(path: Path, mode: int) -> None:
    with pytest.raises(CookieUnusable, match=rf"{path} is refused: others can use it \(mode {mode:04o}\); chmod 600 {path}"):
        read_cookie(written(path, mode=mode))
    with pytest.raises(CookieUnusable):
        ensure_cookie(path)


def test_a_cookie_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)

    with pytest.raises(CookieUnusable, match=r"another user .*set PIXIR_ACTORS_COOKIE_FILE"):
        read_cookie(path)


@pytest.mark.parametrize("text", ["", "\n", GOOD[:-1], " " * 100, "x" * (MAX_LENGTH + 1)])
def test_what_is_no_cookie_is_refused_without_showing_it(path: Path, text: str) -> None:
    allowed = f"it has .*characters, allowed are {MIN_LENGTH} to {MAX_LENGTH}.*`pixir-actors start`"
    with pytest.raises(CookieUnusable, match=allowed) as caught:
        read_cookie(written(path, text))

    assert "ccc" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_directory_a_fifo_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "directory", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(CookieUnusable, match="no regular file"):
            read_cookie(path)


def test_a_link_to_a_good_file_of_ones_own_is_followed(path: Path, tmp_path: Path) -> None:
    written(path)
    (tmp_path / "link").symlink_to(path)

    assert read_cookie(tmp_path / "link") == Secret(GOOD.encode())


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "directory", "nothing"])
def test_a_link_to_a_strange_place_is_refused_and_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "cookie").symlink_to(target)

    for use in (read_cookie, ensure_cookie):
        with pytest.raises(CookieUnusable, match=f"a link to {target}.* is refused"):
            use(tmp_path / "cookie")

    assert not (tmp_path / "nothing").exists()


def test_a_missing_cookie_says_which_command_makes_one(path: Path) -> None:
    with pytest.raises(CookieUnusable, match=f"no cookie at {path}: where no admin runs `pixir-actors start` makes one"):
        read_cookie(path)


PROBLEMS = [
    (errno.ENOSPC, "no space is left"),
    (errno.EROFS, "read-only"),
    (errno.EACCES, "permission denied"),
    (errno.ENOENT, "does not exist"),
]


@pytest.mark.parametrize(("number", "words"), PROBLEMS)
@pytest.mark.parametrize("call", ["pathlib.Path.mkdir", "os.open", "os.fsync", "os.link"])
def test_a_cookie_that_cannot_be_made_says_why_and_what_to_do(
    path: Path, number: int, words: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(call, failing(number))
        with pytest.raises(CookieUnusable) as caught:
            ensure_cookie(path)

    assert str(caught.value).startswith(f"the cookie {path} cannot be made: ")
    assert words in str(caught.value)
    assert "set PIXIR_ACTORS_COOKIE_FILE to" in str(caught.value)
    assert os.listdir(path.parent) == []


def test_a_cookie_that_cannot_be_read_says_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path)
    with monkeypatch.context() as patch:
        patch.setattr("os.open", failing(errno.EACCES))
        with pytest.raises(CookieUnusable, match="cannot be read: permission denied"):
            read_cookie(path)


def test_each_system_has_a_key_and_a_proof_of_its_own() -> None:
    cookie, other = Secret(b"a" * 64), Secret(b"b" * 64)
    keys = [system_key(cookie, "1"), system_key(cookie, "2"), system_key(other, "1")]
    proofs = [proof(key) for key in keys]

    assert system_key(cookie, "1") == keys[0]
    assert all(len(key) == 32 for key in keys)
    assert len(set(keys)) == len(set(proofs)) == 3
    assert not any(proof.encode() in key.hex().encode() for proof in proofs for key in keys)


def test_a_cookie_is_not_printed(path: Path) -> None:
    assert GOOD not in repr(read_cookie(written(path)))
