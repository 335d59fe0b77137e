"""Refused frames counted together by many processes, some of which are killed while they count."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pixir_actors.system import refusals


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(refusals, "_own", 0)
    monkeypatch.setattr(refusals, "_shared", None)
    yield
    if refusals._shared is not None:
        os.close(refusals._shared)


def fork(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_without_a_common_counter_a_process_knows_its_own() -> None:
    refusals.count_refusal()
    refusals.count_refusal()

    assert (refusals.refusals(), refusals.total_refusals()) == (2, 2)


def test_reading_the_total_leaves_it_as_it_is() -> None:
    refusals.share_refusals()
    for _ in range(20):
        refusals.count_refusal()

    assert [refusals.total_refusals() for _ in range(3)] == [20] * 3


def test_sharing_twice_keeps_the_count() -> None:
    refusals.share_refusals()
    refusals.count_refusal()
    refusals.share_refusals()

    assert refusals.total_refusals() == 1


def test_all_forks_count_together_and_each_for_itself() -> None:
    refusals.share_refusals()
    refusals.count_refusal()
    read, write = os.pipe()

    def many() -> None:
        for _ in range(1000):
            refusals.count_refusal()
        os.write(write, b"%d\n" % refusals.refusals())

    for child in [fork(many) for _ in range(4)]:
        os.waitpid(child, 0)

    assert os.read(read, 100) == b"1000\n" * 4
    assert (refusals.refusals(), refusals.total_refusals()) == (1, 4001)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_ends_or_freezes_while_it_counts_holds_up_nobody(how: signal.Signals) -> None:
    refusals.share_refusals()

    def for_ever() -> None:
        while True:
            refusals.count_refusal()

    child = fork(for_ever)
    while refusals.total_refusals() < 100:
        pass
    os.kill(child, how)
    os.waitpid(child, os.WUNTRACED)

    before = refusals.total_refusals()
    refusals.count_refusal()
    assert refusals.total_refusals() == before + 1

    if how is signal.SIGSTOP:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_counter_that_is_full_raises_nothing() -> None:
    refusals.share_refusals()
    assert refusals._shared is not None
    os.eventfd_write(refusals._shared, 2**64 - 2)

    refusals.count_refusal()

    assert refusals.total_refusals() == 2**64 - 2
