"""Names of the current project that can stand on a command line."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.wiring.project import Project

ROOMS_TIMEOUT_S = 2.0
"""Somebody waits at a Tab."""


def project_names(kind: str) -> Collection[str]:
    """Names of one kind: ``service``, ``host``, ``group`` or ``room``; ``ConfigError`` for a wrong inventory.

    Rooms come from the LiveKit servers; one that does not answer within 2 s has none.
    """
    from voiceops import kinds
    from voiceops.config.project import Configuration, find_inventory
    from voiceops.wiring.project import Project, tasks_folder

    if kind == "room":
        return _rooms(Project.load())
    configuration = Configuration.read(find_inventory("", tasks_folder()), kinds)
    if kind == "host":
        return list(configuration.inventory.hosts)
    if kind == "group":
        return list(configuration.inventory.groups)
    hosts = configuration.select(host="", group="all", limit="")
    return {name for host in hosts for name in host.settings.services}


def _rooms(project: Project) -> list[str]:
    from voiceops.deadline import deadline
    from voiceops.errors import VoiceopsError
    from voiceops.rooms.reading import list_rooms
    from voiceops.util import aio
    from voiceops.wiring.rooms import room_servers

    async def read() -> list[str]:
        found: list[str] = []
        for server in room_servers(project):
            with contextlib.suppress(VoiceopsError):
                async with deadline(ROOMS_TIMEOUT_S, "listing rooms"), server.api() as api:
                    found += [room.name for room in await list_rooms(api)]
        return found

    return aio.run(read())
