"""Build what a monitor diagnoses with: the rules of `why` over what it has observed."""

from __future__ import annotations

import asyncio
from functools import partial

from voiceops.doctor import host_probes
from voiceops.doctor.certificates import CertificateReader
from voiceops.doctor.local_recovery import LocalStack
from voiceops.doctor.local_sources import full_disks, worker_details
from voiceops.doctor.observed_stack import WorkerDetails, details_of
from voiceops.doctor.recent_events import RecentEvents
from voiceops.doctor.repeated import RepeatedDiagnosis, SessionRooms, WatchedSources
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.monitor.diagnosing import Diagnosing
from voiceops.monitor.local_stack import MonitoredStack
from voiceops.monitor.rooms import RoomKeeper
from voiceops.monitor.server_stack import MonitoredServer
from voiceops.remote.onhost.disks import disk_states
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Instance
from voiceops.systemd.names import HostNames
from voiceops.wiring.project import Project


def monitor_diagnosis(
    project: Project, host: Host, stack: MonitoredStack | MonitoredServer, keeper: RoomKeeper
) -> Diagnosing:
    """The diagnoses of the monitor of this machine or server, in the running event loop."""
    rooms = SessionRooms(settings=host.settings, api=keeper.api, loop=asyncio.get_running_loop())
    if isinstance(stack, MonitoredStack):
        return Diagnosing(_of_machine(project, host, stack, rooms), host.name)
    return Diagnosing(_of_server(project, host, stack, rooms), host.name)


def _of_machine(
    project: Project, host: Host, stack: MonitoredStack, rooms: SessionRooms
) -> RepeatedDiagnosis:
    folder = ProjectFolder(project.root)
    logs = [
        (name, folder.log_file(name))
        for name, one in host.settings.running.items()
        if one.role is not Role.OTHER
    ]
    sources = WatchedSources(
        settings=host.settings,
        observed=lambda: stack.observed,
        details=partial(worker_details, folder),
        recent=RecentEvents(logs),
        root=project.root,
        certificates=CertificateReader(host.settings.running),
        wanted=lambda: stack.wanted,
        full_disks=lambda: full_disks(folder, host.settings.running),
    )
    return RepeatedDiagnosis(
        sources=sources,
        api=rooms.api,
        stack=LocalStack(stack=stack.stack),
        rooms=rooms,
        stack_steps=frozenset({"start", "restart"}),
    )


def _of_server(
    project: Project, host: Host, server: MonitoredServer, rooms: SessionRooms
) -> RepeatedDiagnosis:
    """Without logs: on a server those are root's, and `inv why --host` reads them."""

    def details(instance: Instance) -> WorkerDetails:
        return details_of(server.unit(instance.launch))

    sources = WatchedSources(
        settings=host.settings,
        observed=lambda: server.observed,
        details=details,
        recent=RecentEvents([]),
        root=project.root,
        certificates=CertificateReader(host.settings.running),
        wanted=lambda: server.wanted,
        full_disks=lambda: host_probes.full_disks(
            host.settings,
            disk_states(HostNames(host.settings.project).state, host_probes.data_folders(host.settings)),
        ),
    )
    return RepeatedDiagnosis(
        sources=sources,
        api=rooms.api,
        stack=server,
        rooms=rooms,
        stack_steps=frozenset({"restart"}),
        server=host.name,
    )
