"""Names of rooms, for Tab: what a LiveKit server says at once."""

from __future__ import annotations

import contextlib

from voiceops.deadline import deadline
from voiceops.errors import VoiceopsError
from voiceops.rooms.reading import list_rooms
from voiceops.rooms.servers import room_servers
from voiceops.util import aio
from voiceops.wiring.project import Project
from voiceops.wiring.rooms import room_api

ROOMS_TIMEOUT_S = 2.0
"""Somebody waits at a Tab."""


def room_names(project: Project) -> list[str]:
    """The rooms of all servers of the project; a server that does not answer within 2 s has none."""

    async def read() -> list[str]:
        found: list[str] = []
        for server in room_servers(project.hosts):
            with contextlib.suppress(VoiceopsError):
                async with deadline(ROOMS_TIMEOUT_S, "listing rooms"), room_api(server) as api:
                    found += [room.name for room in await list_rooms(api)]
        return found

    return aio.run(read())
