"""Repairs that nothing called for: ``python -m bench.healthy_calls [--count N] [--concurrency C] [--interval S]``.

Healthy calls of several lengths, side by side, with the monitor on; each repair of it is a false one. Exit 1 if there is
one, or a call that was not answered.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time

from livekit import rtc

from bench.monitored import TONE, load, log_lines, monitored, repairs
from tests.support.callers import Hearing, caller

LENGTHS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 30.0)
"""Seconds after the first sound: hang-ups at once, calls beyond what is waited for a lost job, and between."""
WEIGHTS = (4, 4, 4, 4, 3, 2, 1)
AFTER_S = 40.0
"""What the calls leave behind may still move the monitor."""


async def place(url: str, number: int, length_s: float) -> float | None:
    """Seconds until the agent was heard; None: it was not."""
    began = time.perf_counter()
    try:
        async with caller(url, f"healthy-{number}") as person, Hearing(person) as hearing:
            await hearing.something()
            took_s = time.perf_counter() - began
            await asyncio.sleep(length_s)
            return took_s
    except (rtc.ConnectError, AssertionError):
        return None


async def place_all(url: str, lengths: list[float], concurrency: int) -> list[float | None]:
    """All calls, so many at once."""
    places = asyncio.Semaphore(concurrency)

    async def one(number: int, length_s: float) -> float | None:
        async with places:
            return await place(url, number, length_s)

    return await asyncio.gather(*(one(number, length_s) for number, length_s in enumerate(lengths)))


def main() -> int:
    """Call, wait, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two checks")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lengths = random.Random(options.seed).choices(LENGTHS_S, WEIGHTS, k=options.count)
    with monitored(TONE, interval_s=options.interval) as made:
        began = time.monotonic()
        times = asyncio.run(place_all(made.url, lengths, options.concurrency))
        took_s = time.monotonic() - began
        time.sleep(AFTER_S)
        wrong = repairs(made)
        told = [one for one in log_lines(made) if one.get("level") in ("warning", "error")]
        kept = made.inv("history", "--incidents", "--json").json["hosts"]["localhost"]
    heard = [one for one in times if one is not None]
    print(
        f"{len(heard)} of {len(times)} calls answered in {took_s:.0f} s, {options.concurrency} at once; {load()}"
    )
    if heard:
        print(f"first sound p50 {statistics.median(heard):.2f} s, max {max(heard):.2f} s")
    print(
        f"history: {kept['call_count']} calls, {kept['answered_count']} answered, {len(kept['incidents'])} incidents"
    )
    print(f"repairs: {len(wrong)}; warnings and errors in the monitor's log: {len(told)}")
    for one in (*wrong, *told):
        print(f"  {one}")
    return 0 if not wrong and len(heard) == len(times) else 1


if __name__ == "__main__":
    sys.exit(main())
