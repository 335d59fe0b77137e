"""A process per key with nothing in it: a fork that hands bytes to and fro. Shows what the processes alone cost.

No supervisor, no continuation, no state machine, no proofs, no held attempts, no Thespian. It pings, like ours.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Final

import orjson

from benchmarks.asks import MODEL, Ask
from benchmarks.peers.base import Seen, SyncPeer
from benchmarks.peers.reader import connected, masked, read_answer

PING: Final = b"\x89\x85\0\0\0\0pixir"
PONG: Final = b"\x8a\x05pixir"
INTERVAL: Final = 25.0
SLOTS: Final = 100
"""Pings come together, as ours do: at hundredths of the interval."""
_MOST: Final = 1 << 16


@dataclass(frozen=True)
class Child:
    """A key's process.

    Attributes:
        socket: What it is told, and what it hands on, message by message.
    """

    pid: int
    socket: socket.socket


class Bare(SyncPeer[Child]):
    """Forks of this process. It counts no deltas: what it reads is taken for complete."""

    counts = False

    def open(self, key: str) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, connected(self.url) as server:
            if pid := os.fork():
                return Child(pid, ours)
            try:
                _close_all_but(theirs.fileno(), server.fileno())
                _relay(theirs, server)
            finally:
                os._exit(1)

    def turn(self, conversation: Child, ask: Ask, seen: Seen) -> None:
        conversation.socket.send(orjson.dumps({"type": "response.create", "model": MODEL, "input": ask.input()}))
        read_answer(conversation.socket, seen)

    def forget(self, conversation: Child) -> None:
        pass  # it remembers none

    def end(self, conversation: Child) -> None:
        os.kill(conversation.pid, signal.SIGKILL)
        os.waitpid(conversation.pid, 0)
        conversation.socket.close()


def _relay(client: socket.socket, server: socket.socket) -> None:
    """Hand on what comes, and ping, until one of the two has gone."""
    gc.freeze()
    due = _next_ping()
    poll = select.poll()
    poll.register(client, select.POLLIN)
    poll.register(server, select.POLLIN)
    while True:
        found = poll.poll(max(0.0, due - time.monotonic()) * 1000 + 1)
        if not found:
            server.sendall(PING)
            due = _next_ping()
        for number, _ in found:
            source = client if number == client.fileno() else server
            data = source.recv(_MOST)
            if not data:
                return
            if source is client:
                server.sendall(masked(data))
            elif data != PONG:
                client.sendall(data)


def _next_ping() -> float:
    latest = time.monotonic() + INTERVAL
    return latest - latest % (INTERVAL / SLOTS)


def _close_all_but(*kept: int) -> None:
    """Close what a fork was given: the other keys' sockets must end with the process that opened them."""
    low = 0
    for number in sorted({2, *kept}):
        os.closerange(low, number)
        low = number + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
