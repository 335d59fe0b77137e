"""From the log director's pipe to the place where people look, whatever happens to pipe and disk on the way."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from thespian.system.multiprocCommon import get_min_log_level

from pixir_actors.system import logs
from pixir_actors.system.logs import (
    MAX_LINE,
    JsonFormatter,
    LogFile,
    PipeHandler,
    StandardError,
    TextFormatter,
    definitions,
    open_handler,
    relay,
)
from tests.conftest import within

CANARY = "canary-5f1d"
NOW = 1_800_000_000.123


def record(message: str = "said", *args: object, **more: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "pixir_actors.tests", "levelno": logging.INFO, "levelname": "INFO", "process": 7, "created": NOW}
    )
    made.msg, made.args = message, args
    vars(made).update(more)
    return made


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        with suppress(OSError):  # a test closed it
            os.close(fd)


def through(pipe: tuple[int, int], *records: logging.LogRecord) -> list[dict[str, object]]:
    """Write records to a pipe; return the lines that come out."""
    handler = PipeHandler(pipe[1])
    for each in records:
        handler.handle(each)
    return [json.loads(line) for line in os.read(pipe[0], 1 << 20).splitlines()]


# The pipe.


def test_thespian_takes_the_definitions(pipe: tuple[int, int]) -> None:
    script = """
import logging, logging.config, sys
from pixir_actors.system.logs import definitions
logging.config.dictConfig(definitions("INFO", int(sys.argv[1])))
logging.getLogger("pixir_actors.a").info("heard %d", 1)
logging.getLogger("pixir_actors.a").debug("not asked for")
logging.getLogger("others").info("not ours")
logging.getLogger("others").warning("a warning")
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(pipe[1])], pass_fds=[pipe[1]], capture_output=True, timeout=within(20)
    )

    assert (ran.stdout, ran.stderr) == (b"", b"")
    lines = [json.loads(line) for line in os.read(pipe[0], 65536).splitlines()]
    assert [line["message"] for line in lines] == ["heard 1", "a warning"]
    assert get_min_log_level(definitions("DEBUG", 5)) == logging.DEBUG


def test_a_line_has_all_of_a_record(pipe: tuple[int, int]) -> None:
    (line,) = through(pipe, record("said %d", 1, key="4f", exc_text="ValueError at a.py:f:1"))

    assert line == {
        "created": NOW,
        "level": logging.INFO,
        "logger": "pixir_actors.tests",
        "pid": 7,
        "fields": {"key": "4f"},
        "where": "ValueError at a.py:f:1",
        "message": "said 1",
    }


@pytest.mark.parametrize("character", ["x", "\n", '"', "\N{GRINNING FACE}", "\ud800", "\0"])
def test_a_message_too_long_is_cut_so_that_its_line_is_written_at_once(
    character: str, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(logs.os, "write", lambda fd, data: written.append(data) or len(data))
    PipeHandler(pipe[1]).handle(record(character * 5000))

    (line,) = written
    assert MAX_LINE - 20 <= len(line) <= MAX_LINE <= 4096
    message = json.loads(line)["message"]
    assert message.endswith("...")
    assert set(message[:-3]) == {character}


def test_fields_too_large_are_left_out_but_for_the_count(pipe: tuple[int, int]) -> None:
    fields = {f"f{number}": "x" * 250 for number in range(20)}
    (line,) = through(pipe, record("said", dropped=3, **fields))

    assert (line["message"], line["fields"]) == ("said", {"dropped": 3})


def test_a_full_pipe_drops_and_the_next_line_that_fits_says_how_many(pipe: tuple[int, int]) -> None:
    handler, started = PipeHandler(pipe[1]), time.monotonic()
    for number in range(500):
        handler.handle(record("x" * 1000 + f" {number}", dropped=2 if number == 499 else 0))
    assert time.monotonic() - started < within(5)

    arrived = os.read(pipe[0], 1 << 20).splitlines()
    handler.handle(record("after"))
    assert json.loads(os.read(pipe[0], 1 << 20)) | {"fields": None} == json.loads(arrived[0]) | {
        "message": "after",
        "fields": None,
    }
    handler.handle(record("dropped again"))
    assert "fields" not in json.loads(os.read(pipe[0], 1 << 20))


def test_the_count_adds_up(pipe: tuple[int, int]) -> None:
    handler = PipeHandler(pipe[1])
    filler = b"." * 4096
    while True:
        try:
            os.write(pipe[1], filler)
        except BlockingIOError:
            break
    handler.handle(record())
    handler.handle(record(dropped=5))
    os.read(pipe[0], 1 << 20)
    handler.handle(record(dropped=10))

    assert json.loads(os.read(pipe[0], 1 << 20))["fields"] == {"dropped": 17}


def test_a_pipe_that_nobody_reads_any_more_raises_nothing(pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]) -> None:
    handler = PipeHandler(pipe[1])
    os.close(pipe[0])
    handler.handle(record(CANARY))

    assert capfd.readouterr() == ("", "")


def test_many_writers_never_mix_their_lines(pipe: tuple[int, int]) -> None:
    def write(letter: str) -> None:
        handler, written = PipeHandler(pipe[1]), 0
        while written < 50:
            handler.handle(record(letter * 3900))
            written += handler._dropped == 0

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    lines = 0
    with os.fdopen(os.dup(pipe[0]), "rb") as arriving:
        while lines < 200:
            lines += 1
            assert len(set(json.loads(arriving.readline())["message"])) == 1
    for thread in threads:
        thread.join()


# From the pipe to a handler.


def test_a_line_becomes_the_record_it_was(pipe: tuple[int, int]) -> None:
    handler, sent = Kept(), record("said %d", 1, key="4f", dropped=2, exc_text="ValueError")
    PipeHandler(pipe[1]).handle(sent)
    relay(os.read(pipe[0], 4096), handler)

    (got,) = handler.records
    for formatter in (TextFormatter(), JsonFormatter()):
        assert formatter.format(got) == formatter.format(sent)


BROKEN = [
    b"{",
    b"\xff\xfe\x00",
    b"[]",
    b"5",
    b"null",
    b"{}",
    b'{"created": "x", "level": 20, "logger": "a", "pid": 1, "message": "m"}',
    b'{"created": 1e300, "level": 20, "logger": "a", "pid": 1, "message": "m"}',
    b'{"created": NaN, "level": 20, "logger": "a", "pid": 1, "message": "m"}',
    b'{"created": 1, "level": null, "logger": "a", "pid": 1, "message": "m"}',
    b'{"created": 1, "level": 20, "logger": "a", "pid": 1, "message": "m", "fields": 5}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: repr(line[:20]))
def test_of_a_broken_line_only_the_length_is_said(line: bytes) -> None:
    handler = Kept()
    relay(line, handler)

    (got,) = handler.records
    assert TextFormatter().format(got).endswith(f"a line of the log could not be read bytes={len(line)}")


def test_an_empty_line_is_nothing() -> None:
    handler = Kept()
    relay(b"", handler)
    relay(b"\n", handler)

    assert handler.records == []


def test_a_field_cannot_pass_for_a_part_of_the_record() -> None:
    handler = Kept()
    entry = {"created": NOW, "level": 20, "logger": "a", "pid": 1, "message": "m", "fields": {"levelno": 50, "args": [1]}}
    relay(json.dumps(entry).encode(), handler)

    assert (handler.records[0].levelno, handler.records[0].getMessage()) == (20, "m")


def test_a_handlers_level_counts() -> None:
    handler = Kept()
    handler.setLevel(logging.WARNING)
    relay(logs._line(record(), 0), handler)

    assert handler.records == []


# How a record looks.


def test_a_line_for_people() -> None:
    said = record("turn failed code=cancelled", event="turn_failed", code="cancelled", key="a b", n=5, dropped=3)

    assert TextFormatter().format(said) == (
        '2027-01-15T08:00:00.123Z INFO    pixir_actors.tests[7] turn failed code=cancelled key="a b" n=5 dropped=3'
    )


def test_a_line_for_programs() -> None:
    assert json.loads(JsonFormatter().format(record("said", key="4f", n=5, yes=True))) == {
        "time": "2027-01-15T08:00:00.123Z",
        "level": "INFO",
        "logger": "pixir_actors.tests",
        "pid": 7,
        "message": "said",
        "fields": {"key": "4f", "n": 5, "yes": True},
    }
    assert "fields" not in json.loads(JsonFormatter().format(record()))


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_record_is_one_line_and_commands_no_terminal(formatter: logging.Formatter) -> None:
    line = formatter.format(record("one\ntwo\r\x1b[2Jthree\x9b", field="four\nfive"))

    assert line.splitlines() == [line]
    assert line.isprintable()


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize(
    "said",
    [
        record(f"Authorization: Bearer {CANARY}"),
        record("to %s", f"wss://user:{CANARY}@host"),
        record("said", note=f"cookie={CANARY}"),
        record("said", headers=CANARY),
        record("said", Authorization=CANARY),
        record("said", thing=[CANARY]),
        record("said", exc_text=f"Error at Bearer {CANARY}"),
        record("said", exc_info=(ValueError, ValueError(CANARY), None)),
    ],
)
def test_a_secret_that_came_this_far_goes_no_further(formatter: logging.Formatter, said: logging.LogRecord) -> None:
    assert CANARY not in formatter.format(said)


# Where it is written.


def test_standard_error_is_the_place_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    handler = open_handler(None, "text", "WARNING")
    relay(logs._line(record("quiet"), 0), handler)
    relay(logs._line(record("loud", levelno=logging.WARNING), 0), handler)

    assert capsys.readouterr().err.endswith("WARNING pixir_actors.tests[7] loud\n")


def test_a_pager_that_nobody_scrolls_stops_nobody(pipe: tuple[int, int]) -> None:
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        handler, started = StandardError(stream), time.monotonic()
        for _ in range(500):
            handler.handle(record("x" * 1000))
        assert time.monotonic() - started < within(5)
        os.read(pipe[0], 1 << 20)
        handler.setFormatter(JsonFormatter())
        handler.handle(record("after"))

        assert json.loads(os.read(pipe[0], 1 << 20))["fields"]["dropped"] > 400


def test_a_standard_error_that_is_gone_raises_nothing(pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]) -> None:
    stream = os.fdopen(os.dup(pipe[1]), "w")
    os.close(pipe[0])
    StandardError(stream).handle(record(CANARY))
    stream.close()
    StandardError(stream).handle(record(CANARY))

    assert capfd.readouterr() == ("", "")


def test_the_file_and_its_directory_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "admin.log"
    before = os.umask(0)
    try:
        handler = open_handler(path, "json", "INFO")
        handler.handle(record("first \N{SNOWMAN} \ud800"))
        handler.close()
    finally:
        os.umask(before)

    assert json.loads(path.read_text())["message"].startswith("first \N{SNOWMAN}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_is_rotated_and_five_older_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    path = tmp_path / "admin.log"
    handler = open_handler(path, "text", "INFO")
    for number in range(200):
        handler.handle(record(f"record {number}"))
    handler.close()

    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["admin.log", *(f"admin.log.{number}" for number in range(1, 6))]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert "record 199" in path.read_text()
    assert max(file.stat().st_size for file in tmp_path.iterdir()) <= 2000


def test_what_a_person_may_expect_of_sizes() -> None:
    assert (logs.FILE_BYTES, logs.OLDER_FILES) == (10 * 1024 * 1024, 5)


def test_a_full_disk_is_said_once_and_nothing_stops(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogFile(Path("/dev/full"))
    for _ in range(50):
        handler.handle(record(CANARY))
    handler.close()

    assert capsys.readouterr().err == "pixir-actors: cannot write the log /dev/full: No space left on device\n"


@pytest.mark.parametrize("blocked", ["a file in place of the directory", "a directory in place of the file"])
def test_a_file_that_cannot_be_made_is_said_once_and_written_when_it_can(
    blocked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state" / "admin.log"
    if blocked.startswith("a file"):
        path.parent.write_text("")
    else:
        path.mkdir(parents=True)
    handler = open_handler(path, "json", "INFO")
    for _ in range(3):
        handler.handle(record(CANARY))
    said = capsys.readouterr().err
    assert said.startswith(f"pixir-actors: cannot write the log {path}: ")
    assert said.count("\n") == 1
    assert CANARY not in said

    path.parent.unlink() if blocked.startswith("a file") else path.rmdir()
    handler.handle(record("written"))
    handler.handle(record("again"))
    handler.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["message"], first["fields"]) == ("written", {"dropped": 3})
    assert "fields" not in second
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_rotated_raises_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 200)
    handler = open_handler(tmp_path / "admin.log", "text", "INFO")
    monkeypatch.setattr(handler, "rotate", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    for _ in range(10):
        handler.handle(record("x" * 50))
    handler.close()

    assert capsys.readouterr().err.count("Permission denied") == 1


def test_an_unknown_format_is_a_programmers_mistake() -> None:
    with pytest.raises(KeyError):
        open_handler(None, "yaml", "INFO")


def test_a_stream_without_a_descriptor_is_written_to() -> None:
    stream = io.StringIO()
    StandardError(stream).handle(record("said"))

    assert stream.getvalue() == "said\n"


def test_a_program_whose_log_nobody_reads_any_more_ends_as_if_somebody_did() -> None:
    """The interpreter looks at the end whether it can write what its streams hold."""
    program = """
import logging, sys
from pixir_actors.system.logs import open_handler
logging.getLogger().addHandler(open_handler(None, "text", "INFO"))
print("ready", flush=True)
sys.stdin.readline()
for number in range(3):
    logging.warning("said to nobody: %d", number)
"""
    pipe, environ = subprocess.PIPE, {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, text=True, env=environ, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(within(20)) == 0
