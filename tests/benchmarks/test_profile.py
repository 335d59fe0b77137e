from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.meter import Cpu, below, cpu_of, pss_of
from benchmarks.peers.registry import OURS
from benchmarks.tracing import may_trace, parse, traced

LOG = """\
101 sendto(7<TCP:[127.0.0.1:5001->127.0.0.1:9000]>, ""..., 100, 0, NULL, 0) = 100
101 recvfrom(7<TCP:[127.0.0.1:5001->127.0.0.1:9000]>, ""..., 65536, 0, NULL, NULL) = 4000
101 sendto(9<TCP:[127.0.0.1:5002->127.0.0.1:1900]>, ""..., 50, 0, NULL, 0) = 50
101 connect(10<TCP:[5]>, {sa_family=AF_INET}, 16) = 0
102 sendmsg(8<UNIX-STREAM:[12->13]>, {msg_name=NULL}, 0) = 70
101 recvfrom(7<TCP:[127.0.0.1:5001->127.0.0.1:9000]>, 0x7f, 65536, 0, NULL, NULL) = -1 EAGAIN (Try again)
102 recvfrom(8<UNIX-STREAM:[12->13]>,  <unfinished ...>
101 epoll_wait(4<anon_inode:[eventpoll]>, [{EPOLLIN}], 64, 100) = 1
102 <... recvfrom resumed>""..., 65536, 0, NULL, NULL) = 12
101 futex(0x55, FUTEX_WAKE_PRIVATE, 1) = 1
101 --- SIGCHLD {si_signo=SIGCHLD} ---
""".splitlines()


def test_calls_are_sorted_by_what_they_go_to() -> None:
    calls = parse(LOG, provider_port=9000)

    assert calls.sent == {"provider": 1, "actors": 1, "channel": 1}
    assert calls.bytes_sent == {"provider": 100, "actors": 50, "channel": 70}
    assert calls.received == {"provider": 1, "channel": 1}, "a call that found nothing has not received"
    assert calls.connects == 1
    assert sum(calls.names.values()) == 9, "a call that was split in two lines counts once"


def test_the_calls_of_a_running_process_are_counted() -> None:
    if reason := may_trace():
        pytest.skip(reason)
    echo = "import sys\nfor line in sys.stdin: sys.stdout.write(line), sys.stdout.flush()"
    with subprocess.Popen([sys.executable, "-c", echo], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        with traced([process.pid], 1) as found:
            for _ in range(5):
                process.stdin.write("hello\n")
                process.stdin.flush()
                process.stdout.readline()
        process.stdin.close()

    writes = found[process.pid].names["write"]
    assert writes in (4, 5), "the tracer may go before it has seen the last one return"
    assert found[process.pid].bytes_sent["other"] == 6 * writes


@pytest.mark.processes
def test_the_profile_names_the_processes_of_a_turn() -> None:
    command = [sys.executable, "-m", "benchmarks.profile", "--peer", OURS, "--turns", "5", "--traced", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    for name in ("client", "server", "pixir-admin", "pixir-superv", "5 warm turns of 20 events"):
        assert name in done.stdout
    assert "System calls" in done.stdout


def test_what_a_process_costs_is_read_from_the_kernel() -> None:
    spin = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as process:
        try:
            assert process.pid in below(os.getpid())
            cpu = Cpu([process.pid])
            while cpu.seconds() < 0.05:
                pass
            assert cpu_of(process.pid) > 0.05
            assert pss_of([process.pid]) > 1
        finally:
            process.kill()
    assert process.pid not in below(os.getpid())
    assert cpu_of(process.pid) == 0
    assert pss_of([process.pid]) == 0
