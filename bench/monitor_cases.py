"""Calls without an agent, left to the monitor: ``python -m bench.monitor_cases [--only a,c1] [--interval S]``.

Each way in which a call loses its agent or never gets one is made on a real stack, nobody does anything, and it counts
how long it takes until the caller has an agent that serves. Exit 1 if one is not healed within the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from livekit import api, rtc

from bench.monitored import AGENTS, TONE, load, log_lines, monitored, repairs
from tests.support.callers import Hearing, agent_in, caller
from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import REPOSITORY, Project

LIMIT_S = 180.0
PLAYED_S = 1.5
"""What has arrived already is heard for so long."""
SETTLED_S = 8.0
"""A second agent would have come within it; LiveKit counts participants every 5 s."""
Way = Callable[[Project, str], Awaitable[float | None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to lose an agent, on a stack with this agent."""

    name: str
    what: str
    make: Way
    entry: Path
    agent: dict[str, Any] | None = None
    alone: bool = False
    """It breaks the stack, so that no other case may run beside it."""


async def heard(person: rtc.Room, began: float) -> float | None:
    """Seconds since ``began`` until this caller hears somebody, and only one is there afterwards."""
    async with Hearing(person) as hearing:
        while time.monotonic() - began < LIMIT_S:
            try:
                await hearing.something()
            except AssertionError:
                continue
            took_s = time.monotonic() - began
            await asyncio.sleep(SETTLED_S)
            while time.monotonic() - began < LIMIT_S:
                if len(person.remote_participants) == 1 and hearing.longest_pause_s < SETTLED_S:
                    return took_s
                took_s = time.monotonic() - began
                await asyncio.sleep(0.5)
    return None


async def waits(made: Project, room: str) -> float | None:
    """A caller who joins and waits."""
    began = time.monotonic()
    async with caller(made.url, room) as person:
        return await heard(person, began)


async def no_worker(made: Project, room: str) -> float | None:
    os.kill(made.pid("agent"), signal.SIGKILL)
    return await waits(made, room)


async def frozen_worker(made: Project, room: str) -> float | None:
    os.kill(made.pid("agent"), signal.SIGSTOP)
    return await waits(made, room)


async def killed_in_call(made: Project, room: str) -> float | None:
    async with caller(made.url, room) as person:
        async with Hearing(person) as hearing:
            await hearing.something()
        await asyncio.sleep(4.0)
        began = time.monotonic()
        os.kill(made.pid("agent"), signal.SIGKILL)
        await asyncio.sleep(PLAYED_S)
        return await heard(person, began)


async def job_killed(made: Project, room: str) -> float | None:
    """The job's process dies, its worker lives on."""
    async with caller(made.url, room) as person:
        async with Hearing(person) as hearing:
            await hearing.something()
        await asyncio.sleep(4.0)
        began = time.monotonic()
        for pid in job_processes(made):
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(PLAYED_S)
        return await heard(person, began)


def job_processes(made: Project) -> list[int]:
    """Those that have a call and those that wait for one: they are forks of one server."""
    found = psutil.Process(made.pid("agent")).children(recursive=True)
    return [one.pid for one in found if "forkserver" in " ".join(one.cmdline()) and not one.children()]


@asynccontextmanager
async def livekit_api(made: Project) -> AsyncIterator[api.LiveKitAPI]:
    async with api.LiveKitAPI(made.url, API_KEY, API_SECRET) as client:
        yield client


async def waits_beside_another(made: Project, room: str) -> float | None:
    """A caller whose agent joins and is never ready, while that of another caller is."""
    async with caller(made.url, f"serve-beside-{room}") as other:
        await agent_in(other)
        return await waits(made, room)


async def wrong_name(made: Project, room: str) -> float | None:
    async with livekit_api(made) as client:
        asked = api.RoomAgentDispatch(agent_name="nobody-has-this-name")
        await client.room.create_room(api.CreateRoomRequest(name=room, agents=[asked]))
    return await waits(made, room)


async def twice_dispatched(made: Project, room: str) -> float | None:
    """Seconds until one of two agents is left."""
    async with caller(made.url, room) as person, livekit_api(made) as client:
        await agent_in(person)
        await client.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(room=room))
        for _ in range(400):
            if len(person.remote_participants) == 2:
                break
            await asyncio.sleep(0.05)
        began = time.monotonic()
        while time.monotonic() - began < LIMIT_S:
            if len(person.remote_participants) == 1:
                return time.monotonic() - began
            await asyncio.sleep(0.1)
    return None


async def comes_back(made: Project, room: str) -> float | None:
    """A caller who reloads the page: seconds until another agent than the one whose session has ended is there."""
    async with caller(made.url, room) as person:
        await agent_in(person)
        await asyncio.sleep(4.0)
    async with caller(made.url, room) as person:
        began = time.monotonic()
        old = await agent_in(person)
        while time.monotonic() - began < LIMIT_S:
            present = set(person.remote_participants)
            if len(present) == 1 and present != {old}:
                return time.monotonic() - began
            await asyncio.sleep(0.1)
    return None


async def speaks_again(made: Project, room: str) -> float | None:
    """The same, with an agent that can be heard."""
    async with caller(made.url, room) as person, Hearing(person) as hearing:
        await hearing.something()
    async with caller(made.url, room) as person:
        return await answers(person)


async def answers(person: rtc.Room) -> float | None:
    """Seconds until this caller hears an agent again: a greeting, so no tone that has to go on."""
    began = time.monotonic()
    async with Hearing(person) as hearing:
        while time.monotonic() - began < LIMIT_S:
            try:
                await hearing.something()
            except AssertionError:
                continue
            return time.monotonic() - began
    return None


async def ghost_room(made: Project, room: str) -> float | None:
    """A room with an agent that nobody ever joins: seconds until it is gone."""
    async with livekit_api(made) as client:
        await client.room.create_room(api.CreateRoomRequest(name=room, agents=[api.RoomAgentDispatch()]))
        began = time.monotonic()
        while time.monotonic() - began < LIMIT_S:
            await asyncio.sleep(0.5)
            listed = await client.room.list_rooms(api.ListRoomsRequest(names=[room]))
            if not listed.rooms:
                return time.monotonic() - began
    return None


FAULTY, SESSION = AGENTS / "faulty.py", AGENTS / "plain_session.py"
NAMED: dict[str, Any] = {"agent_name": "desk", "env": {"TONE_AGENT_NAME": "desk"}}
CASES = (
    Case("a", "no worker when the caller joins", no_worker, TONE, alone=True),
    Case("b1", "the agent has a name, plain join", waits, TONE, NAMED),
    Case("b2", "dispatched by a name that no worker has", wrong_name, TONE, NAMED),
    Case("c1-raise", "the entrypoint raises", waits, FAULTY),
    Case("c1-exit", "the entrypoint exits", waits, FAULTY),
    Case("c2-late", "the entrypoint raises after it has connected", waits, FAULTY),
    Case("c3-hang", "the entrypoint hangs", waits, FAULTY),
    Case("c4-silent", "the entrypoint hangs after it has connected", waits_beside_another, FAULTY),
    Case("d", "frozen worker", frozen_worker, TONE, alone=True),
    Case("e1", "worker killed in the call", killed_in_call, TONE, alone=True),
    Case("e2", "job process killed in the call", job_killed, TONE, alone=True),
    Case("f1", "reload, plain AgentSession", comes_back, SESSION),
    Case("f2", "reload, AgentSession under the guard", speaks_again, REPOSITORY / "examples/agent/agent.py"),
    Case("two", "dispatched twice", twice_dispatched, TONE),
    Case("ghost", "agent in a room that nobody joins", ghost_room, TONE),
)


async def run(made: Project, cases: list[Case]) -> dict[str, float | None]:
    """The cases that share a stack side by side, then those that break it one after the other."""

    async def one(case: Case) -> float | None:
        # faulty.py fails as the first word of the room's name says.
        fault = case.name.partition("-")[2] or "serve"
        try:
            return await case.make(made, f"{fault}-case-{case.name}")
        except (rtc.ConnectError, AssertionError) as error:
            print(f"  {case.name}: {type(error).__name__} {error}", flush=True)
            return None

    together = [case for case in cases if not case.alone]
    results = await asyncio.gather(*(one(case) for case in together))
    found = dict(zip((case.name for case in together), results, strict=True))
    for case in cases:
        if case.alone:
            await asyncio.to_thread(made.inv, "start", "--timeout", "120")
            await asyncio.sleep(5.0)
            found[case.name] = await one(case)
    return found


def main() -> int:
    """Make, wait, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="names of cases, with commas")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between two checks")
    parser.add_argument("--repairs", action="store_true", help="print what the monitor did and wrote")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [case.name for case in CASES]
    chosen = [case for case in CASES if case.name in wanted]
    stacks = list(dict.fromkeys((case.entry, str(case.agent)) for case in chosen))
    healed = True
    for key in stacks:
        cases = [case for case in chosen if (case.entry, str(case.agent)) == key]
        with monitored(cases[0].entry, interval_s=options.interval, agent=cases[0].agent) as made:
            found = asyncio.run(run(made, cases))
            done = repairs(made)
            for case in cases:
                took_s = found[case.name]
                healed = healed and took_s is not None
                said = (
                    f"healed after {took_s:5.1f} s"
                    if took_s is not None
                    else f"NOT healed in {LIMIT_S:.0f} s"
                )
                print(f"{case.name:9} {case.what:46} {said}; {load()}", flush=True)
            kinds = sorted(one["action"] for one in done)
            print(f"  repairs: {', '.join(f'{kinds.count(kind)} {kind}' for kind in dict.fromkeys(kinds))}")
            if options.repairs:
                for line in (*done, *log_lines(made)):
                    print(f"  {line}")
    return 0 if healed else 1


if __name__ == "__main__":
    sys.exit(main())
