"""Do the same thing to many rooms at once, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from voiceops.errors import VoiceopsError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def each(
    items: Collection[Item], do: Callable[[Item], Awaitable[Result]], *, concurrency: int
) -> tuple[list[Result], list[tuple[Item, VoiceopsError]]]:
    """``do(item)`` for all: the results, in the order they came, and the items that failed.

    One room that fails must not keep the others from being looked after. Anything else than an
    error that we raise on purpose, and a cancellation, ends all of it.
    """
    results: list[Result] = []
    failures: list[tuple[Item, VoiceopsError]] = []
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            try:
                results.append(await do(item))
            except VoiceopsError as error:
                failures.append((item, error))

    workers = [asyncio.ensure_future(work()) for _ in range(min(concurrency, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return results, failures
