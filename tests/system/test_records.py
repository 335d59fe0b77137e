"""What a record of an actor system may tell."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys

import pytest
from thespian.actors import ActorAddress

from pixir_actors.system import records
from pixir_actors.system.records import Record, fields_of, is_wanted, place_of, portable
from pixir_actors.system.signed import LoopbackAddress

CANARY = "canary words"
INSIDE_THESPIAN = os.path.join(records.THESPIANS_CODE, "system", "actorManager.py")


class Message:
    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


def record(
    message: object = "said", *args: object, name: str = "pixir_actors.a", path: str = __file__, **more: object
) -> Record:
    made = Record(name, more.pop("level", logging.ERROR), path, 7, message, args, more.pop("exc_info", None))
    vars(made).update(more)
    return made


def raised(error: BaseException) -> records.ExcInfo:
    try:
        raise error
    except BaseException:
        return sys.exc_info()


def test_an_exception_is_its_kind_and_its_place() -> None:
    made = record(exc_info=raised(ValueError(CANARY)))

    assert made.exc_info is None
    assert made.exc_text is not None
    assert made.exc_text.startswith("ValueError at test_records.py:raised:")
    assert CANARY not in logging.Formatter().format(made)


def test_an_error_of_the_operating_system_has_its_number() -> None:
    assert str(place_of(raised(OSError(28, CANARY)))).startswith("OSError(ENOSPC) at ")
    assert str(place_of(raised(OSError(CANARY)))).startswith("OSError at ")
    assert place_of((ValueError, ValueError(CANARY), None)) == "ValueError"
    assert place_of((None, None, None)) is None


def test_of_what_thespian_handles_only_the_kind_is_told() -> None:
    address = ActorAddress(LoopbackAddress(None, 1900))
    args = ("pixir_actors.A", address, Message(), f"Traceback: {CANARY}", 5, dict, None)
    made = record("%s @ %s got %s: %s %d %s %s", *args, path=INSIDE_THESPIAN)

    assert made.getMessage() == f"pixir_actors.A @ {address} got <Message>: <str> 5 dict None"


def test_named_arguments_are_no_way_around() -> None:
    assert record("%(a)s", {"a": Message()}, path=INSIDE_THESPIAN).getMessage() == "<Message>"
    assert record("nothing", path=INSIDE_THESPIAN).getMessage() == "nothing"


def test_what_we_say_ourselves_stays() -> None:
    assert record("key %s has %d turns", "4f", 3).getMessage() == "key 4f has 3 turns"


@pytest.mark.parametrize(
    ("name", "level", "path", "wanted"),
    [
        ("pixir_actors.connection", logging.DEBUG, __file__, True),
        ("pixir_actors", logging.INFO, __file__, True),
        ("pixir_actors_other", logging.INFO, __file__, False),
        ("httpcore.http11", logging.DEBUG, __file__, False),
        ("httpcore.http11", logging.WARNING, __file__, True),
        ("Thespian.Admin", logging.INFO, INSIDE_THESPIAN, False),
        ("pixir_actors.actors.supervisor.SupervisorActor", logging.INFO, INSIDE_THESPIAN, False),
        ("pixir_actors.actors.supervisor.SupervisorActor", logging.WARNING, INSIDE_THESPIAN, True),
        ("root", logging.ERROR, INSIDE_THESPIAN, True),
    ],
)
def test_only_our_own_records_leave_below_a_warning(name: str, level: int, path: str, wanted: bool) -> None:
    assert is_wanted(record(name=name, level=level, path=path)) is wanted


def test_fields_are_short_texts_and_numbers() -> None:
    said = fields_of(record(a=1, b="x" * 1000, c=Message(), d=[CANARY], e=None, f=True, actorAddress="ActorAddr"))

    assert said == {"a": 1, "b": "x" * 253 + "...", "c": "<Message>", "d": "<list>", "e": None, "f": True}
    assert len(fields_of(record(**{f"f{number}": number for number in range(100)}))) == records.MAX_FIELDS


def test_a_record_that_travels_is_small_and_complete() -> None:
    made = record("%s!", "x" * 10_000, key="4f", unpicklable=lambda: None, exc_info=raised(ValueError(CANARY)))

    there = pickle.loads(pickle.dumps(portable(made)))

    assert (there.name, there.levelno, there.levelname, there.created, there.process) == (
        made.name,
        made.levelno,
        "ERROR",
        made.created,
        os.getpid(),
    )
    assert there.getMessage() == "x" * (records.MAX_MESSAGE - 3) + "..."
    assert there.exc_text == made.exc_text
    assert fields_of(there) == {"key": "4f", "unpicklable": "<function>"}


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError(CANARY)


@pytest.mark.parametrize(
    ("message", "args", "told"),
    [("%d turns", ("many",), "%d turns"), ("%s", (Unshowable(),), "%s"), (Unshowable(), (), "<Unshowable>")],
)
def test_a_message_that_cannot_be_made_raises_nothing(message: object, args: tuple[object, ...], told: str) -> None:
    assert portable(record(message, *args)).getMessage() == told


EARLY = """
import logging, sys
from thespian.system.logdirector import ThespianLogForwarder
from pixir_actors.system import records
early = logging.getLogger("pixir_actors.early")
records.prepare(logging.INFO)
early.error("before the director is known: nobody hears it")
heard = []
class Director(ThespianLogForwarder):
    def __init__(self): logging.Logger.__init__(self, "root", logging.INFO)
    def handle(self, record): heard.append((type(record).__name__, record.getMessage()))
logging.root = Director()
early.debug("not asked for")
early.info("heard")
records.prepare(logging.DEBUG)
early.warning("once")
print(heard, file=sys.stdout)
"""


def test_loggers_made_before_the_fork_reach_the_director() -> None:
    ran = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[('Record', 'heard'), ('Record', 'once')]"
    assert ran.stderr == ""
