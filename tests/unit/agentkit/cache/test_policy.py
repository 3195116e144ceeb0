"""The rules of the cache, without any I/O."""

from __future__ import annotations

import asyncio

import pytest

from voiceops.agentkit.cache.policy import CacheHit, CacheOptions, FetchFailed, FetchLease, FunctionCache


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def lead(shelf: FunctionCache, key: str = "k") -> int:
    answer = await shelf.claim(key)
    assert isinstance(answer, FetchLease)
    return answer.ticket


async def test_a_value_is_served_until_its_time_is_up(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(ttl_s=30), clock=clock)
    shelf.put(await lead(shelf), "v")

    clock.now += 29.9
    assert await shelf.claim("k") == CacheHit("v")
    clock.now += 0.2
    assert isinstance(await shelf.claim("k"), FetchLease)


async def test_many_askers_share_one_fetch(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(), clock=clock)
    ticket = await lead(shelf)
    others = [asyncio.create_task(shelf.claim("k")) for _ in range(100)]
    await asyncio.sleep(0)

    shelf.put(ticket, "v")

    assert await asyncio.gather(*others) == [CacheHit("v")] * 100
    assert (shelf.counters.misses, shelf.counters.hits) == (1, 100)


async def test_an_error_serves_the_old_value_and_leaves_the_source_alone_for_a_while(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(ttl_s=30, retry_after_s=1), clock=clock)
    shelf.put(await lead(shelf), "old")
    clock.now += 31

    assert shelf.fail(await lead(shelf), "500") == CacheHit("old", stale=True)
    assert await shelf.claim("k") == CacheHit("old", stale=True)
    clock.now += 1.1
    assert isinstance(await shelf.claim("k"), FetchLease)


async def test_an_error_without_an_old_value_is_everybodys(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(), clock=clock)
    ticket = await lead(shelf)
    waiting = asyncio.create_task(shelf.claim("k"))
    await asyncio.sleep(0)

    assert shelf.fail(ticket, "429") is None

    assert await waiting == FetchFailed("429")
    assert await shelf.claim("k") == FetchFailed("429")


async def test_a_source_that_hangs_costs_only_those_who_asked_first(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(timeout_s=3, retry_after_s=5), clock=clock)
    began = clock.now
    await lead(shelf)
    early = asyncio.create_task(shelf.claim("k"))
    await asyncio.sleep(0)
    assert not early.done(), "within the timeout everybody waits for the one fetch"

    clock.now = began + 3
    assert await shelf.claim("k") == FetchFailed("the source did not answer within 3 s")
    clock.now = began + 7.9
    assert isinstance(await shelf.claim("k"), FetchFailed)
    assert (shelf.counters.errors, shelf.counters.failed) == (1, 2)

    clock.now = began + 8
    assert isinstance(await shelf.claim("k"), FetchLease), "the pause is over: somebody tries again"
    early.cancel()


async def test_while_one_asks_a_source_that_just_failed_again_nobody_waits(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(retry_after_s=5), clock=clock)
    shelf.fail(await lead(shelf), "500")
    clock.now += 5.1
    again = await lead(shelf)

    assert await shelf.claim("k") == FetchFailed("500")
    shelf.put(again, "v")
    assert await shelf.claim("k") == CacheHit("v")


async def test_long_after_a_failure_askers_share_a_fetch_as_ever(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(retry_after_s=5), clock=clock)
    shelf.fail(await lead(shelf), "500")
    clock.now += 60
    again = await lead(shelf)
    other = asyncio.create_task(shelf.claim("k"))
    await asyncio.sleep(0)

    shelf.put(again, "v")

    assert await other == CacheHit("v")


async def test_a_leader_who_vanishes_behind_a_hanging_source_leaves_the_pause(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(timeout_s=3, retry_after_s=5), clock=clock)
    ticket = await lead(shelf)
    clock.now += 4
    shelf.abandon(ticket)

    assert isinstance(await shelf.claim("k"), FetchFailed)
    clock.now += 4
    assert isinstance(await shelf.claim("k"), FetchLease)


async def test_an_answer_that_comes_too_late_for_its_askers_serves_the_next(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(timeout_s=3, retry_after_s=5), clock=clock)
    ticket = await lead(shelf)
    clock.now += 4
    assert isinstance(await shelf.claim("k"), FetchFailed)

    shelf.put(ticket, "late")

    assert await shelf.claim("k") == CacheHit("late")


async def test_invalidate_ends_the_pause_of_a_failed_source(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(), clock=clock)
    shelf.fail(await lead(shelf), "500")
    assert isinstance(await shelf.claim("k"), FetchFailed)

    shelf.invalidate()
    ticket = await lead(shelf)
    other = asyncio.create_task(shelf.claim("k"))
    await asyncio.sleep(0)
    shelf.put(ticket, "v")

    assert await other == CacheHit("v"), "after a write they wait for what is new"


async def test_too_old_a_value_is_not_served_instead_of_an_error(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(ttl_s=30, max_stale_s=60), clock=clock)
    shelf.put(await lead(shelf), "old")
    clock.now += 61

    assert shelf.fail(await lead(shelf), "500") is None


async def test_a_vanished_leader_is_replaced_by_one_who_waits(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(), clock=clock)
    ticket = await lead(shelf)
    waiting = [asyncio.create_task(shelf.claim("k")) for _ in range(3)]
    await asyncio.sleep(0)

    shelf.abandon(ticket)
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    answer = done.pop().result()
    assert isinstance(answer, FetchLease)
    shelf.put(answer.ticket, "v")

    assert {task.result() for task in (await asyncio.wait(pending))[0]} == {CacheHit("v")}


async def test_what_was_fetched_before_an_invalidation_is_not_kept(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(), clock=clock)
    before = await lead(shelf)
    waiting = asyncio.create_task(shelf.claim("k"))
    await asyncio.sleep(0)

    shelf.invalidate()
    after = await lead(shelf)
    shelf.put(before, "old")
    assert await waiting == CacheHit("old"), "who asked before may have it"
    shelf.put(after, "new")

    assert await shelf.claim("k") == CacheHit("new")


async def test_one_key_is_invalidated_without_the_others(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(), clock=clock)
    shelf.put(await lead(shelf, "a"), 1)
    shelf.put(await lead(shelf, "b"), 2)

    shelf.invalidate("a")

    assert isinstance(await shelf.claim("a"), FetchLease)
    assert await shelf.claim("b") == CacheHit(2)


async def test_a_hanging_refresh_serves_the_old_value_to_those_who_wait(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(ttl_s=30, patience_s=0.01), clock=clock)
    shelf.put(await lead(shelf), "old")
    clock.now += 31
    await lead(shelf)

    assert await shelf.claim("k") == CacheHit("old", stale=True)
    clock.now += 0.01
    assert shelf.counters.misses == 2, "patience is counted from the begin of the fetch"
    assert await asyncio.wait_for(shelf.claim("k"), 5) == CacheHit("old", stale=True)


async def test_the_shelf_is_bounded(clock: Clock) -> None:
    shelf = FunctionCache(CacheOptions(max_entries=2), clock=clock)
    for key in "abc":
        shelf.put(await lead(shelf, key), key)

    assert isinstance(await shelf.claim("a"), FetchLease)
    assert await shelf.claim("c") == CacheHit("c")
