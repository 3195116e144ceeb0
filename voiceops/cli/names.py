"""Names of the current project that can stand on a command line."""

from __future__ import annotations

from collections.abc import Collection

from voiceops import kinds
from voiceops.config.project import Configuration, find_inventory
from voiceops.wiring.project import Project, tasks_folder


def project_names(kind: str) -> Collection[str]:
    """Names of one kind: ``service``, ``host``, ``group`` or ``room``; ``ConfigError`` for a wrong inventory.

    Rooms come from the LiveKit servers; one that does not answer within 2 s has none.
    """
    if kind == "room":
        # asyncio and LiveKit's API: of all names only these need them.
        from voiceops.cli.room_names import room_names

        return room_names(Project.load())
    configuration = Configuration.read(find_inventory("", tasks_folder()), kinds)
    if kind == "host":
        return list(configuration.inventory.hosts)
    if kind == "group":
        return list(configuration.inventory.groups)
    hosts = configuration.select(host="", group="all", limit="")
    return {name for host in hosts for name in host.settings.services}
