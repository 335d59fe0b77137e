"""Messages, and numbers as a person reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pixir_actors.cli import terminal


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0.0s"),
        (-1, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m0s"),
        (192, "3m12s"),
        (3599.7, "1h0m"),
        (11520, "3h12m"),
        (187200, "2d4h"),
    ],
)
def test_a_time_at_a_glance(seconds: float | None, shown: str) -> None:
    assert terminal.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (-29, "-29 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12345, "12.3 kB"),
        (999_600, "1.0 MB"),
        (10**15, "1000 TB"),
    ],
)
def test_a_size_at_a_glance(count: int, shown: str) -> None:
    assert terminal.size(count) == shown


def test_a_share_is_never_rounded_up_to_all() -> None:
    assert [terminal.share(*pair) for pair in ((0, 0), (0, 3), (2, 3), (999, 1000), (3, 3))] == [
        "-",
        "0%",
        "66%",
        "99%",
        "100%",
    ]


def test_a_count_has_its_plural() -> None:
    assert [terminal.count(n, "reply", "replies") for n in (0, 1, 2)] == ["0 replies", "1 reply", "2 replies"]
    assert terminal.count(2, "turn") == "2 turns"


def test_what_moves_a_cursor_is_not_printed() -> None:
    assert (
        terminal.printable("a\x1b[2Jb\x9bc\td\ne\r")
        == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\td\ne\N{REPLACEMENT CHARACTER}"
    )


def test_messages_go_to_standard_error_plain_and_unbroken_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.complain("[bold]x[/bold] " + "y" * 200, "do this\x1b[0m")
    terminal.say("done")
    terminal.warn("beware")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "pixir-actors: [bold]x[/bold] " + "y" * 200 + "\n  do this\N{REPLACEMENT CHARACTER}[0m\ndone\npixir-actors: beware\n"
    )


def test_colours_are_for_terminals_and_for_those_who_want_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: Callable[..., None]
) -> None:
    from pixir_actors.cli.terminal import complain

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal("stderr")
    complain("no")
    assert "\x1b[" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    complain("no")
    assert "\x1b[31m" not in capsys.readouterr().err


def test_a_closed_standard_error_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        encoding = "utf-8"

        def write(self, _text: str) -> None:
            raise OSError(9, "Bad file descriptor")

        flush = isatty = lambda self: False

    monkeypatch.setattr(sys, "stderr", Closed())
    terminal.complain("nobody hears this")


def test_a_stream_that_is_missing_is_no_terminal() -> None:
    assert not terminal.is_terminal(None)
