"""The LiveKit servers of the selected hosts, each with the rules for its rooms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voiceops.errors import UsageError
from voiceops.model.endpoint import server_id
from voiceops.model.roles import Role
from voiceops.model.settings import Host, LivekitSettings, RoomsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomServer:
    """One LiveKit server of the selected hosts, with the rules for its rooms."""

    livekit: LivekitSettings
    rooms: RoomsSettings
    agent_names: tuple[str, ...]
    """Names of the agents that the inventory declares for it; the implicit one is ``""``."""
    url: str
    """What it is called: its address, and of loopback on a server also the host."""
    host: Host
    """One of those that use it."""

    def agent(self, named: str | None) -> str:
        """The agent that a dispatch asks for: the one named, else the only one declared."""
        if named is not None:
            return named
        if len(self.agent_names) > 1:
            raise UsageError(
                f"several agents are declared: {', '.join(repr(name) for name in self.agent_names)}",
                hint="choose with --agent NAME",
            )
        return next(iter(self.agent_names), "")


def room_servers(hosts: Sequence[Host]) -> tuple[RoomServer, ...]:
    """The LiveKit servers of these hosts, each once."""
    found: dict[str, RoomServer] = {}
    for host in hosts:
        settings = host.settings
        named = [one.agent_name for one in settings.services.values() if one.role is Role.AGENT]
        url = server_id(host)
        before = found.get(url)
        found[url] = RoomServer(
            livekit=settings.livekit,
            rooms=settings.rooms,
            agent_names=tuple(dict.fromkeys((*(before.agent_names if before else ()), *named))),
            url=url,
            host=host,
        )
    return tuple(found.values())


def the_room_server(hosts: Sequence[Host]) -> RoomServer:
    """The one server that these hosts share; ``UsageError`` if they use several."""
    servers = room_servers(hosts)
    if len(servers) != 1:
        raise UsageError(
            f"the selected hosts use {len(servers)} LiveKit servers", hint="choose one host with --host NAME"
        )
    return servers[0]
