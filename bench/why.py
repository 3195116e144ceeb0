"""What a diagnosis costs among thousands of rooms: ``python -m bench.why [--rooms N] [--callers N]``.

Callers wait in rooms that ask for an agent that nobody runs. The floor of the same run is a bare
process that lists all rooms, and the participants and dispatches of the callers' rooms, with
livekit-api's own client. Seconds and peak memory of both, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.integration.rooms import person
from tests.support.live import API_KEY, API_SECRET, LiveServer
from tests.support.projects import REPOSITORY, Project, project
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.model.secret import Secret

BARE = """
import asyncio, sys
from livekit import api

async def main():
    client = api.LiveKitAPI()
    listed = await client.room.list_rooms(api.ListRoomsRequest())
    assert len(listed.rooms) == int(sys.argv[1]), len(listed.rooms)
    for number in range(int(sys.argv[2])):
        await client.room.list_participants(api.ListParticipantsRequest(room=f"call-{number}"))
        await client.agent_dispatch.list_dispatch(f"call-{number}")
    await client.aclose()

asyncio.run(main())
"""
MEASURE = """
import resource, subprocess, sys
with open(sys.argv[1], "w") as said:
    code = subprocess.call(sys.argv[2:], stdout=subprocess.DEVNULL)
    said.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""A small process in between: the kernel counts the memory of whoever forks a process as the process's own."""
UNKNOWN_AGENT = "nobody-runs-it"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    seconds: float
    peak_mb: float


def measured(argv: list[str], made: Project, *, code: int) -> Cost:
    """Run a process to its end, which must be ``code``."""
    keys = {"LIVEKIT_URL": made.url, "LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": API_SECRET}
    peak_kib = made.folder / "peak"
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, str(peak_kib), *argv],
        cwd=made.folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | made.env | keys,
        check=False,
    )
    assert ended.returncode == code, ended.returncode
    return Cost(time.perf_counter() - began, int(peak_kib.read_text()) / 1024)


async def fill(made: Project, rooms: int) -> None:
    """Make empty rooms that stay, until there are so many."""
    # Few at a time and patiently: what is measured comes later.
    keys = Secret(API_KEY), Secret(API_SECRET)
    async with LivekitApi(made.url, *keys, concurrency=4, timeout_s=120.0) as api:
        make = (
            api.create_room(f"empty-{number}", empty_timeout_s=3600, agents=[UNKNOWN_AGENT])
            for number in range(rooms)
        )
        await asyncio.gather(*make)


async def compare(made: Project, rooms: int, callers: int, rounds: int) -> dict[str, list[Cost]]:
    """Both ways in turns, while the callers wait."""
    server = LiveServer(port=int(made.url.rpartition(":")[2]), pid=0, folder=made.folder)
    costs: dict[str, list[Cost]] = {"bare": [], "why": []}
    ways = {
        "bare": ([sys.executable, "-c", BARE, str(rooms), str(callers)], 0),
        "why": ([sys.executable, "-m", "voiceops", "why", "--json"], 1),
    }
    await fill(made, rooms - callers)
    async with (
        AsyncExitStack() as waiting,
        LivekitApi(made.url, Secret(API_KEY), Secret(API_SECRET), timeout_s=120.0) as api,
    ):
        for number in range(callers):
            await api.create_room(f"call-{number}", agents=[UNKNOWN_AGENT])
            await waiting.enter_async_context(person(server, f"call-{number}"))
        await asyncio.sleep(10)  # the server counts who is in a room every 5 s
        for _ in range(rounds):
            for name, (argv, code) in ways.items():
                costs[name].append(await asyncio.to_thread(measured, argv, made, code=code))
    return costs


def main() -> None:
    """Fill, wait, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rooms", type=int, default=3000)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        project(Path(name) / "stack") as made,
    ):
        # An agent that is declared and does not run would be the only finding.
        made.inv("start")
        costs = asyncio.run(compare(made, options.rooms, options.callers, options.rounds))
    seconds = {name: statistics.median(one.seconds for one in every) for name, every in costs.items()}
    peaks = {name: max(one.peak_mb for one in every) for name, every in costs.items()}
    print(f"{options.rooms} rooms, {options.callers} callers, median of {options.rounds} rounds")
    for name in costs:
        print(f"  {name:6}{seconds[name]:7.2f} s{peaks[name]:7.0f} MB")
    print(
        f"  why / bare: time {seconds['why'] / seconds['bare']:.2f}, memory {peaks['why'] / peaks['bare']:.2f}"
    )


if __name__ == "__main__":
    main()
