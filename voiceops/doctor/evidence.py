"""What log lines prove: when something was written, what was raised and where, which calls failed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voiceops.doctor.facts import LogEvent, RoomFact, StackFacts, WorkerFact
from voiceops.model.findings import Fix
from voiceops.rooms.presence import persons
from voiceops.stack.logs.cause import raised_in

SERVED_S = 5.0
"""A job of an agent without agentkit counts as answered when it has lived this long without an error."""
_ERROR_LEVELS = ("error", "critical", "fatal", "panic")
_NOISE = (
    "data channel closed unexpectedly",
    "error reading data channel",
    "could not read data channel",
    "failed to accept data channel",
    "failed to detach data channel",
    "request canceled",
    "secret is too short",
)
"""livekit-server and its WebRTC library write them when a healthy call ends; the last one has a finding of its own."""
_UNLOADABLE = "the entry can't be loaded"
_RAISED = "unhandled exception while running the job task"
_GUARDED = "call failed"
_EXITED = "process exited with non-zero exit code"
_KILLED = "killing process"
_NO_PROCESS = "failed to acquire process for job"
_OFFERED = "received job request"


def logged(log: str, event: LogEvent, text: str = "") -> str:
    """``worker log at 2030-01-31T12:00:00Z: TEXT``, the time as ``inv logs`` shows it."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.at))
    return f"{log} log at {at}: {text or event.message}"


def exception_in(events: Iterable[LogEvent], folder: str = "") -> str:
    """``RuntimeError: no database (agent.py:31)``: the last one raised in these lines; empty without one."""
    lines: list[str] = []
    for event in events:
        lines += event.message.splitlines()
        for key in ("traceback", "exc_info"):
            lines += str(event.fields.get(key) or "").splitlines()
    return raised_in(lines, Path(folder) if folder else None)


def place_of(error: str) -> str:
    """``agent.py:31`` of ``RuntimeError: no database (agent.py:31)``; empty when the error names none."""
    return error.rpartition(" (")[2][:-1] if error.endswith(")") and " (" in error else ""


def last_error(facts: StackFacts, service: str) -> str:
    """The newest error that a service has logged since it was started last, with its time; empty without one."""
    for event in reversed(facts.since_start(service)):
        said = f"{event.message} {event.fields.get('error', '')}"
        if event.level.lower() not in _ERROR_LEVELS or any(text in said.lower() for text in _NOISE):
            continue
        text = event.message.strip().splitlines() or [""]
        error = exception_in([event]) or str(event.fields.get("error") or "")
        shown = f"{text[0]} ... {text[-1]}" if len(text) > 1 else text[0]
        return logged("its", event, f"{shown}: {error}" if error and error not in shown else shown)
    return ""


def load_failure(facts: StackFacts, worker: WorkerFact) -> tuple[str, LogEvent] | None:
    """What was raised when the code was loaded last, and the line that says it; None for nothing."""
    events = facts.since_start(worker.service)
    if worker.answers or any(event.message.startswith("registered worker") for event in events):
        # It runs; a newer one of other code may have been started since, in vain.
        events = [event for event in events if event.message.startswith(_UNLOADABLE)]
    for event in reversed(events):
        error = exception_in([event], worker.code_folder)
        if error:
            return error, event
    plain = [event for event in events if not event.fields]  # a traceback that was printed, line by line
    error = exception_in(plain, worker.code_folder)
    return (error, plain[-1]) if error else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """One job in which the agent's code failed."""

    job_id: str
    room: str
    error: str
    """What was raised and where, or how the process ended."""
    offered_at: float
    event: LogEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHistory:
    """The calls of one worker since it was started, oldest first."""

    failed: tuple[FailedCall, ...]
    count: int
    answered_at: float
    """When the last answered call was offered; 0 for none."""

    def alike(self, error: str) -> int:
        """How many calls failed with this error."""
        return sum(one.error == error for one in self.failed)


def correct(error: str) -> str:
    """What a person has to do about an error in the agent's code."""
    place = place_of(error)
    return f"correct {place}" if place else "correct the agent's code"


def start_anew(facts: StackFacts, worker: WorkerFact) -> Fix:
    """Start a worker with the code as it is now; where that could not be loaded, it has to be corrected first.

    It may have been corrected since: the step is tried either way.
    """
    failure = load_failure(facts, worker)
    start = f"inv start --only {worker.service}"
    command = start if failure is None else f"{correct(failure[0])}, then `{start}`"
    return Fix(command=command, action="start", service=worker.service)


def call_history(facts: StackFacts, worker: WorkerFact) -> CallHistory:
    """Calls that failed in the agent's code, and whether a later one was answered.

    What is raised after the caller has left is no failed call. With ``facts.history`` the calls of
    earlier starts count too.
    """
    events = facts.events_of(worker.service) if facts.history else facts.since_start(worker.service)
    offered = {event.job_id: event.at for event in events if event.message.startswith(_OFFERED)}
    rooms = {event.job_id: event.room for event in events if event.room and event.job_id}
    failed: dict[str, FailedCall] = {}
    ready: set[str] = set()
    for event in events:
        if event.message.startswith("call ready"):
            ready.add(event.job_id)
        if event.job_id not in offered:
            continue
        room = event.room or rooms.get(event.job_id, "")
        error = call_error(event, worker.code_folder)
        known = failed.get(event.job_id)
        if error and not (known and place_of(known.error)) and not _left(facts, room, event.at):
            failed[event.job_id] = FailedCall(
                job_id=event.job_id, room=room, error=error, offered_at=offered[event.job_id], event=event
            )
    answered = [
        at for job, at in offered.items() if job not in failed and (job in ready or facts.now - at > SERVED_S)
    ]
    return CallHistory(
        failed=tuple(sorted(failed.values(), key=lambda one: one.event.at)),
        count=len(offered),
        answered_at=max(answered, default=0.0),
    )


def call_error(event: LogEvent, folder: str = "") -> str:
    """What this line says of a call that failed in the agent's code; empty when it says nothing of that."""
    if _RAISED in event.message:
        text = (event.message + "\n" + str(event.fields.get("exc_info") or "")).strip().splitlines()
        return exception_in([event], folder) or text[-1]
    if event.message.startswith(_GUARDED):
        if event.fields.get("fallback") or event.fields.get("phase") == "cleanup":
            return ""  # the call went on with the fallback, or was over
        if event.fields.get("phase") == "process":
            return f"its process ended with exit code {event.fields.get('exit_code')}"
        return exception_in([event], folder) or str(event.fields.get("error") or "no error given")
    if _EXITED in event.message:
        return f"its process ended with exit code {event.message.rsplit(' ', 1)[-1]}"
    if event.message.startswith(_NO_PROCESS):
        return "no process could be started"  # each new one loads the code as it is now
    return "it hung and was killed" if event.message.startswith(_KILLED) else ""


def _left(facts: StackFacts, room: str, at: float) -> bool:
    """Whether a person had left the room by then."""
    return any(
        "participant closing" in event.message
        and event.fields.get("kind") not in ("AGENT", "EGRESS")
        and event.at <= at
        for event in facts.events_by_room.get(room, ())
    )


def occupied(facts: StackFacts) -> Iterator[RoomFact]:
    """Rooms in which a person is now."""
    return (room for room in facts.rooms if persons(room.participants, facts.settings))
