"""What the monitor itself takes: ``python -m bench.monitor_cost [--rooms N] [--seconds S]``.

Memory (PSS) and CPU of the monitor and its guard beside a real livekit-server with so many empty rooms. The rooms are younger than
what the cleanup deletes, so that it looks at all of them. Exit 1 over 60 MB or 1 % of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

import psutil

from bench.monitored import TONE, load, monitored, repairs
from tests.support import parts
from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import Project
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.model.secret import Secret

MOST_BYTES = 60_000_000
MOST_CPU = 0.01
LONG_S = 86_400
SAMPLE_S = 30.0


async def make_rooms(made: Project, count: int) -> None:
    """Empty rooms that stay."""
    async with LivekitApi(made.url, Secret(API_KEY), Secret(API_SECRET), concurrency=16) as api:
        places = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with places:
                # With an agent of no worker, so that no agent comes.
                await api.create_room(f"room-{number}", agents=["__nobody__"], empty_timeout_s=LONG_S)

        await asyncio.gather(*(one(number) for number in range(count)))
        assert len(await api.list_rooms()) == count


def pss(pid: int) -> int:
    """Bytes, each shared page counted by its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cpu_s(pid: int) -> float:
    """Seconds of CPU since it began, with those of children that have ended."""
    return sum(psutil.Process(pid).cpu_times()[:4])


def main() -> int:
    """Fill, watch, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rooms", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between two checks")
    options = parser.parse_args()
    settings = {"rooms": {"stale_after_s": LONG_S}, "metrics": {"port": parts.free_port()}}
    with monitored(TONE, interval_s=options.interval, variables=settings) as made:
        pid = made.pid("monitor")
        guards = [one.pid for one in psutil.Process(pid).children()]
        asyncio.run(make_rooms(made, options.rooms))
        time.sleep(options.interval + 5)
        sizes: list[int] = []
        began, cpu_began = time.monotonic(), cpu_s(pid)
        while time.monotonic() - began < options.seconds:
            time.sleep(min(SAMPLE_S, options.seconds))
            sizes.append(pss(pid))
            minutes = (time.monotonic() - began) / 60
            print(f"  {minutes:5.1f} min: {sizes[-1] / 1e6:.1f} MB; {load()}", flush=True)
        share = (cpu_s(pid) - cpu_began) / (time.monotonic() - began)
        guarded = sum(pss(one) for one in guards)
        assert made.pid("monitor") == pid, "the monitor was replaced meanwhile"
        done = repairs(made)
    most = max(sizes)
    half = len(sizes) // 2
    print(f"{options.rooms} rooms, {options.seconds / 60:.0f} min, a check every {options.interval:g} s")
    print(
        f"  monitor: at most {most / 1e6:.1f} MB of PSS, of the bar {most / MOST_BYTES:.0%}; its guard {guarded / 1e6:.1f} MB"
    )
    print(
        f"  second half / first half of the time, at most: {max(sizes[half:]) / max(sizes[: half or 1]):.3f}"
    )
    print(f"  CPU: {share:.2%} of a core, of the bar {share / MOST_CPU:.0%}")
    print(f"  repairs: {len(done)}")
    return 0 if most + guarded <= MOST_BYTES and share <= MOST_CPU else 1


if __name__ == "__main__":
    sys.exit(main())
