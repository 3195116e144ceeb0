"""Build the samples of a host while calls are placed on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from voiceops.calls.capacity import HostSample
from voiceops.doctor.facts import HostFact, WorkerFact
from voiceops.doctor.local_recovery import LocalRecoveryActions
from voiceops.model.calls import ROOM_PREFIX
from voiceops.model.settings import Host
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.messages import MemoryRequest
from voiceops.stack.occupancy import CallRisk, OccupiedRooms, running_servers
from voiceops.stack.stack import Stack
from voiceops.systemd.names import HostNames
from voiceops.util import aio
from voiceops.wiring.doctor import recovery_actions
from voiceops.wiring.project import Project

_LOG_S = 1.0
"""Of the journal, which a sample does not need."""


@dataclass(frozen=True, slots=True)
class CapacityProbe:
    """What a capacity test asks of its host; from threads too."""

    actions: LocalRecoveryActions
    stack: Stack
    memory_available: Callable[[], float]

    def sample(self) -> HostSample:
        """The host now."""
        sources = self.actions.sources

        async def ask() -> tuple[list[WorkerFact], HostFact]:
            workers, machine = await asyncio.gather(sources.workers(), sources.host())
            return list(workers), machine

        self.actions.prepare(sources.now() - _LOG_S)
        workers, machine = aio.run(ask())
        loads = [one.load for one in workers if one.load is not None]
        limits = [one.load_limit for one in workers if one.load_limit is not None]
        return HostSample(
            cpu_share=machine.cpu_share,
            memory_available=self.memory_available(),
            load=max(loads, default=None),
            load_limit=min(limits, default=None),
            over_load=any(one.over_load for one in workers),
            at_max_jobs=any(one.at_max_jobs for one in workers),
            refused_for_load=sum(one.refused_for_load for one in workers),
            own_calls=sum(one.calls for one in workers),
        )

    def others(self) -> CallRisk:
        """The calls of other people, or why they can't be known."""
        if self.stack.occupancy is None:
            return CallRisk()
        servers = running_servers(self.stack.backend.observe(self.stack.outline))
        return others_in(self.stack.occupancy.occupied(servers))


def others_in(answer: OccupiedRooms) -> CallRisk:
    """The rooms with a person in them that no synthetic call made."""
    rooms = tuple(sorted(room for room in answer.rooms if not room.startswith(ROOM_PREFIX)))
    return CallRisk(rooms=rooms, unknown=answer.cause)


@contextmanager
def host_probe(project: Project, host: Host, say: Callable[[str], None]) -> Iterator[CapacityProbe]:
    """A probe of a host, over one connection, until the block ends."""
    with recovery_actions(project, host, say=say) as actions:
        stack = actions.stack.stack
        transport = getattr(actions.sources, "transport", None)
        yield CapacityProbe(actions, stack, _memory_of(host, transport))


def _memory_of(host: Host, transport: Transport | None) -> Callable[[], float]:
    def local() -> float:
        memory = psutil.virtual_memory()
        return memory.available / memory.total

    if transport is None:
        return local
    state = HostNames(host.settings.project).state

    def remote() -> float:
        answer = call(transport, verbs.MEMORY, MemoryRequest(state_dir=state, units=[]))
        return answer["available_bytes"] / answer["total_bytes"]

    return remote
