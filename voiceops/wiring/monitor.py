"""Build the monitor of this machine's stack."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from voiceops.adapters.process import processes
from voiceops.errors import ConfigError, VoiceopsError
from voiceops.history.calls import LoggedCallStep
from voiceops.history.recorder import HistoryRecorder, caller_key
from voiceops.metrics.recorder import MetricsRecorder
from voiceops.model import protocol
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.monitor.local_stack import MonitoredStack
from voiceops.monitor.loop import Monitor
from voiceops.monitor.memory import MEMORY_FILE, MemoryFile
from voiceops.monitor.probe import place_probe
from voiceops.monitor.rooms import RoomKeeper, room_repair
from voiceops.monitor.rooms_lease import ElectedRoomKeeper, RedisPlace, RoomsLease
from voiceops.monitor.server_stack import MonitoredServer
from voiceops.monitor.watched_stack import Watched
from voiceops.ports import MonitorRecorder
from voiceops.rooms.servers import room_servers
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.lock import locked
from voiceops.stack.logs.call_steps import CallStepReader
from voiceops.systemd.names import HostNames
from voiceops.wiring.alerts import alert_recorder
from voiceops.wiring.history import open_history
from voiceops.wiring.monitor_diagnosis import monitor_diagnosis
from voiceops.wiring.project import Project, tasks_folder
from voiceops.wiring.rooms import room_api
from voiceops.wiring.server_monitor import server_services
from voiceops.wiring.stack import build_stack

_LEASE_S = 30.0


@asynccontextmanager
async def open_monitor(
    project: Project,
    host: Host,
    own_name: str = "",
    *,
    on_server: bool = False,
    recorder: MonitorRecorder,
    say: Callable[[str], None],
) -> AsyncIterator[Monitor]:
    """The monitor of this machine, with a session on its LiveKit until the block ends.

    ``on_server``: it is a unit of a server, and watches the others.
    """
    folder = ProjectFolder(project.root)
    stack: MonitoredStack | MonitoredServer
    if on_server:
        stack = server_services(host, own_name)
    else:
        project.ensure_local_keys(say)
        stack = _local_services(project, host, own_name, say)
    async with _rooms_of(project, host, recorder, say) as keeper:
        every_s = host.settings.monitor.probe_call_every_s
        monitor = Monitor(
            watched=Watched(
                host=host.name,
                stack=stack,
                rooms=keeper,
                all_workers_here=_only_workers(host) if on_server else _all_workers_here(host),
                interval_s=host.settings.monitor.interval_s,
                probe=partial(place_probe, host.name, call_command(project)) if every_s else None,
                probe_every_s=every_s,
                diagnosing=monitor_diagnosis(project, host, stack, keeper) if keeper else None,
            ),
            memory_file=MemoryFile(folder.base / MEMORY_FILE),
            recorder=recorder,
            say=say,
            boot=processes.boot_id(),
            outdated=_outdated(project, say) if own_name and not on_server else lambda: False,
        )
        port = host.settings.services[own_name].webhook_port if own_name else None
        async with _webhooks(host, port, monitor, say):
            yield monitor


def _local_services(
    project: Project, host: Host, own_name: str, say: Callable[[str], None]
) -> MonitoredStack:
    folder = ProjectFolder(project.root)
    return MonitoredStack(
        stack=build_stack(project, host, say=say),
        folder=folder,
        lock=lambda limit: locked(folder.base, limit, lambda line: None, "inv monitor"),
        settings=host.settings.running,
        own_name=own_name,
    )


@asynccontextmanager
async def _rooms_of(
    project: Project, host: Host, recorder: MonitorRecorder, say: Callable[[str], None]
) -> AsyncIterator[RoomKeeper | None]:
    """The rooms of the host's LiveKit; None where it has neither a server nor an agent, so that keys may be missing."""
    if not host.settings.runs(Role.SERVER) and not host.settings.runs(Role.AGENT):
        yield None
        return
    (server,) = room_servers([host])

    def done(action: str, room: str, reason: str, error: str = "") -> None:
        recorder.record(room_repair(host.name, action, room, reason, error))

    async with room_api(server) as api:
        settings, names, memory = host.settings.rooms, server.agent_names, project.rooms_memory
        lease = _rooms_lease(host, say)
        if lease is None:
            yield RoomKeeper(api, settings=settings, agent_names=names, memory=memory, say=done)
            return
        try:
            yield ElectedRoomKeeper(api, lease, settings=settings, agent_names=names, memory=memory, say=done)
        finally:
            await lease.release()


def _rooms_lease(host: Host, say: Callable[[str], None]) -> RoomsLease | None:
    """The lease on the rooms where a Redis joins several livekit-servers; None where it stands alone."""
    shared = next((one for one in host.settings.services.values() if one.cluster), None)
    if shared is None:
        return None
    login = {name: secret.reveal() for name, secret in shared.cluster_login.items()}
    return RoomsLease(
        RedisPlace(address=shared.cluster, **login),
        name=host.settings.project,
        holder=f"{host.name.replace(' ', '-')}/{secrets.token_hex(8)}",
        lasts_s=max(_LEASE_S, 2 * host.settings.monitor.interval_s + 10.0),
        clock=processes.boot_clock,
        say=say,
    )


@asynccontextmanager
async def _webhooks(
    host: Host, port: int | None, monitor: Monitor, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Take LiveKit's webhooks until the block ends; without them the monitor asks, and goes on."""
    if port is None:
        yield
        return
    # aiohttp's server: 3 MB that a monitor without webhooks does without.
    from voiceops.adapters.livekit.webhook import WebhookReceiver

    receiver = WebhookReceiver(
        host=host.name,
        port=port,
        # The server signs with any of those that it accepts.
        pairs=host.settings.livekit.accepted,
        on_event=monitor.on_webhook,
    )
    try:
        await receiver.open()
    except OSError as error:
        say(f"webhooks can't be taken on port {port}: {error.strerror}")
    try:
        yield
    finally:
        await receiver.close()


def _outdated(project: Project, say: Callable[[str], None]) -> Callable[[], bool]:
    """Return what tells whether the files of the configuration have changed, and can be read as they are."""
    known = _fingerprint(project)

    def outdated() -> bool:
        nonlocal known
        now = _fingerprint(project)
        if now == known:
            return False
        known = now
        try:
            Project.load(inventory=str(project.inventory_file))
        except VoiceopsError as error:
            say(f"the configuration has changed and is wrong, so the old one stays: {error.message}")
            return False
        return True

    return outdated


def _fingerprint(project: Project) -> tuple[tuple[str, int, int], ...]:
    places = [project.inventory_file, project.root / ".env"]
    for folder in (project.inventory_file, project.root / "group_vars", project.root / "host_vars"):
        if folder.is_dir():
            places += sorted(folder.rglob("*"))
    found = []
    for place in places:
        with suppress(OSError):
            stat = place.stat()
            found.append((str(place), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def call_command(project: Project) -> tuple[str, ...]:
    """The command line of one synthetic call, in a process of its own: WebRTC takes more memory than the monitor."""
    own = (sys.executable, "-m", "voiceops", "--project", str(tasks_folder()))
    return (*own, "call", "--json", "--inventory", str(project.inventory_file))


@contextmanager
def monitor_recorders(
    project: Project, host: Host, *, on_server: bool = False
) -> Iterator[list[MonitorRecorder]]:
    """Who keeps what the monitor says: the history and, where they are configured, alerts and metrics."""
    settings = host.settings
    with ExitStack() as opened:

        def add(recorder: MonitorRecorder) -> None:
            recorders.append(recorder)
            opened.callback(recorder.close)

        recorders: list[MonitorRecorder] = []
        by_hash = settings.history.callers == "hash"
        add(
            HistoryRecorder(
                open_history(project, host.name),
                keep_days=settings.history.keep_days,
                caller_key=caller_key(settings.livekit.api_secret.reveal()) if by_hash else None,
                read_steps=_call_steps(project, host, on_server),
                server=host.name if on_server else "",
            )
        )
        metrics = None
        if settings.metrics.port is not None:
            metrics = _metrics(project, host, settings.metrics.port)
            add(metrics)
        if alerts := alert_recorder(project, host, metrics, on_server=on_server):
            add(alerts)
        yield recorders


def _call_steps(project: Project, host: Host, on_server: bool) -> Callable[[float], Sequence[LoggedCallStep]]:
    """Return what reads the logs of this machine's agents; on a server, where those are root's, what they write besides."""
    agents = [name for name, one in host.settings.running.items() if one.role is Role.AGENT]
    if on_server:
        names = HostNames(host.settings.project)
        return CallStepReader(host.name, [Path(names.call_steps(name)) for name in agents]).read
    folder = ProjectFolder(project.root)
    return CallStepReader(host.name, [folder.log_file(name) for name in agents]).read


def _metrics(project: Project, host: Host, port: int) -> MonitorRecorder:
    metrics = MetricsRecorder(host.name)
    try:
        metrics.serve(host.settings.metrics.address, port)
    except ConfigError as error:
        raise project.configuration.pointed(host.name, error) from None
    return metrics


def _only_workers(host: Host) -> bool:
    """Whether the workers of this server are all that its LiveKit has, as the deploy has found in the inventory."""
    return host.settings.runs(Role.AGENT) and os.environ.get(protocol.ONLY_WORKERS_ENV) == "1"


def _all_workers_here(host: Host) -> bool:
    """Whether the LiveKit can be reached from this machine alone, so that no other has workers for it."""
    address = urlsplit(host.settings.livekit.url).hostname or ""
    alone = address in ("localhost", "::1") or address.startswith("127.")
    return alone and not any(one.cluster for one in host.settings.services.values())
