"""The services of this machine as the monitor sees and repairs them: by the one reconcile, under the one lock."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.deadline import Deadline
from voiceops.errors import LockedError, ServiceError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.settings import ServiceBase
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import ServiceObservation, ServiceRepair
from voiceops.monitor.needs import all_needs, awaited_needs, failed_for_good
from voiceops.monitor.probe import why_crowded
from voiceops.monitor.worker_names import WorkerNames, running_agents
from voiceops.rooms.watcher import LostWorkers
from voiceops.stack import operations
from voiceops.stack.backend import Backend, StopForce
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.records import Records
from voiceops.stack.model import Instance, Observed, judge
from voiceops.stack.occupancy import weigh
from voiceops.stack.reconcile import Action, Verb
from voiceops.stack.stack import Stack

_LOCK_WAIT_S = 0.3
"""Whoever holds the lock goes first: the monitor comes back later."""
_LOOK_AT_NEEDS_S = 3.0
_LIVE = frozenset({ServiceState.READY, ServiceState.STARTING, ServiceState.UNRESPONSIVE})
_REGISTERED_MARGIN_S = 0.3
"""A worker says that it is ready a moment after LiveKit has begun to offer it jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackObservation:
    """What one look at the services found."""

    services: tuple[ServiceObservation, ...]
    processes: Mapping[str, ProcessKey] = field(default_factory=dict)
    """The main process of each service that runs."""
    agents: Sequence[Instance] = ()
    """Every live agent, those that drain too."""


class _WaitingBackend:
    """The backend, with a wait for an agent that ends when the server that it needs has died meanwhile."""

    def __init__(self, backend: Backend, alive: Callable[[str], bool]) -> None:
        self.observe = backend.observe
        self.start = backend.start
        self.end = backend.end
        self.end_stray = backend.end_stray
        self._wait_ready = backend.wait_ready
        self._alive = alive

    def wait_ready(
        self, service: Declared, instance: Instance, limit: Deadline, *, not_worker_id: str = ""
    ) -> Instance:
        own = Deadline(min(limit.remaining_s, service.ready_timeout_s), f"waiting for {service.name}")
        while True:
            rest = replace(service, ready_timeout_s=own.remaining_s)
            part = Deadline(_LOOK_AT_NEEDS_S, own.what)
            try:
                return self._wait_ready(rest, instance, part, not_worker_id=not_worker_id)
            except ServiceError as error:
                if "exit_status" in error.data:
                    raise
                if own.expired:  # the error counts the last part only
                    raise ServiceError(
                        f"{service.name} is not ready after {own.timeout_s:.0f} s",
                        hint=error.hint,
                        log_tail=error.log_tail,
                        data=error.data,
                    ) from error
                dead = [need for need in service.needs if not self._alive(need)]
                if dead:
                    raise ServiceError(f"{service.name} waits for {dead[0]}, which has ended") from error


class MonitoredStack:
    """Watches the services that the inventory declares here, but for the monitor itself: ``own_name``, if it is one."""

    def __init__(
        self,
        *,
        stack: Stack,
        folder: ProjectFolder,
        lock: Callable[[Deadline], AbstractContextManager[None]],
        settings: Mapping[str, ServiceBase],
        own_name: str,
    ) -> None:
        self._stack = replace(
            stack,
            lock=lambda limit: lock(Deadline(min(_LOCK_WAIT_S, limit.remaining_s), limit.what)),
            backend=_WaitingBackend(stack.backend, self._lives),
        )
        self._folder = folder
        self._own_name = own_name
        self._settings = settings
        self._observed: Mapping[str, Observed] = {}
        self._wanted: frozenset[str] = frozenset()
        self._unregistered_at = 0.0
        self._worker_names = WorkerNames(lambda instance: instance.launch)

    @property
    def stack(self) -> Stack:
        """The services with what acts on them; whoever holds the lock goes first."""
        return self._stack

    @property
    def observed(self) -> Mapping[str, Observed]:
        """All services, as of the last look."""
        return self._observed

    @property
    def wanted(self) -> frozenset[str]:
        """The services that somebody has started and nobody has stopped since, as of the last look."""
        return self._wanted

    @property
    def watched(self) -> tuple[Declared, ...]:
        return tuple(one for one in self._stack.outline if one.name != self._own_name)

    def held_by(self) -> str:
        """Return who else holds the lock; empty where nobody does."""
        try:
            with self._stack.lock(Deadline(0.0, "looking who changes the stack")):
                return ""
        except LockedError as error:
            return str(error.data.get("owner") or "another command")

    def version(self) -> int:
        """Return a number that is another one once a command has started or stopped a service here."""
        try:
            return self._folder.state.stat().st_mtime_ns
        except OSError:
            return 0

    def observe(self) -> StackObservation:
        """Look at all services. Takes up to seconds where one does not answer."""
        observed = self._stack.backend.observe(self._stack.outline)
        self._observed = observed
        self._worker_names.note(observed)
        wanted = self._wanted = frozenset(self._folder.wanted())
        needs = {one.name: one.needs for one in self.watched}
        awaited = {one.name: awaited_needs(one) for one in self.watched}
        states = {name: judge(observed.get(name, Observed())).state for name in needs}
        ready = {name for name, state in states.items() if state.ok}
        left_alone = failed_for_good(self._settings, states)
        found: list[ServiceObservation] = []
        mains: dict[str, ProcessKey] = {}
        for service in self.watched:
            name = service.name
            verdict = judge(observed.get(name, Observed()))
            instance = verdict.instance
            main = processes.find(instance.pid) if instance is not None else None
            if main is not None:
                mains[name] = main.key
            # It has ended since it was observed, and no descriptor would tell.
            gone = instance is not None and main is None and verdict.state in _LIVE
            required = all_needs(needs, name)
            found.append(
                ServiceObservation(
                    name=name,
                    state=ServiceState.STALE if gone else verdict.state,
                    detail=f"pid {instance.pid} is gone" if gone and instance else verdict.detail,
                    wanted=name in wanted,
                    needs_met=all_needs(awaited, name) <= ready,
                    needs_wanted=required <= wanted - left_alone,
                    policy=self._settings[name].restart_policy,
                    frozen=main is not None and processes.is_frozen(main.pid),
                    ended_well=main is None and self._ended_well(service),
                    age_s=instance.age_s if instance is not None else 0.0,
                    ready_timeout_s=service.ready_timeout_s,
                )
            )
        return StackObservation(services=tuple(found), processes=mains, agents=running_agents(observed))

    def _lives(self, service: str) -> bool:
        if self._settings[service].oneshot:
            return True  # that it has no process any more is as it should be
        records, _ = Records(self._folder.state).read(service)
        return any(processes.alive(one.key) for one in records)

    def note_exit(self, key: ProcessKey) -> None:
        """Reap a process that has ended, if it is a child of ours."""
        processes.exit_status(key.pid, patience_s=0.05)

    def _ended_well(self, service: Declared) -> bool:
        if not service.restarts_on_failure:
            return False
        records, _ = Records(self._folder.state).read(service.name)
        results = [self._folder.ended_file(service.name, one.launch) for one in records[-1:]]
        return any(processes.ended_status(one, patience_s=0.5) == 0 for one in results)

    def repair(self, repairs: Sequence[ServiceRepair]) -> None:
        """Bring these services back and wait until they are ready.

        ``LockedError`` if somebody else is at it; ``CallsInProgressError`` where that would end calls.
        """
        frozen = [one for one in repairs if one.frozen]
        if frozen:
            with self._stack.lock(Deadline(_LOCK_WAIT_S, "looking after a frozen service")):
                observed = self._stack.backend.observe(self._stack.outline)
                for one in frozen:
                    for instance in observed.get(one.service, Observed()).instances:
                        if not processes.is_frozen(instance.pid):
                            continue
                        if one.resume:
                            resume(instance.pid)
                        elif not self._may_have_calls(instance, observed):
                            self._stack.backend.end(
                                instance, Deadline(5.0, f"ending {one.service}"), StopForce.KILL
                            )
        operations.start(self._stack, only=[one.service for one in repairs])

    def _may_have_calls(self, instance: Instance, observed: Mapping[str, Observed]) -> bool:
        """Return whether the end of a frozen agent might cut off calls: its job processes run on without it.

        Then ``start`` replaces it by overlap. The calls of a frozen server are silent, and reconnect to the next one.
        """
        if instance.role is not Role.AGENT:
            return False
        action = Action(service=instance.service, verb=Verb.STOP, extra=(instance,))
        return weigh([action], observed, self._stack.occupancy).exists

    def server_may_answer(self) -> bool:
        """Return whether the livekit-server of this machine is ready, as of the last look; True where it has none."""
        servers = [one.name for one in self.watched if one.role is Role.SERVER]
        return all(judge(self._observed.get(name, Observed())).ok for name in servers)

    def crowded(self) -> str:
        """Return why one more call might take a place that a caller needs, as of the last look; empty: it would not."""
        return why_crowded(self.watched, self._settings, self._observed)

    def lost_workers(self, until: float, unassigned_until: float = 0.0) -> LostWorkers | None:
        """Return which workers are gone and which rooms have an agent that lives, as of the last look.

        None where an agent runs that does not say which rooms it has: its callers must not get another one.
        """
        strays = [one for seen in self._observed.values() for one in seen.strays]
        if any(one.role is Role.AGENT for one in strays):
            return None
        return self._worker_names.lost(self._observed, until, unassigned_until)

    def registered_at(self) -> float | None:
        """Return since when every wanted agent has been registered, by this machine's clock; None: not all are.

        Before that moment no worker took a job, as far as this machine's workers are all there are.
        """
        began = time.time()
        wanted = self._folder.wanted()
        states = {one.name: one.state for one in self.observe().services}
        ready_at = 0.0
        for service in self.watched:
            if service.role is not Role.AGENT or service.name not in wanted:
                continue
            if states[service.name] is not ServiceState.READY:
                self._unregistered_at = began
                return None
            records, _ = Records(self._folder.state).read(service.name)
            ready_at = max([ready_at, *(one.ready_at for one in records if one.ready_at is not None)])
        launched = time.time() - processes.boot_clock() + ready_at - _REGISTERED_MARGIN_S
        # A worker that lives on registers again with a server that was restarted.
        return max(launched, self._unregistered_at)


def resume(pid: int) -> None:
    """Make a service go on that the kernel has stopped, with what it has started."""
    for process in processes.table():
        if process.session == pid and processes.is_frozen(process.pid):
            processes.send_signal(process.key, signal.SIGCONT)
