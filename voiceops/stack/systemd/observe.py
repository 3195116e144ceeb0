"""From what a host says of its units to what reconcile decides on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from voiceops.kinds import stop_behaviour
from voiceops.kinds.model import Declared
from voiceops.model.quoting import printable
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.remote.messages import HostObservation, HostProbe, PortOwner, StrayWorker, UnitState
from voiceops.stack.model import REFUSES, Instance, Observed, Stray, Usage
from voiceops.systemd.names import UNIT_MARK, HostNames
from voiceops.util.words import counted

STOPPED = "its process is stopped (state T)"
_MOST = 1e15
"""Of a number that an agent says of itself."""
_RUNNING = ("active", "activating", "reloading")


def observed(names: HostNames, services: Sequence[Declared], answer: HostObservation) -> dict[str, Observed]:
    """Each declared service, and each other one whose units run on the host."""
    declared = {service.name: service for service in services}
    oneshots = {service.name for service in services if service.oneshot}
    units = [
        unit
        for unit in answer["units"]
        # A masked unit has lost its mark: only its name tells whose it is.
        if _ours(names, unit, oneshots) or (unit.get("masked") and names.split(unit["unit"])[0] in declared)
    ]
    by_service: dict[str, list[UnitState]] = {name: [] for name in declared}
    for unit in units:
        by_service.setdefault(names.split(unit["unit"])[0], []).append(unit)
    strays = _strays(names, services, answer["owners"], answer["workers"])
    return {
        name: Observed(
            instances=tuple(
                sorted(
                    (
                        instance(names, declared.get(name), unit)
                        for unit in found
                        if _alive(unit) and not (name in oneshots and _ended(unit))
                    ),
                    key=lambda one: -one.age_s,
                )
            ),
            strays=strays.get(name, ()),
            ended=_last_run(names, declared[name], found) if name in oneshots else None,
            stale=_failure(found),
        )
        for name, found in by_service.items()
    }


def host_probe(names: HostNames, services: Sequence[Declared]) -> HostProbe:
    """Return what to ask a host for, to observe these services."""
    agents = [service for service in services if service.is_agent]
    return {
        "state_dir": names.state,
        # A masked unit is not loaded, so that no pattern finds it.
        "patterns": [
            f"{names.project}-*.service",
            *(names.unit(service.name) for service in services if not service.is_agent),
        ],
        "ports": sorted({port for service in services for port in service.ports}),
        "entries": sorted({service.entry.name for service in agents if service.entry}),
        "url": agents[0].livekit_url.rstrip("/") if agents else "",
        "opt": names.opt,
        "releases": [],
    }


def failed_units(
    names: HostNames, services: Sequence[Declared], answer: HostObservation
) -> dict[str, list[str]]:
    """Return the units that have failed, by service."""
    oneshots = {service.name for service in services if service.oneshot}
    found: dict[str, list[str]] = {}
    for unit in answer["units"]:
        if _ours(names, unit, oneshots) and unit["active"] == "failed":
            found.setdefault(names.split(unit["unit"])[0], []).append(unit["unit"])
    return found


def wanted_services(
    names: HostNames, services: Sequence[Declared], answer: HostObservation
) -> frozenset[str]:
    """Return the services that run, are on their way or have failed; one that a person has stopped is inactive."""
    oneshots = {service.name for service in services if service.oneshot}
    return frozenset(
        names.split(unit["unit"])[0]
        for unit in answer["units"]
        if _ours(names, unit, oneshots) and unit["active"] not in ("inactive", "deactivating")
    )


def _ours(names: HostNames, unit: UnitState, oneshots: Collection[str]) -> bool:
    """Whether it is the unit of a service; the other ones that run once are the timers'."""
    service = names.split(unit["unit"])[0]
    runs_once = unit["type"] == "oneshot" and service not in oneshots
    return not runs_once and f"{UNIT_MARK}={names.project}/{service}" in unit["environment"].split()


def _ended(unit: UnitState) -> bool:
    return unit["sub"] == "exited" or unit["active"] == "failed"


def _last_run(names: HostNames, service: Declared, units: Sequence[UnitState]) -> Instance | None:
    """How a one-shot ended, as long as systemd remembers it."""
    for unit in units:
        if _ended(unit):
            last = replace(instance(names, service, unit), pid=0)
            if unit["active"] == "failed":
                detail = f"{unit['result']} (status {unit['status']})"
                last = replace(last, state=ServiceState.FAILED, detail=detail)
            return last
    return None


def _alive(unit: UnitState) -> bool:
    return unit["active"] in _RUNNING or unit["active"] == "deactivating"


def _failure(units: Sequence[UnitState]) -> str:
    masked = [unit["unit"] for unit in units if unit.get("masked")]
    if masked:
        return f"{masked[0]} is masked: `systemctl unmask {masked[0]}` on the host takes that back"
    failed = [unit for unit in units if unit["active"] == "failed"]
    if not failed:
        return ""
    last = failed[-1]
    return f"{last['unit']} failed: {last['result']} (status {last['status']}, {counted(last['restarts'], 'restart')})"


def instance(names: HostNames, service: Declared | None, unit: UnitState) -> Instance:
    """One unit that runs, starts or stops."""
    name, which = names.split(unit["unit"])
    state, detail = _state(service, unit, is_agent=bool(which))
    health = unit.get("health") or {}
    # One that systemd still waits for has not registered. Any other that does not answer may have calls.
    mute = bool(which) and bool(unit["pid"]) and not health and unit["active"] != "activating"
    return Instance(
        service=name,
        role=service.role if service else Role.AGENT if which else Role.OTHER,
        launch=unit["unit"],
        pid=unit["pid"],
        digest=_digest(unit),
        state=state,
        detail=detail,
        age_s=unit["age_s"],
        release=which.partition(".")[0],
        calls=None if mute else int(health.get("calls", 0)),
        rooms=tuple(health.get("rooms", ())),
        worker_id=str(health.get("worker_id", "")),
        agent_name=health.get("agent_name"),
        refused=bool(unit.get("refused")),
        proving=bool(health.get("proving")),
        share=_number(health.get("share"), 1.0),
        taken=tuple(str(room) for room in _listed(health.get("taken"))),
        taken_count=int(_number(health.get("taken_count"), 0.0)) if "taken_count" in health else None,
        failed_count=int(_number(health.get("failed_count"), 0.0)),
        signalled=unit["active"] == "deactivating" or bool(unit.get("draining")),
        restart_count=unit["restarts"],
        usage=_usage(unit),
        repeat_signal_s=stop_behaviour(service.kind).repeat_after_s if service else 0.0,
    )


def _number(value: object, otherwise: float) -> float:
    """A number from the answer of an agent, which may say anything."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value < _MOST else otherwise


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _usage(unit: UnitState) -> Usage | None:
    """systemd's own counters; None where its accounting is off."""
    cpu_ns, memory = unit.get("cpu_ns"), unit.get("memory_bytes")
    if cpu_ns is None or memory is None:
        return None
    return Usage(cpu_s=cpu_ns / 1e9, memory_bytes=memory)


def _digest(unit: UnitState) -> str:
    """Of what the process was started with, not of the files as they are now."""
    parts = str(unit.get("service", "")).split("/")
    return parts[2] if len(parts) == 3 else ""


def _state(service: Declared | None, unit: UnitState, *, is_agent: bool) -> tuple[ServiceState, str]:
    if unit["active"] == "deactivating":
        health = unit.get("health") or {}
        calls = (
            f"drains, {counted(health['calls'], 'call')} left"
            if health.get("calls")
            else unit["text"] or "told to stop"
        )
        return ServiceState.DRAINING, calls
    if unit.get("draining"):
        return ServiceState.DRAINING, "takes no new rooms, and starts again after its calls"
    if unit["sub"].startswith("auto-restart"):
        detail = f"ended with status {unit['status']}, will be restarted ({counted(unit['restarts'], 'restart')} so far)"
        return ServiceState.UNRESPONSIVE, detail
    if unit["active"] == "activating":
        return ServiceState.STARTING, unit["text"] or unit["sub"]
    if unit["sub"] == "exited":
        return ServiceState.COMPLETED, ""
    if not is_agent:
        unready = STOPPED if unit.get("stopped") else unit.get("unready", "")
        if unit.get("refused"):
            unready = f"{REFUSES}: {unready}"
        return (ServiceState.UNRESPONSIVE, unready) if unready else (ServiceState.READY, "")
    answer = unit.get("health")
    if answer is None:
        return ServiceState.UNRESPONSIVE, "does not answer its health check"
    if answer.get("draining"):
        return ServiceState.DRAINING, f"drains, {counted(answer.get('calls', 0), 'call')} left"
    if not answer.get("registered"):
        return ServiceState.STARTING, "not registered with LiveKit"
    if answer.get("proving"):
        return ServiceState.STARTING, "waits for its proof call"
    return ServiceState.READY, ""


def _strays(
    names: HostNames,
    services: Sequence[Declared],
    owners: Sequence[PortOwner],
    workers: Sequence[StrayWorker],
) -> dict[str, tuple[Stray, ...]]:
    found: dict[str, dict[int, Stray]] = {}
    for service in services:
        for owner in owners:
            if owner["port"] not in service.ports or names.holds_port_of(owner["unit"], service.name):
                continue
            unit, command = owner["unit"], owner["command"]
            reason = f"port {owner['port']} is taken by pid {owner['pid']}: {printable(command[:160])}"
            # A program of ours that no unit runs was started by hand; all else has an owner of its own.
            ours = command.startswith(f"{names.opt}/") and not unit.endswith(".service")
            found.setdefault(service.name, {})[owner["pid"]] = Stray(
                service=service.name,
                role=service.role,
                pid=owner["pid"],
                start=str(owner["start"]),
                command=command,
                age_s=owner["age_s"],
                reason=reason,
                foreign_owner="" if ours else unit or "another program",
            )
        for worker in workers:
            if service.entry is None or worker["entry"] != service.entry.name:
                continue
            found.setdefault(service.name, {})[worker["pid"]] = Stray(
                service=service.name,
                role=service.role,
                pid=worker["pid"],
                start=str(worker["start"]),
                command=worker["command"],
                age_s=worker["age_s"],
                reason=f"pid {worker['pid']} was started by hand: {printable(worker['command'][:160])}",
                calls=worker["calls"],
            )
    return {name: tuple(strays.values()) for name, strays in found.items()}
