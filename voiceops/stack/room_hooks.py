"""What a stack does with the rooms of its LiveKit: loaded only when it is done.

asyncio and LiveKit's API are needed by starts of agents and servers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from voiceops.model.settings import Host
from voiceops.stack.occupancy import rooms_of_agents
from voiceops.stack.stack import Stack


def clean_before_agents(
    host: Host, memory: Path, say: Callable[[str], None], *, server_id: str = ""
) -> Callable[[], None]:
    """Return what cleans rooms before an agent takes calls; see ``before_agents.clean_rooms``."""

    def clean() -> None:
        from voiceops.rooms.before_agents import clean_rooms

        clean_rooms(host, memory, say, server_id=server_id)

    return clean


def send_after_restart(
    host: Host, say: Callable[[str], None], *, server_id: str = ""
) -> Callable[[Sequence[str], Callable[[], frozenset[str] | None]], None]:
    """Return what looks for callers after a server's restart; see ``after_restart.send_agents``."""

    def send(agent_names: Sequence[str], rooms_of_agents: Callable[[], frozenset[str] | None]) -> None:
        if not agent_names:
            return
        from voiceops.rooms.after_restart import send_agents

        send_agents(host, agent_names, rooms_of_agents, say, server_id=server_id)

    return send


def send_agents(server: Stack, stacks: Sequence[Stack]) -> None:
    """Send agents of these stacks to who called the restarted livekit-server of ``server`` before they were back."""
    if server.after_server is None:
        return
    names = {one.agent_name for each in stacks for one in each.outline if one.is_agent}

    def rooms() -> frozenset[str] | None:
        return rooms_of_agents(seen for one in stacks for seen in one.backend.observe(one.outline).values())

    server.after_server(sorted(names), rooms)
