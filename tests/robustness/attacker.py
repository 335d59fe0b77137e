"""A program that has no business with an actor system, and talks to each of its ports.

`attacker.py MARKER PORTS DEAF_PORTS`, ports with commas between them; deaf ones belong to processes that listen only while
they wait for an answer of their own, so that nobody can wait for a refusal there.

It knows what anybody can know, Thespian's framing and pickle, and not the key. First it opens idle connections and sends
what has to be refused; it prints how many frames those were per port. After a line on its standard input it sends
beginnings of messages, drips, breaks off and stuffs, and prints again. Whatever it has opened stays open until its standard
input ends.
"""

from __future__ import annotations

import hmac
import os
import pickle
import socket
import struct
import sys
import time
from contextlib import suppress

IDLE = 300
"""Connections in all that say nothing."""
LARGE = 8 * 1024 * 1024
"""Bytes that are sent of a message that claims to be larger."""
PATIENCE = 20.0
"""Seconds in which a listener has to close a connection whose frame it refuses."""


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.marker, "w")


def framed(data: bytes) -> bytes:
    return b"%d>%s" % (len(data), data)


def refused(marker: str) -> list[bytes]:
    """Return what a listener has to refuse at once: complete frames that it has not signed, and what is no frame."""
    bombs = [pickle.dumps(thing) for thing in (Bomb(marker), (None, Bomb(marker)), [Bomb(marker)] * 10)]
    bombs.append(pickle.dumps((None, Bomb(marker)), 0))
    guess = [hmac.digest(key, bombs[0], "sha256") + bombs[0] for key in (b"", b"\0" * 32, b"pixir_actors")]
    frames = [*bombs, *(bytes(32) + bomb for bomb in bombs), *guess, os.urandom(64), os.urandom(100_000)]
    noise = [
        b"-5>" + bombs[0],
        b"+%d>" % len(bombs[0]) + bombs[0],
        b"5_0>" + b"x" * 50,
        b">" + bombs[0],
        b"0>",
        b"1000000000>" + bombs[0],
        b"9" * 400 + b">" + bombs[0],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(32),
        b"\xff" + os.urandom(1000),
        bombs[0],
        "\N{ARABIC-INDIC DIGIT FIVE}".encode() * 20,
    ]
    return [*map(framed, frames), *noise]


def unfinished(marker: str) -> list[bytes]:
    """Return beginnings of messages; some are short enough that nobody can know yet whose they are."""
    bomb = pickle.dumps((None, Bomb(marker)))
    return [b"5", b"500>", b"500>" + bomb[:10], b"500>" + bomb[:20], b"1000000>" + bomb, b"100000000>" + bomb]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def send_and_be_refused(port: int, wire: bytes) -> None:
    with connect(port) as stranger:
        with suppress(ConnectionResetError, BrokenPipeError):
            stranger.sendall(wire)
            while stranger.recv(4096):
                pass


def break_off(port: int) -> None:
    """Reset a connection in the middle of a message."""
    with connect(port) as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stranger.sendall(b"1000>half")


def drip(port: int) -> None:
    """Send a message byte by byte, and never finish it."""
    with connect(port) as stranger:
        for byte in b"1000>" + b"x" * 45:
            with suppress(ConnectionResetError, BrokenPipeError):
                stranger.sendall(bytes([byte]))
            time.sleep(0.01)


def stuff(port: int) -> socket.socket:
    """Send a good part of a message that is said to be very large; the connection stays open if nobody closes it."""
    stranger = connect(port)
    with suppress(ConnectionResetError, BrokenPipeError):
        stranger.sendall(b"100000000>" + b"x" * LARGE)
    return stranger


def shout(port: int, wire: bytes) -> socket.socket:
    """Send as much as anybody takes at once; the connection stays open."""
    stranger = connect(port)
    stranger.setblocking(False)
    with suppress(ConnectionResetError, BrokenPipeError, BlockingIOError):
        stranger.send(wire)
    return stranger


def main(marker: str, ports: list[int], deaf_ports: list[int]) -> None:
    wires = refused(marker)
    held = [connect(ports[number % len(ports)]) for number in range(IDLE)]
    for port in ports:
        for wire in wires:
            send_and_be_refused(port, wire)
    print(len(wires), flush=True)
    sys.stdin.readline()
    for port in ports:
        held += [shout(port, wire) for wire in unfinished(marker)]
        break_off(port)
        drip(port)
        held += [stuff(port) for _ in range(8)]
    held += [shout(port, wire) for port in deaf_ports for wire in (*wires, *unfinished(marker))]
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], *([int(port) for port in ports.split(",") if port] for ports in sys.argv[2:]))
