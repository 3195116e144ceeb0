"""The diagnosis that a monitor makes again and again: of what it has observed already, at a bounded cost.

What it leaves out against ``why``: code that has changed since it was started, as starting half of an edit would be worse
than to wait for a person; the rooms but for those in which something may be wrong; logs from before its own first look.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import psutil

from voiceops.adapters.livekit.server import check_server
from voiceops.doctor.certificates import CertificateReader
from voiceops.doctor.collect import collect
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import CertificateFact, FullDisk, HostFact, LogEvent, WorkerFact
from voiceops.doctor.fix import StackActions, carry_out, on_host, steps
from voiceops.doctor.local_recovery import LocalRooms
from voiceops.doctor.observed_stack import ObservedStack, WorkerDetails
from voiceops.doctor.recent_events import RecentEvents
from voiceops.model.findings import Diagnosis, Finding
from voiceops.model.rooms import Room
from voiceops.model.server import ServerFact
from voiceops.model.settings import Settings
from voiceops.ports import AgentRoomApi
from voiceops.stack.model import Instance, Observed

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSources:
    """Implements ``doctor.collect.FactSources`` by what a monitor has observed last."""

    settings: Settings
    observed: Callable[[], Mapping[str, Observed]]
    details: Callable[[Instance], WorkerDetails]
    recent: RecentEvents
    root: Path
    certificates: CertificateReader
    wanted: Callable[[], Collection[str]]
    """The services that somebody has started and nobody has stopped since, as of the last look."""
    full_disks: Callable[[], Iterable[FullDisk]]

    def now(self) -> float:
        return time.time()

    async def server(self) -> ServerFact:
        livekit = self.settings.livekit
        asked = await check_server(livekit.url, livekit.api_key, livekit.api_secret)
        return await asyncio.to_thread(lambda: self._observed_stack().server(asked))

    async def workers(self) -> Sequence[WorkerFact]:
        found = await asyncio.to_thread(lambda: list(self._observed_stack().workers()))
        return [replace(one, release_current=True) for one in found]

    async def events(self, since: float) -> Sequence[LogEvent]:
        return await asyncio.to_thread(self.recent.read, since)

    async def host(self) -> HostFact:
        certificates = await asyncio.to_thread(self.certificates.read)
        return await asyncio.to_thread(lambda: self._host(certificates))

    def _host(self, certificates: tuple[CertificateFact, ...]) -> HostFact:
        return HostFact(
            # Of the cores since the last time, which costs no waiting.
            cpu_share=psutil.cpu_percent() / 100,
            disk_free_bytes=shutil.disk_usage(self.root).free,
            certificates=certificates,
            broken_services=tuple(self._observed_stack().broken_services(self.wanted())),
            full_disks=tuple(self.full_disks()),
        )

    def _observed_stack(self) -> ObservedStack:
        return ObservedStack(
            settings=self.settings,
            observed=self.observed(),
            digests=dict.fromkeys(self.settings.running, ""),
            now=self.now(),
            code_folder=str(self.root),
            details=self.details,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRooms(LocalRooms):
    """Acts by a session that is open already, from another thread than that of its event loop."""

    api: AgentRoomApi
    loop: asyncio.AbstractEventLoop

    def run(self, act: Callable[[AgentRoomApi], Awaitable[T]]) -> T:
        async def main() -> T:
            return await act(self.api)

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedDiagnosis:
    """Finds what ``why`` finds, and repairs it as ``why --fix`` does. Implements ``monitor.diagnosing.Diagnoser``."""

    sources: WatchedSources
    api: AgentRoomApi
    stack: StackActions
    rooms: LocalRooms
    stack_steps: frozenset[str]
    """What ``stack`` can do: ``start``, ``restart``. What needs another step needs a person."""
    server: str = ""
    """The host's name, for commands that people type elsewhere; empty: this machine."""

    async def diagnose(self, rooms: Sequence[Room]) -> Diagnosis:
        """Apply all rules, to these rooms alone. ``ConfigError`` for a secret that can't be had."""
        facts = await collect(self.sources, self.api, self.sources.settings.rooms, chosen=rooms)
        found = tuple(self._named(one) for one in diagnose(facts))
        return Diagnosis(findings=found, complete=not facts.incomplete)

    def _named(self, finding: Finding) -> Finding:
        cannot = any(
            fix.action not in self.stack_steps for fix in finding.fixes if fix.action and not fix.room
        )
        named = on_host(finding, self.server) if self.server else finding
        return replace(named, by_hand=True) if cannot else named

    def repair(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Carry out their steps; returns of each finding what failed. Takes as long as an agent needs to join."""
        errors = {
            one.fix: one.error or "not done"
            for one in carry_out(steps(findings), self.stack, self.rooms)
            if not one.done
        }
        return tuple("; ".join(errors[fix] for fix in one.fixes if fix in errors) for one in findings)
