"""What a stack does with the rooms of its LiveKit: loaded only when it is done.

asyncio and LiveKit's API are needed by starts of agents and servers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from voiceops.model.settings import Host


def clean_before_agents(
    host: Host, memory: Path, say: Callable[[str], None], *, server_id: str = ""
) -> Callable[[], None]:
    """Return what cleans rooms before an agent takes calls; see ``before_agents.clean_rooms``."""

    def clean() -> None:
        from voiceops.rooms.before_agents import clean_rooms

        clean_rooms(host, memory, say, server_id=server_id)

    return clean


def send_after_restart(
    host: Host, agent_names: Sequence[str], say: Callable[[str], None], *, server_id: str = ""
) -> Callable[[Callable[[], frozenset[str] | None]], None]:
    """Return what looks for callers after a server's restart; see ``after_restart.send_agents``."""

    def send(rooms_of_agents: Callable[[], frozenset[str] | None]) -> None:
        from voiceops.rooms.after_restart import send_agents

        send_agents(host, agent_names, rooms_of_agents, say, server_id=server_id)

    return send
