"""Who is submitted before whom, on an event loop, without threads and without a client."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from pixir_actors.dispatch import turns as module
from pixir_actors.dispatch.turns import Turns
from pixir_actors.errors import Delivery, ErrorCode, Failure, InvalidRequest, StreamError, SystemStartFailed


class Line:
    """Some who take their turns; `begun` says who has been called, and `way` ends it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.turns = Turns(self.loop)
        self.begun: list[str] = []
        self.way: dict[str, asyncio.Future[str]] = {}

    def give(self, name: str, key: str = "key", patience: float | None = None) -> asyncio.Future[str]:
        return self.turns.run(key, partial(self._begin, name), patience=patience)

    def _begin(self, name: str) -> asyncio.Future[str]:
        self.begun.append(name)
        self.way[name] = self.loop.create_future()
        return self.way[name]

    async def there(self, name: str) -> None:
        self.way[name].set_result(f"{name} is there")
        await settle()

    async def failed(self, name: str, error: Exception) -> None:
        self.way[name].set_exception(error)
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def lined(scene: Callable[[Line], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Line())

    asyncio.run(run())


def test_each_begins_when_the_one_before_it_is_there() -> None:
    async def scene(line: Line) -> None:
        results = [line.give(name) for name in "abc"]
        await settle()
        assert line.begun == ["a"]
        await line.there("a")
        assert line.begun == ["a", "b"]
        results.append(line.give("d"))
        await line.there("b")
        await line.there("c")
        await line.there("d")
        assert [one.result() for one in results] == [f"{name} is there" for name in "abcd"]

    lined(scene)


def test_keys_do_not_wait_for_each_other_and_are_free_when_nobody_is_left() -> None:
    async def scene(line: Line) -> None:
        line.give("a", "one")
        line.give("b", "two")
        assert line.begun == ["a", "b"]
        assert line.turns.taken("one")
        await line.there("a")
        assert not line.turns.taken("one")
        assert line.turns.taken("two")

    lined(scene)


def failed(code: ErrorCode) -> StreamError:
    return StreamError(Failure.of(code, Delivery.NOT_SENT))


@pytest.mark.parametrize(
    ("error", "long"),
    [
        (InvalidRequest("body", "is nothing"), True),
        (RuntimeError("a defect"), True),
        (failed(ErrorCode.CANCELLED), True),
        (failed(ErrorCode.REQUEST_TIMEOUT), True),
        (failed(ErrorCode.CONNECTION_UNRESPONSIVE), False),
        (SystemStartFailed("it does not start"), False),
    ],
)
def test_a_failure_of_its_own_or_a_quick_one_leaves_the_others_in_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, long: bool
) -> None:
    monkeypatch.setattr(module, "LONG", -math.inf if long else math.inf)

    async def scene(line: Line) -> None:
        first, _, _ = [line.give(name) for name in "abc"]
        await line.failed("a", error)
        assert first.exception() is error
        assert line.begun == ["a", "b"]

    lined(scene)


@pytest.mark.parametrize("error", [SystemStartFailed("it does not start"), RuntimeError("can't start new thread")])
@pytest.mark.parametrize("alone", [True, False])
def test_what_cannot_begin_has_failed(error: Exception, alone: bool) -> None:
    def begin() -> asyncio.Future[str]:
        raise error

    async def scene(line: Line) -> None:
        if not alone:
            line.give("a")
        refused = line.turns.run("key", begin)
        line.give("c")
        if not alone:
            await line.there("a")
        await settle()
        assert refused.exception() is error
        assert line.begun == ["c"] if alone else ["a", "c"]

    lined(scene)


def test_what_interrupts_the_beginning_goes_on_up_and_nobody_waits_for_it() -> None:
    def begin() -> asyncio.Future[str]:
        raise KeyboardInterrupt

    async def scene(line: Line) -> None:
        with pytest.raises(KeyboardInterrupt):
            line.turns.run("key", begin)
        line.give("b")
        await settle()
        assert line.begun == ["b"]

    lined(scene)


def test_nobody_is_told_of_a_failure_that_nobody_waits_for() -> None:
    told: list[object] = []

    async def scene(line: Line) -> None:
        line.loop.set_exception_handler(lambda _, context: told.append(context))
        line.give("a")
        await line.failed("a", RuntimeError("no matter"))
        gc.collect()

    lined(scene)
    assert told == []


def test_behind_a_failure_that_took_long_nobody_waits_for_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", -math.inf)

    async def scene(line: Line) -> None:
        for name in "abcd":
            line.give(name)
        await line.failed("a", failed(ErrorCode.CONNECTION_UNRESPONSIVE))
        assert line.begun == ["a", "b", "c", "d"]
        assert not line.turns.taken("key"), "who comes now has nobody to wait for"
        for name in "bcd":
            await line.there(name)

    lined(scene)


def test_and_one_that_cannot_even_begin_then_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin() -> asyncio.Future[str]:
        raise RuntimeError("can't start new thread")

    async def scene(line: Line) -> None:
        line.give("a")
        line.turns.run("key", begin)
        line.give("c")
        line.give("d")
        monkeypatch.setattr(module, "LONG", -math.inf)
        await line.failed("a", failed(ErrorCode.CONNECTION_UNRESPONSIVE))
        assert line.begun == ["a", "c", "d"]

    lined(scene)


def test_whose_time_is_over_begins_and_those_behind_it_wait_on() -> None:
    async def scene(line: Line) -> None:
        line.give("a")
        line.give("b", patience=0.0)
        line.give("c")
        await settle()
        assert line.begun == ["a", "b"]
        await line.failed("b", RuntimeError("too late"))
        assert line.begun == ["a", "b"]
        await line.there("a")
        assert line.begun == ["a", "b", "c"]

    lined(scene)


def test_behind_whose_time_is_over_nobody_waits_for_a_system_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", -math.inf)

    async def scene(line: Line) -> None:
        line.give("a")
        line.give("b", patience=0.0)
        line.give("c")
        line.give("d")
        await settle()
        await line.there("b")
        await line.failed("a", failed(ErrorCode.CONNECTION_LOST))
        assert line.begun == ["a", "b", "c", "d"]

    lined(scene)


def test_nobody_begins_twice_and_no_timer_is_left() -> None:
    async def scene(line: Line) -> None:
        line.give("a")
        result = line.give("b", patience=1000.0)
        await line.there("a")
        assert line.begun == ["a", "b"]
        await line.there("b")
        assert await result == "b is there"
        assert [one for one in line.loop._scheduled if not one.cancelled()] == []  # type: ignore[attr-defined]

    lined(scene)
