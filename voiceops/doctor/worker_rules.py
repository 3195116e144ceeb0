"""Rules about the workers: is there one, does it answer, is it registered, is it the right one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voiceops.doctor.code_rules import broken_code, state_of
from voiceops.doctor.evidence import last_error, load_failure, logged, start_anew
from voiceops.doctor.facts import LogEvent, StackFacts, WorkerFact
from voiceops.doctor.room_evidence import new_agents, served_rooms, waiting_rooms
from voiceops.model.findings import Finding, Fix
from voiceops.model.states import ServiceState
from voiceops.util.words import counted

RECENT_S = 300.0
FULL_CPU = 0.95


def no_worker(facts: StackFacts) -> Iterator[Finding]:
    gone = (ServiceState.MISSING, ServiceState.FAILED, ServiceState.STALE, ServiceState.STOPPED)
    for worker in facts.workers:
        if worker.state not in gone:
            continue
        taken = _port_taken(facts, worker)
        failure = None if taken else load_failure(facts, worker)
        if failure is not None:
            yield broken_code(facts, worker, *failure)
            continue
        yield Finding(
            rule="port-taken" if taken else "no-worker",
            severity="error",
            sentence=f"No worker runs for {worker.service}: callers wait for an agent that nobody sends."
            + (" Its port was taken when it started." if taken else ""),
            evidence=tuple(filter(None, (state_of(worker), taken or last_error(facts, worker.service)))),
            fixes=(
                Fix(command=f"inv start --only {worker.service}", action="start", service=worker.service),
                *new_agents(facts, worker),
            ),
            service=worker.service,
            rank=5,
        )


def frozen_worker(facts: StackFacts) -> Iterator[Finding]:
    for worker in facts.workers:
        mute_drain = worker.draining and not worker.answers
        if not (worker.stopped or mute_drain or worker.state is ServiceState.UNRESPONSIVE):
            continue
        if worker.folder_deleted and not worker.stopped:
            yield _folder_deleted(worker)
            continue
        began = max(worker.started_at or 0.0, facts.now - RECENT_S)
        failed = [e for e in facts.events if "failed to assign job" in e.message and e.at >= began]
        if not worker.stopped and not failed and facts.host.cpu_share >= FULL_CPU:
            yield _slow_worker(facts, worker)
            continue
        how = (
            "the kernel reports it stopped (state T)"
            if worker.stopped
            else "its health endpoint does not answer"
        )
        if mute_drain:
            yield _stuck_drain(facts, worker, how, failed)
            continue
        yield Finding(
            rule="worker-frozen",
            severity="error",
            sentence=f"The worker of {worker.service} (pid {worker.pid}) is frozen: it is still offered calls and loses them.",
            evidence=(
                how,
                *_blocked_at(facts, worker),
                *_lost_jobs(failed),
            ),
            fixes=(
                # Its job processes may serve callers all the while: it is replaced by overlap, not killed.
                Fix(command=f"inv start --only {worker.service}", action="start", service=worker.service),
                *new_agents(facts, worker),
            ),
            service=worker.service,
            rank=6,
        )


def _folder_deleted(worker: WorkerFact) -> Finding:
    """Nothing is wrong with the worker: it takes calls, and nobody can ask it how many."""
    return Finding(
        rule="state-folder-deleted",
        severity="warning",
        sentence=f"The folder .voiceops was deleted while {worker.service} (pid {worker.pid}) ran: it may serve on, "
        "but its health socket is gone, so nobody can ask it for its calls.",
        evidence=("its health socket does not exist", "no folder .voiceops/state"),
        fixes=(Fix(command=f"inv start --only {worker.service}", action="start", service=worker.service),),
        service=worker.service,
        rank=44,
    )


def _lost_jobs(failed: Sequence[LogEvent]) -> tuple[str, ...]:
    return (
        (f"server log: failed to assign job, {counted(len(failed), 'time')} in 5 minutes",) if failed else ()
    )


def _blocked_at(facts: StackFacts, worker: WorkerFact) -> Iterator[str]:
    """The line of code that blocks the worker's own loop; its jobs log such lines with their job's id."""
    for event in reversed(facts.events):
        own = event.service == worker.service and not event.job_id and event.at >= (worker.started_at or 0.0)
        if own and event.message == "event loop blocked":
            yield f"worker log: event loop blocked at {event.fields.get('where', 'an unknown line')}"
            return


def _stuck_drain(facts: StackFacts, worker: WorkerFact, how: str, failed: Sequence[LogEvent]) -> Finding:
    """A drain ends with the worker's last call, but only a worker that runs notices that."""
    listed = {room for one in facts.workers if one.answers for room in one.rooms}
    unclaimed = [room for room in served_rooms(facts) if room.name not in listed]
    start = Fix(command=f"inv start --only {worker.service}", action="start", service=worker.service)
    stays = (
        (f"{counted(len(unclaimed), 'call')} may be its own: it is ended only after them",)
        if unclaimed
        else ()
    )
    return Finding(
        rule="worker-drain-stuck",
        severity="error" if failed else "warning",
        sentence=f"A worker of {worker.service} (pid {worker.pid}) was told to stop and does not answer: "
        "its drain never ends, and calls that LiveKit still offers it are lost.",
        evidence=(how, *_blocked_at(facts, worker), *stays, *_lost_jobs(failed)),
        fixes=(start, *new_agents(facts, worker)),
        service=worker.service,
        rank=8 if failed else 42,
    )


def _slow_worker(facts: StackFacts, worker: WorkerFact) -> Finding:
    """Silence on a machine without a free core proves nothing, and a second worker would fill it further."""
    return Finding(
        rule="worker-slow",
        severity="warning",
        sentence=f"The worker of {worker.service} (pid {worker.pid}) does not answer its health check in time, but "
        "this machine is full and it has lost no call so far.",
        evidence=(f"CPU in use: {facts.host.cpu_share:.0%}", "its health endpoint does not answer"),
        fixes=(
            Fix(command="end what else runs on this machine, or add a host to the agents' group", action=""),
        ),
        service=worker.service,
        rank=45,
    )


def unregistered_worker(facts: StackFacts) -> Iterator[Finding]:
    if not facts.server.reachable:
        return  # server_down says it
    for worker in facts.workers:
        if worker.registered is not False or worker.stopped or worker.draining:
            continue
        if worker.state in (
            ServiceState.MISSING,
            ServiceState.STALE,
            ServiceState.STOPPED,
            ServiceState.UNRESPONSIVE,
        ):
            continue
        rule, why = _unregistered_because(facts, worker)
        yield Finding(
            rule=rule,
            severity="error",
            sentence=f"The worker of {worker.service} (pid {worker.pid}) runs but is not registered with LiveKit: {why}.",
            evidence=tuple(
                filter(
                    None,
                    (
                        "its health endpoint says registered: false",
                        f"it connects to {worker.url}" if worker.url else "",
                        _last_retry(facts, worker),
                    ),
                )
            ),
            fixes=(
                Fix(command=f"inv restart --only {worker.service}", action="restart", service=worker.service),
                *new_agents(facts, worker),
            ),
            service=worker.service,
            rank=7,
        )


def _unregistered_because(facts: StackFacts, worker: WorkerFact) -> tuple[str, str]:
    if worker.url and worker.url.rstrip("/") != facts.server.url.rstrip("/"):
        return "worker-wrong-url", f"it was given {worker.url}, the server is {facts.server.url}"
    retry = _last_retry(facts, worker)
    began = max(worker.started_at or 0.0, facts.now - RECENT_S)
    refused = any(
        event.fields.get("status") == 401
        and str(event.fields.get("path", "")).startswith("/agent")
        and event.at >= began
        for event in facts.events
    )
    if refused or "401" in retry:
        return "worker-wrong-key", "the server refuses its key or secret"
    if _port_taken(facts, worker):
        return "port-taken", "its health port was taken when it started"
    if worker.state is ServiceState.STARTING and not retry:
        return "worker-starting", "it is still starting"
    return "worker-not-registered", "it does not reach the server"


def _last_retry(facts: StackFacts, worker: WorkerFact) -> str:
    for event in reversed(facts.since_start(worker.service)):
        if "failed to connect to livekit" in event.message:
            error = f"{event.message}: {event.fields.get('error', '')}".rstrip(": ")
            return logged("its", event, error)
    return ""


def _port_taken(facts: StackFacts, worker: WorkerFact) -> str:
    for event in reversed(facts.since_start(worker.service)):
        text = event.message + "\n" + str(event.fields.get("exc_info") or "")
        if facts.now - event.at <= RECENT_S and "address already in use" in text:
            return logged("its", event, text.strip().splitlines()[-1])
    return ""


def several_workers(facts: StackFacts) -> Iterator[Finding]:
    for worker in facts.workers:
        if worker.state not in (ServiceState.DUPLICATE, ServiceState.STRAY):
            continue
        pids = ", ".join(str(pid) for pid in worker.pids)
        replace = Fix(
            command=f"inv start --only {worker.service} --replace", action="replace", service=worker.service
        )
        stop = Fix(command=f"let {worker.foreign_owner} stop its worker", action="")
        yield Finding(
            rule="stray-worker" if worker.state is ServiceState.STRAY else "duplicate-workers",
            severity="error",
            sentence=f"A worker that this stack did not start takes calls of {worker.service}: "
            "callers may get an old version of the agent.",
            evidence=tuple(filter(None, (worker.detail, f"pids {pids}" if pids else ""))),
            fixes=(stop if worker.foreign_owner else replace,),
            by_hand=bool(worker.foreign_owner),
            service=worker.service,
            rank=10,
        )


def old_code(facts: StackFacts) -> Iterator[Finding]:
    for worker in facts.workers:
        if worker.state is ServiceState.READY and not worker.release_current:
            yield Finding(
                rule="old-code",
                severity="warning",
                sentence=f"The worker of {worker.service} runs code or configuration that has changed since it started.",
                evidence=(
                    worker.detail or "its digest differs from what is declared",
                    *_started_in_vain(facts, worker),
                ),
                fixes=(start_anew(facts, worker),),
                service=worker.service,
                rank=40,
            )


def _started_in_vain(facts: StackFacts, worker: WorkerFact) -> tuple[str, ...]:
    failure = load_failure(facts, worker)
    return (
        () if failure is None else (logged("its", failure[1], f"the new code can't be loaded: {failure[0]}"),)
    )


def over_load(facts: StackFacts) -> Iterator[Finding]:
    for worker in facts.workers:
        if worker.draining:
            continue  # it takes no calls, however few it has
        turned_away = [
            e
            for e in facts.events
            if "no servers available" in str(e.fields.get("error", "")) + e.message
            and str(e.fields.get("agentName", "")) == worker.agent_name
            and e.at >= max(worker.started_at or 0.0, facts.now - RECENT_S)
        ]
        if not worker.full and not (turned_away and waiting_rooms(facts)):
            continue
        limit = "max_concurrent_jobs" if worker.at_max_jobs and not worker.over_load else "load_limit"
        evidence = [
            f"load {worker.load:.2f}, {counted(worker.calls, 'call')}"
            if worker.load is not None
            else f"{counted(worker.calls, 'call')}"
        ]
        if worker.load_limit is not None:
            evidence.append(f"load_limit is {worker.load_limit:g}")
        if worker.refused_for_load:
            evidence.append(f"it has refused {counted(worker.refused_for_load, 'call')} for its load")
        if worker.at_max_jobs:
            evidence.append(f"max_concurrent_jobs is {worker.max_jobs}")
        if turned_away:
            evidence.append(
                f"server log: no servers available, {counted(len(turned_away), 'time')} in 5 minutes"
            )
        yield Finding(
            rule="worker-over-load",
            severity="error" if turned_away or waiting_rooms(facts) else "warning",
            sentence=f"The worker of {worker.service} {'is' if worker.full else 'was'} full: at its {limit} it takes "
            "no call, and LiveKit offers none twice.",
            evidence=tuple(evidence),
            fixes=(
                *new_agents(facts, worker),
                Fix(
                    command=f"add a host to the agents' group, or raise {limit} in inventory.yaml"
                    + (" (or off)" if limit == "load_limit" else ""),
                    action="",
                ),
            ),
            service=worker.service,
            rank=12,
        )
