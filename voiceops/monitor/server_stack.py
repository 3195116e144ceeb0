"""The units of this host as its monitor sees and repairs them: by systemd, through the root helper that restarts one.

The monitor runs as the services' own user. It sees what systemd and ``/proc`` show to everybody and what agents say
of themselves; it lets go on what the kernel has stopped, and for all else it asks the helper.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from voiceops.adapters import http
from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.errors import ServiceError, VoiceopsError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.settings import ServiceBase
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import ServiceObservation, ServiceRepair
from voiceops.monitor.local_stack import StackObservation, resume
from voiceops.monitor.needs import all_needs, awaited_needs, failed_for_good
from voiceops.monitor.probe import why_crowded
from voiceops.monitor.worker_names import WorkerNames, running_agents
from voiceops.remote.messages import UnitState
from voiceops.remote.onhost.agents import add_healths
from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.restart import PROPERTIES as WANTED_PROPERTIES
from voiceops.remote.onhost.restart import is_wanted, lease_of
from voiceops.remote.onhost.unit_actions import await_unit
from voiceops.remote.onhost.unit_state import OBSERVED_PROPERTIES, is_instance, shown_units, unit_states
from voiceops.rooms.watcher import LostWorkers
from voiceops.stack.model import Instance, Observed, judge
from voiceops.stack.occupancy import Occupancy, weigh
from voiceops.stack.reconcile import Action, Verb, in_order
from voiceops.stack.systemd import observe
from voiceops.systemd.names import HostNames

_PROPERTIES = f"{OBSERVED_PROPERTIES},{WANTED_PROPERTIES},ActiveEnterTimestampMonotonic"
_ANSWER_S = 2.0
"""What a livekit-server may take to answer."""
_REGISTERED_MARGIN_S = 0.3
"""A worker says that it is ready a moment after LiveKit has begun to offer it jobs."""
_LEFT_ALONE = frozenset({ServiceState.DUPLICATE, ServiceState.STRAY, ServiceState.DRAINING})
"""A deploy or a person began these: a restart would end calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedUnit:
    """The unit that stands for a service: of an agent's instances the one that serves."""

    state: UnitState
    wanted: bool
    ready_at: float
    """Seconds since boot at which it became ready; 0: never."""


class MonitoredServer:
    """Watches the units of one project on the host that it runs on, but for its own."""

    def __init__(
        self,
        *,
        names: HostNames,
        outline: Sequence[Declared],
        settings: Mapping[str, ServiceBase],
        own_name: str,
        occupancy: Occupancy | None,
        restart: Callable[[str], None],
        show: Callable[..., list[dict[str, str]]] = shown_units,
    ) -> None:
        """``restart``: asks the root helper for one unit; ``LockedError``, ``ServiceError``. ``show``: asks systemd."""
        self._names = names
        self._outline = tuple(one for one in in_order(outline) if one.name != own_name)
        self._settings = settings
        self._occupancy = occupancy
        self._restart = restart
        self._show = show
        self._observed: Mapping[str, Observed] = {}
        self._units: dict[str, WatchedUnit] = {}
        self._unready_since: dict[str, float] = {}
        self._unregistered_at = 0.0
        self._worker_names = WorkerNames(_run_of)

    @property
    def observed(self) -> Mapping[str, Observed]:
        """All services, as of the last look."""
        return self._observed

    @property
    def wanted(self) -> frozenset[str]:
        """The services that nobody has stopped, as of the last look."""
        return frozenset(name for name, unit in self._units.items() if unit.wanted)

    def unit(self, name: str) -> UnitState | None:
        """Return a unit that serves as of the last look; None: it is none of those."""
        return next((one.state for one in self._units.values() if one.state["unit"] == name), None)

    def held_by(self) -> str:
        """Return who holds the host's lock; empty where nobody does."""
        try:
            descriptor = os.open(self._names.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            # Without a flock of its own, by which a deploy would take the host for locked.
            lease = lease_of(descriptor)
        finally:
            os.close(descriptor)
        return str(lease.get("owner") or "somebody") if lease else ""

    def version(self) -> int:
        """Return a number that is another one once somebody has changed something on the host."""
        try:
            return os.stat(self._names.lock).st_mtime_ns
        except OSError:
            return 0

    # -- observing -----------------------------------------------------------

    def observe(self) -> StackObservation:
        """Look at all units. Takes up to seconds where an agent does not answer."""
        self._read_units()
        needs = {one.name: one.needs for one in self._outline}
        states = {one.name: self._state(one) for one in self._outline}
        awaited = {one.name: awaited_needs(one) for one in self._outline}
        ready = {name for name, (state, _) in states.items() if state.ok}
        left_alone = failed_for_good(self._settings, {name: state for name, (state, _) in states.items()})
        wanted = self.wanted
        found: list[ServiceObservation] = []
        mains: dict[str, ProcessKey] = {}
        for service in self._outline:
            name = service.name
            state, detail = states[name]
            unit = self._units.get(name)
            main = processes.find(unit.state["pid"]) if unit is not None else None
            if main is not None:
                mains[name] = main.key
            required = all_needs(needs, name)
            found.append(
                ServiceObservation(
                    name=name,
                    state=state,
                    detail=detail,
                    wanted=name in wanted,
                    needs_met=all_needs(awaited, name) <= ready,
                    needs_wanted=required <= wanted - left_alone,
                    policy="never" if state in _LEFT_ALONE else self._settings[name].restart_policy,
                    frozen=main is not None and processes.is_frozen(main.pid),
                    age_s=self._unready_s(name, state),
                    ready_timeout_s=service.ready_timeout_s,
                )
            )
        agents = running_agents(self._observed)
        return StackObservation(services=tuple(found), processes=mains, agents=agents)

    def _read_units(self) -> None:
        patterns = observe.host_probe(self._names, self._outline)["patterns"]
        try:
            shown = self._show(_PROPERTIES, *patterns)
        except Failed as error:
            raise ServiceError(
                f"{error.message.partition(':')[0]} to {self._names.user}: {' '.join(error.log)[:200]}",
                hint="a monitor needs the system's D-Bus: on Debian the package dbus",
            ) from None
        raw = {block["Id"]: block for block in shown if block.get("Id")}
        units = unit_states(shown=shown)
        for one in units:
            one["stopped"] = bool(one["pid"]) and processes.is_frozen(one["pid"])
        add_healths([one for one in units if one["pid"] and is_instance(one) and not one["stopped"]])
        self._observed = observe.observed(
            self._names,
            self._outline,
            {"units": units, "owners": [], "workers": [], "current": {}, "links": {}, "bad": {}},
        )
        by_service: dict[str, list[UnitState]] = {}
        for unit in units:
            by_service.setdefault(self._names.split(unit["unit"])[0], []).append(unit)
        self._units = {}
        for service in self._outline:
            if mine := by_service.get(service.name):
                one = max(mine, key=_serves)
                block = raw[one["unit"]]
                self._units[service.name] = WatchedUnit(
                    state=one,
                    wanted=is_wanted(block),
                    ready_at=int(block.get("ActiveEnterTimestampMonotonic") or 0) / 1e6,
                )
        self._worker_names.note(self._observed)

    def _state(self, service: Declared) -> tuple[ServiceState, str]:
        """The one word for a service, and why."""
        verdict = judge(self._observed.get(service.name, Observed()))
        watched = self._units.get(service.name)
        if watched is None:
            return ServiceState.MISSING, "the host has no such unit"
        unit = watched.state
        runs = processes.find(unit["pid"]) is not None
        if unit["active"] == "failed":
            return ServiceState.FAILED, verdict.detail
        if unit["sub"].startswith("auto-restart") or (
            unit["active"] in ("active", "reloading", "deactivating")
            and watched.wanted
            and not runs
            and verdict.state is not ServiceState.COMPLETED
        ):
            return ServiceState.STALE, f"its process has ended, status {unit['status']}"
        if unit["active"] == "deactivating" and watched.wanted:
            return ServiceState.STARTING, "systemd ends it, to start it again"
        if verdict.state is ServiceState.READY and service.role is Role.SERVER and not self._answers(service):
            return ServiceState.UNRESPONSIVE, "does not answer HTTP"
        return verdict.state, verdict.detail

    def _answers(self, service: Declared) -> bool:
        if not (service.probe and service.probe.http):
            return True
        try:
            http.get(service.probe.http, timeout_s=_ANSWER_S)
        except VoiceopsError:
            return False
        return True

    def _unready_s(self, name: str, state: ServiceState) -> float:
        """Seconds since it was seen ready: an agent whose server was away registers again by itself."""
        if state is not ServiceState.STARTING:
            self._unready_since.pop(name, None)
            return 0.0
        return processes.boot_clock() - self._unready_since.setdefault(name, processes.boot_clock())

    def note_exit(self, key: ProcessKey) -> None:
        """Nothing to reap: they are systemd's children."""

    # -- repairing -----------------------------------------------------------

    def repair(self, repairs: Sequence[ServiceRepair]) -> None:
        """Bring these services back and wait until they are ready.

        ``LockedError`` if somebody holds the host; ``CallsInProgressError`` where that would end calls, or might.
        """
        restarted: list[Declared] = []
        by_name = {one.service: one for one in repairs}
        # Agents first: they take longest, and wait for their server by themselves.
        for service in sorted(self._outline, key=lambda one: not one.is_agent):
            repair = by_name.get(service.name)
            watched = self._units.get(service.name)
            if repair is None or watched is None:
                continue
            if repair.frozen and (repair.resume or self._may_have_calls(service)):
                resume(watched.state["pid"])
                continue
            if repair.cause != "service-dead" and not repair.frozen:
                self._refuse_calls(service.name)
            self._restart(watched.state["unit"])
            restarted.append(service)
        for service in sorted(restarted, key=self._outline.index):
            self._await_ready(service)

    def restart(self, only: Sequence[str], *, now: bool) -> None:
        """Restart these services, as a fix of `why` wants it, and wait until they are ready.

        ``CallsInProgressError`` where that would end calls, or might, also with ``now``.
        """
        for service in self._outline:
            if service.name in only:
                self._refuse_calls(service.name)
                self._restart(self._units[service.name].state["unit"])
                self._await_ready(service)

    def start(self, only: Sequence[str], *, replace: bool) -> None:
        """Only a deployer can do that."""
        raise ServiceError(f"the monitor of a server can't start {', '.join(only)} anew")

    def _may_have_calls(self, service: Declared) -> bool:
        """Return whether the end of a frozen service would end calls, or might."""
        try:
            self._refuse_calls(service.name, silent=True)
        except VoiceopsError:
            return True
        return False

    def _refuse_calls(self, name: str, *, silent: bool = False) -> None:
        """Raise if a restart would end calls, or if that can't be known. ``silent``: what it said is too old."""
        observed = dict(self._observed)
        if silent and name in observed:
            muted = tuple(
                replace(one, calls=None, rooms=()) if one.role is Role.AGENT else one
                for one in observed[name].instances
            )
            observed[name] = replace(observed[name], instances=muted)
        actions = [
            Action(service=name, verb=Verb.RESTART, instance=one)
            for one in observed.get(name, Observed()).current
        ]
        weigh(actions, observed, self._occupancy).refuse(
            f"{name} is not restarted, as this would cut them off"
        )

    def _await_ready(self, service: Declared) -> None:
        unit = self._units[service.name].state["unit"]
        answer = await_unit(
            {
                "state_dir": self._names.state,
                "unit": unit,
                "timeout_s": service.ready_timeout_s,
                "settle_s": 0.0,
                "log": "",
                "not_worker_id": "",
                "gate": "",
                "pid": 0,
                "share": 1.0,
                # Of an agent it has to be said that its health counts; the instance is the enabled one already.
                "enable": unit if service.is_agent else "",
            }
        )
        if not answer["ready"]:
            raise ServiceError(f"{service.name} is not ready: {answer['why']}")

    # -- rooms ---------------------------------------------------------------

    def server_may_answer(self) -> bool:
        """Return whether the livekit-server of this host is ready, as of the last look; True where it has none."""
        servers = [one.name for one in self._outline if one.role is Role.SERVER]
        return all(judge(self._observed.get(name, Observed())).ok for name in servers)

    def crowded(self) -> str:
        """Return why one more call might take a place that a caller needs, as of the last look; empty: it would not."""
        return why_crowded(self._outline, self._settings, self._observed)

    def lost_workers(self, until: float, unassigned_until: float = 0.0) -> LostWorkers | None:
        """Return which workers are gone and which rooms have an agent that lives, as of the last look.

        None where an agent runs that does not say which rooms it has: its callers must not get another one.
        """
        return self._worker_names.lost(self._observed, until, unassigned_until)

    def registered_at(self) -> float | None:
        """Return since when every wanted agent has been registered, by this host's clock; None: not all are."""
        began = time.time()
        states = {one.name: one for one in self.observe().services}
        ready_at = 0.0
        for service in self._outline:
            seen = states[service.name]
            if service.role is not Role.AGENT or not seen.wanted:
                continue
            if seen.state is not ServiceState.READY:
                self._unregistered_at = began
                return None
            ready_at = max(ready_at, self._units[service.name].ready_at)
        # systemd's monotonic times, as Python's, leave out what the host slept.
        launched = time.time() - time.monotonic() + ready_at - _REGISTERED_MARGIN_S
        # A worker that lives on registers again with a server that was restarted.
        return max(launched, self._unregistered_at)


def _run_of(instance: Instance) -> str:
    """Names one run of an instance: systemd starts the same unit again."""
    return f"{instance.launch} {instance.pid}"


def _serves(unit: UnitState) -> tuple[bool, bool, bool]:
    """Order the instances of an agent: what runs, then what starts with the host, then what has failed."""
    runs = unit["active"] in ("active", "activating", "reloading")
    return (unit["enabled"] == "enabled" and unit["active"] != "inactive", runs, unit["active"] == "failed")
