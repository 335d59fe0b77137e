"""The command line: what it says, what it hands on, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from urllib.request import urlopen

import pytest

from pixir_actors.cli import close
from pixir_actors.cli.failure import Terminated
from pixir_actors.cli.main import main
from pixir_actors.errors import AdminNotRunning
from pixir_actors.version import __version__
from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient
from tests.conftest import within


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pixir-actors {__version__}\n"


def test_without_a_command_it_says_what_there_is_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "simulate" in err and out == ""


def test_an_unknown_command_is_a_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["conjure"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stauts",), "stauts is no command; did you mean status? (commands: start, stop, status, stream,"),
        (("frob",), "frob is no command (commands: start, stop, status, stream,"),
        (("sk-1234",), "this is no command (commands: start, stop, status, stream,"),
        (("status", "--jsn"), "not known here: --jsn; did you mean --json?"),
        (("stream", "k", "--modle=canary"), "not known here: --modle; did you mean --model?"),
        (("stream", "k", "x", "--option", "idle_timout=canary"), "idle_timout is not known; did you mean idle_timeout?"),
    ],
)
def test_a_name_that_is_misspelled_is_repeated_with_what_was_meant(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err and "canary" not in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (AdminNotRunning("no admin: start one"), 3, "pixir-actors: no admin: start one\n"),
        (KeyError("canary"), 1, "pixir-actors: an unexpected KeyError: this is a defect; --debug shows where\n"),
        (KeyboardInterrupt(), 130, ""),
        (Terminated(), 143, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_what_a_command_raises_becomes_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def fail(_given: object) -> int:
        raise error

    monkeypatch.setattr(close, "run", fail)
    assert main(["close", "k"]) == code
    assert capsys.readouterr().err == said


def test_debug_shows_where_an_unexpected_error_arose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_here(_given: object) -> int:
        raise KeyError("canary" + "1")

    monkeypatch.setattr(close, "run", fail_here)
    assert main(["close", "k", "--debug"]) == 1
    text = capsys.readouterr().err
    assert "fail_here" in text and "canary1" not in text


def test_words_may_stand_before_between_and_behind_flags(run: Run, client: FakeClient) -> None:
    for words in (
        ("k", "one", "two", "--model", "m"),
        ("k", "--model", "m", "one", "two"),
        ("--model", "m", "k", "one", "two"),
        ("k", "one", "--model", "m", "two"),
        ("k", "--model", "m", "--", "one", "two"),
    ):
        assert run("stream", "--base-url", "http://localhost/v1", *words) == 0
        assert client.body["input"] == [{"role": "user", "content": "one two"}]


def test_words_behind_two_dashes_are_no_flags(run: Run, client: FakeClient) -> None:
    assert run("stream", "k", "--model", "m", "--base-url", "http://localhost/v1", "--", "--one", "-2") == 0
    assert client.body["input"] == [{"role": "user", "content": "--one -2"}]


def test_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    main([])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


def test_outside_of_the_main_thread_signals_are_left_alone() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main([])))
    thread.start()
    thread.join(within(10))
    assert codes == [2]


@pytest.mark.parametrize("words", [("--help",), ("status", "--help"), ("simulate", "--list-faults")])
def test_a_closed_pipe_leaves_no_words(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-m", "pixir_actors", *words]
    try:
        done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, timeout=within(20), check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_streams_that_are_missing_are_no_defect(closed: str) -> None:
    command = f"{sys.executable} -m pixir_actors stream k --model m --base-url http://localhost/v1 {closed}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, stdin=subprocess.DEVNULL, timeout=within(20), check=False
    )
    assert done.returncode == 2
    assert b"unexpected" not in done.stderr + done.stdout


def test_the_module_runs_as_a_program_until_it_is_told_to_stop() -> None:
    program = [sys.executable, "-m", "pixir_actors", "simulate"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("ws://127.0.0.1:")
        base_url = process.stdout.readline().strip()
        assert base_url == url.replace("ws://", "http://").removesuffix("/responses")
        assert process.stdout.readline() == f"export OPENAI_BASE_URL={base_url}\n"
        with pytest.raises(OSError, match=r"HTTP Error|426|400"):
            urlopen(url.replace("ws://", "http://"), timeout=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
