"""Signed messages, strict frames, loopback only: first without sockets, then against every listener of a system."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import socket
import struct
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FunctionType, SimpleNamespace

import pytest
import thespian.system.transport.TCPTransport as plain
from thespian.actors import ActorAddress, ActorSystemException
from thespian.system.transport import TransmitIntent
from thespian.system.transport.IPBase import TCPv4ActorAddress

from pixir_actors.errors import SystemStartFailed
from pixir_actors.system import signed
from pixir_actors.system.embedded import EmbeddedSystem
from pixir_actors.system.signed import LoopbackAddress, Refused, Signer, StrictReceiveBuffer
from tests.conftest import until, within
from tests.system.actors import Helper
from tests.system.conftest import listeners

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
LOOPBACK = "0100007F"
"""127.0.0.1 as /proc/net/tcp writes it."""


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def framed(frame: bytes) -> bytes:
    return b"%d>%s" % (len(frame), frame)


def received(wire: bytes, *, chunk: int = 1 << 20) -> StrictReceiveBuffer:
    """Feed a buffer as a socket would."""
    buffer = StrictReceiveBuffer(Signer(KEY).loads)
    for start in range(0, len(wire), chunk):
        assert not buffer.isDone() or start >= len(wire) - chunk
        buffer.addMore(wire[start : start + chunk])
    return buffer


# Without sockets.


def test_a_message_comes_back_as_it_was() -> None:
    assert Signer(KEY).loads(Signer(KEY).dumps({"a": [1, b"2"]})) == {"a": [1, b"2"]}


@pytest.mark.parametrize(
    "forge",
    [
        lambda good, bomb: Signer(OTHER_KEY).dumps(bomb),
        lambda good, bomb: pickle.dumps(bomb),
        lambda good, bomb: good[:32] + pickle.dumps(bomb),
        lambda good, bomb: bytes(32) + pickle.dumps(bomb),
        lambda good, bomb: good[:-1] + bytes([good[-1] ^ 1]),
        lambda good, bomb: good[:31],
        lambda good, bomb: b"",
    ],
    ids=["another key", "unsigned", "another's signature", "zeros", "damaged", "cut", "empty"],
)
def test_what_is_not_signed_is_refused_before_it_is_unpickled(forge, tmp_path: Path) -> None:
    forged = forge(Signer(KEY).dumps("good"), Bomb(tmp_path / "executed"))

    with pytest.raises(Refused):
        Signer(KEY).loads(forged)
    assert not (tmp_path / "executed").exists()


def test_a_key_is_never_shown_and_never_short() -> None:
    assert "kkk" not in repr(Signer(KEY))
    with pytest.raises(ValueError, match="16 bytes"):
        Signer(b"short")


def test_a_message_that_everybody_would_refuse_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, "MAX_FRAME_BYTES", 1000)

    Signer(KEY).dumps(b"x" * 900)
    with pytest.raises(ValueError, match="may have 1000 bytes"):
        Signer(KEY).dumps(b"x" * 1000)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("message", ["", "short", b"x" * 5000])
def test_a_frame_is_read_however_it_is_cut(message: object, chunk: int) -> None:
    buffer = received(framed(Signer(KEY).dumps(message)), chunk=chunk)

    assert buffer.isDone()
    assert buffer.remainingAmount() == 0
    assert buffer.completed() == (message, b"")


def test_what_follows_a_frame_is_kept_apart() -> None:
    buffer = received(framed(Signer(KEY).dumps("one")) + b"rest")
    assert buffer.completed() == ("one", b"rest")

    buffer.removeExtra()
    assert buffer.completed() == ("one", b"")


def test_an_unfinished_frame_says_what_is_missing() -> None:
    wire = framed(Signer(KEY).dumps("one"))

    nothing, length, most = received(b""), received(wire[:2]), received(wire[:-3])

    assert nothing.is_empty() and not length.is_empty() and not most.is_empty()
    assert [b.isDone() for b in (nothing, length, most)] == [False] * 3
    assert [b.completed() for b in (nothing, length, most)] == [None] * 3
    assert [b.remainingAmount() for b in (nothing, length, most)] == [signed.FIRST_READ_BYTES] * 2 + [3]


BAD_FRAMES = [
    b"-5>" + b"x" * 100,
    b"+50>" + b"x" * 100,
    b" 50>" + b"x" * 100,
    b"5_0>" + b"x" * 100,
    "\N{ARABIC-INDIC DIGIT FIVE}0>".encode() + b"x" * 100,
    b">" + b"x" * 100,
    b"0>",
    b"32>" + b"x" * 100,
    b"%d>" % (signed.MAX_FRAME_BYTES + 1),
    b"9" * 10,
    b"9" * 5000,
    b"0" * 5000 + b"50>",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    bytes(range(256)),
]


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize("wire", BAD_FRAMES, ids=lambda wire: repr(wire[:12]))
def test_a_bad_length_ends_the_frame_and_counts_once(wire: bytes, chunk: int) -> None:
    before = signed.refusals()

    buffer = StrictReceiveBuffer(Signer(KEY).loads)
    for start in range(0, len(wire), chunk):
        buffer.addMore(wire[start : start + chunk])

    assert buffer.isDone()
    assert buffer.completed() is None
    assert signed.refusals() == before + 1


def test_a_bad_signature_counts_once_however_often_it_is_looked_at() -> None:
    before = signed.refusals()

    buffer = received(framed(Signer(OTHER_KEY).dumps("one")))

    assert buffer.isDone()
    assert [buffer.completed(), buffer.completed()] == [None, None]
    assert signed.refusals() == before + 1


@pytest.mark.parametrize("asked", [(None, 1900), ("", 1900), ("0.0.0.0", 1900), ("192.0.2.1", "1900", True)])
def test_an_address_is_on_loopback_whatever_was_asked_for(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setenv("THESPIAN_BASE_IPADDR", "192.0.2.9")

    address = LoopbackAddress(*asked)

    assert address.bindArgs == (("127.0.0.1", 1900),)
    assert address.connectArgs == (("127.0.0.1", 1900),)
    assert address.socketArgs == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def test_addresses_are_equal_by_place_and_survive_pickling() -> None:
    address = ActorAddress(LoopbackAddress(None, 1900))

    assert pickle.loads(pickle.dumps(address)) == address
    assert address == ActorAddress(TCPv4ActorAddress("127.0.0.1", 1900))
    assert address != ActorAddress(LoopbackAddress(None, 1901))
    assert hash(address.addressDetails) == hash(LoopbackAddress("127.0.0.1", 1900))


# The seam in Thespian.


def test_each_replaced_name_exists_in_thespian_and_is_another_in_the_copy() -> None:
    copy = signed.load_transport(KEY)

    assert [name for name in signed.SEAM if getattr(copy, name) is getattr(plain, name)] == []
    assert copy.TCPTransport is not plain.TCPTransport
    for name in signed.CLASS_SEAM:
        assert name in vars(plain.TCPTransport), f"TCPTransport.{name} has moved"


def test_each_replaced_name_is_used_by_thespian() -> None:
    """A name that nobody reads any more would be replaced in vain; the sockets below show what the names do."""
    members = [member for kind in vars(plain).values() if isinstance(kind, type) for member in vars(kind).values()]
    functions = [getattr(member, "__func__", member) for member in members]
    codes = [f.__code__ for f in functions if isinstance(f, FunctionType) and f.__code__.co_filename == plain.__file__]
    used = set(itertools.chain.from_iterable(code.co_names for code in codes))

    assert set(signed.SEAM) - used == set()


@pytest.mark.parametrize("seam", ["SEAM", "CLASS_SEAM"])
def test_a_thespian_without_the_seam_is_refused(seam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, seam, ("renamed", *getattr(signed, seam)))

    with pytest.raises(SystemStartFailed, match=r"cannot be signed.*renamed"):
        signed.load_transport(KEY)


def test_two_copies_share_neither_key_nor_classes() -> None:
    one, two = signed.load_transport(KEY), signed.load_transport(OTHER_KEY)

    assert one.TCPTransport is not two.TCPTransport
    with pytest.raises(Refused):
        one.serializer.loads(two.serializer.dumps("message"))


def test_joining_a_system_that_is_not_there_starts_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]

    with pytest.raises(SystemStartFailed, match="no actor system listens"):
        signed.join_system(KEY, port)


# Against every listener of a running system.


def send(port: int, wire: bytes) -> None:
    """Send bytes to a listener, and wait until it has closed the connection."""
    with socket.create_connection(("127.0.0.1", port), within(5)) as stranger:
        stranger.sendall(wire)
        with suppress(ConnectionResetError):
            while stranger.recv(4096):
                pass


def ports(system: EmbeddedSystem) -> list[int]:
    return [port for _, port in listeners(system.pids())]


def test_every_listener_is_on_loopback(system: EmbeddedSystem, ask) -> None:
    ask("pid")
    found = listeners(system.pids())

    assert system.port in {port for _, port in found}
    assert {address for address, _ in found} == {LOOPBACK}
    assert len(found) == 3  # admin, logger, helper


def test_no_process_keeps_the_listener_of_its_guardian(system: EmbeddedSystem, ask) -> None:
    ask("pid")
    guardian, *_ = system.pids()

    assert listeners([guardian]) == {}


def attacks(marker: Path, good: bytes) -> list[bytes]:
    bomb = Bomb(marker)
    sender = ActorAddress(LoopbackAddress(None, 1))
    return [
        framed(pickle.dumps(bomb)),
        framed(pickle.dumps((sender, bomb))),
        framed(bytes(32) + pickle.dumps((sender, bomb))),
        framed(Signer(OTHER_KEY).dumps((sender, bomb))),
        framed(good[:32] + pickle.dumps((sender, bomb))),
        b"-5>" + pickle.dumps(bomb),
        b"9" * 400 + b">" + pickle.dumps(bomb),
        b"%d>" % 10**12 + pickle.dumps(bomb),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        struct.pack("!I", 5) + b"\x00\xff" * 200,
    ]


def test_no_stranger_is_heard_by_any_listener(system: EmbeddedSystem, ask, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pids, before = system.pids(), ask("refusals")
    wires = attacks(marker, Signer(OTHER_KEY).dumps("seen on another system"))

    for port in ports(system):
        for wire in wires:
            send(port, wire)

    assert not marker.exists()
    assert not (Path(tempfile.gettempdir()) / "thespian.log").exists()
    assert ask("refusals") == before + len(wires)
    assert ask("echo", "alive") == "alive"
    assert system.pids() == pids
    assert ask("child's refusals") == 0


def test_the_attack_works_where_nothing_is_signed(run_host, tmp_path: Path) -> None:
    """The control: the tests above could pass because the attack is none. Shows plain beside signed, too."""
    host = run_host("""
from thespian.actors import ActorSystem
from tests.system.test_signed import framed, Bomb, pickle, send, ActorAddress, TCPv4ActorAddress
import socket
with socket.create_server(("127.0.0.1", 0)) as reserved:
    port = reserved.getsockname()[1]
nowhere = {"version": 1, "handlers": {"nowhere": {"class": "logging.NullHandler"}}, "root": {"handlers": ["nowhere"]}}
bomb = framed(pickle.dumps((ActorAddress(TCPv4ActorAddress("127.0.0.1", 1)), Bomb("executed"))))
plain = ActorSystem("multiprocTCPBase", {"Admin Port": port}, nowhere)
try:
    with EmbeddedSystem.start(import_paths=[]) as system:
        other = plain.createActor(Helper)
        assert plain.ask(other, ("echo", 1), 20) == 1
        helper, _ = helper_of(system)
        for i in range(20):
            assert plain.ask(other, ("echo", i), 20) == i
            assert system.actor_system.ask(helper, ("echo", -i), 20) == -i
        send(system.port, bomb)
        ready(os.path.exists("executed"))
        assert system.actor_system.ask(helper, ("echo", 5), 20) == 5
    assert plain.ask(other, ("echo", 7), 20) == 7
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(bomb)
        deadline = time.monotonic() + 5
        while not os.path.exists("executed") and time.monotonic() < deadline:
            time.sleep(0.01)
    ready(os.path.exists("executed"))
    from thespian.system.transport import TCPTransport
    import pickle
    ready(TCPTransport.serializer is pickle and TCPTransport.REUSE_SOCKETS)
finally:
    plain.shutdown()
""")

    assert host.stdout is not None
    assert host.stdout.read().split() == ["False", "True", "True"]


def test_a_message_of_one_system_is_refused_by_another_in_the_same_process(system: EmbeddedSystem, ask) -> None:
    with EmbeddedSystem.start(start_timeout=within(20)) as other:
        frame = other.actor_system._systemBase.transport.serializer
        intent = TransmitIntent(None, ("echo", "replayed"))
        before = ask("refusals")

        for port in ports(system):
            send(port, frame(intent))

        assert ask("refusals") == before + 1
        assert ask("echo", "alive") == "alive"


def test_joining_with_another_key_fails(system: EmbeddedSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    import thespian.system.systemBase as base

    monkeypatch.setattr(base, "MAX_SYSTEM_SHUTDOWN_DELAY", base.timedelta(0))  # it would try for 11 s
    monkeypatch.setattr(base, "MAX_ADMIN_STATUS_REQ_DELAY", base.timedelta(milliseconds=300))

    with pytest.raises(ActorSystemException):
        signed.join_system(OTHER_KEY, system.port)


def test_a_message_whose_peer_closed_is_tried_again_soon() -> None:
    """Where the peer dies between the connection and the message, Thespian itself waits for 35 s."""
    transport, intent = signed.load_transport(KEY).TCPTransport, TransmitIntent(None, "message")

    assert transport._next_XMIT_6(SimpleNamespace(_XMITStepSendConnect=1), intent)

    assert intent.delay() <= signed.RETRY_PERIOD


def test_a_peer_that_dies_with_a_message_unread_does_not_hold_up_its_sender(system: EmbeddedSystem) -> None:
    with system.actor_system.private() as endpoint:
        mortal = system.actor_system.createActor(Helper)
        pid = endpoint.ask(mortal, ("pid",), within(10))
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()

        started = time.monotonic()
        endpoint.tell(mortal, ("pid",))

        assert time.monotonic() - started < within(3)


def test_a_peer_that_has_died_does_not_hold_up_its_sender(system: EmbeddedSystem) -> None:
    with system.actor_system.private() as endpoint:
        mortal = system.actor_system.createActor(Helper)
        pid = endpoint.ask(mortal, ("pid",), within(10))
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: pid not in system.pids())

        started = time.monotonic()
        endpoint.tell(mortal, ("pid",))

        assert time.monotonic() - started < within(1)


def test_many_connections_may_wait_to_be_accepted(system: EmbeddedSystem) -> None:
    """Beyond Thespian's 100 each would wait for a second, and longer each time."""
    with system.actor_system.private() as endpoint, ExitStack() as waiting:
        busy = system.actor_system.createActor(Helper)
        pid = endpoint.ask(busy, ("pid",), within(10))
        port = next(port for (_, port), pids in listeners(system.pids()).items() if pids == {pid})
        os.kill(pid, signal.SIGSTOP)

        for _ in range(300):
            waiting.enter_context(socket.create_connection(("127.0.0.1", port), 0.9))

        os.kill(pid, signal.SIGKILL)


def test_an_endpoint_that_is_left_is_closed(system: EmbeddedSystem) -> None:
    before = len(listeners([os.getpid()]))
    with system.actor_system.private():
        assert len(listeners([os.getpid()])) == before + 1

    assert len(listeners([os.getpid()])) == before
