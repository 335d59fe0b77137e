"""Where the files of an admin lie: runtime directory, cookie, configuration, log.

The environment is an argument. Nothing is made or looked at until `secure_directory` is called.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pixir_actors.errors import SystemStartFailed

RUNTIME_VARIABLE: Final = "PIXIR_ACTORS_RUNTIME_DIR"
COOKIE_VARIABLE: Final = "PIXIR_ACTORS_COOKIE_FILE"
CONFIG_VARIABLE: Final = "PIXIR_ACTORS_CONFIG"
PRIVATE_DIRECTORY: Final = 0o700
PRIVATE_FILE: Final = 0o600
NAME: Final = "pixir_actors"


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one admin, all absolute.

    Attributes:
        runtime_dir: Holds what says that an admin runs; gone after a boot.
        cookie_file: The secret that clients and admins of one user share.
        config_file: TOML; need not exist.
        log_file: Where a detached admin logs to.
        port: The port that was asked for, or None for the user's one admin on a port of its own choice.
    """

    runtime_dir: Path
    cookie_file: Path
    config_file: Path
    log_file: Path
    port: int | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], *, port: int | None = None) -> Self:
        """Return the places that an environment names for the calling process's user.

        The runtime directory is $PIXIR_ACTORS_RUNTIME_DIR, else `pixir_actors` in $XDG_RUNTIME_DIR, else
        /tmp/pixir_actors-<uid>; the cookie $PIXIR_ACTORS_COOKIE_FILE, else `cookie` in $XDG_CONFIG_HOME/pixir_actors; the
        configuration $PIXIR_ACTORS_CONFIG, else config.toml there; the log admin.log in $XDG_STATE_HOME/pixir_actors.
        A relative XDG path does not count, as its specification says.
        """
        home = _home(environ)
        configuration = (_xdg("XDG_CONFIG_HOME", environ) or home / ".config") / NAME
        state = (_xdg("XDG_STATE_HOME", environ) or home / ".local" / "state") / NAME
        runtime = _xdg("XDG_RUNTIME_DIR", environ)
        own = runtime / NAME if runtime else usual_runtime_dirs()[1]
        return cls(
            runtime_dir=_named(RUNTIME_VARIABLE, environ, home) or own,
            cookie_file=_named(COOKIE_VARIABLE, environ, home) or configuration / "cookie",
            config_file=_named(CONFIG_VARIABLE, environ, home) or configuration / "config.toml",
            log_file=state / "admin.log",
            port=port,
        )

    @property
    def runtime_file(self) -> Path:
        """The file that says where the admin is (`runtime.py`)."""
        return self.runtime_dir / f"{self._stem}.json"

    @property
    def lock_file(self) -> Path:
        """The file that an admin holds locked while it runs."""
        return self.runtime_dir / f"{self._stem}.lock"

    @property
    def _stem(self) -> str:
        return "admin" if self.port is None else f"admin-{self.port}"


def usual_runtime_dirs() -> tuple[Path, Path]:
    """Return where this user's runtime directory is with a login session's $XDG_RUNTIME_DIR, and without.

    A program that was started by cron, or as a system service, looks in the second place for what a shell put into the
    first one.
    """
    uid = os.geteuid()
    return Path(f"/run/user/{uid}") / NAME, Path("/tmp") / f"{NAME}-{uid}"


def _home(environ: Mapping[str, str]) -> Path:
    """Return the home directory; the root for a user that has none, as in a container started with any uid."""
    if environ.get("HOME"):
        return Path(os.path.abspath(environ["HOME"]))
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path("/")


def _xdg(variable: str, environ: Mapping[str, str]) -> Path | None:
    value = environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else None


def _named(variable: str, environ: Mapping[str, str], home: Path) -> Path | None:
    """Return the path in one of our variables; `~` is expanded, for what is set by no shell."""
    value = environ.get(variable, "")
    if not value:
        return None
    return home / value[2:] if value.startswith("~/") else Path(os.path.abspath(value))


def secure_directory(path: Path) -> None:
    """Make the directory with mode 0700 if it is not there, and refuse one in which others could put something.

    Raises:
        SystemStartFailed: It cannot be made, is no directory of this user's, or others can write in it.
    """
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    except FileExistsError:
        pass  # a file or a dangling link: refused below
    except OSError as error:
        raise SystemStartFailed(f"the runtime directory {path} cannot be made: {advice(error, RUNTIME_VARIABLE)}") from error
    check_directory(path)


def check_directory(path: Path) -> None:
    """Refuse a runtime directory that is not this user's alone. Nothing is changed.

    Raises:
        SystemStartFailed: As `secure_directory`, or there is none.
    """
    try:
        facts = path.lstat()  # in /tmp, somebody else's link may stand where our directory should
    except OSError as error:
        raise SystemStartFailed(f"the runtime directory {path} cannot be used: {advice(error, RUNTIME_VARIABLE)}") from error
    problem = _problem_of(path, facts)
    if problem:
        raise SystemStartFailed(f"the runtime directory {path} cannot be used: {problem}")


def _problem_of(path: Path, facts: os.stat_result) -> str | None:
    elsewhere = f"set {RUNTIME_VARIABLE} to a directory of your own"
    if not stat.S_ISDIR(facts.st_mode):
        return f"it is no directory: remove it, or {elsewhere}"
    if facts.st_uid != os.geteuid():
        return f"it belongs to another user (uid {facts.st_uid}, this is uid {os.geteuid()}): {elsewhere}"
    if facts.st_mode & 0o022:
        return f"others can write in it (mode {stat.S_IMODE(facts.st_mode):04o}): chmod 700 {path}, or {elsewhere}"
    if facts.st_mode & 0o700 != 0o700:
        return f"its mode is {stat.S_IMODE(facts.st_mode):04o}: chmod 700 {path}"
    return None


def advice(error: OSError, variable: str) -> str:
    """Say what an error of the file system means and what to do.

    Args:
        variable: The environment variable that moves the file elsewhere.
    """
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"no space is left there: free some, or set {variable} to a path on another disk"
        case errno.EROFS:
            return f"its file system is read-only: set {variable} to a path that can be written"
        case errno.EACCES | errno.EPERM:
            return f"permission denied: set {variable} to a path that you may write"
        case errno.ENOENT:
            return f"it does not exist, or its directory does not: make it, or set {variable} to another path"
        case errno.ENOTDIR | errno.ELOOP:
            return f"a part of its path is no directory: set {variable} to another path"
        case _:
            return f"{error.strerror or type(error).__name__}: set {variable} to another path"
