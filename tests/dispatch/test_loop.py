"""Waiting on an event loop: threads for what blocks, one wake-up for all that is ready, and no frame lost on the way."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from pixir_actors.channel import ChannelLost, Frame, Inbox, InboxClosed, Loss
from pixir_actors.channel.exchange import Channel, Exchange
from pixir_actors.dispatch.call import Wait, Work
from pixir_actors.dispatch.loop import (
    MESSENGERS,
    PAUSE_AFTER,
    WORKERS,
    Alarm,
    Bell,
    LoopReader,
    LoopSide,
    Submission,
    being_cancelled,
    result_of,
)
from pixir_actors.dispatch.placement import TIMEOUT_GRACE
from pixir_actors.errors import Delivery, ErrorCode, PixirError, StreamError
from tests.channel.conftest import frame
from tests.conftest import until, within

R = TypeVar("R")
SLICE = 1000


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def loop(runner: asyncio.Runner) -> asyncio.AbstractEventLoop:
    return runner.get_loop()


@pytest.fixture
def side(loop: asyncio.AbstractEventLoop) -> Iterator[LoopSide]:
    side = LoopSide(loop)
    yield side
    side.close()
    assert until(lambda: not [one for one in threading.enumerate() if one.name.startswith("pixir-aio")])


@pytest.fixture
def run(runner: asyncio.Runner) -> Callable[[Awaitable[R]], R]:
    """Await something, for no longer than it may take."""

    async def limited(awaitable: Awaitable[R]) -> R:
        async with asyncio.timeout(within(10)):
            return await awaitable

    return lambda awaitable: runner.run(limited(awaitable))


# The bell


def count_calls(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Note every call of a method of the loop."""
    calls: list[Any] = []
    method = getattr(loop, name)
    monkeypatch.setattr(loop, name, lambda *arguments: calls.append(arguments) or method(*arguments))
    return calls


def test_all_that_become_ready_at_once_cost_the_loop_one_wake_up(
    loop: asyncio.AbstractEventLoop, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_calls(loop, monkeypatch, "call_soon_threadsafe")
    bell = Bell(loop)

    async def rounds() -> None:
        for _ in range(2):
            waiters = [loop.create_future() for _ in range(50)]
            for waiter in waiters:
                bell.ring(waiter)
                bell.ring(waiter)
            await asyncio.gather(*waiters)

    run(rounds())
    assert len(calls) == 2


def test_a_waiter_that_was_cancelled_meanwhile_is_left_alone(loop: asyncio.AbstractEventLoop, run: Any) -> None:
    bell = Bell(loop)

    async def rung() -> None:
        cancelled, other = loop.create_future(), loop.create_future()
        bell.ring(cancelled)
        bell.ring(other)
        cancelled.cancel()
        await other

    run(rung())


def test_no_ring_of_many_threads_is_lost(loop: asyncio.AbstractEventLoop, run: Any) -> None:
    bell = Bell(loop)

    async def rung() -> None:
        for _ in range(50):
            waiters = [loop.create_future() for _ in range(40)]
            with ThreadPoolExecutor(4) as threads:
                for waiter in waiters:
                    threads.submit(bell.ring, waiter)
                await asyncio.gather(*waiters)

    run(rung())


def test_a_bell_of_a_closed_loop_is_silent(runner: asyncio.Runner) -> None:
    loop = runner.get_loop()
    bell, waiter = Bell(loop), loop.create_future()
    runner.close()

    bell.ring(waiter)
    assert not waiter.done()


# The alarm


def test_an_alarm_wakes_at_the_deadline_it_was_last_set_to(loop: asyncio.AbstractEventLoop, run: Any) -> None:
    alarm = Alarm(loop)

    async def woken_after(*delays: float) -> float:
        began = loop.time()
        for delay in delays:
            waiter = loop.create_future()
            alarm.set(waiter, began + delay)
        await waiter
        return loop.time() - began

    assert run(woken_after(0.05)) >= 0.049
    assert run(woken_after(0.01, 0.08)) >= 0.079, "the first timer rings too early"
    assert run(woken_after(60.0, 0.02)) < within(5), "the first timer rings too late"


def test_many_short_waits_share_a_timer(
    loop: asyncio.AbstractEventLoop, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = Alarm(loop)

    async def waits() -> None:
        calls = count_calls(loop, monkeypatch, "call_at")
        for _ in range(1000):
            waiter = loop.create_future()
            alarm.set(waiter, loop.time() + 10)
            alarm.clear()
        assert len(calls) == 1
        alarm.stop()
        alarm.stop()

    run(waits())


@pytest.mark.parametrize("end", [Alarm.clear, Alarm.stop])
def test_an_alarm_that_is_off_wakes_nobody(
    loop: asyncio.AbstractEventLoop, run: Any, end: Callable[[Alarm], None]
) -> None:
    alarm = Alarm(loop)

    async def off() -> None:
        waiter = loop.create_future()
        alarm.set(waiter, loop.time() + 0.01)
        end(alarm)
        await asyncio.sleep(0.03)
        assert not waiter.done()

    run(off())


# The threads


def test_what_blocks_runs_in_another_thread_and_its_outcome_comes_back(side: LoopSide, run: Any) -> None:
    async def outcomes() -> None:
        for start in (side.run, side.tell):
            assert await result_of(start(threading.get_ident)) != threading.get_ident()
            with pytest.raises(ZeroDivisionError):
                await result_of(start(lambda: 1 / 0))

    run(outcomes())


def test_a_thread_goes_on_when_nobody_waits_for_it_any_more(
    side: LoopSide, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    may_end, done = threading.Event(), threading.Event()

    def work() -> None:
        may_end.wait(within(10))
        done.set()
        raise KeyError("nobody hears this")

    async def left() -> None:
        waiting = asyncio.create_task(result_of(side.run(work)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not done.is_set()
        may_end.set()
        await asyncio.to_thread(done.wait, within(10))
        await asyncio.sleep(0.01)

    run(left())
    assert done.is_set()
    gc.collect()  # asyncio tells of errors that nobody asked for when their future is collected
    assert caplog.records == []


def test_a_word_does_not_wait_for_threads_that_are_all_at_work(side: LoopSide, run: Any) -> None:
    release = threading.Event()

    async def told() -> None:
        working = [side.run(lambda: release.wait(within(10))) for _ in range(WORKERS + 1)]
        assert await result_of(side.tell(lambda: "told")) == "told"
        assert not any(one.done() for one in working)
        release.set()
        await asyncio.wait(working)

    run(told())


def test_there_are_no_more_threads_than_it_says(side: LoopSide, run: Any) -> None:
    release = threading.Event()
    before = threading.active_count()

    async def busy() -> None:
        futures = [start(lambda: release.wait(within(10))) for start in (side.run, side.tell) for _ in range(100)]
        assert threading.active_count() - before == WORKERS + MESSENGERS
        release.set()
        await asyncio.wait(futures)

    run(busy())


def test_after_the_end_nothing_is_started_and_what_was_is_done(side: LoopSide, run: Any) -> None:
    async def closed() -> None:
        last = side.run(lambda: "done")
        side.close()
        for start in (side.run, side.tell):
            with pytest.raises(StreamError) as caught:
                start(lambda: None)
            assert caught.value.code is ErrorCode.SHUTTING_DOWN
        assert side.tell_soon(lambda: None)
        assert await result_of(last) == "done"

    run(closed())


def test_a_destructor_s_word_is_said_from_any_thread_while_there_is_a_loop(runner: asyncio.Runner, side: LoopSide) -> None:
    said = threading.Event()

    async def told() -> None:
        await asyncio.to_thread(side.tell_soon, said.set)
        await asyncio.to_thread(said.wait, within(10))

    runner.run(told())
    assert said.is_set()
    runner.close()
    assert not side.tell_soon(said.set)


def test_a_forked_process_says_nothing_on_its_parent_s_loop(side: LoopSide) -> None:
    child = os.fork()
    if not child:
        os._exit(side.tell_soon(lambda: None))

    assert os.waitpid(child, 0) == (child, 0)


def test_a_task_is_on_its_way_out_from_its_cancellation_on_and_nobody_else_is(runner: asyncio.Runner) -> None:
    async def cancelled() -> list[bool]:
        seen = [being_cancelled()]
        try:
            async with asyncio.timeout(0):
                try:
                    await asyncio.sleep(60)
                finally:
                    seen.append(being_cancelled())
        except TimeoutError:
            seen.append(being_cancelled())
        return seen

    assert runner.run(cancelled()) == [False, True, False]
    assert not being_cancelled()


# The reader


class OneStep:
    """A call that does one thing at a time, and returns what came of it."""

    def __init__(self, *steps: Wait | Work) -> None:
        self.steps = list(steps)
        self.reads = 0

    def read(self) -> Generator[Any, Any, Any]:
        self.reads += 1
        return (yield self.steps[0] if len(self.steps) == 1 else self.steps.pop(0))


class Desk:
    """An inbox on a channel of its own, fed by the test, and the channels that are read again."""

    def __init__(self) -> None:
        self.released: list[Channel] = []
        self.exchange = Exchange(SLICE, self.released.append)
        self.channel = self.exchange.join("c")
        self.inbox: Inbox = self.exchange.open(1, max_buffered_bytes=10**6)

    def put(self, *texts: str) -> None:
        self.exchange.deliver(self.channel, [frame(1, text) for text in texts])

    def reader(self, side: LoopSide, timeout: float = 60.0) -> LoopReader:
        return LoopReader(OneStep(Wait(self.inbox, timeout)), side)  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def texts(frames: list[Frame] | None) -> list[str]:
    return [one.payload.decode() for one in frames or ()]


def test_frames_that_are_there_are_had_without_waiting(desk: Desk, side: LoopSide) -> None:
    desk.put("a")
    desk.put("b")
    reading = desk.reader(side).frames()

    with pytest.raises(StopIteration) as done:
        reading.send(None)
    assert texts(done.value.value) == ["a", "b"]
    assert desk.inbox.on_ready is None


def test_frames_that_come_later_wake_the_task(desk: Desk, side: LoopSide, run: Any) -> None:
    reader = desk.reader(side)

    async def read() -> None:
        for number in range(200):
            later = threading.Thread(target=desk.put, args=(f"{number}",))
            later.start()
            assert texts(await reader.frames()) == [f"{number}"]
            later.join()

    run(read())
    assert desk.inbox.on_ready is None


def test_frames_that_come_while_the_wait_is_prepared_are_seen(
    desk: Desk, side: LoopSide, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_ready, looks = desk.inbox.take_ready, 0

    def put_behind_the_first_look() -> Any:
        nonlocal looks
        looks += 1
        found = take_ready()
        if looks == 1:
            desk.put("a")
        return found

    monkeypatch.setattr(desk.inbox, "take_ready", put_behind_the_first_look)
    assert texts(run(desk.reader(side).frames())) == ["a"]


def test_a_wait_ends_at_its_time_and_not_before(desk: Desk, side: LoopSide, run: Any) -> None:
    class Patient(OneStep):
        def read(self) -> Any:
            nothing = yield self.steps[0]
            assert nothing is None
            return []

    async def read() -> float:
        began = side.loop.time()
        waiting = asyncio.create_task(LoopReader(Patient(Wait(desk.inbox, 0.05)), side).frames())  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        desk.inbox.wake()  # for nothing
        await waiting
        return side.loop.time() - began

    assert 0.049 <= run(read()) < within(5)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda desk: desk.exchange.leave(desk.channel, goodbye=False), ChannelLost),
        (lambda desk: desk.inbox.close(), InboxClosed),
        (lambda desk: desk.exchange.shut(), ChannelLost),
    ],
    ids=["lost", "closed", "shut"],
)
def test_an_end_wakes_the_task_and_is_told_to_the_call(
    desk: Desk, side: LoopSide, run: Any, end: Callable[[Desk], object], error: type[Exception]
) -> None:
    async def read() -> None:
        waiting = asyncio.create_task(desk.reader(side).frames())
        await asyncio.sleep(0.01)
        threading.Thread(target=end, args=(desk,)).start()
        await waiting

    desk.inbox.bind("c")
    with pytest.raises(error):
        run(read())


def test_a_task_that_is_cancelled_loses_nothing(desk: Desk, side: LoopSide, run: Any) -> None:
    reader = desk.reader(side)

    async def read() -> None:
        for number in range(50):
            waiting = asyncio.create_task(reader.frames())
            await asyncio.sleep(0)
            if number % 2:
                desk.put(f"{number}")
                await asyncio.sleep(0)  # the task is awake, and has not run yet
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            if number % 2 == 0:
                desk.put(f"{number}")
            assert texts(await reader.frames()) == [f"{number}"]

    run(read())


def test_work_under_which_a_task_was_cancelled_is_not_done_twice(side: LoopSide, run: Any) -> None:
    release, done = threading.Event(), []

    def work() -> list[Frame]:
        release.wait(within(10))
        done.append(1)
        return [frame(1, "worked")]

    call = OneStep(Work(work))
    reader = LoopReader(call, side)  # type: ignore[arg-type]

    async def read() -> list[Frame]:
        waiting = asyncio.create_task(reader.frames())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        return await reader.frames()

    assert texts(run(read())) == ["worked"]
    assert (done, call.reads) == ([1], 1)


def test_what_work_raises_is_told_to_the_call(side: LoopSide, run: Any) -> None:
    class Forgiving(OneStep):
        def read(self) -> Any:
            try:
                yield self.steps[0]
            except ZeroDivisionError:
                return [frame(1, "forgiven")]

    call = Forgiving(Work(lambda: 1 / 0))

    assert texts(run(LoopReader(call, side).frames())) == ["forgiven"]  # type: ignore[arg-type]


def test_two_tasks_cannot_read_at_once(desk: Desk, side: LoopSide, run: Any) -> None:
    reader = desk.reader(side)

    async def read() -> list[Frame]:
        first = asyncio.create_task(reader.frames())
        await asyncio.sleep(0)
        with pytest.raises(PixirError, match="another task"):
            await reader.frames()
        desk.put("a")
        return await first

    assert texts(run(read())) == ["a"]


def test_a_stream_that_always_finds_more_lets_others_run(desk: Desk, side: LoopSide, run: Any) -> None:
    reader = desk.reader(side)
    ran = 0

    async def others() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    async def read() -> None:
        other = asyncio.create_task(others())
        for _ in range(10 * PAUSE_AFTER):
            desk.put("x")
            await reader.frames()
        other.cancel()

    run(read())
    assert ran >= 9


def test_a_channel_that_was_held_is_read_on_without_waiting_for_its_lock(desk: Desk, side: LoopSide, run: Any) -> None:
    desk.put("x" * 2000)
    assert desk.inbox.held
    reader = desk.reader(side)
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with desk.exchange.lock:
            locked.set()
            release.wait(within(10))

    async def read() -> None:
        holder = threading.Thread(target=hold)
        holder.start()
        await asyncio.to_thread(locked.wait, within(10))
        began = time.monotonic()
        assert len(await reader.frames()) == 1
        assert time.monotonic() - began < within(1)
        assert desk.released == []
        release.set()
        holder.join()
        while not desk.released:
            await asyncio.sleep(0)

    run(read())
    assert desk.released == [desk.channel]


def test_a_reader_leaves_no_timer(desk: Desk, side: LoopSide, run: Any) -> None:
    reader = desk.reader(side)

    async def read() -> None:
        waiting = asyncio.create_task(reader.frames())
        await asyncio.sleep(0)
        desk.put("a")
        await waiting
        assert reader._alarm._timer is not None
        reader.stop()
        assert reader._alarm._timer is None

    run(read())


def test_a_loss_known_at_once_needs_no_waking(desk: Desk, side: LoopSide, run: Any) -> None:
    desk.exchange.leave(desk.channel, goodbye=False)
    desk.inbox.bind("c")

    with pytest.raises(ChannelLost) as caught:
        run(desk.reader(side).frames())
    assert caught.value.loss == Loss(clean=False)


# Bringing a request to its connection


class Sent:
    """A call that notes what is done with it, and in which thread."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once, self.waited = at_once, math.nan
        self.done: list[tuple[str, bool]] = []
        self.loops_thread = threading.get_ident()

    def note(self, what: str) -> None:
        self.done.append((what, threading.get_ident() == self.loops_thread))

    def submit_at_once(self) -> bool:
        self.note("tried")
        return self.at_once

    def has_waited(self, seconds: float) -> None:
        self.waited = seconds

    def submit(self) -> None:
        self.note("submitted")

    def disown(self) -> None:
        self.note("disowned")

    def cancel(self, *, callback_failed: bool = False) -> None:
        self.note("cancelled, callback failed" if callback_failed else "cancelled")

    def abandon(self) -> None:
        self.note("abandoned")


def sent_off(side: LoopSide, call: Sent, *, quick: bool) -> tuple[Submission, asyncio.Future[None] | None]:
    def prepare() -> Any:
        call.note("prepared")
        return call

    way = Submission(side, prepare)
    return way, way.begin("key", quick=quick)


def test_what_can_be_sent_at_once_is_sent_from_the_loop_s_thread(side: LoopSide, run: Callable[[Awaitable[R]], R]) -> None:
    call = Sent(at_once=True)

    async def scene() -> None:
        assert sent_off(side, call, quick=True)[1] is None

    run(scene())
    assert call.done == [("prepared", True), ("tried", True)]


@pytest.mark.parametrize("quick", [True, False])
def test_what_has_to_wait_or_takes_long_is_done_by_a_thread(
    side: LoopSide, run: Callable[[Awaitable[R]], R], quick: bool
) -> None:
    call = Sent()

    async def scene() -> None:
        begun = sent_off(side, call, quick=quick)[1]
        assert begun is not None
        assert side.turns.taken("key")
        await begun

    run(scene())
    by_the_loop = [("prepared", True), ("tried", True)] if quick else [("prepared", False)]
    assert call.done == [*by_the_loop, ("submitted", False)]


def test_nothing_overtakes_what_a_thread_is_bringing_to_the_same_key(
    side: LoopSide, run: Callable[[Awaitable[R]], R]
) -> None:
    first, second = Sent(), Sent(at_once=True)

    async def scene() -> None:
        ways = [sent_off(side, first, quick=False)[1], sent_off(side, second, quick=True)[1]]
        assert None not in ways
        await asyncio.gather(*(way for way in ways if way is not None))

    run(scene())
    assert second.done == [("prepared", True), ("submitted", False)]


def test_what_was_given_up_in_line_is_not_submitted(side: LoopSide, run: Callable[[Awaitable[R]], R]) -> None:
    first, second = Sent(), Sent()

    async def scene() -> None:
        sent_off(side, first, quick=False)
        way, begun = sent_off(side, second, quick=True)
        told = way.give_up(callback_failed=True)
        assert told is not None and begun is not None
        await told
        with pytest.raises(StreamError) as caught:
            await begun
        assert caught.value.code is ErrorCode.CANCELLED

    run(scene())
    assert second.done == [("prepared", True), ("disowned", True), ("cancelled, callback failed", False)]


def test_where_nothing_is_prepared_yet_nobody_is_told(side: LoopSide, run: Callable[[Awaitable[R]], R]) -> None:
    call = Sent()

    async def scene() -> None:
        way = Submission(side, lambda: pytest.fail("prepared"))
        assert way.give_up() is None
        way.drop()

    run(scene())
    assert call.done == []


def test_what_was_dropped_in_line_is_not_submitted_although_nothing_of_it_was_there_to_cancel(
    side: LoopSide, run: Callable[[Awaitable[R]], R]
) -> None:
    first, second = Sent(), Sent()

    async def scene() -> None:
        sent_off(side, first, quick=False)
        way, begun = sent_off(side, second, quick=False)
        way.drop()
        assert begun is not None
        with pytest.raises(StreamError) as caught:
            await begun
        assert (caught.value.code, caught.value.delivery) == (ErrorCode.CANCELLED, Delivery.NOT_SENT)

    run(scene())
    assert second.done == [("prepared", False)]


def test_what_waits_in_line_when_the_client_closes_was_not_sent(side: LoopSide, run: Callable[[Awaitable[R]], R]) -> None:
    async def scene() -> None:
        begun = [sent_off(side, Sent(), quick=quick)[1] for quick in (False, False, True)]
        side.close()
        for one in begun[1:]:
            assert one is not None
            with pytest.raises(StreamError) as caught:
                await one
            assert (caught.value.code, caught.value.delivery) == (ErrorCode.SHUTTING_DOWN, Delivery.NOT_SENT)

    run(scene())


def test_without_a_thread_for_it_a_request_has_failed_and_is_not_submitted_later(
    side: LoopSide, run: Callable[[Awaitable[R]], R], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor keeps what it has no thread for, and another thread of its would do it."""
    call, kept = Sent(), list[Any]()

    def no_thread(function: Any) -> Any:
        kept.append(function)
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        monkeypatch.setattr(side, "run", no_thread)
        begun = sent_off(side, call, quick=True)[1]
        assert begun is not None
        with pytest.raises(RuntimeError):
            await begun
        await asyncio.sleep(0)
        assert not side.turns.taken("key")

    run(scene())
    with pytest.raises(StreamError, match="cancelled"):
        kept[0]()
    assert ("submitted", True) not in call.done


def test_the_time_of_what_waits_in_line_is_counted_from_its_beginning(
    side: LoopSide, run: Callable[[Awaitable[R]], R], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []
    lined_up = side.turns.run

    def line_up(*arguments: Any, patience: float | None) -> Any:
        given.append(patience)
        return lined_up(*arguments, patience=patience)

    monkeypatch.setattr(side.turns, "run", line_up)
    slow, quick = Sent(), Sent()

    async def scene() -> None:
        for call, timeout in ((slow, 5.0), (quick, None)):
            way = Submission(side, lambda call=call: call)  # type: ignore[misc]
            way._began -= 1000.0
            begun = way.begin("key", quick=call is quick, timeout=timeout)
            assert begun is not None
            await begun

    run(scene())
    assert given == [5.0 + TIMEOUT_GRACE, None]
    assert slow.waited >= 1000.0
    assert math.isnan(quick.waited), "its time began when it was made, at the beginning"


def test_what_is_dropped_is_cancelled_and_without_a_loop_let_go(side: LoopSide, runner: asyncio.Runner) -> None:
    call = Sent(at_once=True)

    async def scene() -> Submission:
        return sent_off(side, call, quick=True)[0]

    way = runner.run(scene())
    way.drop()
    runner.run(asyncio.sleep(0))
    assert until(lambda: ("cancelled", False) in call.done)
    runner.close()
    way.drop()
    assert call.done[-1] == ("abandoned", True)
