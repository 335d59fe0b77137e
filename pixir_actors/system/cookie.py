"""The cookie: the secret file by which the processes of one user know each other, as in Erlang.

It is a line of text in a file that only its owner can read. No message is signed with the cookie itself: each actor
system has a key of its own, made of the cookie and the system's id, so that what one system signed is refused by the next.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from pixir_actors.core.secret import Secret
from pixir_actors.errors import CookieUnusable
from pixir_actors.system.places import COOKIE_VARIABLE, PRIVATE_DIRECTORY, PRIVATE_FILE, advice

COOKIE_BYTES: Final = 32
MIN_LENGTH: Final = 32
"""Characters of a cookie: 16 bytes in hex are the least that guards anything."""
MAX_LENGTH: Final = 4096
KEY_CONTEXT: Final = b"pixir_actors.system.cookie/1 key "
PROOF_CONTEXT: Final = b"pixir_actors.system.cookie/1 proof"


def read_cookie(path: Path) -> Secret[bytes]:
    """Return the cookie.

    Raises:
        CookieUnusable: There is none, it cannot be read, others can read it, it is not this user's, or it is no cookie.
    """
    try:
        # Not to wait for the writer of a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise CookieUnusable(_missing(path)) from error
    except OSError as error:
        raise CookieUnusable(f"the cookie {path} cannot be read: {advice(error, COOKIE_VARIABLE)}") from error
    try:
        problem = _problem_of(path, os.fstat(descriptor))
        text = b"" if problem else os.read(descriptor, MAX_LENGTH + 1)
    except OSError as error:
        raise CookieUnusable(f"the cookie {path} cannot be read: {advice(error, COOKIE_VARIABLE)}") from error
    finally:
        os.close(descriptor)
    if problem is None:
        problem = _problem_with(text)
    if problem:
        raise CookieUnusable(f"the cookie {_shown(path)} is refused: {problem}")
    return Secret(text.strip())


def ensure_cookie(path: Path) -> Secret[bytes]:
    """Return the cookie, after making one if there is none. Of two that make it at once, both return the same.

    Raises:
        CookieUnusable: As `read_cookie`, or it cannot be made.
    """
    if not os.path.lexists(path):
        try:
            path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            _make(path)
        except OSError as error:
            raise CookieUnusable(f"the cookie {path} cannot be made: {advice(error, COOKIE_VARIABLE)}") from error
    return read_cookie(path)


def system_key(cookie: Secret[bytes], system_id: str) -> bytes:
    """Return the key that the messages of one actor system are signed with."""
    return hmac.digest(cookie.reveal(), KEY_CONTEXT + system_id.encode(), "sha256")


def proof(key: bytes) -> str:
    """Return a fingerprint of a system's key, by which a client learns that its cookie is the admin's.

    It may be read by anybody: it leads back neither to the key nor to the cookie.
    """
    return hmac.digest(key, PROOF_CONTEXT, "sha256").hex()[:32]


def _make(path: Path) -> None:
    """Write a new cookie and give it its name only when it is whole; leave one that got there first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(COOKIE_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, path)  # not rename: it would take the place of another's
    finally:
        with suppress(OSError):
            temporary.unlink()


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"the cookie {_shown(path)} is refused: the link leads nowhere; remove it"
    return f"there is no cookie at {path}: where no admin runs `pixir-actors start` makes one (or set {COOKIE_VARIABLE})"


def _problem_of(path: Path, facts: os.stat_result) -> str | None:
    """Judge the open file, which is what is read, whatever its name stands for by now."""
    if not stat.S_ISREG(facts.st_mode):
        return f"it is no regular file; remove it, or set {COOKIE_VARIABLE} to another path"
    if facts.st_uid != os.geteuid():
        return (
            f"it belongs to another user (uid {facts.st_uid}, this is uid {os.geteuid()}); "
            f"set {COOKIE_VARIABLE} to a file of your own"
        )
    if facts.st_mode & 0o077:
        return f"others can use it (mode {stat.S_IMODE(facts.st_mode):04o}); chmod 600 {path}"
    return None


def _shown(path: Path) -> str:
    try:
        return f"{path} (a link to {os.readlink(path)})"
    except OSError:
        return str(path)


def _problem_with(text: bytes) -> str | None:
    length = len(text) if len(text) > MAX_LENGTH else len(text.strip())
    if MIN_LENGTH <= length <= MAX_LENGTH:
        return None
    has = f"more than {MAX_LENGTH}" if length > MAX_LENGTH else str(length)
    return (
        f"it has {has} characters, allowed are {MIN_LENGTH} to {MAX_LENGTH}; "
        "remove it, and `pixir-actors start` makes a good one"
    )
