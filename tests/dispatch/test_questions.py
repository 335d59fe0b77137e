"""Questions with deadlines, each in a context of its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from thespian.actors import InvalidActorAddress

from pixir_actors.actors import messages as m
from pixir_actors.actors.messages import SUPERVISOR_NAME
from pixir_actors.actors.supervisor import SupervisorActor
from pixir_actors.dispatch import questions as module
from pixir_actors.dispatch.questions import Questions
from pixir_actors.errors import PixirError, SystemStartFailed
from tests.conftest import until, within
from tests.dispatch.systems import System

QUESTION = m.GetStatus(7)
ANSWER = m.StatusReport(7, ())
LATE = m.StatusReport(6, ())


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def link(system: System) -> Iterator[Questions]:
    link = Questions(system)
    yield link
    link.close()


def ask(link: Questions, timeout: float = 5.0, **options: Any) -> Any:
    return link.ask("address", QUESTION, timeout=timeout, **options)


def test_an_answer_comes_back_and_its_context_is_used_again(link: Questions, system: System) -> None:
    system.replies += [ANSWER, ANSWER]

    assert ask(link) is ANSWER
    assert ask(link) is ANSWER

    [context] = system.contexts
    assert context.asked == [("address", QUESTION)] * 2
    assert (context.entered, context.exited) == (1, 0)


def test_a_late_answer_to_an_earlier_question_is_not_taken_for_this_one_s(link: Questions, system: System) -> None:
    system.replies += [LATE, "anything", m.Found(7, None), ANSWER]

    assert ask(link) is ANSWER
    assert len(system.contexts[0].asked) == 1, "the question is not repeated"


@pytest.mark.parametrize("replies", [[], [LATE]])
def test_a_context_that_got_no_answer_in_time_is_thrown_away(
    link: Questions, system: System, replies: list[Any]
) -> None:
    system.replies += replies
    assert ask(link, timeout=0.02) is None
    system.replies.append(ANSWER)
    assert ask(link) is ANSWER

    first, second = system.contexts
    assert (first.exited, second.exited) == (1, 0)


def test_the_wait_for_an_answer_is_cut_into_slices_and_ends_in_time(
    link: Questions, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    system.sleep = sleep
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(module, "ASK_SLICE", 0.25)

    assert ask(link, timeout=0.625) is None

    assert system.patience == [0.25, 0.25, 0.125]


def test_where_nobody_is_there_it_does_not_wait(link: Questions, system: System) -> None:
    """Thespian's ask returns at once then, as it does when the time is up."""
    system.replies.append(None)
    began = time.monotonic()

    assert ask(link, timeout=60.0) is None

    assert time.monotonic() - began < within(1)
    assert system.contexts[0].exited == 1


def test_a_question_that_makes_no_sense_any_more_is_given_up(
    link: Questions, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_SLICE", 0.01)
    looks: list[int] = []

    def give_up() -> bool:
        looks.append(1)
        return len(looks) == 3

    assert ask(link, timeout=60.0, give_up=give_up) is None
    assert len(system.patience) == 3


def test_an_address_that_is_none_has_no_answer(link: Questions, system: System) -> None:
    system.replies.append(InvalidActorAddress("address", "gone"))

    assert ask(link) is None
    assert system.contexts[0].exited == 1


def test_what_interrupts_a_question_leaves_no_context(link: Questions, system: System) -> None:
    system.replies.append(KeyError("as if interrupted"))

    with pytest.raises(KeyError):
        ask(link)
    assert system.contexts[0].exited == 1


def test_questions_at_the_same_time_have_a_context_each_and_so_many_are_kept(
    link: Questions, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOLED_CONTEXTS", 1)
    system.replies += [lambda: ask(link), ANSWER]  # the second is asked while the first waits

    assert ask(link) is ANSWER
    inner, outer = sorted(system.contexts, key=lambda context: context.exited)
    assert (inner.exited, outer.exited) == (0, 1)


def test_a_closed_link_keeps_no_context(link: Questions, system: System) -> None:
    system.replies.append(ANSWER)
    ask(link)
    link.close()
    assert system.contexts[0].exited == 1
    system.replies.append(ANSWER)
    ask(link)
    assert system.contexts[1].exited == 1
    link.close()


def test_numbers_are_given_out_once_to_whichever_thread(link: Questions) -> None:
    numbers: list[int] = []

    def take() -> None:
        numbers.extend(link.number() for _ in range(500))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == list(range(1, 2001))


# The supervisor


def test_the_supervisor_is_found_by_its_name_once_and_again_when_it_is_doubted(
    link: Questions, system: System
) -> None:
    assert link.supervisor() == "supervisor 1"
    assert link.supervisor() == "supervisor 1"
    assert link.supervisor(again=True) == "supervisor 2"
    assert system.created == [(SupervisorActor, SUPERVISOR_NAME)] * 2


def test_a_system_that_does_not_answer_is_not_waited_for_for_long(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CREATE_TIMEOUT", 0.02)
    released = threading.Event()
    system.create = released.wait
    try:
        with pytest.raises(SystemStartFailed, match=r"within 0\.02 seconds"):
            Questions(system).supervisor()
    finally:
        released.set()
    assert until(lambda: not [one for one in threading.enumerate() if one.name == "pixir-create"])


def test_a_forked_process_is_told_to_make_its_own(link: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_pid", os.getpid() + 1)

    for use in (lambda: ask(link), link.supervisor):
        with pytest.raises(PixirError, match="forked"):
            use()
