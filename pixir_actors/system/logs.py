"""One place for the log records of an actor system, and of the process that runs it.

Records go from each process to Thespian's log director (`forwarding.py`), which writes them, one line of JSON each, to a
pipe. Whoever reads the pipe hands each line to `relay`, and a handler of `open_handler` writes it where people look:
standard error, or a file that is rotated. Nothing on this way waits: what does not fit is dropped, counted, and the
count said with the next record that fits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import select
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO

from pixir_actors.core.secret import MASK, redact
from pixir_actors.system.forwarding import DROPPED, dropped_before
from pixir_actors.system.records import MARK, Value, fields_of, is_wanted, place_of, portable

MAX_LINE: Final = select.PIPE_BUF
"""Bytes of a line in the pipe: up to that many are written as a whole or not at all, whoever else writes."""
ROOM_WITHIN: Final = 0.05
"""Seconds that standard error may take to have room again, before records are dropped."""
FILE_BYTES: Final = 10 * 1024 * 1024
OLDER_FILES: Final = 5
SECRET_FIELDS: Final = frozenset({"authorization", "cookie", "token", "api_key", "password", "secret", "headers", "body"})
"""Structured fields whose values are never shown."""
CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n", 13: "\\r", 9: "\\t"}
"""What stands for characters that could forge a line, or command a terminal."""


def definitions(level: str, fd: int) -> dict[str, Any]:
    """Return what Thespian's log director is configured with.

    Args:
        level: Name of the lowest level that is wanted; of what is not ours, only warnings and errors are.
        fd: The write end of a pipe, which every process of the system inherits.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"pipe": {"class": f"{__name__}.{PipeHandler.__qualname__}", "fd": fd, "level": level}},
        "root": {"handlers": ["pipe"], "level": level},
    }


class PipeHandler(logging.Handler):
    """Writes a line of JSON per record to a pipe. Never waits and never raises."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._dropped = 0
        os.set_blocking(fd, False)

    def filter(self, record: logging.LogRecord) -> bool:
        return is_wanted(record) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it as dropped: the pipe is full, or nobody reads it any more."""
        try:
            os.write(self._fd, _line(record, self._dropped))
            self._dropped = 0
        except Exception:  # not handleError: it would print the record
            self._dropped += 1 + dropped_before(record)


def _line(record: logging.LogRecord, dropped: int) -> bytes:
    """Return a record as a line of at most `MAX_LINE` bytes; a message too long for it is cut."""
    small = portable(record)
    fields = fields_of(small)
    if dropped:
        fields[DROPPED] = dropped + dropped_before(record)
    entry = {"created": small.created, "level": small.levelno, "logger": small.name, "pid": small.process}
    entry |= {"fields": fields} if fields else {}
    entry |= {"where": small.exc_text} if small.exc_text else {}
    if len(_encode(entry | {"message": ""})) > MAX_LINE // 2:  # rare: what is most useful stays
        entry |= {"fields": {DROPPED: fields[DROPPED]} if DROPPED in fields else {}, "where": MARK}
    return _fitting(entry, small.getMessage())


def _fitting(entry: dict[str, Any], message: str) -> bytes:
    line = _encode(entry | {"message": message})
    if len(line) <= MAX_LINE:
        return line
    fits, too_long = 0, len(message)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        line = _encode(entry | {"message": message[:middle] + MARK})
        fits, too_long = (middle, too_long) if len(line) <= MAX_LINE else (fits, middle)
    return _encode(entry | {"message": message[:fits] + MARK})


def _encode(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def relay(line: bytes, handler: logging.Handler) -> None:
    """Hand a line from the pipe to a handler. Of a line that is none, only the length is said. Raises nothing."""
    try:
        record = _record(json.loads(line))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, RecursionError):
        if not line.strip():
            return
        text = "a line of the log could not be read"
        record = logging.makeLogRecord({"name": __name__, "levelno": logging.WARNING, "msg": text, "bytes": len(line)})
        record.levelname = logging.getLevelName(record.levelno)
    if record.levelno >= handler.level:
        handler.handle(record)


def _record(entry: dict[str, Any]) -> logging.LogRecord:
    level, created = int(entry["level"]), float(entry["created"])
    datetime.fromtimestamp(created, UTC)  # a time that is none would be found too late
    fields = {f"{name}": value for name, value in entry.get("fields", {}).items() if not hasattr(_BLANK, name)}
    return logging.makeLogRecord(
        fields
        | {
            "name": str(entry["logger"]),
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "created": created,
            "process": int(entry["pid"]),
            "msg": str(entry["message"]),
            "exc_text": str(entry["where"]) if entry.get("where") else None,
        }
    )


_BLANK: Final = logging.makeLogRecord({})


class _Formatter(logging.Formatter):
    """Turns a record into the parts of a line, each without what looks like a secret."""

    def parts(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        where = place_of(record.exc_info) if isinstance(record.exc_info, tuple) else record.exc_text
        fields = {name: _shown(name, value) for name, value in fields_of(record).items()}
        if where:
            fields["where"] = redact(where)
        return {
            "time": moment,
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": redact(portable(record).getMessage()),
            "fields": fields,
        }


class TextFormatter(_Formatter):
    """One line per record, for people: time, level, logger and pid, message, `name=value` for each field that the
    message does not tell."""

    def format(self, record: logging.LogRecord) -> str:
        said = self.parts(record)
        message = said["message"]
        told = (f"{name}={_quoted(value)}" for name, value in said["fields"].items() if not _tells(message, name, value))
        line = f"{said['time']} {said['level']:<7} {said['logger']}[{said['pid']}] {message}"
        return " ".join([line, *told]).translate(CONTROLS)


class JsonFormatter(_Formatter):
    """One JSON object per line, for programs: time, level, logger, pid, message, and fields where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({name: value for name, value in self.parts(record).items() if value != {}})


FORMATTERS: Final[dict[str, type[logging.Formatter]]] = {"text": TextFormatter, "json": JsonFormatter}


def _shown(name: str, value: Value) -> Value:
    if name.lower() in SECRET_FIELDS:
        return MASK
    return redact(value) if isinstance(value, str) else value


def _tells(message: str, name: str, value: Value) -> bool:
    # "event" is the journal's name for what the message begins with.
    return f"{name}={value}" in message or (name == "event" and message.startswith(str(value).replace("_", " ")))


def _quoted(value: Value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def open_handler(path: Path | None, format: str, level: str) -> logging.Handler:
    """Return the handler that writes the log. Neither now nor later does it raise for what the disk does.

    Args:
        path: A file; None for standard error. The file is its owner's alone, as is its directory if it has to be made;
            it is rotated at 10 MB, and five older ones are kept.
        format: "text" or "json".
        level: Name of the lowest level that is written.
    """
    handler = LogFile(path) if path is not None else StandardError(sys.stderr)
    handler.setFormatter(FORMATTERS[format]())
    handler.setLevel(level)
    return handler


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to standard error, as long as somebody takes it: a pager that nobody scrolls must not stop the service."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._has_room():
            self._lost += 1
            return
        if self._lost:
            setattr(record, DROPPED, self._lost + dropped_before(record))
            self._lost = 0
        super().emit(record)

    def _has_room(self) -> bool:
        poll = select.poll()
        try:
            poll.register(self.stream, select.POLLOUT)
        except (OSError, ValueError):  # no descriptor, or closed
            return True
        return bool(poll.poll(0 if self._lost else ROOM_WITHIN * 1000))

    def handleError(self, record: logging.LogRecord) -> None:
        """Go on: there is nobody to tell. Of a pipe without a reader, also what the stream still holds is nobody's."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                # Else the interpreter finds at the end that it cannot write it, and exits with 120.
                os.dup2(nowhere.fileno(), self.stream.fileno())


class LogFile(logging.handlers.RotatingFileHandler):
    """A rotated file that may be on a disk that is full, or cannot be written: then it says so once, and goes on.

    Each record tries again, and what was lost is said in the file when it can be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8", delay=True)
        self._lost = 0

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=_for_the_owner)

    def emit(self, record: logging.LogRecord) -> None:
        lost = self._lost
        if lost:
            setattr(record, DROPPED, lost + dropped_before(record))
        super().emit(record)
        if lost and self._lost == lost:
            self._lost = 0

    def handleError(self, record: logging.LogRecord) -> None:
        """Let go of the file, so that nothing is kept in its buffer, and say why: the first time of a series."""
        error = sys.exc_info()[1]
        self._lost += 1
        stream, self.stream = self.stream, None
        with contextlib.suppress(Exception):
            if stream is not None:
                stream.close()
        if self._lost == 1:
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            with contextlib.suppress(Exception):
                sys.stderr.write(f"pixir-actors: cannot write the log {self.baseFilename}: {reason}\n")
                sys.stderr.flush()


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
