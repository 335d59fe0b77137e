"""System calls of running processes, counted by `strace` and sorted by what they go to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SENDS: Final = frozenset({"write", "writev", "send", "sendto", "sendmsg"})
RECEIVES: Final = frozenset({"read", "readv", "recv", "recvfrom", "recvmsg"})
_CALL: Final = re.compile(r"^(?:\d+ +)?(\w+)\((?:\d+<((?:->|[^>])*)>)?.*\) += (-?\d+)")
_RESUMED: Final = re.compile(r"^(?:\d+ +)?<\.\.\. (\w+) resumed>.*\) += (-?\d+)")
_BEGUN: Final = re.compile(r"^(\d+ +)?(\w+)\((?:\d+<((?:->|[^>])*)>)?.* <unfinished \.\.\.>$")


@dataclass
class Calls:
    """What one process called.

    Attributes:
        names: How often each system call.
        sent: Calls that wrote, by what they wrote to: "provider", "actors", "channel" or "other".
        received: The same of reading.
        bytes_sent: Bytes that they wrote, likewise.
    """

    names: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    bytes_sent: Counter[str] = field(default_factory=Counter)
    connects: int = 0

    def add(self, name: str, target: str, returned: int) -> None:
        self.names[name] += 1
        self.connects += name == "connect"
        if name in SENDS and returned >= 0:
            self.sent[target] += 1
            self.bytes_sent[target] += returned
        elif name in RECEIVES and returned > 0:
            self.received[target] += 1


def may_trace() -> str | None:
    """Return why system calls cannot be counted here, None if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"strace may not trace here: {tried.stderr.strip()[-200:]}" if tried.returncode else None


@contextmanager
def traced(pids: Iterable[int], provider_port: int) -> Iterator[dict[int, Calls]]:
    """Count what these processes call within the block; the counts are there behind it."""
    found: dict[int, Calls] = {}
    with tempfile.TemporaryDirectory() as directory:
        # This process comes last: what it starts while it is traced is traced as well, and a tracer cannot be.
        ordered = sorted(pids, key=lambda pid: pid == os.getpid())
        tracers = {pid: _attach(pid, Path(directory, str(pid))) for pid in ordered}
        try:
            yield found
        finally:
            for tracer in tracers.values():
                tracer.send_signal(signal.SIGINT)
            for tracer in tracers.values():
                tracer.communicate()
        for pid in tracers:
            found[pid] = parse(Path(directory, str(pid)).read_text(errors="replace").splitlines(), provider_port)


def _attach(pid: int, log: Path) -> subprocess.Popen[str]:
    """Start tracing and return when it has begun.

    Raises:
        RuntimeError: It has not.
    """
    # -yy says what a descriptor is; of what goes through it nothing is written down.
    command = ["strace", "-f", "-yy", "-s", "0", "-e", "signal=none", "-o", str(log), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert tracer.stderr
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.kill()
        tracer.communicate()
        raise RuntimeError(f"strace has not attached to {pid}: {said.strip()}")
    return tracer


def parse(lines: Iterable[str], provider_port: int) -> Calls:
    """Return what a log of strace says. A call that other threads' calls split in two lines counts once."""
    calls = Calls()
    begun: dict[tuple[str, str], str] = {}
    for line in lines:
        if unfinished := _BEGUN.match(line):
            thread, name, target = unfinished.groups()
            begun[thread or "", name] = target or ""
        elif resumed := _RESUMED.match(line):
            name, returned = resumed.groups()
            thread = line[: len(line) - len(line.lstrip("0123456789 "))]
            calls.add(name, _sort(begun.pop((thread, name), ""), provider_port), int(returned))
        elif call := _CALL.match(line):
            name, target, returned = call.groups()
            calls.add(name, _sort(target or "", provider_port), int(returned))
    return calls


def _sort(target: str, provider_port: int) -> str:
    """Return what a descriptor goes to."""
    if target.startswith("TCP"):
        return "provider" if re.search(rf":{provider_port}\b", target) else "actors"
    return "channel" if target.startswith("UNIX") else "other"
