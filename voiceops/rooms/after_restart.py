"""Send an agent to callers who came to a restarted server before the agents had registered again.

LiveKit offers their job to nobody, and never again. The monitor would find them 20 s later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.deadline import deadline
from voiceops.errors import VoiceopsError
from voiceops.model.settings import Host
from voiceops.rooms.dispatch import EXTRA_AFTER_S
from voiceops.rooms.watcher import AgentWatcher, LostWorkers
from voiceops.util import aio
from voiceops.util.words import counted

_WITHIN_S, _DEFERRED_LOOK_S = 30.0, 1.0
RoomsOfAgents = Callable[[], "frozenset[str] | None"]
"""The rooms that running agents have; None while one of them does not say."""


def send_agents(
    host: Host,
    agent_names: Sequence[str],
    rooms_of_agents: RoomsOfAgents,
    say: Callable[[str], None],
    *,
    server_id: str = "",
) -> None:
    """Look for callers without an agent right after the agents have registered; no start fails for it.

    Costs one look at the rooms; only where somebody waits it takes the six seconds until LiveKit's list of jobs is sure.
    """
    livekit = host.settings.livekit

    async def look() -> int:
        async with (
            deadline(_WITHIN_S, "looking for callers without an agent"),
            LivekitApi(livekit.url, livekit.api_key, livekit.api_secret, server_id=server_id) as api,
        ):
            several = len(agent_names) > 1
            watchers = [
                AgentWatcher(api, agent_name=name, settings=host.settings.rooms, dispatched_only=several)
                for name in agent_names
            ]
            seen = [await watcher.check() for watcher in watchers]
            registered_at = time.time() + api.clock_skew_s
            if not any(
                one.persons and not one.agents for each in watchers for one in each.occupants.values()
            ):
                return 0
            await asyncio.sleep(EXTRA_AFTER_S)
            sent = sum(len(report.dispatched) for report in seen)
            return sent + await _send(watchers, rooms_of_agents, registered_at)

    try:
        sent = aio.run(look())
    except VoiceopsError as error:
        say(f"callers without an agent were not looked for: {error.message}")
        return
    if sent:
        say(f"an agent was sent to {counted(sent, 'caller')} who came while none was registered")


async def _send(
    watchers: Sequence[AgentWatcher], rooms_of_agents: RoomsOfAgents, registered_at: float
) -> int:
    """Dispatch to the rooms whose job nobody has got; returns how many they were."""
    claimed = await asyncio.to_thread(rooms_of_agents)
    if claimed is None:
        return 0  # perhaps it has them
    # Only what has no job at all: agents of calls that were there before come back by themselves.
    lost = LostWorkers(until=0.0, claimed=claimed, unassigned_until=registered_at)
    sent = 0
    while True:
        reports = [await watcher.check(lost=lost) for watcher in watchers]
        sent += sum(len(report.dispatched) for report in reports)
        if not any(report.deferred for report in reports):
            return sent
        await asyncio.sleep(_DEFERRED_LOOK_S)
