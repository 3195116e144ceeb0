"""One room as the rules look at it: who waits, who serves, who is dead or no longer listens."""

from __future__ import annotations

from dataclasses import dataclass

from voiceops.doctor.evidence import logged
from voiceops.doctor.facts import LogEvent, RoomFact, StackFacts, WorkerFact
from voiceops.model.findings import Fix
from voiceops.model.protocol import CALL_ROOM_PREFIX
from voiceops.model.quoting import quoted
from voiceops.model.rooms import Participant
from voiceops.model.states import ServiceState
from voiceops.rooms.presence import AgentPresence, persons, serving

_LAST_LINES = 5
_LAST_WORDS_S = 5.0
_LINE_CHARACTERS = 300
INERT_LINE = "closing agent session due to participant disconnect"


@dataclass(frozen=True, slots=True)
class RoomEvidence:
    """One room with what the rules derive from it once."""

    room: RoomFact
    facts: StackFacts

    @property
    def people(self) -> tuple[Participant, ...]:
        return persons(self.room.participants, self.facts.settings)

    @property
    def waited_s(self) -> float:
        """How long the caller who came first has been waiting."""
        joined = [person.joined_at for person in self.people]
        return self.facts.now - min(joined) if joined else 0.0

    def events(self, *texts: str) -> list[LogEvent]:
        return [
            event
            for event in self.facts.events_by_room.get(self.room.name, ())
            if event.at >= self.room.created_at - 1 and any(text in event.message for text in texts)
        ]

    def last_output(self, ended: LogEvent) -> tuple[str, ...]:
        """What the service printed right before this line: the last words of a process that ended.

        Plain lines carry neither room nor job, so only those since the job began count.
        """
        began = min((event.at for event in self.assigned), default=ended.at - _LAST_WORDS_S)
        printed: list[str] = []
        before = False
        for event in reversed(self.facts.events):
            if event is ended:
                before = True
            elif before and event.service == ended.service:
                if event.at < began - 1 or len(printed) == _LAST_LINES:
                    break
                if not event.level and not event.fields and event.message.strip():
                    printed.append(f"worker output: {event.message.strip()[:_LINE_CHARACTERS]}")
        return tuple(reversed(printed))

    @property
    def assigned(self) -> list[LogEvent]:
        return self.events("assigned job to worker")

    @property
    def server_log_seen(self) -> bool:
        return self.facts.server.service in self.facts.services_with_log

    @property
    def person_left(self) -> bool:
        """Whether the server's log tells of somebody other than agents and recorders who left the room."""
        return any(
            event.fields.get("kind") not in ("AGENT", "EGRESS")
            for event in self.events("participant closing")
        )

    @property
    def waits(self) -> bool:
        """Whether a person is in the room and no agent serves."""
        return bool(self.people) and not any(serves(agent, self) for agent in self.room.agents)

    @property
    def agent_name(self) -> str:
        """The agent that this room expects: its newest dispatch, else the only declared one."""
        names = [dispatch.agent_name for dispatch in self.room.dispatches or ()]
        declared = [worker.agent_name for worker in self.facts.workers]
        known = [name for name in names if name in declared]
        return known[-1] if known else declared[0] if declared else ""

    @property
    def worker(self) -> WorkerFact | None:
        return self.facts.worker_for(self.agent_name)

    @property
    def is_test_call(self) -> bool:
        """A caller of ours, who hangs up within seconds and takes the room along."""
        return self.room.name.startswith(CALL_ROOM_PREFIX)

    @property
    def code_folder(self) -> str:
        return self.worker.code_folder if self.worker else ""

    def dispatch(self, agent_name: str | None = None) -> Fix:
        name = self.agent_name if agent_name is None else agent_name
        flag = f" --agent {quoted(name)}" if name else ""
        return Fix(
            command=f"inv rooms.dispatch {quoted(self.room.name)}{flag}",
            action="dispatch",
            room=self.room.name,
            agent_name=name,
        )

    def delete(self) -> Fix:
        return Fix(
            command=f"inv rooms.delete {quoted(self.room.name)}",
            action="delete-room",
            room=self.room.name,
            room_sid=self.room.sid,
        )

    def remove(self, agent: Participant) -> Fix:
        return Fix(
            command=f"inv rooms.kick {quoted(self.room.name)} {quoted(agent.identity)}",
            action="remove",
            room=self.room.name,
            identity=agent.identity,
        )


def room_views(facts: StackFacts) -> list[RoomEvidence]:
    return [RoomEvidence(room, facts) for room in facts.rooms]


def waiting_rooms(facts: StackFacts) -> list[RoomFact]:
    """Rooms in which a person is and no agent serves."""
    return [view.room for view in room_views(facts) if view.waits]


def job_id(agent: Participant) -> str:
    """livekit-agents' default identity is ``agent-<job id>``."""
    return agent.identity.removeprefix("agent-") if agent.identity.startswith("agent-AJ_") else ""


def served_rooms(facts: StackFacts) -> list[RoomFact]:
    """Rooms in which a person talks to an agent that serves."""
    return [
        view.room
        for view in room_views(facts)
        if view.people and any(serves(agent, view) for agent in view.room.agents)
    ]


def serves(agent: Participant, view: RoomEvidence) -> bool:
    return serving(agent) is AgentPresence.READY and not dead(agent, view) and not inert(agent, view)


@dataclass(frozen=True, slots=True)
class DeadAgent:
    """A listed agent whose process is gone."""

    evidence: tuple[str, ...]
    no_worker: bool = False
    """Nor does a worker run for it: that is the cause, and this room one of its effects."""


def dead(agent: Participant, view: RoomEvidence) -> DeadAgent | None:
    """The evidence that the process behind a listed agent is gone; None: it may live.

    A killed agent stays ACTIVE in the room for 21 s.
    """
    for event in view.events("process exited with non-zero exit code", "killing process"):
        if event.job_id and event.job_id == job_id(agent):
            return DeadAgent((logged("worker", event), *view.last_output(event)))
    workers = [worker for worker in view.facts.workers if worker.agent_name == agent.agent_name]
    if not workers or any(view.room.name in worker.rooms for worker in workers):
        return None
    for worker in workers:
        if worker.state in (ServiceState.MISSING, ServiceState.STALE, ServiceState.FAILED):
            continue
        if not worker.answers or worker.draining:
            return None  # it can't say, or an old one still finishes its calls
        if worker.started_at is None or worker.started_at < agent.joined_at:
            return None  # it ran when the agent joined and may simply not list the room yet
    running = [worker for worker in workers if worker.answers]
    if running:
        late = f"worker of {running[0].service} started after the agent had joined, and has no such call"
        return DeadAgent((late,))
    return DeadAgent((f"no worker runs for {workers[0].service} any more",), no_worker=True)


def inert(agent: Participant, view: RoomEvidence) -> str:
    """Evidence that the agent's session has ended while the agent stays: a caller came back to it."""
    if serving(agent) is AgentPresence.INERT:
        return "the agent itself says that its session has ended"
    for event in reversed(view.events(INERT_LINE)):
        later = [person for person in view.people if person.joined_at >= event.at - 1]
        if agent.joined_at <= event.at and later and event.job_id in ("", job_id(agent)):
            return logged("worker", event, f"{INERT_LINE}, and a caller has joined since")
    return ""


def new_agents(facts: StackFacts, worker: WorkerFact) -> tuple[Fix, ...]:
    """One new agent for each caller who waits for this one.

    An agent whose process is gone stays listed for 21 s, and counts as one until it is removed.
    """
    waiting = waiting_rooms(facts)
    fixes: list[Fix] = []
    for view in room_views(facts):
        own = [agent for agent in view.room.agents if agent.agent_name == worker.agent_name]
        if view.room in waiting and not view.is_test_call:
            fixes.extend(view.remove(agent) for agent in own)
            fixes.append(view.dispatch(worker.agent_name))
    return tuple(fixes)
