"""Cleanup beside the same deletes as bare API calls, beside live calls, and dispatches with faults.

    python -m bench.rooms cleanup      2,000 rooms, 64 at a time: ratio to livekit-api's own client
    python -m bench.rooms calls        cleanup over and over while 20 callers come and go
    python -m bench.rooms dispatches   200 dispatches while the server and workers are killed

Ratios are against a floor that is measured in the same run, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
from livekit import api as lkapi

from tests.integration.rooms import person
from tests.support import live, parts
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.errors import VoiceopsError
from voiceops.model.secret import Secret
from voiceops.model.settings import RoomsSettings
from voiceops.rooms.cleanup import cleanup_stale_rooms
from voiceops.rooms.dispatch import EXTRA_AFTER_S
from voiceops.rooms.presence import live_agents
from voiceops.rooms.removal import delete_room
from voiceops.rooms.waiting import bring_agent

AGENT = "bench-tone"
ENTRY = Path(__file__).resolve().parent.parent / "tests" / "integration" / "agents" / "tone.py"
BATCH = 20
AGE_S = 20.0
"""Rooms this old have no implicit dispatch in flight, as every room that cron finds."""


def session(server: live.LiveServer, concurrency: int = 64) -> LivekitApi:
    return LivekitApi(server.url, Secret(server.api_key), Secret(server.api_secret), concurrency=concurrency)


async def pool(names: Sequence[str], width: int, do: Callable[[str], Awaitable[object]]) -> float:
    """Seconds that ``do`` takes for all names, ``width`` at a time."""
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await do(name)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(width)))
    return time.perf_counter() - began


async def repeated(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask once more where a busy server answers 503, as any script must; a room that is gone is deleted."""
    for delay_s in (0.2, 0.4, 0.8, 0.0):
        try:
            await ask()
        except lkapi.TwirpError as error:
            if error.code == lkapi.TwirpErrorCode.NOT_FOUND:
                return
            if error.code != lkapi.TwirpErrorCode.UNAVAILABLE or not delay_s:
                raise
            await asyncio.sleep(delay_s)
        else:
            return


async def cleanup_against_bare_calls(server: live.LiveServer, rooms: int, width: int, rounds: int) -> None:
    """The floor is livekit-api's own client: one ListRooms, then one DeleteRoom for each room."""
    times: dict[str, list[float]] = {"bare": [], "bare, looking": [], "cleanup": []}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        session(server, width) as ours,
    ):
        bare = lkapi.LiveKitAPI(server.url, server.api_key, server.api_secret, session=http)

        async def delete(name: str) -> None:
            await repeated(lambda: bare.room.delete_room(lkapi.DeleteRoomRequest(room=name)))

        async def look_and_delete(name: str) -> None:
            await repeated(lambda: bare.room.list_participants(lkapi.ListParticipantsRequest(room=name)))
            await delete(name)

        async def run_bare(do: Callable[[str], Awaitable[None]]) -> float:
            began = time.perf_counter()
            listed = await bare.room.list_rooms(lkapi.ListRoomsRequest())
            await pool([room.name for room in listed.rooms], width, do)
            await bare.room.list_rooms(lkapi.ListRoomsRequest())
            return time.perf_counter() - began

        async def run_cleanup() -> float:
            settings = RoomsSettings(stale_after_s=AGE_S - 1, concurrency=width)
            began = time.perf_counter()
            report = await cleanup_stale_rooms(ours, settings)
            took = time.perf_counter() - began
            assert len(report.deleted) == rooms, (len(report.deleted), report.failed[:1])
            return took

        ways: list[tuple[str, Callable[[], Awaitable[float]]]] = [
            ("bare", lambda: run_bare(delete)),
            ("bare, looking", lambda: run_bare(look_and_delete)),
            ("cleanup", run_cleanup),
        ]
        for _ in range(rounds):
            random.shuffle(ways)
            for name, way in ways:
                await pool([f"bench-{number}" for number in range(rooms)], width, ours.create_room)
                await asyncio.sleep(AGE_S)
                times[name].append(await way())
                assert not await ours.list_rooms()
    print(f"{rooms} rooms, {width} at a time, median (all) of {rounds} rounds")
    medians = {name: statistics.median(all_of) for name, all_of in times.items()}
    for name, all_of in times.items():
        print(f"  {name:14} {medians[name]:6.2f} s  ({', '.join(f'{one:.2f}' for one in all_of)})")
    print(f"  cleanup / bare list + delete               {medians['cleanup'] / medians['bare']:.2f}")
    print(f"  cleanup / bare list + look + delete        {medians['cleanup'] / medians['bare, looking']:.2f}")


async def cleanup_among_calls(server: live.LiveServer, calls: int, seconds: float) -> None:
    """Callers come and go while cleanup runs without a pause with the most eager settings."""
    cut: list[str] = []
    made = cleanups = deleted = 0
    ends_at = time.monotonic() + seconds
    settings = RoomsSettings(stale_after_s=0.0, stuck_agent_after_s=0.0)

    async def caller(number: int) -> None:
        nonlocal made
        while time.monotonic() < ends_at:
            made += 1
            name = f"call-{number}-{made}"
            async with person(server, name) as room:
                gone = asyncio.Event()
                room.on("disconnected", lambda *_, gone=gone: gone.set())
                try:
                    await asyncio.wait_for(gone.wait(), random.uniform(0.2, 4.0))
                    cut.append(name)
                except asyncio.TimeoutError:
                    continue  # the caller hangs up

    async def clean() -> None:
        nonlocal cleanups, deleted
        async with session(server) as api:
            while time.monotonic() < ends_at:
                await api.create_room(f"stale-{cleanups}", agents=["__nobody__"])
                report = await cleanup_stale_rooms(api, settings, confirm_within_s=0)
                cleanups += 1
                deleted += len(report.deleted)

    await asyncio.gather(clean(), *(caller(number) for number in range(calls)))
    print(f"{calls} callers, {made} calls, {cleanups} cleanups that deleted {deleted} rooms")
    print(f"  live rooms touched: {len(cut)}")


class Ended:
    """How the rooms of the run with faults ended."""

    def __init__(self) -> None:
        self.one_agent = 0
        self.clear_error = 0
        self.wrong: list[str] = []


async def bring(api: LivekitApi, room: str) -> VoiceopsError | None:
    try:
        await bring_agent(api, room, AGENT, timeout_s=30)
    except VoiceopsError as error:
        return error
    return None


async def judge(api: LivekitApi, rooms: Sequence[str], ended: Ended, *, faulty: bool) -> None:
    """Ask once more where a fault may have come after the agent, then count agents."""
    if faulty:
        await asyncio.sleep(24.0)  # a killed agent stays listed for 22 s
    errors = dict(zip(rooms, await asyncio.gather(*(bring(api, room) for room in rooms)), strict=True))
    if faulty:
        await asyncio.sleep(EXTRA_AFTER_S)
        errors = dict(zip(rooms, await asyncio.gather(*(bring(api, room) for room in rooms)), strict=True))
    for room, error in errors.items():
        exists = bool(await api.list_rooms([room]))
        agents = live_agents(await api.list_participants(room))
        if error is None and len(agents) == 1:
            ended.one_agent += 1
        elif error is not None and not exists:
            ended.clear_error += 1
        else:
            ended.wrong.append(f"{room}: {len(agents)} agents, {error}")
        await delete_room(api, room)


async def dispatches_with_faults(folder: Path, dispatches: int) -> None:
    """Every second batch of twenty loses the server or a worker while its agents are on the way."""
    port = parts.free_port()
    ended = Ended()
    first: list[str] = []
    with ExitStack() as stack:
        node = stack.enter_context(ExitStack())
        server = node.enter_context(live.livekit_server(folder, port=port))
        named = {"TONE_AGENT_NAME": AGENT}
        workers = [stack.enter_context(live.worker(server, ENTRY, env=named)) for _ in range(2)]
        async with session(server) as api:
            for number in range(0, dispatches, BATCH):
                rooms = [f"fault-{number + index}" for index in range(min(BATCH, dispatches - number))]
                running = [asyncio.ensure_future(bring(api, room)) for room in rooms]
                await asyncio.sleep(random.uniform(0.0, 1.0))
                fault = ("none", "server", "none", "worker")[number // BATCH % 4]
                if fault == "server":
                    node.close()
                    await asyncio.sleep(random.uniform(0.1, 3.0))
                    node.enter_context(live.livekit_server(folder, port=port))
                elif fault == "worker":
                    live.end(workers.pop(0))
                    workers.append(
                        await asyncio.to_thread(stack.enter_context, live.worker(server, ENTRY, env=named))
                    )
                first += [type(error).__name__ for error in await asyncio.gather(*running) if error]
                await judge(api, rooms, ended, faulty=fault != "none")
                print(f"  {number + len(rooms)} ({fault}): {ended.one_agent} with one agent", flush=True)
    print(f"{dispatches} dispatches with faults")
    print(f"  errors at the first try: {len(first)} {sorted(set(first))}")
    print(f"  exactly one agent {ended.one_agent}, clear error and no room {ended.clear_error}")
    print(f"  anything else {len(ended.wrong)}")
    for line in ended.wrong:
        print(f"    {line}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["cleanup", "calls", "dispatches"])
    parser.add_argument("--count", type=int, help="rooms, callers or dispatches")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.part == "dispatches":
            asyncio.run(dispatches_with_faults(Path(folder), options.count or 200))
            return
        with live.livekit_server(Path(folder)) as server:
            if options.part == "cleanup":
                asyncio.run(
                    cleanup_against_bare_calls(
                        server, options.count or 2000, options.concurrency, options.rounds
                    )
                )
            else:
                asyncio.run(cleanup_among_calls(server, options.count or 20, options.seconds))


if __name__ == "__main__":
    main()
