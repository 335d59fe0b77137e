"""Signed messages, loopback only: first without sockets, then against every listener of a system."""

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
import zipfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FunctionType, SimpleNamespace

import pytest
import thespian.system.transport.TCPTransport as plain
from thespian.actors import ActorAddress, ActorSystemException
from thespian.system.transport import TransmitIntent
from thespian.system.transport.IPBase import TCPv4ActorAddress

from pixir_actors.core.secret import Secret
from pixir_actors.errors import SystemStartFailed
from pixir_actors.system import signed
from pixir_actors.system.cookie import system_key
from pixir_actors.system.embedded import EmbeddedSystem
from pixir_actors.system.frames import Refused, Signer
from pixir_actors.system.signed import LoopbackAddress
from tests.conftest import until, within
from tests.system.actors import Helper
from tests.system.conftest import listeners
from tests.system.test_frames import KEY, OTHER_KEY, Bomb, framed

LOOPBACK = "0100007F"
"""127.0.0.1 as /proc/net/tcp writes it."""


# Without sockets.


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
        assert any(name in vars(kind) for kind in plain.TCPTransport.__mro__[:-1]), f"TCPTransport.{name} has moved"


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


def test_a_connection_that_brings_no_message_does_not_stay_for_minutes() -> None:
    module = signed.load_transport(KEY)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert module.TCPIncoming(None, ours).delay() <= signed.INCOMING_PERIOD


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
    pids, before, total = system.pids(), ask("refusals"), ask("total refusals")
    wires = attacks(marker, Signer(OTHER_KEY).dumps("seen on another system"))

    for port in ports(system):
        for wire in wires:
            send(port, wire)

    assert not marker.exists()
    assert not (Path(tempfile.gettempdir()) / "thespian.log").exists()
    assert ask("refusals") == before + len(wires)
    assert ask("total refusals") == total + len(wires) * len(ports(system)), "those of admin and logger count, too"
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


def recorded(system: EmbeddedSystem, message: object) -> bytes:
    """Return what goes over the wire when a process of this system's sends a message."""
    with socket.create_server(("127.0.0.1", 0)) as tap, system.actor_system.private() as endpoint:
        place = ActorAddress(LoopbackAddress(None, tap.getsockname()[1]))
        sending = threading.Thread(target=endpoint.tell, args=(place, message))
        sending.start()
        connection, _ = tap.accept()
        with connection:
            connection.settimeout(within(5))
            wire = connection.recv(65536)
            digits, _, rest = wire.partition(b">")
            while len(rest) < int(digits):
                rest += connection.recv(65536)
            connection.sendall(system.actor_system._systemBase.transport.serializer.__globals__["ackMsg"])
        sending.join()
    return digits + b">" + rest


def test_a_message_recorded_on_one_system_is_refused_by_the_next_one_of_the_same_cookie(tmp_path: Path) -> None:
    cookie = Secret(b"c" * 32)
    with EmbeddedSystem.start(key=system_key(cookie, "first run"), start_timeout=within(20)) as first:
        helper = first.actor_system.createActor(Helper)
        with first.actor_system.private() as endpoint:
            pid = endpoint.ask(helper, ("pid",), within(10))
        wire = recorded(first, ("touch", str(tmp_path / "replayed")))
        place = next(port for (_, port), pids in listeners(first.pids()).items() if pids == {pid})
        send(place, wire)
        assert until((tmp_path / "replayed").exists), "the control: within its own run the message means something"

    (tmp_path / "replayed").unlink()
    with EmbeddedSystem.start(key=system_key(cookie, "second run"), start_timeout=within(20)) as second:
        helper = second.actor_system.createActor(Helper)
        with second.actor_system.private() as endpoint:
            before = endpoint.ask(helper, ("total refusals",), within(10))
            for port in ports(second):
                send(port, wire)

            assert endpoint.ask(helper, ("total refusals",), within(10)) == before + len(ports(second))
            assert not (tmp_path / "replayed").exists()
            assert endpoint.ask(helper, ("echo", "alive"), within(10)) == "alive"


def test_source_that_is_sent_over_the_wire_is_not_loaded(system: EmbeddedSystem, ask, tmp_path: Path) -> None:
    marker, archive = tmp_path / "executed", tmp_path / "source.zip"
    with zipfile.ZipFile(archive, "w") as source:
        source.writestr("foreign.py", f"open({str(marker)!r}, 'w')\nfrom tests.system.actors import Helper as Foreign\n")

    source_hash = system.actor_system.loadActorSource(str(archive))
    with pytest.raises(ActorSystemException):
        system.actor_system.createActor("foreign.Foreign", sourceHash=source_hash)

    assert not marker.exists()
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
