"""The facts of this machine's stack: process table, health sockets, logs, the server itself."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from voiceops.adapters import processes
from voiceops.adapters.livekit_server import look_at_server
from voiceops.doctor.facts import HostFact, LogEvent, ServerFact, WorkerFact
from voiceops.doctor.logs import read_events
from voiceops.health.agent import read_health
from voiceops.model.settings import AgentService, LivekitService, Settings
from voiceops.model.states import ServiceState
from voiceops.stack.folder import Folder
from voiceops.stack.model import Declared, Instance, Observed, judge

HEALTH_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSources:
    """Implements ``doctor.collect.Sources`` for the stack of one folder."""

    settings: Settings
    folder: Folder
    observe: Callable[[], Mapping[str, Observed]]
    declared: Callable[[], Sequence[Declared]]
    """Complete declarations, to tell what runs with old code."""

    def now(self) -> float:
        return time.time()

    async def server(self) -> ServerFact:
        """The server behind ``livekit.url``, and its service if this stack runs it."""
        livekit = self.settings.livekit
        look, observed = await asyncio.gather(
            look_at_server(livekit.url, livekit.api_key, livekit.api_secret),
            asyncio.to_thread(self.observe),
        )
        name = next((n for n, s in self.settings.services.items() if isinstance(s, LivekitService)), "")
        verdict = judge(observed.get(name, Observed())) if name else None
        return ServerFact(
            url=livekit.url,
            reachable=look.reachable,
            status=look.status,
            error=look.error,
            credentials=look.credentials,
            credentials_detail=look.credentials_detail,
            secret_bytes=len(livekit.api_secret.reveal()),
            clock_skew_s=look.clock_skew_s,
            declared=bool(name),
            service=name or "livekit",
            state=verdict.state if verdict else None,
            detail=verdict.detail if verdict else "",
        )

    async def workers(self) -> Sequence[WorkerFact]:
        """Each declared agent, and each older run of it that still drains."""
        return await asyncio.to_thread(self._workers)

    async def events(self, since: float) -> Sequence[LogEvent]:
        return await asyncio.to_thread(read_events, self._logs(), since=since)

    async def host(self) -> HostFact:
        """This machine, its load taken over a quarter second."""
        return await asyncio.to_thread(_host, self.folder.root)

    def _logs(self) -> list[tuple[str, Path, int]]:
        return [
            (name, self.folder.log_file(name), service.log_keep)
            for name, service in self.settings.services.items()
            if isinstance(service, (LivekitService, AgentService))
        ]

    def _workers(self) -> list[WorkerFact]:
        observed = self.observe()
        digests = {service.name: service.digest for service in self.declared()}
        facts: list[WorkerFact] = []
        for name, service in self.settings.services.items():
            if not isinstance(service, AgentService) or name not in digests:
                continue
            seen = observed.get(name, Observed())
            facts.append(self._worker(name, service, seen, digests[name]))
            facts.extend(
                self._running(name, service, one, ServiceState.DRAINING)
                for one in seen.draining
                if facts[-1].pid != one.pid
            )
        return facts

    def _worker(self, name: str, service: AgentService, seen: Observed, digest: str) -> WorkerFact:
        verdict = judge(seen)
        if verdict.instance is None:
            return WorkerFact(
                service=name,
                agent_name=service.agent_name,
                state=verdict.state,
                detail=verdict.detail,
                pids=verdict.pids,
                url=self.settings.livekit.url,
            )
        return self._running(
            name,
            service,
            verdict.instance,
            verdict.state,
            detail=verdict.detail,
            pids=verdict.pids,
            current=verdict.instance.digest == digest,
        )

    def _running(
        self,
        name: str,
        service: AgentService,
        instance: Instance,
        state: ServiceState,
        *,
        detail: str = "",
        pids: tuple[int, ...] = (),
        current: bool = True,
    ) -> WorkerFact:
        health = read_health(self.folder.health_socket(instance.launch), timeout_s=HEALTH_TIMEOUT_S)
        return WorkerFact(
            service=name,
            agent_name=service.agent_name,
            state=state,
            detail=detail or instance.detail,
            pid=instance.pid,
            url=processes.environment(instance.pid).get("LIVEKIT_URL", ""),
            started_at=time.time() - instance.age_s,
            stopped=processes.is_stopped(instance.pid),
            draining=state is ServiceState.DRAINING,
            release_current=current,
            pids=pids or (instance.pid,),
            answers=health is not None,
            registered=health.registered if health else None,
            calls=health.calls if health else 0,
            rooms=tuple(health.rooms) if health else (),
            load=health.load if health else None,
            load_limit=health.load_limit if health else None,
            refused_for_load=health.refused_for_load if health else 0,
            max_jobs=health.max_jobs if health else service.max_concurrent_jobs,
        )


def _host(root: Path) -> HostFact:
    return HostFact(
        cpu_share=psutil.cpu_percent(interval=0.25) / 100,
        disk_free_bytes=shutil.disk_usage(root).free,
        memory_free_bytes=psutil.virtual_memory().available,
    )
