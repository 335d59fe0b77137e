"""The channel between two processes: killed senders, forked listeners, exhausted descriptors, abandoned directories."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from pixir_actors.channel import ChannelLost, Listener, Loss
from tests.channel.conftest import Start, deadline, get
from tests.conftest import is_running, until

WRITER = """
import sys, time
from pixir_actors.channel import *
from pixir_actors.channel.frame import encode
sender = Sender.connect(sys.argv[1], connection_id="c-1")
sender.send([encode(Frame(FrameType.DATA, 0, 1, b"%d" % number)) for number in range(500)])
print(sender.pending_bytes(), flush=True)
time.sleep(600)
"""

FORK = """
import os, sys, signal
from pixir_actors.channel import *
from pixir_actors.channel.frame import encode

def sockets():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass
    return sorted(link for link in links if link.startswith(("socket:", "anon_inode:")))

def attempt(action):
    try:
        return repr(action())
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

before = sockets()
listener = Listener()
inbox, unread = (listener.open(number, max_buffered_bytes=1000) for number in (1, 2))
sender = Sender.connect(listener.path, connection_id="c-1")
sender.send(encode(Frame(FrameType.DATA, 0, 2, b"the parent's")))
while not (listener.connected("c-1") and sender.receive() and sender.greeted and unread.started):
    pass
half = Frame(FrameType.SUBMIT, 0, 1, bytes(3_000_000))
listener.send("c-1", encode(half))  # the parent's thread has the rest to write as it forks
closed = Listener()
closed.close()
stranger = os.eventfd(0)  # takes a number that the closed listener had
pid = os.fork()
if not pid:
    sender.close()
    os.close(stranger)  # it is there still
    print("left open:", [link for link in sockets() if link not in before], flush=True)
    for action in (lambda: listener.open(3, max_buffered_bytes=1), lambda: inbox.take(1), lambda: unread.take(1),
                   lambda: inbox.bind("c-1"), lambda: listener.connected("c-1"),
                   lambda: listener.send("c-1", encode(Frame(FrameType.CANCEL, 0, 1, b"")))):
        print(attempt(action), flush=True)
    inbox.close()
    listener.close()
    stranger = os.eventfd(0)
    if not os.fork():
        os.close(stranger)
        print("grandchild", flush=True)
        os._exit(0)
    os.wait()
    Listener().close()
    sys.exit()  # runs atexit handlers
os.waitpid(pid, 0)
print("directory:", os.path.exists(listener.path))
taken = []
while not taken:
    sender.receive()
    taken = sender.take()
print("request:", taken == [half])
sender.send(encode(Frame(FrameType.DATA, 0, 1, b"still alive")))
print(inbox.take(10)[0].payload, unread.take(10)[0].payload)
"""

HOST = """
import os, sys, time
from pixir_actors.channel import Listener
listener = Listener()
print(listener.path, flush=True)
pid = os.fork()
if not pid:
    print(os.getpid(), flush=True)
time.sleep(600)
"""

SCARCE = """
import os, resource, select, socket, time
from pixir_actors.channel import *
listener = Listener()
socks = []
def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(listener.path)
    return sock
keep = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
sock = socket.socket(socket.AF_UNIX)
highest = max(map(int, os.listdir("/proc/self/fd")))
resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, highest + 1))
while True:
    try:
        keep.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
try:
    Sender.connect(listener.path, connection_id="c")
except ChannelUnavailable as error:
    print(error.reason)
sock.connect(listener.path)
began, used = time.monotonic(), time.process_time()
while listener.refused < 3:
    time.sleep(0.01)
print("tries", listener.refused, "slow", time.monotonic() - began > 0.19, "idle", time.process_time() - used < 0.15)
for descriptor in keep:
    os.close(descriptor)
from pixir_actors.channel.frame import hello
sock.send(hello("c"))
while not listener.connected("c"):
    time.sleep(0.01)
print("connected")
listener.close()
"""


def test_a_killed_sender_loses_nothing_that_it_had_written(listener: Listener, start: Start) -> None:
    inbox, behind = (listener.open(number, max_buffered_bytes=1 << 20) for number in (1, 2))
    behind.bind("c-1")
    writer = start(WRITER, listener.path)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "0\n"
    writer.kill()

    for number in range(500):
        frame = get(inbox, deadline())
        assert frame is not None
        assert int(frame.payload) == number
    with pytest.raises(ChannelLost) as caught:
        get(inbox, deadline())
    assert caught.value.loss == Loss(clean=False)
    with pytest.raises(ChannelLost) as caught:
        get(behind, deadline())
    assert caught.value.loss == Loss(clean=False)


def test_a_killed_sender_that_is_not_read_yet_loses_nothing_either(start: Start) -> None:
    received = 0
    with closing(Listener(slice_bytes=100)) as listener:
        inbox = listener.open(1, max_buffered_bytes=1 << 20)
        writer = start(WRITER, listener.path)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"
        writer.kill()
        writer.wait()
        with pytest.raises(ChannelLost):
            while get(inbox, deadline()):
                received += 1

    assert received == 500


def test_a_forked_child_lets_go_of_the_listener_and_cannot_use_it(start: Start) -> None:
    output = start(FORK).communicate(timeout=deadline())[0].splitlines()

    assert output[0] == "left open: []"
    for line in output[1:7]:
        assert line.startswith("WrongProcess: this client belongs to process ")
        assert line.endswith("make a new client after the fork")
    assert output[7:] == ["grandchild", "directory: True", "request: True", "b'still alive' b\"the parent's\""]


def test_a_forked_child_that_outlives_its_parent_keeps_no_channel(start: Start) -> None:
    host = start(HOST)
    assert host.stdout is not None
    path, child = Path(host.stdout.readline().strip()), int(host.stdout.readline())
    try:
        host.kill()
        host.wait()
        assert is_running(child)
        Listener().close()  # sweeps what nobody listens on

        assert not path.parent.exists()
    finally:
        os.kill(child, signal.SIGKILL)
    assert until(lambda: not is_running(child))


def test_an_exit_without_close_leaves_no_directory(start: Start) -> None:
    script = "from pixir_actors.channel import Listener; print(Listener().path)"
    path = start(script).communicate(timeout=deadline())[0].strip()

    assert path
    assert not Path(path).parent.exists()


def test_without_descriptors_accepting_pauses_and_goes_on(start: Start) -> None:
    output = start(SCARCE).communicate(timeout=deadline())[0].splitlines()

    assert output == ["descriptors", "tries 3 slow True idle True", "connected"]
