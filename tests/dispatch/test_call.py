"""A request on its way to a connection, and what becomes of it when something dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pixir_actors.actors import messages as m
from pixir_actors.actors.submission import submission_from
from pixir_actors.channel import ChannelLost, Frame, FrameType, InboxClosed, ListenerClosed, Loss
from pixir_actors.channel.frame import failure_from, failure_payload
from pixir_actors.core.state import Purpose
from pixir_actors.dispatch import placement as module
from pixir_actors.dispatch.call import LAST_FRAMES, PROBE_AFTER, Call
from pixir_actors.dispatch.dispatcher import Dispatcher
from pixir_actors.dispatch.loop import LoopReader, LoopSide
from pixir_actors.dispatch.placement import CANCEL_TIMEOUT, PLACEMENTS, PROBE_TIMEOUT, SUBMIT_TIMEOUT, TIMEOUT_GRACE
from pixir_actors.errors import Delivery, ErrorCode, Failure, InvalidRequest, PixirError, StreamError
from pixir_actors.settings import Settings
from tests.actors.fakes import submit
from tests.dispatch.fakes import BROKEN, GOODBYE, MOVED, FakeLink, FakeSource, Town, frame

DATA = frame(FrameType.DATA, b"{}")
METADATA = frame(FrameType.METADATA, b"{}")
SENDING = frame(FrameType.SENDING, b"1")
QUEUED = frame(FrameType.QUEUED, b"0")
FINISHED = frame(FrameType.FINISHED)


class OneByOne(Call):
    """A call that is read in either of the ways there are, and whose frames are taken one by one."""

    fetch: Callable[[Call], list[Frame]]
    taken: Iterator[Frame] = iter(())

    def next_frame(self) -> Frame:
        frame = next(self.taken, None)
        if frame is None:
            frame, *rest = OneByOne.fetch(self)
            self.taken = iter(rest)
        return frame


class Unhurried(LoopReader):
    """Takes frames as the tests' sources give them: in no time."""

    async def _frames_of(self, source: Any, timeout: float) -> Any:
        return source.take(timeout)


@pytest.fixture(params=["thread", "loop"], autouse=True)
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have calls read on a thread, and then on an event loop."""
    if request.param == "thread":
        monkeypatch.setattr(OneByOne, "fetch", staticmethod(Call.next_frames), raising=False)
        yield
        return
    with asyncio.Runner() as runner:
        side = LoopSide(runner.get_loop())
        readers: dict[Call, LoopReader] = {}

        def fetch(call: Call) -> list[Frame]:
            reader = readers.setdefault(call, Unhurried(call, side))
            return runner.run(reader.frames())

        monkeypatch.setattr(OneByOne, "fetch", staticmethod(fetch), raising=False)
        yield
        side.close()


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def town(link: FakeLink) -> Town:
    return Town(link)


@pytest.fixture
def dispatcher(link: FakeLink, town: Town) -> Dispatcher:
    return Dispatcher(link)


def call(dispatcher: Dispatcher, *script: Any, **options: Any) -> OneByOne:
    """Submit a request; its source has `script` to give."""
    number = dispatcher.link.number()
    made = OneByOne(dispatcher, m.EnsureStarted.of(number, "a", Settings()), submit(dispatcher.link.number(), **options))
    made.submit()
    source(dispatcher).script.extend(script)
    return made


def source(dispatcher: Dispatcher) -> FakeSource:
    """Return the newest source."""
    newest = dispatcher.link.sources[-1]  # type: ignore[attr-defined]
    assert isinstance(newest, FakeSource)
    return newest


def failing(made: OneByOne) -> StreamError:
    """Read a call until it raises."""
    with pytest.raises(StreamError) as caught:
        while True:
            made.next_frame()
    return caught.value


# On its way


def test_frames_about_the_request_s_way_are_kept_back(dispatcher: Dispatcher) -> None:
    made = call(dispatcher, QUEUED, SENDING, METADATA, DATA, SENDING, DATA, FINISHED)

    assert [made.next_frame() for _ in range(4)] == [METADATA, DATA, DATA, FINISHED]
    assert source(dispatcher).closed
    assert source(dispatcher).bound[0] == "c-1"


def test_frames_that_come_together_are_taken_together(dispatcher: Dispatcher) -> None:
    made = call(dispatcher, [QUEUED, SENDING], [SENDING, METADATA, DATA], [DATA, FINISHED])

    assert [made.next_frame() for _ in range(4)] == [METADATA, DATA, DATA, FINISHED]


@pytest.mark.parametrize("script", [[[QUEUED, SENDING, METADATA, DATA]], [[QUEUED, SENDING], [METADATA, DATA]]])
def test_each_of_them_counts_for_the_verdict(dispatcher: Dispatcher, script: list[Any]) -> None:
    assert failing(call(dispatcher, [QUEUED], ChannelLost(BROKEN))).delivery is Delivery.NOT_SENT
    assert failing(call(dispatcher, [QUEUED, SENDING], ChannelLost(BROKEN))).delivery is Delivery.AMBIGUOUS
    assert failing(call(dispatcher, *script, ChannelLost(BROKEN))).delivery is Delivery.ACCEPTED


def test_of_an_answer_that_has_come_as_a_whole_its_connection_hears_only_that_it_was_not_taken_well(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    """Its caller may have read but the first of these frames."""
    for callback_failed in (False, True):
        made = call(dispatcher, [SENDING, METADATA, DATA, FINISHED])
        made.next_frame()
        made.cancel(callback_failed=callback_failed)
        made.cancel(callback_failed=callback_failed)

    [cancel] = link.questions(m.Cancel)
    assert cancel == m.Cancel(link.sources[1].request_id, None, callback_failed=True)


def test_a_failure_is_the_last_frame(dispatcher: Dispatcher, link: FakeLink) -> None:
    failed = frame(FrameType.FAILED, failure_payload(Failure.of(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT)))
    made = call(dispatcher, QUEUED, failed)

    assert made.next_frame() == failed
    assert source(dispatcher).closed
    made.cancel()
    assert link.questions(m.Cancel) == [], "it has ended"


def test_a_refused_request_is_raised_as_it_is(dispatcher: Dispatcher, town: Town) -> None:
    failure = Failure.of(ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT, reason="channel_descriptors")
    town.submitted = lambda made, _: m.Refused(made.request_id, failure)

    with pytest.raises(StreamError) as caught:
        call(dispatcher)
    assert caught.value.failure == failure
    assert source(dispatcher).closed


def test_a_request_that_cannot_be_sent_is_invalid_again(dispatcher: Dispatcher, town: Town) -> None:
    failure = Failure.of(ErrorCode.INVALID_PROVIDER_REQUEST, Delivery.NOT_SENT, field="url", problem="has no host")
    town.submitted = lambda made, _: m.Refused(made.request_id, failure)

    with pytest.raises(InvalidRequest) as caught:
        call(dispatcher)
    assert (caught.value.field, caught.value.problem) == ("url", "has no host")


# Brought to the next connection


@pytest.mark.parametrize("apart", [True, False])
def test_a_request_that_was_sent_back_is_brought_to_a_fresh_connection_under_a_new_number(
    dispatcher: Dispatcher, link: FakeLink, town: Town, apart: bool
) -> None:
    """The one that sent it back lingers with its channel up: it must not be had from memory again."""
    sent_back = frame(FrameType.FAILED, MOVED)
    town.names.append("c-2")
    link.alive |= {"c-1", "c-2"}
    made = call(dispatcher, *([QUEUED, sent_back] if apart else [[QUEUED, sent_back]]))
    town.submitted = lambda again, new: new.script.extend([METADATA, FINISHED]) or town.accept(again, new)

    assert [made.next_frame(), made.next_frame()] == [METADATA, FINISHED]

    first, second = link.questions(m.Submit)
    assert first.request_id != second.request_id
    assert first.body == second.body
    assert link.sources[0].closed
    assert link.sources[1].bound[-1] == "c-2"


def test_a_request_that_is_always_sent_back_gives_up(dispatcher: Dispatcher, link: FakeLink, town: Town) -> None:
    town.names.extend(f"c-{number}" for number in range(2, 20))
    town.submitted = lambda made, new: new.script.append(frame(FrameType.FAILED, MOVED)) or town.accept(made, new)

    error = failing(call(dispatcher))

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT)
    submits = link.questions(m.Submit)
    assert len(submits) == PLACEMENTS
    assert len({made.request_id for made in submits}) == PLACEMENTS


def test_a_request_that_is_sent_back_by_the_same_one_again_is_tried_again(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    """The supervisor may not have heard yet that it has gone."""
    made = call(dispatcher, frame(FrameType.FAILED, MOVED))
    town.submitted = lambda again, new: new.script.append(FINISHED) or town.accept(again, new)

    assert made.next_frame() == FINISHED


def test_a_connection_that_does_not_answer_is_replaced_by_the_supervisor_s_next(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    """It has ended by then: the supervisor sees to that."""
    town.names.append("c-2")
    town.examined.append(True)
    town.submitted = lambda made, new: town.accept(made, new) if new.bound[-1] == "c-2" else None

    made = call(dispatcher, FINISHED)

    assert made.next_frame() == FINISHED
    assert [new.closed for new in link.sources] == [True, True]
    assert [suspect.connection_id for suspect in link.questions(m.Suspect)] == ["c-1"]


@pytest.mark.parametrize("lives", [True, False], ids=["it lives", "nobody knows"])
def test_a_connection_that_does_not_answer_and_has_not_ended_may_have_the_request(
    dispatcher: Dispatcher, town: Town, lives: bool
) -> None:
    town.submitted = lambda made, new: None
    town.examined.extend([False] if lives else [None, None])
    town.probed.append(None)

    with pytest.raises(StreamError) as caught:
        call(dispatcher)

    assert (caught.value.code, caught.value.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.AMBIGUOUS)


@pytest.mark.parametrize("ended", [True, False])
def test_frames_that_come_while_a_silent_connection_is_examined_are_the_request_s(
    dispatcher: Dispatcher, link: FakeLink, town: Town, ended: bool
) -> None:
    """It was brought to the connection after all: bringing it to another might run it twice."""
    answer = link.answer
    town.submitted = lambda made, new: None
    town.examined.append(ended)
    town.probed.append(True)

    def meanwhile(address: Any, question: Any) -> Any:
        if isinstance(question, m.Suspect):
            source(dispatcher).started = True
        return answer(address, question)

    link.answer = meanwhile
    made = call(dispatcher, SENDING, *([ChannelLost(BROKEN)] if ended else [FINISHED]))

    if ended:
        assert failing(made).delivery is Delivery.AMBIGUOUS
    else:
        assert made.next_frame() == FINISHED
    assert len(link.questions(m.Submit)) == 1


def test_a_frame_says_as_much_as_an_answer(dispatcher: Dispatcher, link: FakeLink, town: Town) -> None:
    def started(made: m.Submit, new: FakeSource) -> None:
        new.started = True

    town.submitted = started
    made = call(dispatcher, FINISHED)

    assert made.next_frame() == FINISHED
    assert len(link.sources) == 1


# Verdicts


LOSSES = [None, BROKEN, GOODBYE]
"""How the frames end: the source is closed by another thread, or its channel is lost."""


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("event", [True, False], ids=["event", "no event"])
@pytest.mark.parametrize("sending", [True, False], ids=["sending", "not sending"])
def test_the_verdict_says_what_is_known_of_the_request(
    dispatcher: Dispatcher, sending: bool, event: bool, loss: Loss | None
) -> None:
    """A connection waits with a request until the word that it sends it is in the kernel's hands."""
    script = [frame for frame, there in ((SENDING, sending), (METADATA, event), (DATA, event)) if there]

    made = call(dispatcher, QUEUED, *script, InboxClosed() if loss is None else ChannelLost(loss))
    source(dispatcher).started = True

    error = failing(made)

    if event:
        expected = Delivery.ACCEPTED
    elif sending or loss is None:
        expected = Delivery.AMBIGUOUS
    else:
        expected = Delivery.NOT_SENT
    assert error.delivery is expected
    assert error.code is (ErrorCode.CANCELLED if loss is None else ErrorCode.CONNECTION_LOST)
    assert source(dispatcher).closed


RETRIES = [
    ((SENDING,), {}, Purpose.RUN, False),
    ((SENDING,), {"retry_ambiguous": True}, Purpose.RUN, True),
    ((SENDING,), {"retry_ambiguous": True}, Purpose.OPEN, False),
    ((SENDING, METADATA), {"retry_ambiguous": True}, Purpose.RUN, False),
    ((SENDING, METADATA, DATA), {"retry_ambiguous": True}, Purpose.RUN, False),
]


@pytest.mark.parametrize(("script", "options", "purpose", "again"), RETRIES)
def test_a_request_that_may_have_run_goes_out_again_only_if_its_caller_wants_it(
    dispatcher: Dispatcher, link: FakeLink, script: tuple[Any, ...], options: dict[str, Any], purpose: Purpose, again: bool
) -> None:
    made = replace(submit(dispatcher.link.number(), **options), purpose=purpose)
    sent = OneByOne(dispatcher, m.EnsureStarted.of(1, "a", Settings()), made)
    sent.submit()
    source(dispatcher).script.extend([*script, ChannelLost(BROKEN)])
    link.answer = once_more(link, link.answer)

    error = failing(sent)

    assert error.code is ErrorCode.CONNECTION_LOST
    assert len(link.questions(m.Submit)) == 1 + again, "once more, and not for ever"


def once_more(link: FakeLink, answer: Any) -> Any:
    """Let what is submitted from now on be lost as well."""

    def lost(address: Any, question: Any) -> Any:
        if isinstance(question, m.Submit):
            link.sources[-1].script.extend([SENDING, ChannelLost(BROKEN)])
        return answer(address, question)

    return lost


def rejected(code: ErrorCode, delivery: Delivery) -> Any:
    failure = Failure.of(code, delivery)
    return frame(FrameType.FAILED, failure_payload(failure))


AFTER_A_RETRY = [
    [ChannelLost(BROKEN)],
    [QUEUED, ChannelLost(BROKEN)],
    [rejected(ErrorCode.QUEUE_FULL, Delivery.NOT_SENT)],
    [SENDING, frame(FrameType.FINISHED, failure_payload(Failure.of(ErrorCode.PROVIDER_HTTP_ERROR, Delivery.REJECTED)))],
]
"""What becomes of the second attempt: by itself, it was not sent, or did not run."""


@pytest.mark.parametrize("second", AFTER_A_RETRY, ids=repr)
def test_the_verdict_is_over_the_request_and_not_over_its_second_attempt(
    dispatcher: Dispatcher, link: FakeLink, town: Town, second: list[Any]
) -> None:
    made = call(dispatcher, SENDING, ChannelLost(BROKEN), retry_ambiguous=True)
    town.submitted = lambda again, new: new.script.extend(second) or town.accept(again, new)

    try:
        frame = made.next_frame()
    except StreamError as error:
        assert error.delivery is Delivery.AMBIGUOUS
    else:
        assert failure_from(frame.payload).delivery is Delivery.AMBIGUOUS
    assert len(link.questions(m.Submit)) == 2


@pytest.mark.parametrize("why", ["refused", "not started", "late"])
def test_a_second_attempt_that_finds_no_connection_does_not_make_the_first_unsent(
    dispatcher: Dispatcher, link: FakeLink, town: Town, clock: Clock, why: str
) -> None:
    made = call(dispatcher, SENDING, ChannelLost(BROKEN), retry_ambiguous=True, timeout=5.0)
    answer = link.answer
    full = Failure.of(ErrorCode.TOO_MANY_CONNECTIONS, Delivery.NOT_SENT)
    if why == "refused":
        town.submitted = lambda again, _: m.Refused(again.request_id, full)
    elif why == "not started":
        link.answer = lambda address, question: (
            m.StartRefused(question.ask_id, full)
            if isinstance(question, m.EnsureStarted)
            else answer(address, question)
        )
    else:
        source(dispatcher).takes = [0.0, 60.0]

    assert failing(made).delivery is Delivery.AMBIGUOUS
    assert all(one.closed for one in link.sources)


@pytest.mark.parametrize("sending", [True, False], ids=["sending", "not sending"])
def test_a_client_that_closes_ends_its_streams_and_claims_nothing(dispatcher: Dispatcher, sending: bool) -> None:
    """Closing, it did not read to the end: the word that the request is sent may be among what it did not read."""
    for ending in (ListenerClosed("closed"), InboxClosed(), ChannelLost(BROKEN)):
        made = call(dispatcher, *([SENDING] if sending else []), ending)
        dispatcher.closing = True
        error = failing(made)
        assert (error.code, error.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.AMBIGUOUS)
        dispatcher.closing = False


def test_a_listener_that_is_closed_under_an_open_client_is_an_error_of_its_own(dispatcher: Dispatcher) -> None:
    made = call(dispatcher, ListenerClosed("forked"))

    with pytest.raises(PixirError, match="forked"):
        made.next_frame()


def test_a_request_that_is_sent_back_to_a_closing_client_is_not_brought_on(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    made = call(dispatcher, frame(FrameType.FAILED, MOVED))
    dispatcher.closing = True

    assert made.next_frame().type == FrameType.FAILED
    assert len(link.questions(m.Submit)) == 1


# Silence


def test_a_silent_connection_is_asked_and_waited_for_while_it_has_the_request(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    town.probed.extend([True, True])
    made = call(dispatcher, SENDING, None, None, FINISHED)

    assert made.next_frame() == FINISHED

    assert [probe.request_id for probe in link.questions(m.Probe)] == [link.sources[0].request_id] * 2
    assert link.sources[0].waits == [PROBE_AFTER] * 4


@pytest.mark.parametrize(
    ("script", "verdict"), [((), Delivery.AMBIGUOUS), ((SENDING, METADATA, DATA), Delivery.ACCEPTED)]
)
def test_a_silent_connection_that_nobody_can_examine_is_unresponsive(
    dispatcher: Dispatcher, town: Town, script: tuple[Any, ...], verdict: Delivery
) -> None:
    town.probed.append(None)
    town.examined.extend([None, None])

    error = failing(call(dispatcher, *script, None))

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, verdict)


@pytest.mark.parametrize(
    ("script", "verdict"),
    [((QUEUED,), Delivery.NOT_SENT), ((SENDING,), Delivery.AMBIGUOUS), ((SENDING, DATA), Delivery.ACCEPTED)],
)
def test_of_a_silent_connection_that_was_killed_the_last_word_is_the_verdict(
    dispatcher: Dispatcher, town: Town, script: tuple[Any, ...], verdict: Delivery
) -> None:
    town.probed.append(None)
    town.examined.append(True)

    error = failing(call(dispatcher, None, *script, ChannelLost(BROKEN)))

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, verdict)


def test_a_silent_connection_that_lives_after_all_gets_another_chance_once(dispatcher: Dispatcher, town: Town) -> None:
    town.probed.extend([None, None])
    town.examined.append(False)
    made = call(dispatcher, SENDING, None, METADATA, None)

    assert made.next_frame() == METADATA
    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_UNRESPONSIVE, Delivery.AMBIGUOUS)


def test_last_frames_that_are_still_on_their_way_are_waited_for(dispatcher: Dispatcher, town: Town) -> None:
    town.probed.append(False)
    made = call(dispatcher, SENDING, None, DATA, FINISHED)

    assert [made.next_frame(), made.next_frame()] == [DATA, FINISHED]
    assert LAST_FRAMES in source(dispatcher).waits


def test_a_request_that_its_connection_does_not_have_is_lost(dispatcher: Dispatcher, town: Town) -> None:
    town.probed.append(False)

    error = failing(call(dispatcher, SENDING, None, None))

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.AMBIGUOUS)


@pytest.mark.parametrize(
    ("ending", "code"), [(ChannelLost(BROKEN), ErrorCode.CONNECTION_LOST), (InboxClosed(), ErrorCode.CANCELLED)]
)
def test_what_happens_while_last_frames_are_waited_for_is_told_in_the_same_words(
    dispatcher: Dispatcher, town: Town, ending: Exception, code: ErrorCode
) -> None:
    town.probed.append(False)

    error = failing(call(dispatcher, SENDING, None, ending))

    assert (error.code, error.delivery) == (code, Delivery.AMBIGUOUS)


def test_a_channel_that_breaks_while_the_connection_is_asked_is_a_loss(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    made = call(dispatcher, SENDING, None)
    answer = link.answer

    def breaks(address: Any, question: Any) -> Any:
        if isinstance(question, m.Probe):
            source(dispatcher).lost = BROKEN
            return None
        return answer(address, question)

    link.answer = breaks
    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.AMBIGUOUS)


def test_a_question_is_given_up_when_the_channel_breaks_but_not_for_a_goodbye(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    asked: list[Any] = []
    ask = link.ask

    def watched(address: Any, question: Any, *, timeout: float, give_up: Any = lambda: False) -> Any:
        asked.append(give_up)
        return ask(address, question, timeout=timeout)

    link.ask = watched  # type: ignore[method-assign]
    call(dispatcher, FINISHED)
    give_up = asked[-1]

    assert [give_up(), setattr(source(dispatcher), "lost", GOODBYE), give_up()] == [False, None, False]
    source(dispatcher).lost = BROKEN
    assert give_up()


@pytest.mark.parametrize("kind", [m.Submit, m.Probe])
def test_a_question_is_given_up_once_frames_have_come(
    dispatcher: Dispatcher, link: FakeLink, town: Town, kind: type
) -> None:
    """They say more than the answer would, which may be behind many of them."""
    ask = link.ask
    given_up: list[bool] = []

    def watched(address: Any, question: Any, *, timeout: float, give_up: Any = lambda: False) -> Any:
        if isinstance(question, kind):
            before, source(dispatcher).started = give_up(), True
            given_up.extend([before, give_up()])
        return ask(address, question, timeout=timeout)

    link.ask = watched  # type: ignore[method-assign]
    town.probed.append(True)
    assert call(dispatcher, None, FINISHED).next_frame() == FINISHED

    assert given_up == [False, True]


# Time


class Clock:
    """Time passes in waits only."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Make a wait in which nothing comes take its whole time."""
    clock = Clock()
    take = FakeSource.take

    def timed(source: FakeSource, timeout: float | None = None) -> Any:
        taken = source.takes.pop(0) if source.takes else 0.0
        try:
            frames = take(source, timeout)
        finally:
            clock.now += taken
        if frames is None:
            clock.now += timeout or 0.0
        return frames

    monkeypatch.setattr(FakeSource, "take", timed)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    yield clock


LATE = [
    ((), Delivery.AMBIGUOUS),
    ((QUEUED,), Delivery.AMBIGUOUS),
    ((SENDING,), Delivery.AMBIGUOUS),
    ((SENDING, DATA), Delivery.ACCEPTED),
]


@pytest.mark.parametrize(("script", "verdict"), LATE)
def test_a_request_whose_connection_does_not_end_it_in_time_is_ended_here(
    dispatcher: Dispatcher, link: FakeLink, clock: Clock, script: tuple[Any, ...], verdict: Delivery
) -> None:
    made = call(dispatcher, *script, None, timeout=3.0)

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.REQUEST_TIMEOUT, verdict)
    assert clock.now == pytest.approx(1000.0 + 3.0 + TIMEOUT_GRACE)
    assert len(link.questions(m.Cancel)) == 1, "the connection may be at it still"
    assert link.questions(m.Probe) == []
    assert source(dispatcher).closed


def test_a_connection_has_some_grace_to_end_a_request_with_a_verdict_of_its_own(
    dispatcher: Dispatcher, clock: Clock
) -> None:
    late = rejected(ErrorCode.REQUEST_TIMEOUT, Delivery.NOT_SENT)
    made = call(dispatcher, late, timeout=3.0)
    source(dispatcher).takes = [3.0 + TIMEOUT_GRACE / 2]

    assert made.next_frame() == late


def test_a_silent_connection_is_asked_before_a_deadline_that_is_far(
    dispatcher: Dispatcher, link: FakeLink, town: Town, clock: Clock
) -> None:
    town.probed.extend([True, True])
    made = call(dispatcher, None, None, FINISHED, timeout=60.0)

    assert made.next_frame() == FINISHED
    assert len(link.questions(m.Probe)) == 2


def test_without_a_timeout_there_is_no_deadline(dispatcher: Dispatcher, town: Town, clock: Clock) -> None:
    town.probed.extend([True] * 1000)
    made = call(dispatcher, *[None] * 1000, FINISHED)

    assert made.next_frame() == FINISHED


def test_questions_wait_no_longer_than_the_request_may_take(
    dispatcher: Dispatcher, link: FakeLink, clock: Clock
) -> None:
    call(dispatcher, timeout=3.0)
    call(dispatcher, timeout=60.0)

    timeouts = [timeout for _, question, timeout in link.asked if isinstance(question, m.Submit)]
    assert timeouts == [pytest.approx(3.0 + TIMEOUT_GRACE), SUBMIT_TIMEOUT]
    assert PROBE_TIMEOUT < 60.0


def test_no_connection_is_asked_for_when_the_time_has_passed(
    dispatcher: Dispatcher, link: FakeLink, town: Town, clock: Clock
) -> None:
    town.examined.append(True)

    def silent(made: m.Submit, new: FakeSource) -> None:
        clock.now += 10.0

    town.submitted = silent

    with pytest.raises(StreamError) as caught:
        call(dispatcher, timeout=3.0)

    assert (caught.value.code, caught.value.delivery) == (ErrorCode.REQUEST_TIMEOUT, Delivery.NOT_SENT)
    assert len(link.questions(m.EnsureStarted)) == 1
    assert source(dispatcher).closed


# Cancelling


def test_a_cancel_is_told_once(dispatcher: Dispatcher, link: FakeLink) -> None:
    made = call(dispatcher, DATA)
    made.cancel(callback_failed=True)
    made.cancel()

    [cancel] = link.questions(m.Cancel)
    assert cancel == m.Cancel(link.sources[0].request_id, None, callback_failed=True)
    assert source(dispatcher).closed
    assert failing(made).code is ErrorCode.CANCELLED


def test_a_closing_client_tells_nobody(dispatcher: Dispatcher, link: FakeLink) -> None:
    made = call(dispatcher)
    dispatcher.closing = True
    made.cancel()

    assert link.questions(m.Cancel) == []
    assert source(dispatcher).closed


def test_a_stream_that_was_dropped_lets_go_without_a_word(dispatcher: Dispatcher, link: FakeLink) -> None:
    made = call(dispatcher, DATA)
    asked = len(link.asked)
    made.abandon()
    made.abandon()
    made.cancel()

    assert source(dispatcher).dropped, "a destructor must not wait for a lock"
    assert len(link.asked) == asked


def test_one_that_is_found_slow_on_this_side_is_cancelled_at_its_connection(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    slow = rejected(ErrorCode.SLOW_CONSUMER, Delivery.ACCEPTED)
    made = call(dispatcher, SENDING, DATA, slow)

    assert [made.next_frame(), made.next_frame()] == [DATA, slow]
    assert link.questions(m.Cancel) == [m.Cancel(link.sources[0].request_id)]
    assert source(dispatcher).closed


def cancelling(
    link: FakeLink, holder: list[OneByOne], during: type, how: Callable[[OneByOne], None] = OneByOne.cancel
) -> None:
    """Have another thread cancel a request while it is being placed."""
    answer = link.answer

    def meanwhile(address: Any, question: Any) -> Any:
        if isinstance(question, during) and holder:
            how(holder.pop())
        return answer(address, question)

    link.answer = meanwhile


@pytest.mark.parametrize("how", [OneByOne.cancel, OneByOne.disown])
def test_one_that_is_cancelled_while_its_next_connection_is_looked_for_is_not_submitted_again(
    dispatcher: Dispatcher, link: FakeLink, town: Town, how: Callable[[OneByOne], None]
) -> None:
    town.names.append("c-2")
    made = call(dispatcher, frame(FrameType.FAILED, MOVED))
    cancelling(link, [made], m.EnsureStarted, how)

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CANCELLED, Delivery.NOT_SENT)
    assert len(link.questions(m.Submit)) == 1
    assert all(one.closed for one in link.sources)


def test_one_that_is_cancelled_while_it_is_brought_on_is_cancelled_where_it_arrives(
    dispatcher: Dispatcher, link: FakeLink, town: Town
) -> None:
    """The first cancel may come before the request, to whoever had it last: nobody would end it."""
    town.names.append("c-2")
    made = call(dispatcher, frame(FrameType.FAILED, MOVED))
    cancelling(link, [made], m.Submit)
    accepted: list[int] = []
    town.submitted = lambda again, new: accepted.append(len(link.asked)) or town.accept(again, new)

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CANCELLED, Delivery.AMBIGUOUS)
    newest = link.questions(m.Submit)[-1]
    told = [(to, question.request_id) for to, question, _ in link.asked[accepted[-1] :] if isinstance(question, m.Cancel)]
    assert told == [("address of c-2", newest.request_id)]
    assert all(one.closed for one in link.sources)


@pytest.mark.parametrize("during", [m.Submit, m.EnsureStarted])
def test_an_interrupt_while_a_request_is_placed_leaves_nothing_behind(
    dispatcher: Dispatcher, link: FakeLink, during: type
) -> None:
    answer = link.answer

    def interrupted(address: Any, question: Any) -> Any:
        if isinstance(question, during):
            raise KeyboardInterrupt
        return answer(address, question)

    link.answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        call(dispatcher)

    assert all(one.closed for one in link.sources)
    submitted = [made.request_id for made in link.questions(m.Submit)]
    assert [made.request_id for made in link.questions(m.Cancel)] == submitted, "it may have arrived"
    assert all(timeout <= CANCEL_TIMEOUT for _, question, timeout in link.asked if isinstance(question, m.Cancel))


@pytest.mark.parametrize("moved", [True, False], ids=["sent back", "sent again"])
def test_a_request_for_which_there_is_no_connection_any_more_leaves_nothing_open(
    dispatcher: Dispatcher, link: FakeLink, moved: bool
) -> None:
    script = [frame(FrameType.FAILED, MOVED)] if moved else [SENDING, ChannelLost(BROKEN)]
    made = call(dispatcher, *script, retry_ambiguous=True)
    full = Failure.of(ErrorCode.TOO_MANY_CONNECTIONS, Delivery.NOT_SENT)
    link.answer = lambda address, question: (
        m.StartRefused(question.ask_id, full) if isinstance(question, m.EnsureStarted) else None
    )

    assert failing(made).code is ErrorCode.TOO_MANY_CONNECTIONS
    assert source(dispatcher).closed


# Over the channel


@pytest.fixture
def channels(link: FakeLink) -> FakeLink:
    """Have the channels of two connections up."""
    link.alive |= {"c-1", "c-2"}
    link.channels_take = True
    return link


def submits(link: FakeLink) -> list[Frame]:
    return [frame for _, frame, _ in link.taken if frame.type == FrameType.SUBMIT]


def cancels(link: FakeLink) -> list[Frame]:
    return [frame for _, frame, _ in link.taken if frame.type == FrameType.CANCEL]


def test_where_a_channel_is_up_the_request_goes_over_it_and_nobody_is_asked(
    dispatcher: Dispatcher, channels: FakeLink
) -> None:
    dispatcher.connection(m.EnsureStarted.of(1, "session", Settings()))
    channels.asked.clear()
    number = channels.number()
    ask = m.EnsureStarted.of(number, "session", Settings())
    made = OneByOne(dispatcher, ask, submit(channels.number(), timeout=60.0))
    made.submit()
    source(dispatcher).script.extend([QUEUED, SENDING, METADATA, DATA, FINISHED])

    assert [made.next_frame() for _ in range(3)] == [METADATA, DATA, FINISHED]
    made.cancel()

    assert channels.asked == []
    [(connection_id, frame, request_id)] = channels.taken
    assert (connection_id, request_id) == ("c-1", source(dispatcher).request_id)
    sent = submission_from(frame.payload, request_id=frame.request_id, channel="/channel")
    assert sent.request_id == request_id
    assert sent.settings.timeout == 60.0
    assert source(dispatcher).bound == ["c-1"], "its end is this request's loss"


def test_its_frames_may_come_before_sending_has_returned(dispatcher: Dispatcher, channels: FakeLink) -> None:
    opened_before: list[list[int]] = []
    take = channels.send

    def seen(connection_id: str, *parts: bytes, request_id: int = 0) -> bool:
        opened_before.append([one.request_id for one in channels.sources if one.bound])
        return take(connection_id, *parts, request_id=request_id)

    channels.send = seen  # type: ignore[method-assign]
    call(dispatcher, FINISHED)

    assert opened_before == [[source(dispatcher).request_id]]


@pytest.mark.parametrize("why", ["the channel goes", "json cannot say it"])
def test_what_cannot_go_over_the_channel_goes_as_a_message(
    dispatcher: Dispatcher, channels: FakeLink, why: str
) -> None:
    channels.channels_take = why != "the channel goes"
    options = {"ca_file": "/\udc80"} if channels.channels_take else {}
    made = call(dispatcher, FINISHED, **options)

    assert made.next_frame() == FINISHED
    assert len(channels.questions(m.Submit)) == 1
    assert submits(channels) == []


@pytest.mark.parametrize("loss", [GOODBYE, BROKEN], ids=repr)
def test_one_whose_channel_ends_before_a_frame_of_it_came_is_brought_to_where_the_supervisor_says(
    dispatcher: Dispatcher, channels: FakeLink, town: Town, loss: Loss
) -> None:
    """A goodbye crossed it, or its connection died: in either case it was not sent."""
    town.names.append("c-2")
    made = call(dispatcher, ChannelLost(loss))
    on_arrival(channels, lambda new: new.script.append(FINISHED))

    assert made.next_frame() == FINISHED

    first, second = submits(channels)
    assert first.request_id != second.request_id, "what the first connection may still say is not ours"
    assert first.payload == second.payload
    assert channels.sources[0].closed
    assert [name for name, _, _ in channels.taken] == ["c-1", "c-2"]
    assert len(channels.questions(m.EnsureStarted)) == 2, "memory would name the same one"
    assert channels.questions(m.Submit) == []


def on_arrival(link: FakeLink, then: Callable[[FakeSource], None]) -> None:
    """Do something with the source of every request that a channel takes from now on."""
    take = link.send

    def taken(connection_id: str, *parts: bytes, request_id: int = 0) -> bool:
        if request_id:
            then(link.sources[-1])
        return take(connection_id, *parts, request_id=request_id)

    link.send = taken  # type: ignore[method-assign]


def test_after_a_goodbye_it_may_go_to_the_same_connection_as_a_message(
    dispatcher: Dispatcher, channels: FakeLink, town: Town
) -> None:
    made = call(dispatcher, ChannelLost(GOODBYE))
    channels.alive.clear()
    channels.channels_take = False
    town.submitted = lambda again, new: new.script.append(FINISHED) or town.accept(again, new)

    assert made.next_frame() == FINISHED
    assert len(submits(channels)) == len(channels.questions(m.Submit)) == 1


@pytest.mark.parametrize("loss", [GOODBYE, BROKEN], ids=repr)
def test_one_whose_channel_always_ends_gives_up(dispatcher: Dispatcher, channels: FakeLink, loss: Loss) -> None:
    made = call(dispatcher, ChannelLost(loss))
    on_arrival(channels, lambda new: new.script.append(ChannelLost(loss)))

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.NOT_SENT)
    assert len(submits(channels)) == PLACEMENTS
    assert len({frame.request_id for frame in submits(channels)}) == PLACEMENTS
    assert all(one.closed for one in channels.sources)


@pytest.mark.parametrize("loss", [GOODBYE, BROKEN], ids=repr)
@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ([QUEUED], Delivery.NOT_SENT),
        ([QUEUED, SENDING], Delivery.AMBIGUOUS),
        ([[QUEUED, SENDING]], Delivery.AMBIGUOUS),
        ([[SENDING, METADATA, DATA]], Delivery.ACCEPTED),
    ],
)
def test_one_of_which_a_frame_came_is_not_brought_anywhere_again(
    dispatcher: Dispatcher, channels: FakeLink, loss: Loss, script: list[Any], verdict: Delivery
) -> None:
    made = call(dispatcher, *script)
    source(dispatcher).started = True
    source(dispatcher).script.append(ChannelLost(loss))

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, verdict)
    assert len(submits(channels)) == 1
    assert channels.questions(m.Submit) == []


def test_a_message_whose_channel_breaks_is_not_brought_anywhere_again(dispatcher: Dispatcher, link: FakeLink) -> None:
    """It was accepted: what became of it since, no channel can say."""
    error = failing(call(dispatcher, ChannelLost(BROKEN)))

    assert error.code is ErrorCode.CONNECTION_LOST
    assert len(link.questions(m.Submit)) == 1


def test_a_message_is_answered_over_the_next_channel_when_a_goodbye_was_read_after_it_was_accepted(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    """Its connection had closed that channel before the message came, and has the request."""
    made = call(dispatcher, ChannelLost(GOODBYE), [QUEUED, SENDING], ChannelLost(BROKEN))

    error = failing(made)

    assert source(dispatcher).bound == ["c-1"] * 3, "when it was brought there, when it was accepted, after the goodbye"
    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.AMBIGUOUS)
    assert len(link.questions(m.Submit)) == 1


def test_of_a_message_whose_next_channel_does_not_come_its_connection_is_asked(
    dispatcher: Dispatcher, town: Town, link: FakeLink
) -> None:
    made = call(dispatcher, ChannelLost(GOODBYE), None, None)
    town.probed.append(False)

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CONNECTION_LOST, Delivery.AMBIGUOUS)
    assert source(dispatcher).waits == [PROBE_AFTER, PROBE_AFTER, LAST_FRAMES]


def test_one_that_goes_over_the_channel_again_after_it_may_have_run_stays_ambiguous(
    dispatcher: Dispatcher, channels: FakeLink
) -> None:
    made = call(dispatcher, SENDING, retry_ambiguous=True)
    source(dispatcher).started = True
    source(dispatcher).script.append(ChannelLost(BROKEN))
    on_arrival(channels, lambda new: new.script.append(ChannelLost(GOODBYE)))

    error = failing(made)

    assert error.delivery is Delivery.AMBIGUOUS
    assert len(submits(channels)) == PLACEMENTS


def test_a_closing_client_brings_nothing_anywhere_again(dispatcher: Dispatcher, channels: FakeLink) -> None:
    made = call(dispatcher, ChannelLost(BROKEN))
    dispatcher.closing = True

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.AMBIGUOUS)
    assert len(submits(channels)) == 1


def test_one_that_is_late_is_brought_nowhere_again(
    dispatcher: Dispatcher, channels: FakeLink, clock: Clock
) -> None:
    made = call(dispatcher, ChannelLost(GOODBYE), timeout=3.0)
    source(dispatcher).takes = [60.0]

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.REQUEST_TIMEOUT, Delivery.NOT_SENT)
    assert len(submits(channels)) == 1


def test_one_that_was_cancelled_meanwhile_is_brought_nowhere_again(
    dispatcher: Dispatcher, channels: FakeLink, town: Town
) -> None:
    made = call(dispatcher, ChannelLost(GOODBYE))
    cancelling(channels, [made], m.EnsureStarted)

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CANCELLED, Delivery.NOT_SENT)
    assert len(submits(channels)) == 1


def test_a_refusal_over_the_channel_is_invalid_again(dispatcher: Dispatcher, channels: FakeLink) -> None:
    failure = Failure.of(ErrorCode.INVALID_PROVIDER_REQUEST, Delivery.NOT_SENT, field="url", problem="has no host")
    made = call(dispatcher, frame(FrameType.FAILED, failure_payload(failure)))

    with pytest.raises(InvalidRequest) as caught:
        made.next_frame()
    assert (caught.value.field, caught.value.problem) == ("url", "has no host")
    assert source(dispatcher).closed
    made.cancel()
    assert cancels(channels) == [], "it has ended"


def test_one_that_was_sent_back_over_the_channel_goes_on_over_the_next(
    dispatcher: Dispatcher, channels: FakeLink, town: Town
) -> None:
    town.names.append("c-2")
    made = call(dispatcher, frame(FrameType.FAILED, MOVED))
    on_arrival(channels, lambda new: new.script.append(FINISHED))

    assert made.next_frame() == FINISHED
    assert [name for name, _, _ in channels.taken] == ["c-1", "c-2"]


@pytest.mark.parametrize("callback_failed", [True, False])
def test_a_cancel_goes_by_frame_and_waits_for_nothing(
    dispatcher: Dispatcher, channels: FakeLink, callback_failed: bool
) -> None:
    made = call(dispatcher, DATA)
    asked = len(channels.asked)
    made.cancel(callback_failed=callback_failed)
    made.cancel()

    [cancel] = cancels(channels)
    assert cancel == Frame(FrameType.CANCEL, callback_failed, source(dispatcher).request_id, b"")
    assert channels.taken[-1][0] == "c-1"
    assert len(channels.asked) == asked
    assert source(dispatcher).closed


def test_a_cancel_for_which_there_is_no_channel_any_more_is_a_message(
    dispatcher: Dispatcher, channels: FakeLink
) -> None:
    made = call(dispatcher, DATA)
    channels.channels_take = False
    made.cancel()

    assert channels.questions(m.Cancel) == [m.Cancel(source(dispatcher).request_id)]


def test_a_request_that_was_accepted_by_message_is_cancelled_by_frame(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    made = call(dispatcher, DATA)
    link.channels_take = True
    made.cancel()

    assert [frame.request_id for frame in cancels(link)] == [source(dispatcher).request_id]
    assert link.questions(m.Cancel) == []


def test_a_cancel_does_not_overtake_a_request_that_is_on_its_way_by_message(
    dispatcher: Dispatcher, link: FakeLink
) -> None:
    """Over the channel, which another request may have opened since, it would come first, and nobody end what follows."""
    answer = link.answer

    def interrupted(address: Any, question: Any) -> Any:
        if isinstance(question, m.Submit):
            link.channels_take = True
            raise KeyboardInterrupt
        return answer(address, question)

    link.answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        call(dispatcher)

    assert cancels(link) == []
    assert [made.request_id for made in link.questions(m.Cancel)] == [source(dispatcher).request_id]


def test_an_interrupt_while_it_is_sent_is_followed_by_a_cancel_on_the_same_way(
    dispatcher: Dispatcher, channels: FakeLink
) -> None:
    """It may wait to be written yet: a message would come before it."""
    take = channels.send

    def interrupted(connection_id: str, *parts: bytes, request_id: int = 0) -> bool:
        taken = take(connection_id, *parts, request_id=request_id)
        if request_id:
            raise KeyboardInterrupt
        return taken

    channels.send = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        call(dispatcher)

    assert [frame.type for _, frame, _ in channels.taken] == [FrameType.SUBMIT, FrameType.CANCEL]
    assert channels.questions(m.Cancel) == []


def test_one_that_is_cancelled_while_it_is_sent_is_cancelled_behind_it(
    dispatcher: Dispatcher, channels: FakeLink
) -> None:
    made = call(dispatcher, frame(FrameType.FAILED, MOVED))
    on_arrival(channels, lambda _: made.cancel())

    error = failing(made)

    assert (error.code, error.delivery) == (ErrorCode.CANCELLED, Delivery.AMBIGUOUS)
    newest = submits(channels)[-1]
    assert channels.taken[-1][1] == Frame(FrameType.CANCEL, 0, newest.request_id, b"")


def test_a_frozen_connection_is_found_by_the_question_and_its_request_brought_to_the_next(
    dispatcher: Dispatcher, channels: FakeLink, town: Town
) -> None:
    """Killed, it breaks its channel, over which no word of the request came: it was never sent."""
    town.names.append("c-2")
    town.probed.append(None)
    town.examined.append(True)
    made = call(dispatcher, None, ChannelLost(BROKEN))
    on_arrival(channels, lambda new: new.script.append(FINISHED))

    assert made.next_frame() == FINISHED
    assert [name for name, _, _ in channels.taken] == ["c-1", "c-2"]
    assert channels.sources[0].waits == [PROBE_AFTER] * 2


def test_what_was_found_out_about_one_connection_is_not_held_against_the_next(
    dispatcher: Dispatcher, channels: FakeLink, town: Town
) -> None:
    town.names.append("c-2")
    town.probed.extend([None, None])
    town.examined.extend([True, False])
    made = call(dispatcher, None, ChannelLost(BROKEN))
    on_arrival(channels, lambda new: new.script.extend([None, FINISHED]))

    assert made.next_frame() == FINISHED, "it lives after all, and gets its chance"
    assert [suspect.connection_id for suspect in channels.questions(m.Suspect)] == ["c-1", "c-2"]
