"""Rules about the agent's code: it can't be loaded, it raises in calls, it names itself otherwise. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from voiceops.doctor.evidence import (
    CallHistory,
    FailedCall,
    call_error,
    call_history,
    correct,
    load_failure,
    logged,
    occupied,
    place_of,
    start_anew,
)
from voiceops.doctor.facts import LogEvent, StackFacts, WorkerFact, misnamed
from voiceops.doctor.room_evidence import RoomEvidence, dead, new_agents
from voiceops.model.findings import Finding, Fix

RECENT_S = 300.0

# --- one room -------------------------------------------------------------------------


def raised(view: RoomEvidence) -> Finding | None:
    for event in reversed(view.events("unhandled exception while running the job task")):
        error = call_error(event, view.code_folder)
        return _code_failed(view, error, logged("worker", event, error))
    return None


def guard_gave_up(view: RoomEvidence) -> Finding | None:
    """agentkit's guard caught what the code did: it names the phase, and the worker lives on."""
    for event in reversed(view.events("call failed")):
        phase = str(event.fields.get("phase", ""))
        error = call_error(event, view.code_folder)
        if phase == "process" or not error:
            continue  # the process ended: said by its exit code; or the call went on with the fallback
        line = logged("worker", event, f"call failed in phase {phase}: {error}")
        verdict = _code_failed(view, error, line)
        return replace(verdict, rule="entrypoint-hung") if event.fields.get("timed_out") else verdict
    return None


def _code_failed(view: RoomEvidence, error: str, evidence: str) -> Finding:
    """The same code would fail again for a call that failed before in the same way, and a test call is over."""
    worker, place = view.worker, place_of(error)
    what = error.split("(")[0].split(":")[0].strip() or "an error"
    alike = call_history(view.facts, worker).alike(error) if worker else 0
    changed = worker is not None and not worker.release_current
    in_vain = changed and worker is not None and load_failure(view.facts, worker) is not None
    by_hand = in_vain or (not changed and (alike > 1 or view.is_test_call))
    by_person = f"correct {place or 'what raises it'} or what it needs, then `inv start`"
    return Finding(
        rule="entrypoint-raised",
        sentence=f"The agent's code failed with {what} in this call, so it has no agent"
        + (f": {alike} calls have failed in the same way." if alike > 1 else "."),
        evidence=(evidence,),
        fixes=(
            *((start_anew(view.facts, worker),) if changed and worker else ()),
            *(() if in_vain else (Fix(command=by_person, action="") if by_hand else view.dispatch(),)),
        ),
        by_hand=by_hand,
    )


def killed_in_call(view: RoomEvidence) -> Finding | None:
    for agent in view.room.agents:
        gone = dead(agent, view)
        if gone is not None:
            return Finding(
                rule="killed-in-call",
                sentence="The agent's process died during the call; LiveKit still lists it for 21 s and sends no other.",
                evidence=gone.evidence,
                fixes=(view.remove(agent), view.dispatch()),
                from_below=gone.no_worker,
            )
    return None


def exited(view: RoomEvidence) -> Finding | None:
    for event in reversed(view.events("process exited with non-zero exit code")):
        code = event.message.rsplit(" ", 1)[-1]
        killed = code.startswith("-")
        return Finding(
            rule="killed-in-call" if killed else "entrypoint-exited",
            sentence=f"The agent's process was killed by signal {code[1:]} in this call."
            if killed
            else f"The agent's code ended its process with exit code {code} in this call.",
            evidence=(logged("worker", event), *view.last_output(event)),
            fixes=(view.dispatch(),),
        )
    return None


def waits_for_other_name(view: RoomEvidence) -> Finding | None:
    """The worker has registered another name than the inventory's: said by a stack rule."""
    if view.room.agents or view.assigned or not any(misnamed(worker) for worker in view.facts.workers):
        return None
    return Finding(
        rule="other-agent-name",
        sentence="No worker has registered the name of the agent that this room waits for.",
        evidence=("see the worker's name",),
        fixes=(view.dispatch(),),
        from_below=True,
    )


# --- the workers ----------------------------------------------------------------------


def broken_code(facts: StackFacts, worker: WorkerFact, error: str, said: LogEvent) -> Finding:
    """The code can't be loaded. It may have been corrected since, so that a start is worth its two seconds."""
    return Finding(
        rule="agent-code",
        severity="error",
        sentence=f"The code of {worker.service} can't be loaded: {error}.",
        evidence=(state_of(worker), logged("its", said, said.message.splitlines()[0])),
        fixes=(
            Fix(
                command=f"{correct(error)}, then `inv start --only {worker.service}`",
                action="start",
                service=worker.service,
            ),
            *new_agents(facts, worker),
        ),
        by_hand=True,
        service=worker.service,
        rank=5,
    )


def failing_calls(facts: StackFacts) -> Iterator[Finding]:
    """The last calls failed in the agent's code, and their callers have given up since."""
    here = {room.name for room in occupied(facts)}
    for worker in facts.workers:
        if worker.draining:
            continue
        history = call_history(facts, worker)
        gone = [one for one in history.failed if one.room not in here]
        if facts.wanted_room:
            gone = [one for one in gone if one.room == facts.wanted_room]
        if gone:
            yield _failing(facts, worker, history, gone)


def _failing(
    facts: StackFacts, worker: WorkerFact, history: CallHistory, gone: Sequence[FailedCall]
) -> Finding:
    error, count = gone[-1].error, len(gone)
    answered_since = history.answered_at > max(one.offered_at for one in gone)
    calls = "call" if count == 1 else f"{count} calls"
    if answered_since:
        sentence = f"{calls.capitalize() if count > 1 else 'A call'} of {worker.service} failed and a later one was answered: {error}."
    else:
        sentence = f"The last {calls} of {worker.service} failed: {error}."
    since = "" if worker.started_at is None or facts.history else f" since {worker.service} was started"
    changed = not worker.release_current
    in_vain = changed and load_failure(facts, worker) is not None
    return Finding(
        rule="calls-failed",
        severity="warning" if answered_since else "error",
        sentence=sentence,
        evidence=(
            *(
                logged("worker", one.event, f"{one.event.message.splitlines()[0]}: {one.error}")
                for one in gone[-3:]
            ),
            f"{count} of {history.count} {'call' if history.count == 1 else 'calls'}{since}",
        ),
        fixes=(
            start_anew(facts, worker)
            if changed
            else Fix(
                command=f"{correct(error)} or what it needs, then `inv start` and `inv call`", action=""
            ),
        ),
        by_hand=not changed or in_vain,
        past=True,
        service=worker.service,
        rank=20,
    )


def calls_without_data(facts: StackFacts) -> Iterator[Finding]:
    """The last call went on with the fallback: what agentkit's guard loads before it is away, refuses or is late."""
    for worker in facts.workers:
        loads = [
            event
            for event in facts.since_start(worker.service)
            if facts.now - event.at < RECENT_S
            and (
                event.message.startswith("call data loaded")
                or (event.message.startswith("call failed") and event.fields.get("phase") == "load")
            )
        ]
        if worker.draining or not loads or not loads[-1].fields.get("fallback"):
            continue
        error = str(loads[-1].fields.get("error") or "no error given").strip("'\"")
        yield Finding(
            rule="calls-without-data",
            severity="warning",
            sentence=f"The last call of {worker.service} had to do without its data: {error.rstrip('.')}.",
            evidence=(logged("worker", loads[-1]),),
            fixes=(
                Fix(command=f"look after what `load` of {worker.service} asks, then `inv call`", action=""),
            ),
            past=True,
            service=worker.service,
            rank=43,
        )


def other_name(facts: StackFacts) -> Iterator[Finding]:
    """The agent's code names itself otherwise than the inventory, so that calls look for an agent nobody is."""
    for worker in facts.workers:
        if worker.draining or not misnamed(worker):
            continue
        yield Finding(
            rule="other-agent-name",
            severity="error",
            sentence=f"The worker of {worker.service} registered as {worker.registered_name!r}, the inventory "
            f"declares {worker.agent_name!r}: calls ask for an agent of a name that no worker has.",
            evidence=(
                f"the worker (pid {worker.pid}) says that its agent_name is {worker.registered_name!r}",
                f"inventory.yaml: agent_name of {worker.service} is {worker.agent_name!r}",
            ),
            fixes=(
                Fix(
                    command=f"set agent_name: {worker.registered_name or repr('')} for {worker.service} in "
                    "inventory.yaml, or take agent_name out of the code, then `inv start`",
                    action="",
                ),
            ),
            by_hand=True,
            service=worker.service,
            rank=7,
        )


def state_of(worker: WorkerFact) -> str:
    return f"service {worker.service} is {worker.state}" + (f": {worker.detail}" if worker.detail else "")
