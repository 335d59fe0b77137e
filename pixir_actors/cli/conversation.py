"""The conversation that `pixir-actors stream` sends: out of arguments, standard input or a file, and back into the file.

A file holds a JSON list of input items, or a body with such a list as its `input`. It is read before the request and
written after it, whole or not at all, with the message and the answer behind what was there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from pixir_actors.cli.options import WrongUsage

Item = dict[str, Any]
STDIN: Final = "-"
NEW_FILE_MODE: Final = 0o600
"""A conversation is nobody else's business."""


class FileChanged(Exception):
    """Somebody else has written the conversation's file meanwhile; it was left as it is."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is sent: the items, and the other fields of the body.

    Attributes:
        items: Input items, without the new message.
        fields: Fields of the body beside `input`.
        path: The file it came from and is extended in, or None.
        text: The file's bytes as read; None for a new file.
    """

    items: list[Item] = field(default_factory=list, repr=False)
    fields: dict[str, Any] = field(default_factory=dict, repr=False)
    path: Path | None = None
    text: bytes | None = field(default=None, repr=False)
    whole: bool = False

    @property
    def waits(self) -> bool:
        """Whether there is something at its end that the model has not answered yet."""
        last = self.items[-1] if self.items else {}
        return last.get("role") not in (None, "assistant") or str(last.get("type")).endswith("_output")

    def extended(self, items: Iterable[Item]) -> bytes:
        """Return the file's new text, in the form that it had."""
        everything = [*self.items, *items]
        value: Any = {**self.fields, "input": everything} if self.whole else everything
        return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"

    def save(self, items: Iterable[Item]) -> None:
        """Put `items` behind what was read, in the file.

        Raises:
            FileChanged: The file is not what was read; nothing was written.
            OSError: It cannot be written; it is as it was.
        """
        if self.path is None:
            return
        path = self.path.resolve()
        temporary = _written(path, self.extended(items))
        try:
            if _contents(path) != self.text:
                raise FileChanged
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _written(path: Path, text: bytes) -> str:
    """Write a file beside `path`, with its mode, and return its name."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, path.stat().st_mode & 0o777 if path.exists() else NEW_FILE_MODE)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    return name


def _contents(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def load(name: str | None, read_stdin: Callable[[], str]) -> Conversation:
    """Return the conversation of `--conversation`: none, standard input, or a file, which may be empty or not be there yet.

    Raises:
        WrongUsage: It cannot be read or is no conversation, or its directory cannot be written, which is better known
            before the request than after it.
    """
    if name is None:
        return Conversation()
    if name == STDIN:
        return parse(read_stdin().encode("utf-8", "surrogatepass"), "standard input")
    path = Path(name)
    try:
        text = _contents(path)
    except OSError as error:
        raise WrongUsage(f"{name}: the conversation cannot be read: {error.strerror}") from None
    if not os.access(path.resolve().parent, os.W_OK):
        raise WrongUsage(f"{name}: the conversation could not be extended: its directory is missing or cannot be written")
    if text is None or not text.strip():
        return Conversation(path=path, text=text)
    return parse(text, name, path=path)


def parse(text: bytes, name: str, *, path: Path | None = None) -> Conversation:
    """Read a JSON list of items, or a body whose `input` is one, or a text.

    Raises:
        WrongUsage: It is neither; the text says where it comes from, and repeats nothing of it.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise WrongUsage(f"{name}: this is no JSON (line {error.lineno}, column {error.colno})") from None
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return Conversation(value, path=path, text=text)
    if isinstance(value, dict) and "input" in value:
        fields = {key: part for key, part in value.items() if key != "input"}
        given = value["input"]
        items = [message(given)] if isinstance(given, str) else given
        if isinstance(items, list) and all(isinstance(item, dict) for item in items):
            return Conversation(items, fields, path=path, text=text, whole=True)
    raise WrongUsage(f"{name}: allowed is a JSON list of input items, or a body, an object whose `input` is one")


def looks_like_one(text: str) -> bool:
    """Tell whether a message is, in all likelihood, a conversation that was given in the wrong place."""
    if text.lstrip()[:1] not in ("[", "{"):
        return False
    with suppress(WrongUsage):
        found = parse(text.encode("utf-8", "surrogatepass"), "")
        return bool(found.items) and all("role" in item or "type" in item for item in found.items)
    return False


def message(text: str) -> Item:
    """Return the item of a user's message."""
    return {"role": "user", "content": text}
