"""Small builders of facts, so that a test shows only what its case is about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from voiceops.doctor.facts import (
    LogEvent,
    RoomFact,
    StackFacts,
    WorkerFact,
)
from voiceops.model.rooms import (
    Dispatch,
    Participant,
    ParticipantKind,
    Track,
    TrackKind,
)
from voiceops.model.server import ServerFact
from voiceops.model.states import ServiceState

NOW = 10_000.0


def server(**changes: Any) -> ServerFact:
    """A server that is well."""
    well: dict[str, Any] = {
        "url": "ws://127.0.0.1:7880",
        "reachable": True,
        "status": 200,
        "credentials": "ok",
        "declared": True,
    }
    return ServerFact(**well | changes)


def worker(**changes: Any) -> WorkerFact:
    """A registered, answering worker that started 1000 s ago."""
    well: dict[str, Any] = {
        "service": "agent",
        "agent_name": "",
        "state": ServiceState.READY,
        "pid": 42,
        "url": "ws://127.0.0.1:7880",
        "registered": True,
        "registered_at": NOW - 995,
        "started_at": NOW - 1000,
        "answers": True,
        "load": 0.1,
    }
    return WorkerFact(**well | changes)


def caller(waited_s: float = 60.0, identity: str = "caller") -> Participant:
    return Participant(identity=identity, joined_at=NOW - waited_s)


def agent(ago_s: float = 59.0, *, state: str = "listening", job: str = "AJ_1", **changes: Any) -> Participant:
    attributes = {"lk.agent.state": state} if state else {}
    values: dict[str, Any] = {
        "identity": f"agent-{job}",
        "kind": ParticipantKind.AGENT,
        "joined_at": NOW - ago_s,
        "attributes": attributes,
        "tracks": (Track(sid="TR_1", kind=TrackKind.AUDIO),) if state else (),
    }
    return Participant(**values | changes)


def room(*participants: Participant, name: str = "r", age_s: float = 60.0, **changes: Any) -> RoomFact:
    """A room with one implicit dispatch."""
    values: dict[str, Any] = {
        "name": name,
        "created_at": NOW - age_s,
        "participants": participants,
        "dispatches": (Dispatch(id="AD_1", room=name, agent_name="", created_at=NOW - age_s),),
    }
    return RoomFact(**values | changes)


def assigned(ago_s: float = 59.5, *, room_name: str = "r", job: str = "AJ_1") -> LogEvent:
    return server_line("assigned job to worker", ago_s, room=room_name, jobID=job, jobType="JT_ROOM")


def server_line(message: str, ago_s: float = 10.0, **fields: Any) -> LogEvent:
    return LogEvent(service="livekit", at=NOW - ago_s, level="info", message=message, fields=fields)


def worker_line(message: str, ago_s: float = 10.0, *, level: str = "ERROR", **fields: Any) -> LogEvent:
    return LogEvent(service="agent", at=NOW - ago_s, level=level, message=message, fields=fields)


def scene(*rooms: RoomFact, **changes: Any) -> StackFacts:
    """A healthy stack with these rooms, but for ``changes``."""
    values: dict[str, Any] = {"now": NOW, "server": server(), "workers": (worker(),), "rooms": rooms}
    return StackFacts(**values | changes)


def without_time(evidence: Iterable[str]) -> list[str]:
    """The evidence without the times of log lines."""
    return [re.sub(r" log at [-0-9]+T[:0-9]+Z:", " log:", line) for line in evidence]


def offered(ago_s: float, job: str = "AJ_1", room_name: str = "r") -> LogEvent:
    return worker_line("received job request", ago_s, level="INFO", job_id=job, room=room_name)


def raised(
    ago_s: float, job: str = "AJ_1", error: str = "RuntimeError: no database", line: int = 31
) -> LogEvent:
    trace = f'Traceback (most recent call last):\n  File "/project/agent.py", line {line}, in entry\n    x\n{error}'
    return worker_line(
        "unhandled exception while running the job task", ago_s, job_id=job, room="r", exc_info=trace
    )
