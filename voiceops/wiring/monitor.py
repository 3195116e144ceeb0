"""Build the monitor of this machine's stack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from voiceops.adapters.process import processes
from voiceops.history.recorder import HistoryRecorder
from voiceops.model.settings import Host
from voiceops.monitor.local_stack import MonitoredStack
from voiceops.monitor.loop import Monitor, Watched
from voiceops.monitor.memory import MemoryFile
from voiceops.monitor.rooms import RoomKeeper, room_repair
from voiceops.ports import MonitorRecorder
from voiceops.rooms.servers import room_servers
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.lock import locked
from voiceops.wiring.history import open_history
from voiceops.wiring.project import Project
from voiceops.wiring.rooms import room_api
from voiceops.wiring.stack import build_stack


@asynccontextmanager
async def open_monitor(
    project: Project, host: Host, own_name: str = "", *, recorder: MonitorRecorder, say: Callable[[str], None]
) -> AsyncIterator[Monitor]:
    """The monitor of this machine, with a session on its LiveKit until the block ends."""
    folder = ProjectFolder(project.root)
    project.ensure_local_keys(say)
    stack = MonitoredStack(
        stack=build_stack(project, host, say=say),
        folder=folder,
        lock=lambda limit: locked(folder.base, limit, lambda line: None, "inv monitor"),
        settings=host.settings.running,
        own_name=own_name,
    )
    (server,) = room_servers([host])
    async with room_api(server) as api:

        def done(action: str, room: str, reason: str, error: str = "") -> None:
            recorder.record(room_repair(host.name, action, room, reason, error))

        keeper = RoomKeeper(
            api,
            settings=host.settings.rooms,
            agent_names=server.agent_names,
            memory=project.rooms_memory,
            say=done,
        )
        yield Monitor(
            watched=Watched(
                host=host.name,
                stack=stack,
                rooms=keeper,
                all_workers_here=_all_workers_here(host),
                interval_s=host.settings.monitor.interval_s,
            ),
            memory_file=MemoryFile(folder.base / "monitor" / "memory.json"),
            recorder=recorder,
            say=say,
            boot=processes.boot_id(),
        )


def history_recorder(project: Project, host: Host) -> MonitorRecorder:
    """What keeps the monitor's events in the project's history."""
    return HistoryRecorder(open_history(project, host.name), keep_days=host.settings.history.keep_days)


def _all_workers_here(host: Host) -> bool:
    """Whether the LiveKit can be reached from this machine alone, so that no other has workers for it."""
    address = urlsplit(host.settings.livekit.url).hostname or ""
    alone = address in ("localhost", "::1") or address.startswith("127.")
    return alone and not any(one.cluster for one in host.settings.services.values())
