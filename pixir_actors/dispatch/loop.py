"""Calls on an event loop: what blocks is done by a few threads, and what comes is told to the loop in one go.

    LoopSide     of one client: threads for what blocks, the order in which they bring requests to a key, and the bell
    Submission   of one call: brought to its connection from the loop's thread, or by one of those
    Bell         how the listener's thread wakes tasks: one wake-up of the loop for all that have become ready
    LoopReader   of one call: does the steps of `Call.read` without ever blocking the loop's thread
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar, cast

from pixir_actors.channel.frame import Frame
from pixir_actors.dispatch.call import Call, Step, Wait
from pixir_actors.dispatch.dispatcher import client_closed
from pixir_actors.dispatch.link import LoopSource
from pixir_actors.dispatch.placement import TIMEOUT_GRACE
from pixir_actors.dispatch.turns import Turns
from pixir_actors.errors import Delivery, ErrorCode, Failure, PixirError, StreamError, WrongProcess

WORKERS: Final = 16
"""Threads that bring requests to their connections and ask for status: so many connections may not answer at once before
the requests of others wait for a thread."""
MESSENGERS: Final = 4
"""Threads that cancel, apart from the others so that a cancel never waits for a thread that brings a request somewhere."""
PAUSE_AFTER: Final = 256
"""Frames after which a stream that always finds more lets the loop's other tasks run."""

R = TypeVar("R")
Waiter = asyncio.Future[None]


class Bell:
    """Wakes tasks of one loop, from any thread. Never blocks, takes no lock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rung: deque[Waiter] = deque()
        self._heard = True

    def ring(self, waiter: Waiter) -> None:
        """Wake who awaits `waiter`."""
        self._rung.append(waiter)
        # The loop says that it has heard before it looks: whoever finds that it has not, is seen.
        if self._heard:
            self._heard = False
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._heard = True
        while self._rung:
            wake(self._rung.popleft())


def wake(waiter: Waiter) -> None:
    """Wake who awaits `waiter`, in the loop's thread, unless it is awake or has been cancelled."""
    if not waiter.done():
        waiter.set_result(None)


class LoopSide:
    """What the calls of one client need where they are read on an event loop.

    Used in the loop's thread, but for `bell` and `tell_soon`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.bell = Bell(loop)
        self.turns = Turns(loop)
        self._workers = ThreadPoolExecutor(WORKERS, "pixir-aio")
        self._messengers = ThreadPoolExecutor(MESSENGERS, "pixir-aio-tell")
        self._pid = os.getpid()
        self._closed = False

    def run(self, function: Callable[[], R]) -> asyncio.Future[R]:
        """Call a function that may block, in another thread. It goes on where nobody awaits it any more.

        Raises:
            StreamError: `shutting_down`: the threads have been let go.
            WrongProcess: They are the parent's: nobody would do it here.
        """
        return self._in_thread(self._workers, function)

    def tell(self, function: Callable[[], R]) -> asyncio.Future[R]:
        """As `run`, for a word that should not wait for a thread."""
        return self._in_thread(self._messengers, function)

    def tell_soon(self, function: Callable[[], object]) -> bool:
        """As `tell`, from a destructor in any thread: waits for nothing; says whether there is a loop to do it."""
        if os.getpid() != self._pid:
            return False
        try:
            self.loop.call_soon_threadsafe(self._tell_quietly, function)
        except RuntimeError:
            return False
        return True

    def close(self) -> None:
        """Let the threads go, when they have done what they were given; waits for nothing. Idempotent."""
        self._closed = True
        for threads in (self._workers, self._messengers):
            threads.shutdown(wait=False)

    def _tell_quietly(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(StreamError):
            self.tell(function)

    def _in_thread(self, threads: Executor, function: Callable[[], R]) -> asyncio.Future[R]:
        if os.getpid() != self._pid:
            raise WrongProcess(self._pid)
        if self._closed:
            raise client_closed(Delivery.AMBIGUOUS)
        future = self.loop.run_in_executor(threads, function)
        future.add_done_callback(_seen)
        return future


def _seen(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining of an error that nobody waited for: whoever left did not want to know."""
    if not future.cancelled():
        future.exception()


async def result_of(future: asyncio.Future[R]) -> R:
    """Wait for what a thread does; if this task is cancelled, the thread goes on."""
    await asyncio.wait([future])
    return future.result()


def being_cancelled() -> bool:
    """Say whether this is a task on its way out: what it lets go of now, it had no chance to close."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


class Submission:
    """One request on its way from a loop to its connection, by the loop's own thread where nothing has to be waited for.

    Args:
        side: Of its client.
        prepare: Checks and encodes the request.

    Attributes:
        call: What `prepare` has returned.
    """

    def __init__(self, side: LoopSide, prepare: Callable[[], Call]) -> None:
        self.side, self._prepare = side, prepare
        self.call: Call | None = None
        self._began = time.monotonic()
        self._unwanted = False

    def begin(self, key: str, *, quick: bool, timeout: float | None = None) -> asyncio.Future[None] | None:
        """Submit it here and now, or have a thread do it, behind those of its key that were given before.

        Args:
            key: Its key.
            quick: To prepare it takes no time that others on the loop would notice.
            timeout: Seconds that it may take; its time runs while it is in line.

        Returns:
            What is done when a thread has submitted it; None: it is submitted.
        """
        if quick:
            self.call = self._prepare()
            if not self.side.turns.taken(key) and self.call.submit_at_once():
                return None
        patience = None if timeout is None else timeout + TIMEOUT_GRACE  # then its call finds it late
        return self.side.turns.run(key, self._by_thread, patience=patience)

    def give_up(self, *, callback_failed: bool = False) -> asyncio.Future[None] | None:
        """Want it no more; return what is done when its connection has been told so, if there is anything to tell."""
        self._unwanted = True
        if self.call is None:
            return None
        self.call.disown()
        try:
            return self.side.tell(partial(self.call.cancel, callback_failed=callback_failed))
        except (StreamError, WrongProcess):  # the client is closed, and with it the request; or the parent's
            return None

    def drop(self) -> None:
        """As `give_up`, from a destructor in any thread."""
        self._unwanted = True
        if self.call is not None:
            self.call.disown()
            if not self.side.tell_soon(self.call.cancel):
                self.call.abandon()

    def _by_thread(self) -> asyncio.Future[None]:
        try:
            return self.side.run(self._submit)
        except StreamError:
            raise client_closed(Delivery.NOT_SENT) from None
        except BaseException:
            self._unwanted = True  # a pool that has no thread for it keeps it all the same
            raise

    def _submit(self) -> None:
        """In a thread."""
        if self.call is None:
            self.call = self._prepare()
            self.call.has_waited(time.monotonic() - self._began)
        # Whoever gives up says so first, and then looks for the call.
        if self._unwanted:
            raise StreamError(Failure.of(ErrorCode.CANCELLED, Delivery.NOT_SENT))
        self.call.submit()


class LoopReader:
    """Reads one call on its loop, one task at a time.

    A task that is cancelled while it waits has not ended the call: the next one goes on where it was.
    """

    def __init__(self, call: Call, side: LoopSide) -> None:
        self._call, self._side = call, side
        self._alarm = Alarm(side.loop)
        self._steps: Generator[Step, Any, list[Frame]] | None = None
        self._step: Step | None = None
        self._work: asyncio.Future[Any] | None = None
        self._reading = False
        self._unpaused = 0

    async def frames(self) -> list[Frame]:
        """Return the next frames, at least one; as `Call.next_frames`.

        Raises:
            StreamError: As `Call.next_frames`.
            PixirError: Another task is waiting here.
        """
        if self._reading:
            raise PixirError("this stream is being read by another task: one at a time can")
        self._reading = True
        try:
            return await self._read()
        finally:
            self._reading = False

    def stop(self) -> None:
        """Leave nothing behind on the loop. Idempotent."""
        self._alarm.stop()

    async def _read(self) -> list[Frame]:
        try:
            if self._steps is None:
                self._steps = self._call.read()
                self._step = next(self._steps)
            while True:
                assert self._step is not None
                try:
                    answer = await self._done(self._step)
                except Exception as error:  # a task's own cancellation is none: the step is still to be done then
                    self._step = self._steps.throw(error)
                else:
                    self._step = self._steps.send(answer)
        except StopIteration as end:
            self._steps = None
            frames: list[Frame] = end.value
            self._unpaused += len(frames)
            return frames
        except Exception:
            self._steps = None
            raise

    async def _done(self, step: Step) -> Any:
        if isinstance(step, Wait):
            # Only a `LocalLink` has sources that do not wake anybody, and it belongs to no loop.
            return await self._frames_of(cast(LoopSource, step.source), step.timeout)
        if self._work is None:
            self._work = self._side.run(step.run)
        await asyncio.wait([self._work])
        work, self._work = self._work, None
        return work.result()

    async def _frames_of(self, source: LoopSource, timeout: float) -> list[Frame] | None:
        if self._unpaused >= PAUSE_AFTER:
            self._unpaused = 0
            await asyncio.sleep(0)
        deadline = self._side.loop.time() + timeout
        while (frames := source.take_ready()) is None:
            self._unpaused = 0
            if self._side.loop.time() >= deadline:
                return None
            frames = await self._woken(source, deadline)
            if frames is not None:
                break
        self._resume(source)
        return frames

    def _resume(self, source: LoopSource) -> None:
        """Let more frames come, as soon as that takes no waiting."""
        if source.to_resume and not source.resume(wait=False):
            self._side.loop.call_soon(self._resume, source)

    async def _woken(self, source: LoopSource, deadline: float) -> list[Frame] | None:
        """Wait until there may be something new; return it if it came while this was being prepared."""
        waiter: Waiter = self._side.loop.create_future()
        source.on_ready = partial(self._side.bell.ring, waiter)
        try:
            frames = source.take_ready()
            if frames is None:
                self._alarm.set(waiter, deadline)
                await waiter
            return frames
        finally:
            source.on_ready = None
            self._alarm.clear()


class Alarm:
    """Wakes a waiter at its deadline. Many short waits one after another share a timer, as most end long before it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: Waiter | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    def set(self, waiter: Waiter, deadline: float) -> None:
        """Wake `waiter` at `deadline`, in the loop's time."""
        self._waiter, self._deadline = waiter, deadline
        if self._timer is None or self._rings_at > deadline:
            self._start()

    def clear(self) -> None:
        """Wake nobody."""
        self._waiter = None

    def stop(self) -> None:
        """Wake nobody, and take the timer back."""
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = self._loop.call_at(self._deadline, self._ring), self._deadline

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._rings_at < self._deadline:
            self._start()
        else:
            wake(self._waiter)
