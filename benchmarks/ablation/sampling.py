"""Which functions a running process is in, looked at by py-spy from outside."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Final

WAITS: Final = frozenset(
    {
        "actors.watch.Watch.dispatch",
        "channel.inbox.Inbox._wait",
        "channel.line.Line.write",
        "channel.sender.Sender.flush",
        "peers.base.SyncPeer.idle",
        "system.polling.wait",
        "system.tether.Tether._wait_for_the_end",
        "transport.websocket.WebSocketTransport._write",
    }
)
"""Where threads wait, and where they wake others, which may take their core. Time without a core is not to be told from work
there: to be looked at, a thread is woken, and it may be said to run while it waits for its turn."""
PATIENCE: Final = 20.0
"""Seconds that it gets to write down what it saw."""
_FRAME: Final = re.compile(r"^(.+) \((.+)\)$")
_STARTED: Final = "Sampling process"


def may_sample() -> str | None:
    """Return why processes cannot be looked at here, None if they can."""
    spy = _program()
    if spy is None:
        return "py-spy is not installed (extra: bench)"
    tried = subprocess.run([spy, "dump", "--pid", str(os.getpid())], capture_output=True, text=True)
    said = tried.stderr.strip().splitlines() or ["it does not say why"]
    return f"py-spy may not attach to a process here: {said[-1][:200]}" if tried.returncode else None


def _program() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def sampled(pid: int, rate: int, laps: Callable[[], int]) -> tuple[Counter[str], float]:
    """Look which functions a process is in, while something is done again and again.

    Args:
        pid: Of the process.
        rate: Looks per second. The process stands still for each: with 1,000 a turn takes four times as long, with 200 a
            tenth more. (Without being stopped, every third of them is misread.)
        laps: Does it; returns how often.

    Returns:
        How often each function was seen, itself and not what it calls, but for what it calls that is not Python; and for
        how many seconds, each time that it is done, each of these looks stands. What `WAITS` names is left out.

    Raises:
        RuntimeError: py-spy has not begun, or has not ended.
    """
    with tempfile.NamedTemporaryFile() as file:
        with _sampling(pid, rate, file.name):
            count = laps()
        return parse(Path(file.name).read_text(errors="replace").splitlines()), 1 / rate / max(1, count)


@contextmanager
def _sampling(pid: int, rate: int, path: str) -> Iterator[None]:
    """Look at a process within the block; what was seen is written to `path`."""
    spy = _program()
    assert spy is not None
    command = [spy, "record", "--pid", str(pid), "--rate", str(rate), "--format", "raw", "--nolineno", "--output", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = list(takewhile(lambda line: _STARTED not in line, process.stdout))
            if process.poll() is not None:
                raise RuntimeError(f"py-spy has not begun: {''.join(said).strip()[-300:]}")
            yield
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"py-spy has not ended within {PATIENCE:.0f} s") from None
        finally:
            process.kill()


def parse(lines: Iterable[str]) -> Counter[str]:
    """Return how often each function was the innermost one, of stacks as py-spy writes them; but for waits."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if count.isdigit():
            found[_function(stack.rpartition(";")[2])] += int(count)
    return Counter({function: count for function, count in found.items() if not _waits(function)})


def _waits(function: str) -> bool:
    return function in WAITS or (function.startswith("selectors.") and function.endswith(".select"))


def _function(frame: str) -> str:
    """Return a frame, "name (package/module.py)", as "module.name"."""
    matched = _FRAME.match(frame)
    if matched is None:
        return frame
    name, file = matched.groups()
    return f"{'.'.join(Path(file).with_suffix('').parts[-2:])}.{name.replace('.<locals>', '')}"
