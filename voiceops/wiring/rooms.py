"""The composition root's part for rooms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voiceops.errors import UsageError

if TYPE_CHECKING:
    from voiceops.adapters.livekit.api import LivekitApi
    from voiceops.model.settings import Host, LivekitSettings, RoomsSettings
    from voiceops.rooms.observations import ObservationFile
    from voiceops.wiring.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomServer:
    """One LiveKit server of the selected hosts, with the rules for its rooms."""

    livekit: LivekitSettings
    rooms: RoomsSettings
    agent_names: tuple[str, ...]
    """Names of the agents that the inventory declares for it; the implicit one is ``""``."""
    folder: Path
    url: str
    """What it is called: its address, and of loopback on a server also the host."""
    host: Host
    """One of those that use it."""

    def api(self) -> LivekitApi:
        """A session on it; use it in ``async with``. What is on a server's loopback is asked through ssh."""
        from voiceops.adapters.livekit.api import LivekitApi
        from voiceops.wiring.endpoint import near, reachable

        keys, concurrency = (self.livekit.api_key, self.livekit.api_secret), self.rooms.concurrency
        if reachable(self.host):
            return LivekitApi(self.url, *keys, concurrency=concurrency)
        from voiceops.adapters.ssh.transports import transport_to

        transport = transport_to(self.host)
        transport.open()
        url = near(self.host, transport).settings.livekit.url
        return LivekitApi(url, *keys, concurrency=concurrency, known_as=self.url, on_close=transport.close)

    def memory(self) -> ObservationFile:
        """What earlier cleanups saw, beside the inventory."""
        from voiceops.rooms.observations import ObservationFile

        return ObservationFile(self.folder / "rooms-seen.json")

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


def room_servers(project: Project) -> tuple[RoomServer, ...]:
    """The LiveKit servers of the selected hosts, each once."""
    from voiceops.model.roles import Role
    from voiceops.wiring.endpoint import known_as

    found: dict[str, RoomServer] = {}
    for host in project.hosts:
        settings = host.settings
        named = [one.agent_name for one in settings.services.values() if one.role is Role.AGENT]
        url = known_as(host)
        before = found.get(url)
        found[url] = RoomServer(
            livekit=settings.livekit,
            rooms=settings.rooms,
            agent_names=tuple(dict.fromkeys((*(before.agent_names if before else ()), *named))),
            folder=project.root / ".voiceops",
            url=url,
            host=host,
        )
    return tuple(found.values())


def the_room_server(project: Project) -> RoomServer:
    """The one server that the selected hosts share; ``UsageError`` if they use several."""
    servers: Sequence[RoomServer] = room_servers(project)
    if len(servers) != 1:
        raise UsageError(
            f"the selected hosts use {len(servers)} LiveKit servers", hint="choose one host with --host NAME"
        )
    return servers[0]
