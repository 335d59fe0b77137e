"""The documented rule."""

from __future__ import annotations

from pixir_actors.simulator.cache import History, ResponseCache, ResponseStore

ONE, TWO = History(({"n": 1},), 1), History(({"n": 2},), 2)


def test_only_the_newest_response_is_kept() -> None:
    cache = ResponseCache()
    cache.remember("a", ONE)
    cache.remember("b", TWO)
    assert cache.recall("a") is None
    assert cache.recall("b") is TWO


def test_mode_all_keeps_the_older_ones_but_not_without_bound() -> None:
    cache = ResponseCache("all")
    for number in range(1025):
        cache.remember(str(number), ONE)
    assert cache.recall("0") is None
    assert cache.recall("1") is ONE


def test_a_failure_empties_a_cache_of_one_whatever_it_referred_to() -> None:
    cache = ResponseCache()
    cache.remember("a", ONE)
    cache.fail("other")
    assert cache.recall("a") is None


def test_a_failure_in_mode_all_evicts_what_was_referred_to_only() -> None:
    cache = ResponseCache("all")
    cache.remember("a", ONE)
    cache.remember("b", TWO)
    cache.fail("a")
    assert cache.recall("a") is None
    assert cache.recall("b") is TWO


def test_one_response_or_all_can_be_evicted() -> None:
    cache = ResponseStore()
    for name in "abc":
        cache.remember(name, ONE)
    cache.evict("a")
    cache.evict("unknown")
    assert (cache.recall("a"), cache.recall("b")) == (None, ONE)
    cache.evict()
    assert cache.recall("b") is None


def test_mode_none_keeps_nothing() -> None:
    cache = ResponseCache("none")
    cache.remember("a", ONE)
    assert cache.recall("a") is None
    cache.fail("a")
