"""A LiveKit node dies under calls: ``python -m bench.nodes [--calls N] [--rounds N]``; needs root.

Three hosts with a real systemd, as ``inv deploy`` brings them: Redis on the first, livekit-server, an agent and the monitor on
each of the other two. All callers are connected to one node when that host loses its network and all its services at once. Whoever
hears nothing for two seconds dials the other node, in another room, until somebody answers, as the page does. Printed is after how long each is
through again (0: the room was on the other node, and the call went on), and which rooms without a person the server lists 60 s later. Then Redis is restarted under calls on the node that is left.

Exit 1 if a caller is not answered, a room without a person is left, or a call was silent for longer than 3 s while Redis restarted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from livekit import api, rtc

from bench.heal import AGENT
from tests.support import hosts, hosts_prepared, parts
from tests.support.callers import Hearing, caller
from tests.support.live import API_KEY, API_SECRET
from tests.support.roles import REDIS_PASSWORD, bring_redis
from tests.support.servers import PROJECT, Servers, agent_servers

DEAF_AFTER_S = 2.0
GIVE_UP_AFTER_S = 90.0
TRY_S = 15.0
ROOMS_GONE_AFTER_S = 60.0
LONGEST_PAUSE_S = 3.0
ROLES = {"store": ["redis"], "media": ["livekit", "agent", "monitor"]}


def two_nodes(folder: Path, machines: Sequence[hosts.Machine]) -> Servers:
    """The project: the first machine for Redis, the other two for everything else."""
    store, *nodes = machines
    made = agent_servers(folder, machines, AGENT, monitor={"kind": "monitor"})
    made.variables["services"] = {
        "redis": {
            "kind": "redis",
            "address": store.address,
            "peers": ["localhost", f"{store.address.rpartition('.')[0]}.0/24"],
        },
        "livekit": {
            "kind": "livekit",
            "public": True,
            "binary": str(parts.livekit_server_binary()),
            "redis": f"{store.address}:6379",
            "needs": ["redis"],
            "config": {"redis": {"password": {"env": "REDIS_PASSWORD"}}},
        },
        "agent": {"kind": "agent", "entry": "agent/agent.py"},
        "monitor": {"kind": "monitor"},
    }
    made.env["REDIS_PASSWORD"] = REDIS_PASSWORD
    made.variables["deploy"] |= {"schedule": False}
    made.variables["livekit"]["url"] = node_url(nodes[0])
    for node in nodes:
        made.host_variables[node.name] = {
            "livekit": {"url": node_url(node)},
            "services": {"livekit": {"node_ip": node.address}},
        }
    made.groups = {"store": [store], "media": nodes}
    made.group_variables = {name: {"run": run} for name, run in ROLES.items()}
    made.write()
    return made


def node_url(machine: hosts.Machine) -> str:
    return f"ws://{machine.address}:7880"


@dataclass(slots=True)
class HeldCall:
    """A call on the node that dies."""

    room: str
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    deaf: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self, url: str, dead: asyncio.Event) -> None:
        """Until the node is dead and nothing is heard; hanging up at a dead node takes minutes."""
        async with caller(url, self.room) as person, Hearing(person) as hearing:
            await hearing.something()
            self.answered.set()
            await dead.wait()
            while hearing.silent_s < DEAF_AFTER_S:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            self.deaf.set()


async def dial_until_heard(url: str, room: str) -> float | None:
    """Seconds until somebody is heard, in a fresh room with each try; None: nobody was."""
    began = time.monotonic()
    calls: list[asyncio.Task[None]] = []
    while time.monotonic() - began < GIVE_UP_AFTER_S:
        heard = asyncio.Event()
        calls.append(asyncio.create_task(hear_once(url, f"{room}-{len(calls)}", heard)))
        first = asyncio.create_task(heard.wait())
        await asyncio.wait({first, calls[-1]}, timeout=TRY_S, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if heard.is_set():
            return time.monotonic() - began
        calls[-1].cancel()  # not awaited: hanging up at a node that is gone takes minutes
        await asyncio.sleep(min(len(calls), 3))
    return None


async def hear_once(url: str, room: str, heard: asyncio.Event) -> None:
    """A call until its first sound."""
    with contextlib.suppress(rtc.ConnectError, AssertionError):
        async with caller(url, room) as person, Hearing(person) as hearing:
            await hearing.something()
            heard.set()


async def rooms_without_person(url: str) -> list[str]:
    """Rooms in which the server lists nobody but agents."""
    async with api.LiveKitAPI(url, API_KEY, API_SECRET) as lk:
        found = []
        for room in (await lk.room.list_rooms(api.ListRoomsRequest())).rooms:
            listed = await lk.room.list_participants(api.ListParticipantsRequest(room=room.name))
            if all(one.kind == api.ParticipantInfo.Kind.AGENT for one in listed.participants):
                found.append(room.name)
    return found


async def lose_node(first: hosts.Machine, second: hosts.Machine, calls: int, turn: int) -> bool:
    """Kill ``first`` under calls; whether all were through again by ``second`` and left no room behind."""
    dead = asyncio.Event()
    held = [HeldCall(f"node-{turn}-{number}") for number in range(calls)]
    holding = [asyncio.create_task(one.hold(node_url(first), dead)) for one in held]
    await asyncio.wait_for(asyncio.gather(*(one.answered.wait() for one in held)), 60)
    with first.unplugged():
        units = f"'{PROJECT}-livekit.service' '{PROJECT}-agent@*' '{PROJECT}-monitor.service'"
        await asyncio.to_thread(first.shell, f"systemctl kill --signal=KILL {units}; systemctl stop {units}")
        dead.set()
        died = time.monotonic()

        async def again(call: HeldCall) -> float | None:
            # A room that the dying node's callers had on the other one: they hear on while their client reconnects.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(call.deaf.wait(), ROOMS_GONE_AFTER_S)
            if not call.deaf.is_set():
                return 0.0
            heard_s = await dial_until_heard(node_url(second), f"{call.room}-again")
            return None if heard_s is None else time.monotonic() - died

        times = await asyncio.gather(*map(again, held))
        await asyncio.sleep(max(0.0, died + ROOMS_GONE_AFTER_S - time.monotonic()))
        left = await rooms_without_person(node_url(second))
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    through = [one for one in times if one is not None]
    print(
        f"round {turn + 1}: {len(through)} of {calls} through again, after"
        f" {', '.join(f'{one:.1f}' for one in sorted(through))} s (median {statistics.median(through or [0]):.1f}),"
        f" {DEAF_AFTER_S:.0f} s of them to notice; rooms without a person after {ROOMS_GONE_AFTER_S:.0f} s: {left or 'none'}",
        flush=True,
    )
    return len(through) == calls and not left


async def restart_redis(store: hosts.Machine, node: hosts.Machine, calls: int) -> bool:
    """Restart Redis under calls; whether all went on."""
    async with contextlib.AsyncExitStack() as opened:
        hearings = []
        for number in range(calls):
            person = await opened.enter_async_context(caller(node_url(node), f"redis-{number}"))
            hearings.append(await opened.enter_async_context(Hearing(person)))
        for hearing in hearings:
            await hearing.something()
        await asyncio.to_thread(store.shell, f"systemctl restart {PROJECT}-redis")
        await asyncio.sleep(15)
        pauses = sorted(one.longest_pause_s for one in hearings)
    print(
        f"Redis restarted under {calls} calls: longest pauses {', '.join(f'{one:.2f}' for one in pauses)} s"
    )
    return pauses[-1] <= LONGEST_PAUSE_S


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, kill, dial, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1) as stores,
        run.cluster(2, layer=layer) as nodes,
    ):
        bring_redis(stores[0])
        made = two_nodes(Path(name) / "project", [*stores, *nodes])
        made.deploy("--no-call", timeout_s=400)
        ok = True
        for turn in range(chosen.rounds):
            first, second = nodes if turn % 2 == 0 else reversed(nodes)
            ok = asyncio.run(lose_node(first, second, chosen.calls, turn)) and ok
            made.inv("start", "--host", first.name, timeout_s=200)
        ok = asyncio.run(restart_redis(stores[0], nodes[0], chosen.calls)) and ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
