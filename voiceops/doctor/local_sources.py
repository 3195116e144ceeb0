"""The facts of this machine's stack: process table, health sockets, logs, the server itself."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from voiceops.adapters.livekit.server import check_server
from voiceops.adapters.process import processes
from voiceops.doctor.certificates import certificates
from voiceops.doctor.facts import FULL_BYTES, ChangedService, FullDisk, HostFact, LogEvent, WorkerFact
from voiceops.doctor.logs import read_events
from voiceops.doctor.observed_stack import ObservedStack, WorkerDetails, without_livekit
from voiceops.health.agent import read_health
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.server import ServerFact
from voiceops.model.settings import Settings
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.logs.files import last_lines
from voiceops.stack.model import Instance, Observed

HEALTH_TIMEOUT_S = 1.5
LOG_LINES = 2
"""Of a service that is broken."""
ENDING_S = 2.0
"""A worker at the end of its drain closes its health endpoint this long before its process is gone, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSources:
    """Implements ``doctor.collect.Sources`` for the stack of one folder."""

    settings: Settings
    folder: ProjectFolder
    observe: Callable[[], Mapping[str, Observed]]
    declared: Callable[[], Sequence[Declared]]
    """Complete declarations, to tell what runs with old code."""

    def now(self) -> float:
        return time.time()

    async def server(self) -> ServerFact:
        """The server behind ``livekit.url``, and its service if this stack runs it."""
        if unused := without_livekit(self.settings):
            return unused
        livekit = self.settings.livekit
        asked, observed_stack = await asyncio.gather(
            check_server(livekit.url, livekit.api_key, livekit.api_secret),
            asyncio.to_thread(self._observed_stack, dict.fromkeys(self.settings.running, "")),
        )
        return observed_stack.server(asked)

    async def workers(self) -> Sequence[WorkerFact]:
        """Each declared agent, and each older run of it that still drains; those that are just ending are left out."""
        workers = await asyncio.to_thread(self._workers)
        if any(one.draining and not one.answers and not one.stopped for one in workers):
            await asyncio.sleep(ENDING_S)
            workers = await asyncio.to_thread(self._workers)
        return workers

    async def events(self, since: float) -> Sequence[LogEvent]:
        return await asyncio.to_thread(read_events, self._logs(), since=since)

    async def host(self) -> HostFact:
        """This machine, its load taken over a quarter second."""
        return await asyncio.to_thread(self._host)

    def _host(self) -> HostFact:
        declared = {one.name: one for one in self.declared()}
        stack, wanted = (
            self._observed_stack({one.name: one.digest for one in declared.values()}),
            self.folder.wanted(),
        )
        broken = [
            replace(one, log=last_lines(self.folder.log_file(one.name), 0)[-LOG_LINES:])
            for one in stack.broken_services(wanted)
        ]
        return HostFact(
            cpu_share=psutil.cpu_percent(interval=0.25) / 100,
            disk_free_bytes=shutil.disk_usage(self.folder.root).free,
            dead_monitors=stack.dead_monitors(wanted),
            broken_services=tuple(broken),
            changed_services=tuple(
                ChangedService(name=one.service, variables=changed_variables(one, declared[one.service]))
                for one in stack.changed_services()
            ),
            full_disks=tuple(full_disks(self.folder, self.settings.running)),
            certificates=tuple(certificates(self.settings.running)),
        )

    def _logs(self) -> list[tuple[str, Path, int]]:
        return [
            (name, self.folder.log_file(name), service.log_keep)
            for name, service in self.settings.services.items()
            if service.role is not Role.OTHER
        ]

    def _workers(self) -> list[WorkerFact]:
        return list(self._observed_stack({one.name: one.digest for one in self.declared()}).workers())

    def _observed_stack(self, digests: Mapping[str, str]) -> ObservedStack:
        return ObservedStack(
            settings=self.settings,
            observed=self.observe(),
            digests=digests,
            now=self.now(),
            code_folder=str(self.folder.root),
            details=lambda instance: worker_details(self.folder, instance),
        )


def changed_variables(instance: Instance, declared: Declared) -> tuple[str, ...]:
    """Return the names of the variables that a running service has in another value; none where they can't be read."""
    has = processes.environment(instance.pid)
    return tuple(sorted(name for name, value in declared.env.items() if has and has.get(name) != value))


def full_disks(folder: ProjectFolder, services: Iterable[str]) -> Iterator[FullDisk]:
    """The file systems of this project on which nothing can be written, each once."""
    data = sorted(one for one in folder.data.iterdir() if one.is_dir()) if folder.data.is_dir() else []
    disks: dict[int, list[Path]] = {}
    for place in (folder.root, folder.base, folder.logs, *data):
        if place.is_dir():
            disks.setdefault(place.stat().st_dev, []).append(place)
    for places in disks.values():
        free = shutil.disk_usage(places[0]).free
        if free < FULL_BYTES:
            yield FullDisk(
                folder=str(places[0]),
                data=tuple(one.name for one in places if one in data),
                logs=tuple(services) if folder.logs in places else (),
                free_bytes=free,
            )


def worker_details(folder: ProjectFolder, instance: Instance) -> WorkerDetails:
    """Ask one worker of this machine, and the kernel, about it."""
    return WorkerDetails(
        url=processes.environment(instance.pid).get("LIVEKIT_URL", ""),
        stopped=processes.is_stopped(instance.pid),
        folder_deleted=not folder.state.exists(),
        health=read_health(folder.health_socket(instance.launch), timeout_s=HEALTH_TIMEOUT_S),
    )
