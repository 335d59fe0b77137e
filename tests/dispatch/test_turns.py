"""Who is submitted before whom, on an event loop, without threads and without a client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from pixir_actors.dispatch import turns as module
from pixir_actors.dispatch.turns import Turns
from pixir_actors.errors import InvalidRequest, SystemStartFailed


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


@pytest.mark.parametrize("error", [InvalidRequest("body", "is nothing"), RuntimeError("a defect")])
def test_a_refusal_is_for_the_one_who_got_it_and_the_others_stay_in_line(error: Exception) -> None:
    async def scene(line: Line) -> None:
        first, _, _ = [line.give(name) for name in "abc"]
        await line.failed("a", error)
        assert first.exception() is error
        assert line.begun == ["a", "b"]

    lined(scene)


def test_what_cannot_begin_has_failed() -> None:
    error = SystemStartFailed("it does not start")

    def begin() -> asyncio.Future[str]:
        raise error

    async def scene(line: Line) -> None:
        line.give("a")
        refused = line.turns.run("key", begin)
        line.give("c")
        await line.there("a")
        assert refused.exception() is error
        assert line.begun == ["a", "c"]

    lined(scene)


def test_behind_a_failure_that_took_long_nobody_waits_for_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", -math.inf)

    async def scene(line: Line) -> None:
        for name in "abcd":
            line.give(name)
        await line.failed("a", RuntimeError("no answer"))
        assert line.begun == ["a", "b", "c", "d"]
        assert not line.turns.taken("key"), "who comes now has nobody to wait for"
        for name in "bcd":
            await line.there(name)

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
