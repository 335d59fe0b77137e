"""Which connection serves a key, as far as one process knows."""

from __future__ import annotations

from typing import Any

import pytest

from pixir_actors.actors import messages as m
from pixir_actors.dispatch import dispatcher as module
from pixir_actors.dispatch.dispatcher import SUPERVISOR_PATIENCE, Connection, Dispatcher
from pixir_actors.errors import Delivery, ErrorCode, Failure, StreamError, SystemStartFailed
from pixir_actors.settings import Settings
from tests.dispatch.fakes import FakeLink, Town

ONE = Connection("c-1", "address of c-1")
TWO = Connection("c-2", "address of c-2")


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def town(link: FakeLink) -> Town:
    return Town(link)


@pytest.fixture
def dispatcher(link: FakeLink, town: Town) -> Dispatcher:
    return Dispatcher(link)


def ask(name: str = "a") -> m.EnsureStarted:
    return m.EnsureStarted.of(1, name, Settings())


def test_the_supervisor_is_asked_once_while_the_connection_s_channel_is_up(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    assert dispatcher.connection(ask()) == ONE
    link.alive.add("c-1")
    assert dispatcher.connection(ask()) == ONE

    assert len(link.asked) == 1
    assert link.known == {"c-1": "address of c-1"}


def test_a_connection_without_a_channel_is_asked_for_again(dispatcher: Dispatcher, link: FakeLink, town: Town) -> None:
    town.names.append("c-2")

    assert [dispatcher.connection(ask()), dispatcher.connection(ask())] == [ONE, TWO]


def test_a_fresh_one_is_asked_for_even_while_a_channel_is_up(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    town.names.append("c-2")
    link.alive |= {"c-1", "c-2"}
    assert dispatcher.connection(ask()) == ONE

    assert dispatcher.connection(ask(), fresh=True) == TWO
    assert dispatcher.connection(ask()) == TWO, "and is remembered"
    assert len(link.asked) == 2


def test_a_key_that_was_forgotten_is_asked_for_although_its_channel_is_still_up(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    town.names.append("c-2")
    link.alive.add("c-1")
    assert dispatcher.connection(ask()) == ONE

    dispatcher.forget(ask().key.reveal())

    assert dispatcher.connection(ask()) == TWO


def test_keys_are_told_apart(dispatcher: Dispatcher, link: FakeLink, town: Town) -> None:
    town.names.append("c-2")
    link.alive |= {"c-1", "c-2"}

    assert [dispatcher.connection(ask(name)) for name in "abab"] == [ONE, TWO, ONE, TWO]


def test_a_refusal_is_raised_as_it_is(dispatcher: Dispatcher, link: FakeLink) -> None:
    failure = Failure.of(ErrorCode.TOO_MANY_CONNECTIONS, Delivery.NOT_SENT, limit=3)
    link.answer = lambda address, question: m.StartRefused(1, failure)

    with pytest.raises(StreamError) as caught:
        dispatcher.connection(ask())

    assert caught.value.failure == failure


def test_a_supervisor_that_does_not_answer_is_looked_up_again(dispatcher: Dispatcher, link: FakeLink) -> None:
    answers: list[Any] = [None, m.Started(1, "c-1", "address of c-1")]
    link.answer = lambda address, question: answers.pop(0)

    assert dispatcher.connection(ask()) == ONE

    assert link.lookups == [False, True]
    assert link.asked[0][2] == SUPERVISOR_PATIENCE


@pytest.mark.parametrize("start_fails", [True, False])
def test_a_supervisor_that_never_answers_is_an_error_with_a_verdict(
    dispatcher: Dispatcher, link: FakeLink, start_fails: bool
) -> None:
    def lookup(*, again: bool = False) -> Any:
        if again and start_fails:
            raise SystemStartFailed("no admin")
        return "supervisor"

    link.supervisor = lookup  # type: ignore[method-assign]
    link.answer = lambda address, question: None

    with pytest.raises(StreamError) as caught:
        dispatcher.connection(ask())
    assert (caught.value.code, caught.value.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.NOT_SENT)
    with pytest.raises(StreamError) as caught:
        dispatcher.ask_supervisor(m.GetStatus(1))
    assert caught.value.code is ErrorCode.CONNECTION_UNRESPONSIVE


@pytest.mark.parametrize("answers_again", [True, False])
def test_a_system_that_answers_nothing_is_restarted_for_a_request_once_and_for_nothing_else(
    dispatcher: Dispatcher, link: FakeLink, town: Town, answers_again: bool
) -> None:
    link.restartable = True
    answer = link.answer
    link.answer = lambda address, question: answer(address, question) if link.restarts and answers_again else None

    with pytest.raises(StreamError):
        dispatcher.ask_supervisor(m.GetStatus(1))
    assert dispatcher.ended(ONE) is None
    assert link.restarts == []

    if answers_again:
        assert dispatcher.connection(ask()) == ONE
    else:
        with pytest.raises(StreamError):
            dispatcher.connection(ask())
    assert link.restarts == ["supervisor"]


def test_a_supervisor_that_answers_what_it_can_at_once_is_not_restarted_over_a_question_that_takes_its_time(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    link.restartable = True
    link.answer = lambda address, question: (
        m.StatusReport(question.ask_id, ()) if isinstance(question, m.GetStatus) else None
    )

    with pytest.raises(StreamError) as caught:
        dispatcher.connection(ask())

    assert (caught.value.code, caught.value.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.NOT_SENT)
    assert link.restarts == []
    assert [type(question) for _, question, _ in link.asked] == [m.EnsureStarted, m.EnsureStarted, m.GetStatus]
    assert link.asked[-1][2] == SUPERVISOR_PATIENCE


def test_the_supervisor_says_whether_a_connection_has_ended(dispatcher: Dispatcher, link: FakeLink, town: Town) -> None:
    town.examined.extend([True, False, None, None])

    assert [dispatcher.ended(ONE), dispatcher.ended(ONE), dispatcher.ended(ONE)] == [True, False, None]
    assert {suspect.connection_id for suspect in link.questions(m.Suspect)} == {"c-1"}


def test_a_client_that_closes_meanwhile_is_told_so(dispatcher: Dispatcher, link: FakeLink) -> None:
    def closes(address: Any, question: Any) -> Any:
        dispatcher.closing = True

    link.answer = closes

    with pytest.raises(StreamError) as caught:
        dispatcher.connection(ask())
    assert caught.value.code is ErrorCode.SHUTTING_DOWN


def test_a_closed_client_asks_nobody(dispatcher: Dispatcher, link: FakeLink) -> None:
    dispatcher.closing = True

    for question in (lambda: dispatcher.connection(ask()), lambda: dispatcher.ask_supervisor(m.GetStatus(1))):
        with pytest.raises(StreamError) as caught:
            question()
        assert (caught.value.code, caught.value.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)
    assert link.asked == []


def test_other_questions_have_their_answer_returned(dispatcher: Dispatcher, link: FakeLink) -> None:
    link.answer = lambda address, question: m.StatusReport(question.ask_id, ())

    assert dispatcher.ask_supervisor(m.GetStatus(7)) == m.StatusReport(7, ())


def test_what_is_remembered_is_bounded_by_the_channels_that_are_up(
    dispatcher: Dispatcher, link: FakeLink, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENTLY", -1.0)
    town.names.extend(f"c-{number}" for number in range(2, 1000))
    link.alive.add("c-1")
    for number in range(600):
        dispatcher.connection(ask(str(number)))

    assert len(dispatcher._known) <= 300
    assert dispatcher.connection(ask("0")) == ONE


def test_of_a_thousand_keys_each_is_asked_for_once(dispatcher: Dispatcher, link: FakeLink, town: Town) -> None:
    """However many start at once: each channel comes up only when its key's connection has been named."""
    names = [f"c-{number}" for number in range(1, 1001)]
    town.names.extend(names[1:])
    for number in range(1000):
        dispatcher.connection(ask(str(number)))
        if number >= 8:
            link.alive.add(names[number - 8])
    link.alive.update(names)
    link.asked.clear()

    assert [dispatcher.connection(ask(str(number))).connection_id for number in range(1000)] == names
    assert link.asked == []
