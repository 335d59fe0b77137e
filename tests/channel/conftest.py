"""Both ends of the event channel in one process, and scripts that are one end in another."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest

from pixir_actors.channel import Frame, FrameType, Inbox, Listener, Sender
from pixir_actors.channel.frame import encode
from tests.conftest import within

ROOT = Path(__file__).parents[2]
SLICE = 32 * 1024
Connect = Callable[..., Sender]
Start = Callable[..., "subprocess.Popen[str]"]


def frame(request_id: int, text: str = "", type: int = FrameType.DATA) -> Frame:
    return Frame(type, 0, request_id, text.encode())


def data(request_id: int, text: str = "") -> bytes:
    """Return an encoded DATA frame."""
    return encode(frame(request_id, text))


def finished(request_id: int) -> bytes:
    return encode(frame(request_id, type=FrameType.FINISHED))


_TAKEN: WeakKeyDictionary[Inbox, deque[Frame]] = WeakKeyDictionary()


def get(inbox: Inbox, timeout: float | None = None) -> Frame | None:
    """Return the next frame, of those that an inbox gives out several at a time; None as `take`."""
    taken = _TAKEN.setdefault(inbox, deque())
    if not taken:
        taken.extend(inbox.take(timeout) or ())
    return taken.popleft() if taken else None


def deadline() -> float:
    """Return the seconds after which a wait has failed."""
    return within(10)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with ExitStack() as stack:
        listener = Listener(SLICE)
        stack.callback(listener.close)
        yield listener


@pytest.fixture
def connect(listener: Listener) -> Iterator[Connect]:
    """Open a channel to `listener`, closed at the end."""
    with ExitStack() as stack:

        def open_channel(connection_id: str = "connection-1") -> Sender:
            sender = Sender.connect(listener.path, connection_id=connection_id)
            stack.callback(sender.close)
            return sender

        yield open_channel


@pytest.fixture
def start() -> Iterator[Start]:
    """Run a script in a new interpreter, from its text and arguments; killed at the end if it still runs."""
    with ExitStack() as stack:

        def start_script(script: str, *arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True))
            stack.callback(process.kill)
            return process

        yield start_script
