"""Counters of calls and bytes, kept in memory that processes share, each in a row of its own: counting takes no lock.

What is counted is wrapped before an actor system is started: its processes are forks, and inherit the wrapped functions.
An embedded system is not forked from the program that uses it, but from its guardian, which is a program of its own:
`wrap_guardians` has that one wrap the same before it starts.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import selectors
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import orjson
import thespian.system.transport.TCPTransport as transport

from benchmarks.ablation.switch import in_guardians, replace
from pixir_actors.actors import connection
from pixir_actors.actors.board import Slot
from pixir_actors.channel.inbox import Inbox
from pixir_actors.system import frames, polling

NAMES: Final = (
    "messages",  # between actors, and the bytes that they are pickled to
    "pickled",
    "reports",
    "parsed",  # bytes of JSON
    "written",
    "sends",  # calls of sockets
    "receives",
    "waits",  # epoll_wait, poll, select
    "registrations",  # epoll_ctl
    "eventfds",  # reads and writes of one
    "rounds",  # of the loop of an embedded system's transport, but for the short ones
    "transitions",  # of a connection's machine
    "deliveries",  # slices of a stream that were put where its consumer waits
)
ROW: Final = struct.Struct(f"={len(NAMES)}Q")

Call = Callable[..., Any]


class Counters:
    """Numbers of all processes, by pid.

    Args:
        path: A file, empty at first; it becomes large, but what no process counts in takes no room.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        size = ROW.size * int(Path("/proc/sys/kernel/pid_max").read_text())
        with open(path, "r+b") as file:
            file.truncate(size)
            self._shared = mmap.mmap(file.fileno(), size)

    def add(self, name: str, amount: int = 1) -> None:
        row = list(self._row(os.getpid()))
        row[NAMES.index(name)] += amount
        ROW.pack_into(self._shared, os.getpid() * ROW.size, *row)

    def of(self, pid: int) -> dict[str, int]:
        return dict(zip(NAMES, self._row(pid), strict=True))

    def _row(self, pid: int) -> tuple[int, ...]:
        return ROW.unpack_from(self._shared, pid * ROW.size)

    def counted(self, call: Call, name: str) -> Call:
        """Return a function, or a method, that counts and calls."""

        def counting(*arguments: Any, **named: Any) -> Any:
            self.add(name)
            return call(*arguments, **named)

        return counting


class Poller:
    """A poll or epoll object whose system calls are counted: classes of C take no other methods."""

    def __init__(self, counters: Counters, poller: Any, calls: dict[str, str]) -> None:
        self._poller = poller
        for call, name in calls.items():
            setattr(self, call, counters.counted(getattr(poller, call), name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


def wrap(counters: Counters) -> None:
    """Count from now on, here and in forks."""
    _wrap_messages(counters)
    _wrap_json(counters)
    _wrap_waits(counters)
    for names, what in ((("send", "sendall", "sendmsg"), "sends"), (("recv", "recv_into", "recvmsg"), "receives")):
        for name in names:
            setattr(socket.socket, name, counters.counted(getattr(socket.socket, name), what))
    for name in ("eventfd_read", "eventfd_write"):
        setattr(os, name, counters.counted(getattr(os, name), "eventfds"))
    ours = (
        (Inbox, "put", "deliveries"),
        (polling.DefaultSelector, "select", "rounds"),
        (Slot, "write", "reports"),
        (connection, "transition", "transitions"),
    )
    for kind, name, what in ours:
        setattr(kind, name, counters.counted(getattr(kind, name), what))


def wrap_guardians(counters: Counters) -> None:
    """Have the embedded systems that this process starts count, too."""
    replace(in_guardians(f"from tests.counters import Counters, wrap; wrap(Counters({counters.path!r}))"))


def _wrap_messages(counters: Counters) -> None:
    def dumps(value: Any, *rest: Any) -> bytes:
        text = pickle.dumps(value, *rest)
        # (address, message), and the acknowledgements of the transport, which are no messages
        message = value[1] if isinstance(value, tuple) and len(value) == 2 else None
        if type(message).__module__ in ("pixir_actors.actors.messages", "pixir_actors.actors.control"):
            counters.add("messages")
            counters.add("pickled", len(text))
        return text

    pickling = SimpleNamespace(dumps=dumps, loads=pickle.loads, HIGHEST_PROTOCOL=pickle.HIGHEST_PROTOCOL)
    transport.serializer = pickling
    vars(frames)["pickle"] = pickling  # an embedded system signs what it has pickled


def _wrap_json(counters: Counters) -> None:
    parse, write = orjson.loads, orjson.dumps

    def loads(text: Any) -> Any:
        counters.add("parsed", len(text))
        return parse(text)

    def dumps(*arguments: Any, **named: Any) -> bytes:
        text = write(*arguments, **named)
        counters.add("written", len(text))
        return text

    orjson.loads, orjson.dumps = loads, dumps


def _wrap_waits(counters: Counters) -> None:
    epoll, poll = select.epoll, select.poll
    controls = dict.fromkeys(("register", "modify", "unregister"), "registrations")

    def counted_epoll(*arguments: Any) -> Poller:
        return Poller(counters, epoll(*arguments), {"poll": "waits", **controls})

    def counted_poll() -> Poller:
        return Poller(counters, poll(), {"poll": "waits"})

    vars(select).update(epoll=counted_epoll, poll=counted_poll, select=counters.counted(select.select, "waits"))
    # It took its own reference when it was made.
    setattr(selectors.EpollSelector, "_selector_cls", staticmethod(counted_epoll))  # noqa: B010
