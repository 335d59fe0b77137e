"""What a log record may tell, where its text is made: in the processes of an actor system.

Thespian logs the messages and the exceptions that it handles, and both may quote a caller. So records are made
harmless as they are created: an exception is its kind and its place, and of what Thespian says about a value only
its kind remains. Records travel as messages, and so they are small, too.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import thespian
from thespian.actors import ActorAddress
from thespian.system.logdirector import ThespianLogForwarder

OURS: Final = "pixir_actors"
THESPIANS_CODE: Final = os.path.join(os.path.dirname(thespian.__file__), "")
MAX_MESSAGE: Final = 4096
"""Characters of a message that travel."""
MAX_FIELD: Final = 256
"""Characters of a structured field's text."""
MAX_FIELDS: Final = 24
MARK: Final = "..."
"""Stands where a text was cut off."""
PLACES: Final = 4
"""Calls that the place of an exception names, the innermost first."""
OWN_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "actorAddress"}
"""What a record consists of; everything else came by `extra=`."""

Value = str | int | float | bool | None
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Record(logging.LogRecord):
    """A record without the text of an exception, and without Thespian's texts of messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.exc_info, tuple):
            self.exc_text = place_of(self.exc_info)
        self.exc_info = None
        self.stack_info = None
        if is_thespians(self):
            self.args = _harmless(self.args)


def is_thespians(record: logging.LogRecord) -> bool:
    """Say whether Thespian itself logged this; under which name does not matter (it uses those of actors, too)."""
    return record.pathname.startswith(THESPIANS_CODE)


def is_wanted(record: logging.LogRecord) -> bool:
    """Say whether a record may leave its process: ours of any level, anybody else's from WARNING on."""
    ours = record.name == OURS or record.name.startswith(f"{OURS}.")
    return record.levelno >= logging.WARNING or (ours and not is_thespians(record))


def place_of(exc_info: ExcInfo) -> str | None:
    """Return kind and place of an exception: its text may quote what was being handled."""
    kind, error, trace = exc_info
    if kind is None:
        return None
    name = kind.__name__
    if isinstance(error, OSError) and error.errno:
        name += f"({errno.errorcode.get(error.errno, error.errno)})"
    frames = reversed(traceback.extract_tb(trace)[-PLACES:])
    where = " < ".join(f"{os.path.basename(frame.filename)}:{frame.name}:{frame.lineno}" for frame in frames)
    return f"{name} at {where}" if where else name


def fields_of(record: logging.LogRecord) -> dict[str, Value]:
    """Return what came with a record by `extra=`: short texts and numbers; of anything else, only its kind."""
    extra = [(name, value) for name, value in vars(record).items() if name not in OWN_ATTRIBUTES]
    return {str(name): _plain(value) for name, value in extra[:MAX_FIELDS]}


def portable(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy that any process can unpickle, and that is small."""
    return logging.makeLogRecord(
        fields_of(record)
        | {
            "name": cut(record.name, MAX_FIELD),
            "levelno": record.levelno,
            "levelname": record.levelname,
            "created": record.created,
            "msecs": record.msecs,
            "process": record.process,
            "msg": cut(_message(record), MAX_MESSAGE),
            "exc_text": cut(record.exc_text, MAX_MESSAGE) if record.exc_text else None,
        }
    )


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters; where something is missing, a mark says so."""
    return text if len(text) <= most else text[: max(0, most - len(MARK))] + MARK


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit, or cannot be shown
        return record.msg if isinstance(record.msg, str) else _kind(record.msg)


def _plain(value: object) -> Value:
    if isinstance(value, str):
        return cut(value, MAX_FIELD)
    return value if value is None or isinstance(value, bool | int | float) else _kind(value)


def _kind(value: object) -> str:
    return f"<{type(value).__name__}>"


def _harmless(args: Any) -> Any:
    """Replace what Thespian would print of values that it handles."""
    if isinstance(args, Mapping):
        return {name: _shown(value) for name, value in args.items()}
    return tuple(_shown(value) for value in args or ())


def _shown(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, ActorAddress):
        return str(value)
    # The name of a class is all that a text may be: anything longer may be a message, or a traceback.
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value) else _kind(value)


class _ToTheDirector(logging.Handler):
    """Hands records to whatever is the root logger now.

    In each process Thespian puts its forwarder in the root's place. A logger that a module made before, and our modules
    are imported before the first fork, still hangs below the root of that time, where nobody listens.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        if isinstance(logging.root, ThespianLogForwarder):
            logging.root.handle(record)
        return True


def prepare(level: int) -> None:
    """Make the calling process's records harmless, and have those of early loggers reach the log director.

    For processes of an actor system only: it takes the root logger's handlers.

    Args:
        level: The lowest level that anybody wants.
    """
    logging.setLogRecordFactory(Record)
    if not isinstance(logging.root, ThespianLogForwarder):
        logging.root.handlers[:] = [_ToTheDirector()]
        logging.root.setLevel(level)
