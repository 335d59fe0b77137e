"""Messages between the supervisor and its connections: each has one end that takes it. What all messages have in common is
tried in test_messages.py."""

from __future__ import annotations

import inspect

import pytest

from pixir_actors.actors import connection, control, messages, supervisor
from pixir_actors.errors import ErrorCode

ALL = {kind for kind in vars(control).values() if inspect.isclass(kind) and kind.__module__ == control.__name__}
TO_CONNECTIONS = {control.Begin, control.RetireAnswer, control.Evict, control.StopConnection, control.DrainConnection}
TO_THE_SUPERVISOR = {control.Began, control.StartFailed, control.Report, control.Retire, control.EvictAnswer}


def test_each_message_has_one_end_that_takes_it() -> None:
    taken_there = set(connection._HANDLERS) & ALL | {control.Begin}  # which comes before all others
    taken_here = set(supervisor._HANDLERS) & ALL

    assert taken_there == TO_CONNECTIONS
    assert taken_here == TO_THE_SUPERVISOR
    assert taken_here | taken_there == ALL


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (control.Begin, control.Began),
        (control.Begin, control.StartFailed),
        (control.Retire, control.RetireAnswer),
        (control.Evict, control.EvictAnswer),
    ],
)
def test_an_answer_goes_the_other_way_and_says_what_it_answers(question: type, reply: type) -> None:
    assert (question in TO_CONNECTIONS) is (reply in TO_THE_SUPERVISOR)
    assert f"he answer to `{question.__name__}`" in (reply.__doc__ or "")


def test_none_of_them_is_among_the_public_ones() -> None:
    assert not [kind for kind in ALL if hasattr(messages, kind.__name__)]
    assert not ALL & set(messages.ANSWERS)


def test_a_connection_that_is_stopped_does_not_linger_unless_it_is_told_to() -> None:
    assert control.StopConnection(ErrorCode.CANCELLED) == control.StopConnection(ErrorCode.CANCELLED, linger=False)
