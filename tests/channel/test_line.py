"""What is written to one connection, over a real pair of sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from types import FrameType

import pytest

from pixir_actors.channel.frame import Decoder
from pixir_actors.channel.line import Line
from tests.conftest import within


class Interrupted(BaseException):
    """What Ctrl-C raises, in the middle of anything."""


@pytest.fixture
def pair() -> Iterator[tuple[Line, socket.socket]]:
    """A line, and the socket at its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with closing(ours), closing(theirs):
        theirs.setblocking(False)
        yield Line(ours, Decoder(), 0.0), theirs


PESTER = """
import os, signal, sys, time
while os.getppid() == int(sys.argv[1]):
    os.kill(int(sys.argv[1]), signal.SIGUSR1)
    time.sleep(0.00002)
"""
"""A process, not a thread: a thread would have to wait for the interpreter's lock, and hardly hit anything."""


def put(line: Line, *frames: bytes) -> None:
    line.outgoing.extend(((frame,), []) for frame in frames)


def interrupted(function: Callable[[], object], step: int) -> int:
    """Call a function and interrupt it before that step (instruction) of its own; return how many steps it took."""
    steps = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal steps
        if frame.f_code is not function.__code__:  # type: ignore[attr-defined]
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps += 1
            if steps == step:
                raise Interrupted
        return trace

    def run() -> None:
        sys.settrace(trace)
        with suppress(Interrupted):
            function()

    # In a thread of its own: interrupted as it leaves an `except`, a thread takes that error for handled ever after.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return steps


def read(sock: socket.socket) -> bytes:
    """Read what is there."""
    received = b""
    with suppress(BlockingIOError):
        while part := sock.recv(1 << 20):
            received += part
    return received


def test_what_the_kernel_takes_is_written_at_once_and_in_order(pair: tuple[Line, socket.socket]) -> None:
    line, peer = pair
    put(line, b"one", b"two")

    assert line.write()
    assert not line.outgoing
    assert read(peer) == b"onetwo"
    assert line.write(), "nothing is left to do"


def test_what_it_does_not_take_is_kept_and_goes_on_where_it_stopped(pair: tuple[Line, socket.socket]) -> None:
    line, peer = pair
    frames = [bytes([number]) * 700_001 for number in range(4)]
    put(line, *frames)
    received, rounds = b"", 0
    while not line.write():
        received += read(peer)
        rounds += 1

    assert rounds > 3
    assert received + read(peer) == b"".join(frames)


def test_writing_to_a_full_socket_does_not_wait(pair: tuple[Line, socket.socket]) -> None:
    line, _ = pair
    put(line, bytes(2_000_000))
    began = time.monotonic()

    assert [line.write() for _ in range(100)] == [False] * 100
    assert time.monotonic() - began < within(1)


def test_others_get_their_turn_although_the_kernel_would_take_more(pair: tuple[Line, socket.socket]) -> None:
    """It is written under a lock, and by the thread that reads all channels."""
    line, peer = pair
    put(line, *(b"%04d" % number for number in range(20)))
    rounds = 1
    while not line.write():
        rounds += 1

    assert rounds == 3
    assert read(peer) == b"".join(b"%04d" % number for number in range(20))


def test_what_is_for_a_process_that_has_died_is_dropped_without_an_error(pair: tuple[Line, socket.socket]) -> None:
    line, peer = pair
    put(line, bytes(2_000_000), b"next")
    assert not line.write()
    peer.close()

    assert line.write()
    assert not line.outgoing
    put(line, b"later")
    assert line.write()
    assert not line.outgoing


def test_an_interrupt_at_any_step_has_nothing_written_twice_and_nothing_left_out(
    pair: tuple[Line, socket.socket],
) -> None:
    """Ctrl-C comes to whoever submits, and the connection would run a request again, or take the rest for noise."""
    line, peer = pair
    for step in count(1):
        frames = [b"%07d;" % step * size for size in (1, 60_000, 2)]  # the second one takes more than one write
        put(line, *frames)

        steps = interrupted(line.write, step)

        received = b""
        while line.outgoing:
            received += read(peer)
            line.write()
        assert received + read(peer) == b"".join(frames), f"interrupted at step {step}"
        if steps < step:
            break
    assert step > 50


def test_a_signal_has_nothing_written_twice_and_nothing_left_out(pair: tuple[Line, socket.socket]) -> None:
    """As above, where the interpreter asks for signals: an interrupt at every step knows nothing of what C code does."""
    line, peer = pair
    armed, hits = False, 0

    def interrupt(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    pesterer = subprocess.Popen([sys.executable, "-c", PESTER, str(os.getpid())])
    received, expected, number = b"", b"", 0
    end = time.monotonic() + within(20)
    try:
        while hits < 100 and time.monotonic() < end:
            number += 1
            frame = b"%07d;" % number * 2000
            expected += frame
            put(line, frame)
            while line.outgoing:
                try:
                    armed = True
                    line.write()
                    armed = False
                except Interrupted:
                    hits += 1
                received += read(peer)
    finally:
        pesterer.kill()
        pesterer.wait()
        signal.signal(signal.SIGUSR1, before)

    assert hits >= 100
    assert received + read(peer) == expected


def test_a_repr_does_not_show_what_is_written(pair: tuple[Line, socket.socket]) -> None:
    line, _ = pair
    put(line, b"sk-canary")

    assert "canary" not in repr(line)
