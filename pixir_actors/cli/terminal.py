"""What is written to a terminal or into a pipe: messages, numbers in human units, and nothing that moves the cursor.

Messages go to standard error, in colour where that is a terminal and NO_COLOR is not set.
"""

from __future__ import annotations

from typing import Final, NoReturn, TextIO

from rich.console import Console
from rich.text import Text

NAME: Final = "pixir-actors"
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
# C0 and C1 but for tab and newline: among them the escape that begins a terminal's commands.
_CONTROLS: Final = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)}


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to `main`, as for what is printed without rich, which would end the program here and now."""
        self.quiet = True
        raise BrokenPipeError


def console(*, to_stderr: bool = False) -> Console:
    """Return a console for standard output or standard error as it is now; it interprets nothing in texts."""
    return _Console(stderr=to_stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a message."""
    _print(Text(printable(text)))


def complain(first: str, *more: str) -> None:
    """Print what went wrong, and below it what to do."""
    _print(Text.assemble((f"{NAME}: ", "bold red"), printable(first)))
    for line in more:
        _print(Text(f"  {printable(line)}"))


def warn(text: str) -> None:
    """Print what should be known although nothing has failed."""
    _print(Text.assemble((f"{NAME}: ", "bold yellow"), printable(text)))


def _print(text: Text) -> None:
    # Standard error may be closed, and is no reason to fail.
    try:
        console(to_stderr=True).print(text)
    except OSError:
        return


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a standard stream is a terminal; one that the program was started without is none."""
    return stream is not None and not stream.closed and stream.isatty()


def printable(text: str) -> str:
    """Return a text without control characters but tabs and newlines: what a provider sends moves no cursor."""
    return text.translate(_CONTROLS)


def duration(seconds: float | None) -> str:
    """Return a time at a glance: "4.2s", "42s", "3m12s", "3h12m", "2d4h"; "-" for none."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    for size, unit, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{below}"
    return f"{whole}s"


def size(count: int) -> str:
    """Return a number of bytes at a glance, in powers of 1000: "812 B", "1.2 MB"."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if not unit or abs(value) >= 99.5 else f"{value:.1f} {_UNITS[unit]}"


def share(part: int, whole: int) -> str:
    """Return a share in percent; "-" of nothing."""
    return f"{100 * part // whole}%" if whole else "-"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 connection", "2 connections"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
