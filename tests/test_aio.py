"""What only the client for event loops does; what it shares with `Client` is tested with that, by `tests.looped`."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from thespian.actors import ActorSystem

from pixir_actors import AsyncClient, AsyncStream, Client, Data, Event, PixirError, Request, Settings, StreamError
from pixir_actors.actors import messages as m
from pixir_actors.aio import AT_ONCE, PARSED_AT_ONCE
from pixir_actors.channel.frame import FrameType
from pixir_actors.core.key import canonical
from pixir_actors.core.secret import digest
from pixir_actors.dispatch.loop import MESSENGERS, WORKERS
from pixir_actors.errors import Delivery, ErrorCode, InvalidRequest, InvalidSettings, SystemStartFailed, WrongProcess
from pixir_actors.simulator import FAULTS, Reply, Simulator
from pixir_actors.system.embedded import EmbeddedSystem
from tests.conftest import children, until, within
from tests.dispatch.fakes import FakeLink, FakeSource, Town, frame

STREAMS = 300
KEYS = 20
REQUEST = Request.responses(model="m", input="hello", api_key="k", base_url="https://api.example/v1")
Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(scope="module")
def system() -> Iterator[EmbeddedSystem]:
    with EmbeddedSystem.start(start_timeout=within(20)) as running:
        yield running


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop of the standard library's, and on another's."""
    factory = None if request.param == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        async def limited(awaitable: Awaitable[Any]) -> Any:
            async with asyncio.timeout(within(60)):
                return await awaitable

        yield lambda awaitable: runner.run(limited(awaitable))


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as sim:
        yield sim


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def town(link: FakeLink) -> Town:
    return Town(link)


def over(link: FakeLink) -> AsyncClient:
    return AsyncClient(partial(Client, link))


def ask(sim: Simulator, text: str = "hello") -> Request:
    return Request.responses(model="m", input=text, base_url=sim.base_url)


async def ended(stream: AsyncStream) -> AsyncStream:
    async with stream:
        async for _ in stream:
            pass
    return stream


async def first_data(stream: AsyncStream) -> None:
    async for event in stream:
        if isinstance(event, Data):
            return


async def seen(sim: Simulator, condition: Callable[[Simulator], object]) -> None:
    """Wait until the simulator has seen something, without holding the loop up."""
    await asyncio.to_thread(sim.wait_for, condition, within(10))


async def reason(client: AsyncClient, sim: Simulator, key: str) -> Any:
    """Run a turn; return why it did not go out as a delta."""
    return (await ended(client.stream(key, ask(sim)))).metadata["continuation_reset_reason"]


async def stalled(client: AsyncClient, sim: Simulator, key: str) -> AsyncStream:
    """Return a stream that has brought something and will bring no more."""
    sim.inject(FAULTS["stall"]("mid_text"))
    stream = await client.stream(key, ask(sim))
    await first_data(stream)
    assert sim.open_connections == 1
    return stream


async def hung_up(sim: Simulator) -> None:
    """Wait until the client has closed its socket."""
    await seen(sim, lambda sim: sim.open_connections == 0)
    assert sim.closes[-1].by == "client"


# Reading


def test_a_request_is_submitted_by_its_block_by_await_and_by_reading_it(
    system: EmbeddedSystem, sim: Simulator, run: Run
) -> None:
    async def ways() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            request = ask(sim)
            client.stream("ways", request)
            async with client.stream("ways", request) as stream:
                first = [type(event).__name__ async for event in stream]
            stream = await client.stream("ways", request)
            async with stream:
                second = [type(event).__name__ async for event in stream]
            third = [type(event).__name__ async for event in client.stream("ways", request)]
            assert first == second == third
            assert "".join([text async for text in client.stream("ways", request).text_deltas()]) == "You said: hello"
            assert [event async for event in stream] == []
            assert len(sim.requests) == 4, "one that nobody entered was not submitted"
            await client.close("ways")

    run(ways())


def test_reduce_takes_plain_functions_and_async_ones(system: EmbeddedSystem, sim: Simulator, run: Run) -> None:
    async def count(event: Event, seen: int) -> int:
        await asyncio.sleep(0)
        return seen + 1

    async def fold() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            plain = await client.reduce("fold", ask(sim), 0, lambda event, seen: seen + 1)
            assert plain == await client.reduce("fold", ask(sim), 0, count) > 5
            await client.close("fold")

    run(fold())


def test_status_and_system_are_those_of_the_plain_client(system: EmbeddedSystem, sim: Simulator, run: Run) -> None:
    async def told() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            await client.warm("told", ask(sim))
            [status] = await client.status("told")
            assert status.host is not None
            assert (await client.system()).pid != os.getpid()
            await client.close("told")
            assert await client.status("told") == []
            assert client.admin is None

    run(told())


# Cancelling


def test_a_cancelled_task_closes_its_socket_at_once(system: EmbeddedSystem, sim: Simulator, run: Run) -> None:
    async def cancelled() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            task = asyncio.create_task(ended(await stalled(client, sim, "cancelled")))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await hung_up(sim)
            assert time.monotonic() - began < within(1)
            assert await reason(client, sim, "cancelled") == "cancelled"
            await client.close("cancelled")

    run(cancelled())


def leave_early(stream: AsyncStream) -> Awaitable[Any]:
    async def leave() -> None:
        async with stream:
            await asyncio.sleep(0)

    return leave()


def raise_inside(stream: AsyncStream) -> Awaitable[Any]:
    async def fail() -> None:
        with pytest.raises(LookupError):
            async with stream:
                raise LookupError

    return fail()


def be_cancelled_inside(stream: AsyncStream) -> Awaitable[Any]:
    async def fail() -> None:
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(0.01), stream:
                await asyncio.sleep(60)

    return fail()


@pytest.mark.parametrize("leave", [leave_early, raise_inside, be_cancelled_inside, AsyncStream.cancel])
def test_who_leaves_early_cancels(
    system: EmbeddedSystem, sim: Simulator, run: Run, leave: Callable[[AsyncStream], Awaitable[Any]]
) -> None:
    async def left() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            stream = await stalled(client, sim, "left")
            await leave(stream)
            assert [event async for event in stream] == []
            await hung_up(sim)
            assert await reason(client, sim, "left") == "cancelled"
            await client.close("left")

    run(left())


def test_a_stream_that_is_dropped_cancels(system: EmbeddedSystem, sim: Simulator, run: Run) -> None:
    async def dropped() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            stream = await stalled(client, sim, "dropped")
            with pytest.warns(ResourceWarning, match="dropped"):
                del stream
                gc.collect()
            await hung_up(sim)
            assert await reason(client, sim, "dropped") == "cancelled"
            await client.close("dropped")

    run(dropped())


async def interrupted_while_waiting(stream: AsyncStream) -> None:
    async with asyncio.timeout(None) as limit:
        async for event in stream:
            if isinstance(event, Data):
                limit.reschedule(asyncio.get_running_loop().time() + 0.05)


async def interrupted_between_two_events(stream: AsyncStream) -> None:
    streams = [stream]
    del stream
    async with asyncio.timeout(None) as limit:
        async for event in streams.pop():
            if isinstance(event, Data):
                limit.reschedule(0.0)
                await asyncio.sleep(60)


async def interrupted_in_a_task(stream: AsyncStream) -> None:
    seen, streams = asyncio.Event(), [stream]
    del stream

    async def read() -> None:
        async for event in streams.pop():
            if isinstance(event, Data):
                seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "interrupted", [interrupted_while_waiting, interrupted_between_two_events, interrupted_in_a_task]
)
def test_a_reader_that_is_cancelled_is_not_accused_and_its_stream_is_cancelled_all_the_same(
    system: EmbeddedSystem, sim: Simulator, run: Run, interrupted: Callable[[AsyncStream], Awaitable[None]]
) -> None:
    async def cancelled() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            sim.inject(FAULTS["stall"]("mid_text"))
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", ResourceWarning)
                with suppress(TimeoutError):
                    await interrupted(client.stream("interrupted", ask(sim)))
                gc.collect()
                await hung_up(sim)
            assert [str(one.message) for one in told if "stream" in str(one.message)] == []
            assert await reason(client, sim, "interrupted") == "cancelled"
            await client.close("interrupted")

    run(cancelled())


def test_another_task_may_cancel_a_stream_that_is_waited_for(system: EmbeddedSystem, sim: Simulator, run: Run) -> None:
    async def cancelled() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            stream = await stalled(client, sim, "other")
            while (waiting := asyncio.create_task(anext(stream))) and (await asyncio.wait([waiting], timeout=0.05))[0]:
                pass
            await stream.cancel()
            with pytest.raises(StreamError) as caught:
                await waiting
            assert caught.value.code is ErrorCode.CANCELLED
            await hung_up(sim)
            await client.close("other")

    run(cancelled())


def test_only_one_task_at_a_time_reads_a_stream(link: FakeLink, town: Town, run: Run) -> None:
    """Also if both of them would be the first."""

    def submitted(submit: m.Submit, source: FakeSource) -> Any:
        source.script.extend([None, None])
        return town.accept(submit, source)

    town.submitted = submitted

    async def reading() -> None:
        async with over(link) as client:
            stream = client.stream("a", REQUEST)
            tasks = [asyncio.create_task(anext(stream)) for _ in range(2)]
            [refused], [waiting] = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert isinstance(refused.exception(), PixirError)
            assert "another task" in str(refused.exception())
            waiting.cancel()
            await stream.cancel()

    run(reading())


def test_a_wait_that_is_given_up_has_not_ended_the_stream(system: EmbeddedSystem, run: Run) -> None:
    release = threading.Event()

    async def waited() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            stream = await client.stream("patience", ask(sim))
            events: list[Event] = []
            gave_up = 0
            while True:
                try:
                    events.append(await asyncio.wait_for(anext(stream), 0.02))
                except TimeoutError:
                    gave_up += 1
                    if gave_up > 3:
                        release.set()
                except StopAsyncIteration:
                    break
            assert gave_up > 3
            assert (stream.text, len(sim.requests)) == ("the whole of it", 1)
            await client.close("patience")

    with Simulator([Reply.text("the whole of it").held(release)]) as sim:
        run(waited())


@pytest.mark.parametrize(
    ("outcome", "expected"), [(asyncio.CancelledError, "cancelled"), (LookupError, "stream_callback_failed")]
)
def test_a_task_that_is_cancelled_in_its_callback_has_not_failed(
    system: EmbeddedSystem, sim: Simulator, run: Run, outcome: type[BaseException], expected: str
) -> None:
    async def fold(event: Event, acc: None) -> None:
        if isinstance(event, Data):
            if outcome is LookupError:
                raise LookupError
            await asyncio.sleep(60)

    async def reduced() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            sim.inject(FAULTS["stall"]("mid_text"))
            task = asyncio.create_task(client.reduce("fold", ask(sim), None, fold))
            await seen(sim, lambda sim: sim.turns)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(outcome):
                await task
            assert await reason(client, sim, "fold") == expected
            await client.close("fold")

    run(reduced())


class Held:
    """Has the question of one kind wait until the test lets it go, in the thread that asks it."""

    def __init__(self, link: FakeLink, kind: type) -> None:
        self.asked, self.release = threading.Event(), threading.Event()
        self._answer, self._kind = link.answer, kind
        link.answer = self

    def __call__(self, address: Any, question: Any) -> Any:
        if isinstance(question, self._kind):
            self.asked.set()
            assert self.release.wait(within(10))
        return self._answer(address, question)


@pytest.mark.parametrize("kind", [m.EnsureStarted, m.Submit])
def test_one_that_is_cancelled_while_it_is_submitted_is_cancelled_where_it_arrives_or_never_arrives(
    link: FakeLink, town: Town, run: Run, kind: type
) -> None:
    held = Held(link, kind)

    async def cancelled() -> None:
        async with over(link) as client:
            task = asyncio.create_task(ended(client.stream("a", REQUEST)))
            await asyncio.to_thread(held.asked.wait, within(10))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.release.set()
            submitted = kind is m.Submit
            await asyncio.to_thread(until, lambda: bool(link.sources) == submitted and all(s.closed for s in link.sources))

    run(cancelled())
    assert until(lambda: not [one for one in threading.enumerate() if one.name.startswith("pixir-aio")])
    submits = [submit.request_id for submit in link.questions(m.Submit)]
    assert len(submits) == (kind is m.Submit)
    if submits:
        last = [type(question) for _, question, _ in link.asked if isinstance(question, m.Submit | m.Cancel)][-1]
        assert last is m.Cancel, "the one that was told first may have come before the request"
        assert {cancel.request_id for cancel in link.questions(m.Cancel)} == set(submits)
    assert all(source.closed for source in link.sources)


def test_one_that_is_cancelled_before_a_thread_has_begun_with_it_is_never_submitted(
    link: FakeLink, town: Town, run: Run
) -> None:
    held = Held(link, m.EnsureStarted)

    async def cancelled() -> None:
        async with over(link) as client:
            tasks = [asyncio.create_task(ended(client.stream(f"{n}", REQUEST))) for n in range(3 * WORKERS)]
            await asyncio.to_thread(held.asked.wait, within(10))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            held.release.set()

    run(cancelled())
    assert until(lambda: not [one for one in threading.enumerate() if one.name.startswith("pixir-aio")])
    assert link.questions(m.Submit) == []
    assert len(link.questions(m.EnsureStarted)) <= WORKERS


# Order


@pytest.mark.parametrize("warm", [False, True])
def test_requests_of_a_key_run_in_the_order_in_which_they_were_submitted(
    system: EmbeddedSystem, sim: Simulator, run: Run, warm: bool
) -> None:
    """Whether it has a connection yet or not, and however large they are: threads bring them there."""
    key = f"in order, {warm}, {time.monotonic_ns()}"
    sizes = [1, AT_ONCE, 2, 1, 3 * AT_ONCE, 1, 1, PARSED_AT_ONCE, 1]

    async def used() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            if warm:
                await ended(client.stream(key, ask(sim)))
            await asyncio.gather(*(ended(client.stream(key, ask(sim, f"{n}" * size))) for n, size in enumerate(sizes)))

    run(used())
    arrived = [received.payload["input"] for received in sim.requests][warm:]
    assert [(text[0], len(text)) for text in arrived] == [(f"{n}", size) for n, size in enumerate(sizes)]


def test_one_that_was_cancelled_in_line_has_the_others_stay_in_order(
    system: EmbeddedSystem, sim: Simulator, run: Run
) -> None:
    key = f"cancelled in line {time.monotonic_ns()}"

    async def used() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            tasks = [asyncio.create_task(ended(client.stream(key, ask(sim, f"{n}")))) for n in range(8)]
            await asyncio.sleep(0)
            tasks[2].cancel()
            await asyncio.wait(tasks)

    run(used())
    assert [received.payload["input"] for received in sim.requests] == [*"0134567"]


def test_the_time_of_a_request_is_over_while_it_is_in_line(link: FakeLink, town: Town, run: Run) -> None:
    held = Held(link, m.EnsureStarted)

    async def used() -> None:
        async with over(link) as client:
            first = asyncio.create_task(ended(client.stream("a", REQUEST)))
            await asyncio.to_thread(held.asked.wait, within(10))
            with pytest.raises(StreamError) as caught:
                await client.stream("a", REQUEST, timeout=0.001)
            assert (caught.value.code, caught.value.delivery) == (ErrorCode.REQUEST_TIMEOUT, Delivery.NOT_SENT)
            first.cancel()
            held.release.set()

    run(used())


# Many, and the loop is never blocked


class Blocking(FakeLink):
    """Notes which threads call what may block."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[str, set[int]] = {}

    def note(self, name: str) -> None:
        self.threads.setdefault(name, set()).add(threading.get_ident())

    def ask(self, *arguments: Any, **options: Any) -> Any:
        self.note("ask")
        return super().ask(*arguments, **options)

    def supervisor(self, **options: Any) -> Any:
        self.note("supervisor")
        return super().supervisor(**options)

    def open(self, request_id: int, *, max_buffered_bytes: int) -> FakeSource:
        self.note("open")
        source = super().open(request_id, max_buffered_bytes=max_buffered_bytes)
        for name in ("bind", "close"):
            setattr(source, name, partial(self._noted, name, getattr(source, name)))
        return source

    def close(self) -> None:
        self.note("close of the client")
        super().close()

    def _noted(self, name: str, call: Any, *arguments: Any) -> Any:
        self.note(name)
        return call(*arguments)


def test_nothing_that_may_block_is_called_in_the_loop_s_thread(run: Run) -> None:
    link = Blocking()
    town = Town(link)
    made_in: list[int] = []

    def make(**options: Any) -> Client:
        made_in.append(threading.get_ident())
        return Client(link, **options)

    def submitted(submit: m.Submit, source: FakeSource) -> Any:
        source.script.extend([frame(FrameType.DATA, b"{}"), frame(FrameType.FINISHED)])
        return town.accept(submit, source)

    def answer(address: Any, question: Any) -> Any:
        match question:
            case m.GetStatus():
                return m.StatusReport(question.ask_id, ())
            case m.CloseConnection():
                return m.ConnectionClosed(question.ask_id, True)
        return known(address, question)

    town.submitted = submitted
    known, link.answer = link.answer, answer

    async def used() -> int:
        async with AsyncClient(make) as client:
            async with client.stream("a", REQUEST) as stream:
                assert len([event async for event in stream]) == 1
            async with client.stream("a", REQUEST) as stream:
                await anext(stream)
            town.submitted = town.accept
            await client.stream("a", REQUEST).cancel()
            await (await client.stream("a", REQUEST)).cancel()
            town.submitted = submitted
            with pytest.raises(ZeroDivisionError):
                await client.reduce("a", REQUEST, 0, lambda event, acc: 1 // 0)
            await client.status()
            await client.close("a")
            assert await client.close_connection("c-1")
        return threading.get_ident()

    loops_thread = run(used())
    assert set(link.threads) == {"ask", "supervisor", "open", "bind", "close", "close of the client"}
    assert loops_thread not in set.union(*link.threads.values(), made_in)


@pytest.mark.parametrize(
    ("size", "mapping", "fields", "at_once"),
    [
        (0, True, {}, True),
        (PARSED_AT_ONCE, True, {}, True),
        (PARSED_AT_ONCE, True, {"store": False}, False),
        (AT_ONCE, True, {}, False),
        (0, False, {}, True),
        (PARSED_AT_ONCE, False, {}, False),
    ],
)
def test_over_an_open_channel_a_request_goes_from_the_loop_s_thread_unless_it_takes_long_to_build(
    link: FakeLink, town: Town, run: Run, size: int, mapping: bool, fields: dict[str, Any], at_once: bool
) -> None:
    sent_in: list[int] = []
    take = link.send

    def send(connection_id: str, *parts: bytes, request_id: int = 0) -> bool:
        if request_id:
            sent_in.append(threading.get_ident())
        return take(connection_id, *parts, request_id=request_id)

    request = Request("ws://127.0.0.1/v1/responses", {}, {"model": "m", "input": "x" * size} | fields)
    if not mapping:
        request = Request(request.url, {}, request.body)

    async def used() -> int:
        async with over(link) as client:
            await (await client.stream("a", REQUEST)).cancel()
            link.alive, link.channels_take, link.send = {"c-1"}, True, send  # type: ignore[method-assign]
            link.asked.clear()
            await (await client.stream("a", request)).cancel()
        return threading.get_ident()

    loops_thread = run(used())
    assert len(sent_in) == 1
    assert (sent_in[0] == loops_thread) == at_once
    assert link.questions(m.Submit) == []


@pytest.mark.parametrize("known", [True, False], ids=["warm", "cold"])
def test_what_was_cancelled_before_it_began_is_never_sent(link: FakeLink, town: Town, run: Run, known: bool) -> None:
    async def used() -> None:
        async with over(link) as client:
            if known:
                await (await client.stream("a", REQUEST)).cancel()
                link.alive, link.channels_take = {"c-1"}, True
            link.asked.clear()
            stream = client.stream("a", REQUEST)
            await stream.cancel()
            with pytest.raises(StreamError) as caught:
                await stream
            assert (caught.value.code, caught.value.delivery) == (ErrorCode.CANCELLED, Delivery.NOT_SENT)

    run(used())
    assert link.taken == []
    assert link.questions(m.Submit) == []


def test_one_that_could_not_be_submitted_says_so_again(link: FakeLink, town: Town, run: Run) -> None:
    async def used() -> None:
        async with over(link) as client:
            stream = client.stream("a", REQUEST, timeout=-1)
            for _ in range(2):
                with pytest.raises(InvalidSettings, match="timeout"):
                    await stream

    run(used())


class Impostor:
    body = None


def test_what_is_no_request_is_refused_by_name(link: FakeLink, town: Town, run: Run) -> None:
    async def used() -> None:
        async with over(link) as client:
            with pytest.raises(InvalidRequest, match="request is a Impostor"):
                await client.stream("a", Impostor())  # type: ignore[arg-type]

    run(used())


async def heart(beats: list[float]) -> None:
    """Note the longest times for which the loop did nothing else than others' work."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.002)
        beats.append(time.perf_counter() - before)


def test_hundreds_of_streams_at_once_cost_no_thread_each_and_leave_the_loop_alive(
    system: EmbeddedSystem, run: Run
) -> None:
    everybody = threading.Event()
    beats: list[float] = []

    async def answered(client: AsyncClient, sim: Simulator, number: int) -> str:
        async with client.stream(f"many-{number % KEYS}", ask(sim, f"{number}")) as stream:
            return "".join([text async for text in stream.text_deltas()])

    async def many() -> None:
        before = threading.active_count()
        async with AsyncClient.over(system.actor_system, settings=Settings(queue_limit=STREAMS)) as client:
            for key in range(KEYS):
                await client.warm(f"many-{key}", ask(sim))
            beating = asyncio.create_task(heart(beats))
            tasks = [asyncio.create_task(answered(client, sim, number)) for number in range(STREAMS)]
            await seen(sim, lambda sim: len(sim.requests) >= KEYS)
            # One thread reads all channels, and the test has one of its own for waiting.
            assert threading.active_count() - before <= WORKERS + MESSENGERS + 2
            assert not any(task.done() for task in tasks)
            everybody.set()
            assert await asyncio.gather(*tasks) == [f"You said: {number}" for number in range(STREAMS)]
            beating.cancel()
            for key in range(KEYS):
                await client.close(f"many-{key}")

    with Simulator(lambda turn: Reply.text(f"You said: {turn.text}").held(everybody)) as sim:
        try:
            run(many())
        finally:
            everybody.set()
    assert len(beats) > 20
    assert max(beats) < within(2)


def test_a_consumer_that_does_not_read_holds_the_channel_back(system: EmbeddedSystem, run: Run) -> None:
    text = "x" * (8 * 1024 * 1024)

    async def slow() -> None:
        async with AsyncClient.over(system.actor_system) as client:
            async with client.stream("slow", ask(sim)) as stream:
                await first_data(stream)
                assert stream._way is not None and stream._way.call is not None
                inbox: Any = stream._way.call.source
                await asyncio.to_thread(until, lambda: inbox.held)
                assert inbox.held
                for _ in range(10):
                    await asyncio.sleep(0.01)
                    assert inbox.unread_bytes < 1024 * 1024, "a slice, and what one read brings beyond it"
                async for _ in stream:
                    pass
            assert stream.text == text
            await client.close("slow")

    with Simulator(lambda turn: Reply.text(text, deltas=2000)) as sim:
        run(slow())


# Opening and closing


def test_an_embedded_system_starts_without_holding_the_loop_up_and_ends_with_the_block(run: Run) -> None:
    before = set(children(os.getpid()))
    beats: list[float] = []

    async def started() -> None:
        beating = asyncio.create_task(heart(beats))
        async with AsyncClient.embedded(settings=Settings(idle_timeout=7.0), namespace="n") as client:
            assert set(children(os.getpid())) > before
            assert (client.settings.idle_timeout, client.namespace) == (7.0, "n")
        beating.cancel()

    run(started())
    assert set(children(os.getpid())) == before
    assert len(beats) > 5, "it went on while the system started"


def test_one_that_is_opened_by_await_is_closed_by_its_own_word(link: FakeLink, run: Run) -> None:
    async def opened() -> None:
        client = await over(link)
        async with client as same:
            assert same is client
        await client.close()
        for use in (client.status, partial(client.close, "a"), partial(client.respond, "a", REQUEST)):
            with pytest.raises(StreamError) as caught:
                await use()
            assert caught.value.code is ErrorCode.SHUTTING_DOWN

    run(opened())
    assert link.closed == 1


def test_a_client_that_cannot_be_opened_says_why_and_leaves_no_thread(run: Run) -> None:
    def make(**options: Any) -> Client:
        raise SystemStartFailed("it did not start")

    async def opened() -> None:
        client = AsyncClient(make)
        with pytest.raises(SystemStartFailed, match="it did not start"):
            async with client:
                raise AssertionError
        await client.close()

    run(opened())
    assert until(lambda: not [one for one in threading.enumerate() if one.name.startswith("pixir-aio")])


def test_what_is_made_for_a_task_that_was_cancelled_meanwhile_is_closed(link: FakeLink, run: Run) -> None:
    making, may_go_on = threading.Event(), threading.Event()

    def make(**options: Any) -> Client:
        making.set()
        assert may_go_on.wait(within(10))
        return Client(link, **options)

    async def cancelled() -> None:
        task = asyncio.create_task(AsyncClient(make).__aenter__())
        await asyncio.to_thread(making.wait, within(10))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()

    run(cancelled())
    assert until(lambda: link.closed == 1)


def test_closing_the_client_ends_its_streams(system: EmbeddedSystem, sim: Simulator, run: Run) -> None:
    sim.inject(FAULTS["stall"]("mid_text", times=None))

    async def code_of(stream: AsyncStream) -> ErrorCode:
        with pytest.raises(StreamError) as caught:
            await ended(stream)
        return caught.value.code

    async def closed() -> None:
        client = await AsyncClient.over(system.actor_system)
        tasks = [asyncio.create_task(code_of(client.stream(f"closed-{key}", ask(sim)))) for key in range(5)]
        await seen(sim, lambda sim: len(sim.turns) == 5)
        await asyncio.sleep(0.05)
        await client.close()
        assert set(await asyncio.gather(*tasks)) == {ErrorCode.SHUTTING_DOWN}
        await seen(sim, lambda sim: sim.open_connections == 0)
        async with AsyncClient.over(system.actor_system) as second:
            for key in range(5):
                await second.close(f"closed-{key}")

    run(closed())


def test_a_client_that_is_being_closed_is_closed_though_its_task_is_cancelled(
    link: FakeLink, town: Town, run: Run
) -> None:
    link.owns_system = True
    held = Held(link, m.StopAll)

    async def closed() -> None:
        client = await over(link)
        closing = asyncio.create_task(client.close())
        await asyncio.to_thread(held.asked.wait, within(10))
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        held.release.set()

    run(closed())
    assert until(lambda: link.closed == 1)


# Whose it is


def test_a_client_that_is_not_open_says_how_to_open_it(link: FakeLink, run: Run) -> None:
    async def used() -> None:
        client = over(link)
        for use in (client.status, partial(client.respond, "a", REQUEST)):
            with pytest.raises(PixirError, match="async with"):
                await use()
        await client.close()
        with pytest.raises(PixirError, match="async with"):
            await client

    run(used())


def test_a_client_belongs_to_one_loop(link: FakeLink, town: Town, run: Run) -> None:
    async def opened() -> AsyncClient:
        return await over(link)

    async def elsewhere(client: AsyncClient) -> None:
        for use in (client.status, client.close, partial(client.respond, "a", REQUEST)):
            with pytest.raises(PixirError, match="another event loop"):
                await use()

    client = run(opened())
    asyncio.run(elsewhere(client))
    run(client.close())
    assert link.asked == []


def test_a_client_belongs_to_one_process(link: FakeLink, town: Town, run: Run) -> None:
    async def opened() -> AsyncClient:
        return await over(link)

    client = run(opened())
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            client.status().send(None)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, "rb") as told:
        said = told.read().decode()
    run(client.close())

    assert said == f"WrongProcess: {WrongProcess(os.getpid())}"


def test_a_stream_that_a_forked_process_drops_is_not_cancelled_there(link: FakeLink, town: Town, run: Run) -> None:
    async def streaming() -> None:
        async with over(link) as client:
            stream = await client.stream("a", REQUEST)
            child = os.fork()
            if not child:
                warnings.simplefilter("ignore")
                asked = len(link.asked)
                del stream
                gc.collect()
                os._exit(len(link.asked) - asked)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0
            assert not link.sources[0].closed
            await stream.cancel()

    run(streaming())
    assert len(link.questions(m.Cancel)) == 1


def test_what_has_not_begun_prints_as_that(link: FakeLink, town: Town, run: Run) -> None:
    async def printed() -> None:
        client = over(link)
        assert repr(client) == "<AsyncClient not open>"
        async with client:
            stream = client.stream(("canary", 1), REQUEST)
            assert repr(stream) == f"<AsyncStream key={digest(canonical(('canary', 1), None))} not started>"
            assert repr(client.stream("a", REQUEST, expose_keys=True)) == "<AsyncStream key='a' not started>"
            for unfit in (client.stream(None, REQUEST), client.stream("a", REQUEST, idle_timeout=0)):  # type: ignore[arg-type]
                assert repr(unfit) == "<AsyncStream key=? not started>"
            with suppress(InvalidSettings):
                await unfit
            assert repr(unfit) == "<AsyncStream key=? failed: InvalidSettings>"

    run(printed())
    assert repr(AsyncClient.embedded()) == "<AsyncClient not open>"


def test_a_simple_system_would_block_the_loop_and_is_refused() -> None:
    system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
    try:
        with pytest.raises(SystemStartFailed, match="multiprocTCPBase"):
            AsyncClient.over(system)
    finally:
        system.shutdown()


def test_what_cannot_be_sent_is_told_when_it_is_submitted(link: FakeLink, run: Run) -> None:
    async def refused() -> None:
        async with over(link) as client:
            stream = client.stream(None, REQUEST)  # type: ignore[arg-type]
            with pytest.raises(InvalidRequest):
                async with stream:
                    raise AssertionError
            assert [event async for event in stream] == []

    run(refused())
    assert link.asked == []
