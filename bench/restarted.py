"""Two agents in one call after livekit-server restarted: ``python -m bench.restarted [--calls N] [--rounds N] [--down S ...]``.

A server on this machine is killed under calls and stays away for some seconds. Callers and agents come back by themselves, and
the worker may be back before anybody has rejoined: then LiveKit dispatches an agent to a room whose own is on its way.
Printed is in how many of the calls two agents were, for how long, and how many are left with one, two or none at the end. With
``--alone`` there is no monitor, to tell what LiveKit leaves behind by itself.

Exit 1 if a call has another number of agents than one at the end, unless ``--alone``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from livekit import api

from bench.monitored import AGENTS, load, monitored
from tests.support.callers import Hearing, caller
from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import Project
from tests.support.servers import IN_THREADS
from voiceops.adapters import http
from voiceops.deadline import Deadline
from voiceops.errors import VoiceopsError
from voiceops.stack.local.lock import locked

WATCHED_S = 45.0
"""After the server is back; LiveKit itself removes a dead participant after 20 s."""
SAMPLE_S = 0.25


@dataclass(slots=True)
class RoomAgents:
    """How many agents a room had over time."""

    doubled_s: float = 0.0
    last: int = 0
    seen: list[int] = field(default_factory=list)

    def note(self, count: int, passed_s: float) -> None:
        self.doubled_s += passed_s if count > 1 else 0.0
        self.last = count
        if not self.seen or self.seen[-1] != count:
            self.seen.append(count)


async def watch(url: str, rooms: Sequence[str]) -> dict[str, RoomAgents]:
    """Count the agents of each room until the time is over."""
    found = {room: RoomAgents() for room in rooms}
    ends_at = time.monotonic() + WATCHED_S
    before = time.monotonic()
    async with api.LiveKitAPI(url, API_KEY, API_SECRET) as lk:
        while time.monotonic() < ends_at:
            await asyncio.sleep(SAMPLE_S)
            now = time.monotonic()
            for room in rooms:
                listed = await lk.room.list_participants(api.ListParticipantsRequest(room=room))
                agents = sum(one.kind == api.ParticipantInfo.Kind.AGENT for one in listed.participants)
                found[room].note(agents, now - before)
            before = now
    return found


def restart(made: Project, down_s: float, *, alone: bool) -> None:
    """Kill the server, keep everybody from starting it for so long, and have it started."""
    with locked(made.folder / ".voiceops", Deadline(60.0, "the stack"), print, "bench"):
        os.kill(made.pid("livekit"), signal.SIGKILL)
        time.sleep(down_s)
    if alone:
        made.inv("start", "--only", "livekit")
        return
    ends_at = time.monotonic() + 60.0
    while time.monotonic() < ends_at:
        try:
            http.get(made.url.replace("ws", "http", 1), timeout_s=1.0)
        except VoiceopsError:
            time.sleep(0.05)
        else:
            return


async def one_round(made: Project, calls: int, down_s: float, turn: int, *, alone: bool) -> bool:
    """A restart under calls; whether each has one agent at the end."""
    rooms = [f"restarted-{turn}-{number}" for number in range(calls)]
    async with AsyncExitStack() as opened:
        hearings = []
        for room in rooms:
            person = await opened.enter_async_context(caller(made.url, room))
            hearings.append(await opened.enter_async_context(Hearing(person)))
        for hearing in hearings:
            await hearing.something()
        await asyncio.to_thread(restart, made, down_s, alone=alone)
        found = await watch(made.url, rooms)
        silent = sum(one.silent_s > 2.0 for one in hearings)
        pauses = sorted(one.longest_pause_s for one in hearings)
    doubled = [one.doubled_s for one in found.values() if one.doubled_s]
    last = [one.last for one in found.values()]
    print(
        f"down for {down_s:g} s: two agents in {len(doubled)} of {calls} calls, for"
        f" {', '.join(f'{one:.1f}' for one in sorted(doubled)) or 'no'} s; at the end agents {sorted(last)}, {silent} silent, longest"
        f" pause {pauses[-1]:.1f} s; {load()}",
        flush=True,
    )
    return all(count == 1 for count in last) and not silent


def main(arguments: Sequence[str] | None = None) -> int:
    """Restart under calls and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--down", type=float, nargs="*", default=[0.5, 2.0, 5.0])
    parser.add_argument("--alone", action="store_true", help="without a monitor")
    chosen = parser.parse_args(arguments)
    with monitored(AGENTS / "tone.py", interval_s=5.0, agent={"env": dict(IN_THREADS)}) as made:
        if chosen.alone:
            made.inv("stop", "--only", "monitor")
        ok = True
        for turn in range(chosen.rounds * len(chosen.down)):
            down_s = chosen.down[turn % len(chosen.down)]
            ok = asyncio.run(one_round(made, chosen.calls, down_s, turn, alone=chosen.alone)) and ok
    return 0 if ok or chosen.alone else 1


if __name__ == "__main__":
    sys.exit(main())
