"""Look at this machine: which runs of our services live, and what state is each in.

The process table is the truth. Every process that we start carries its project,
service, digest and launch in its environment; records only add what can't be seen there.
So a record that is lost, cut in half, or names a recycled pid costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from voiceops.adapters.process import ports_in_use, processes
from voiceops.adapters.process.table_entry import Process
from voiceops.errors import ConfigError
from voiceops.health import agent as agent_health
from voiceops.health import probes
from voiceops.kinds import role_of, stop_behaviour
from voiceops.kinds.model import Declared
from voiceops.model import protocol
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.oneshot import OneshotResult, read_result
from voiceops.stack.local.records import LaunchRecord, Records
from voiceops.stack.local.strays import find_strays
from voiceops.stack.model import REFUSES, Instance, Observed
from voiceops.util.words import counted

_SETTLED_S = 0.5
"""A command without a probe counts as ready once it has lived this long."""
_FROZEN = "its process is stopped (state T)"
"""Known at once: to ask it would take until the time limit, and the kernel accepts connections for it."""


@dataclass(slots=True)
class ObservedLaunch:
    """One launch as it stands in the process table."""

    record: LaunchRecord
    main: Process | None
    members: list[Process] = field(default_factory=list)
    """Everything that carries the launch, the main process included."""
    result: OneshotResult | None = None
    """Of a one-shot that has ended."""
    tells_health: bool = False
    """It was given a health socket, which agents get; all that is known of its kind without a record."""

    @property
    def role(self) -> Role:
        if self.record.kind:
            return role_of(self.record.kind)
        return Role.AGENT if self.tells_health else Role.OTHER


def observe_services(folder: ProjectFolder, services: Sequence[Declared]) -> dict[str, Observed]:
    """Each declared service, and each other one that left a trace here."""
    table = processes.table()
    runs, stale = find_runs(folder, table)
    declared = {service.name: service for service in services}
    own: dict[str, set[int]] = {}
    for run in runs:
        # What hides its environment (Redis and PostgreSQL write their titles over it) has its record or its parent.
        main = [run.main, *processes.descendants(run.main.pid, table)] if run.main else []
        own.setdefault(run.record.service, set()).update(p.pid for p in (*run.members, *main))
    strays = find_strays(folder, services, table, own)
    observed: dict[str, Observed] = {}
    for name in dict.fromkeys([*declared, *stale, *(run.record.service for run in runs)]):
        mine = [run for run in runs if run.record.service == name]
        living = [run for run in mine if run.main]
        instances = (state_of(folder, declared.get(name), run, own.get(name, set())) for run in living)
        observed[name] = Observed(
            instances=tuple(sorted(instances, key=lambda one: -one.age_s)),
            leftovers=tuple(_leftover(run) for run in mine if not run.main and not run.result),
            ended=max(
                (ended_instance(run.record, run.result) for run in mine if run.result),
                key=lambda one: one.restart_count,
                default=None,
            ),
            strays=strays.get(name, ()),
            stale=stale.get(name, ""),
        )
    return observed


def find_runs(folder: ProjectFolder, table: Sequence[Process]) -> tuple[list[ObservedLaunch], dict[str, str]]:
    """All runs of this project, those included of which only a record is left, and what is stale, by service."""
    runs = {run.record.launch: run for run in _marked(folder, table)}
    records = Records(folder.state)
    stale: dict[str, str] = {}
    for name in records.services():
        known, damage = records.read(name)
        if damage:
            stale[name] = damage
            # Nothing carries the empty launch: to end this run is to remove the file.
            runs[f"damaged {name}"] = ObservedLaunch(
                LaunchRecord(launch="", service=name, kind="", digest=""), None
            )
        for record in known:
            run = runs.get(record.launch)
            if run is None and record.pid and processes.alive(record.key):
                run = runs[record.launch] = ObservedLaunch(
                    record, processes.find(record.pid)
                )  # environment unreadable
            if run is None and record.signalled_at is not None:
                continue  # it was told to stop, and did
            result = _result_of(folder, record)
            if result is not None:
                runs[record.launch] = replace(
                    _merge(run or ObservedLaunch(record, None), record), result=result
                )
                continue
            if run is None or (record.pid and not processes.alive(record.key)):
                stale.setdefault(name, _gone(record))
            runs[record.launch] = _merge(run or ObservedLaunch(record, None), record)
    return list(runs.values()), stale


def _result_of(folder: ProjectFolder, record: LaunchRecord) -> OneshotResult | None:
    """How a one-shot ended since the machine was started; None while it runs, or where nobody can say."""
    ended = record.oneshot and record.signalled_at is None and not processes.alive(record.key)
    if not ended or not record.start.startswith(processes.boot_id()):
        return None
    return read_result(folder.ended_file(record.service, record.launch))


def ended_instance(record: LaunchRecord, result: OneshotResult) -> Instance:
    """Return the last run of a one-shot; what it has left running ends with the next run, or by a stop."""
    return Instance(
        service=record.service,
        launch=record.launch,
        pid=0,
        digest=record.digest,
        state=ServiceState.FAILED if result.exit_status else ServiceState.COMPLETED,
        detail=str(result) if result.exit_status else f"took {result.took_s:.1f} s",
        restart_count=record.restart_count,
    )


def _marked(folder: ProjectFolder, table: Sequence[Process]) -> list[ObservedLaunch]:
    text = f"{protocol.SERVICE_ENV}={folder.mark}/".encode()
    groups: dict[str, ObservedLaunch] = {}
    for process in table:
        if not processes.has_environment(process.pid, text):
            continue
        environment = processes.environment(process.pid)
        parts = environment.get(protocol.SERVICE_ENV, "").split("/")
        launch = environment.get(protocol.LAUNCH_ENV, "")
        if len(parts) != 3 or not launch:
            continue
        record = LaunchRecord(
            launch=launch,
            service=parts[1],
            kind="",
            digest=parts[2],
            log=str(folder.log_file(parts[1])),
        )
        run = groups.setdefault(launch, ObservedLaunch(record, None))
        run.tells_health = run.tells_health or protocol.HEALTH_SOCKET_ENV in environment
        run.members.append(process)
    for run in groups.values():
        leaders = [process for process in run.members if process.leads]
        # A child may open a session of its own: the main process is the one that came first.
        run.main = max(leaders, key=lambda process: process.age_s, default=None)
        if run.main:
            run.record = _with_pid(run.record, run.main)
    return list(groups.values())


def _with_pid(record: LaunchRecord, main: Process) -> LaunchRecord:
    return msgspec.structs.replace(record, pid=main.pid, start=main.key.start)


def _merge(run: ObservedLaunch, record: LaunchRecord) -> ObservedLaunch:
    if not record.pid:  # the command was killed between the start and the note of it
        return replace(run, record=_with_pid(record, run.main) if run.main else record)
    main = run.main if run.main and run.main.key == record.key else processes.find(record.pid)
    return replace(run, record=record, main=main if main and main.key == record.key else None)


def _gone(record: LaunchRecord) -> str:
    if not record.pid:
        return "a start was cut off before its process existed"
    if processes.find(record.pid):
        return f"the record names pid {record.pid}, which belongs to another process now"
    return f"pid {record.pid} is gone"


def _leftover(run: ObservedLaunch) -> Instance:
    pids = ", ".join(str(process.pid) for process in run.members) or "none"
    return Instance(
        service=run.record.service,
        role=run.role,
        launch=run.record.launch,
        pid=run.members[0].pid if run.members else 0,
        digest=run.record.digest,
        state=ServiceState.STALE,
        detail=f"left over from a run that died; its processes: {pids}",
        signalled=True,
    )


def state_of(folder: ProjectFolder, service: Declared | None, run: ObservedLaunch, own: set[int]) -> Instance:
    """Ask one living run how it is."""
    assert run.main is not None
    record = run.record
    seen = Instance(
        service=record.service,
        role=_role(run, service),
        launch=record.launch,
        pid=run.main.pid,
        digest=record.digest,
        state=ServiceState.READY,
        age_s=run.main.age_s,
        release=record.release,
        signalled=record.signalled_at is not None,
        restart_count=record.restart_count,
        repeat_signal_s=stop_behaviour(record.kind or (service.kind if service else "")).repeat_after_s,
    )
    if seen.role is Role.AGENT:
        return _agent_state(folder, service, seen, was_ready=record.ready_at is not None)
    if seen.signalled:
        return replace(seen, state=ServiceState.DRAINING, detail="told to stop")
    if service is None:
        return seen
    probed = _probe(service, record, run.main, own)
    if probed.ok and record.after_ready_due:
        probed = probes.ProbeResult(False, "its after_ready has not ended well")
    if probed.ok:
        return seen
    young = run.main.age_s <= service.ready_timeout_s and record.ready_at is None
    state = ServiceState.STARTING if young else ServiceState.UNRESPONSIVE
    detail = f"{REFUSES}: {probed.detail}" if probed.refused else probed.detail
    return replace(seen, state=state, detail=detail, refused=probed.refused)


def _role(run: ObservedLaunch, service: Declared | None) -> Role:
    if service and not run.record.kind and not run.tells_health:
        return service.role
    return run.role


def _probe(service: Declared, record: LaunchRecord, main: Process, own: set[int]) -> probes.ProbeResult:
    probe = service.probe
    if processes.is_frozen(main.pid):
        return probes.ProbeResult(False, _FROZEN)
    if service.oneshot:
        return probes.ProbeResult(False, f"has run for {main.age_s:.0f} s")
    if probe is None:
        return probes.ProbeResult(main.age_s >= _SETTLED_S, f"runs for {main.age_s:.1f} s")
    if probe.notify:
        return probes.ProbeResult(record.ready_at is not None, "has not sent READY=1")
    if service.ports and not ports_in_use.owners(service.ports[0], own | {main.pid}):
        return probes.ProbeResult(False, f"does not listen on port {service.ports[0]}")
    if probe.http:
        return probes.probe_http(probe.http)
    if probe.tcp:
        return probes.probe_tcp(probe.tcp)
    if probe.log:
        if record.ready_at is not None:
            return probes.ProbeResult(True)  # said once; the line may have been rotated away
        return probes.probe_log(Path(record.log), record.log_offset, probe.log)
    try:
        env = service.probe_env() if service.probe_env else {}
    except ConfigError as error:
        return probes.ProbeResult(False, f"can't be asked: {error.message}")
    return probes.probe_command(probe.command or [], cwd=service.cwd, env=env, refusals=service.refusals)


def _agent_state(
    folder: ProjectFolder, service: Declared | None, seen: Instance, *, was_ready: bool
) -> Instance:
    frozen = processes.is_frozen(seen.pid)
    health = None if frozen else agent_health.read_health(folder.health_socket(seen.launch), timeout_s=1.0)
    if health is None:
        seen = replace(seen, calls=None)
        ready_timeout_s = service.ready_timeout_s if service else 60.0
        if seen.signalled:
            return replace(seen, state=ServiceState.DRAINING, detail="told to stop")
        if not folder.state.exists():
            # Each start makes it: somebody deleted it while this one ran, and the socket with it.
            return replace(
                seen,
                state=ServiceState.UNRESPONSIVE,
                detail=f"can't be asked: {folder.base.name} was deleted while it ran",
            )
        if seen.age_s <= ready_timeout_s and not was_ready:
            return replace(seen, state=ServiceState.STARTING, detail="does not answer yet")
        detail = _FROZEN if frozen else "does not answer its health check"
        return replace(seen, state=ServiceState.UNRESPONSIVE, detail=detail)
    seen = replace(
        seen,
        calls=health.calls,
        rooms=tuple(health.rooms),
        worker_id=health.worker_id,
        agent_name=health.agent_name,
    )
    if health.draining or seen.signalled:
        return replace(
            seen, state=ServiceState.DRAINING, detail=f"drains, {counted(health.calls, 'call')} left"
        )
    if not health.registered:
        return replace(seen, state=ServiceState.STARTING, detail="not registered with LiveKit")
    return (
        replace(seen, detail=f"takes no more than its {counted(health.calls, 'call')}")
        if health.full
        else seen
    )
