"""Why one room is silent: pure rules over one room's participants, dispatches and log lines.

A room gets a verdict only on evidence. Joins take 0.3 s on an idle machine and up to 17 s
on a full one, so that "no agent yet" alone says nothing before ``PATIENCE_S``.
"""

from __future__ import annotations

from collections.abc import Callable

from voiceops.doctor import code_rules
from voiceops.doctor.evidence import logged
from voiceops.doctor.facts import RoomFact, StackFacts
from voiceops.doctor.room_evidence import RoomEvidence, dead, inert
from voiceops.model.findings import Finding, Fix
from voiceops.model.protocol import NOBODY_TIMEOUT_S
from voiceops.model.quoting import quoted
from voiceops.model.rooms import ParticipantState
from voiceops.model.states import ServiceState
from voiceops.rooms.presence import AgentPresence, serving
from voiceops.rooms.rules import EMPTY_TIMEOUT_S
from voiceops.util.words import counted

PATIENCE_S = 20.0
"""Under load a join took up to 17 s; a second dispatch before that risks two agents."""
ASSIGNMENT_S = 4.0
"""The server selects a worker in 0.2 s and gives it 3 s to answer."""
JOB_STATE_LAG_S = 7.0
"""ListDispatch shows a job up to 5 s late; without the server's log it is all there is."""
HUNG_S = 10.0
PROVIDER_RECENT_S = 30.0
_PROVIDERS = {
    "failed to synthesize speech": "tts",
    "failed to recognize speech": "stt",
    "failed to generate LLM completion": "llm",
}
"""livekit-agents' lines for a failed request (tts/tts.py, stt/stt.py, llm/llm.py), each with a field of
that name that says whose."""


def judge_room(room: RoomFact, facts: StackFacts) -> Finding | None:
    """The verdict on one room; None: nobody waits, or the agent serves, or it is too early to say."""
    view = RoomEvidence(room, facts)
    for rule in _ANY_ROOM:
        if (verdict := rule(view)) is not None:
            return verdict
    if not view.waits:
        return None
    return next((verdict for rule in _WAITING_ROOM if (verdict := rule(view)) is not None), None)


# --- the rules, in order --------------------------------------------------------------


def _orphan(view: RoomEvidence) -> Finding | None:
    room = view.room
    if room.participants or room.dispatches is not None or view.facts.now - room.created_at < 10:
        return None
    return Finding(
        rule="orphan-room",
        sentence="The room stands in the list but no node serves it: it is left over from a node that died.",
        evidence=(room.dispatch_error or "the server can't list its dispatches", "no participants"),
        fixes=(view.delete(),),
        rank=35,
    )


def _duplicate(view: RoomEvidence) -> Finding | None:
    if not view.people:
        return None  # nobody hears them: two that came back after a restart end by themselves
    live = [
        agent
        for agent in view.room.agents
        if agent.state is ParticipantState.ACTIVE and not dead(agent, view) and not inert(agent, view)
    ]
    for name in {agent.agent_name for agent in live}:
        same = sorted(
            (agent for agent in live if agent.agent_name == name), key=lambda agent: agent.joined_at
        )
        if len(same) < 2:
            continue
        keep = next((agent for agent in same if serving(agent) is AgentPresence.READY), same[0])
        extra = [agent for agent in same if agent is not keep]
        return Finding(
            rule="duplicate-agents",
            sentence=f"{len(same)} agents of the same name are in the room and talk over each other.",
            evidence=tuple(
                f"{agent.identity} joined {view.facts.now - agent.joined_at:.0f} s ago" for agent in same
            ),
            fixes=tuple(view.remove(agent) for agent in extra),
            rank=25,
        )
    return None


def _never_joined(view: RoomEvidence) -> Finding | None:
    """Agents that wait for a person who never comes, as LiveKit leaves them in a room that it made anew."""
    room, agents = view.room, view.room.agents
    if not agents or len(agents) != len(room.participants) or room.empty_timeout_s > EMPTY_TIMEOUT_S:
        return None
    if any(serving(agent) is not AgentPresence.READY for agent in agents) or view.person_left:
        return None
    waited_s = view.facts.now - max(agent.joined_at for agent in agents)
    if waited_s < NOBODY_TIMEOUT_S:
        return None
    count = "a ready agent" if len(agents) == 1 else f"{len(agents)} ready agents"
    return Finding(
        rule="never-joined",
        # Without the server's log it may be a call whose caller has left seconds ago.
        severity="warning" if view.server_log_seen else "info",
        sentence=f"The room holds {count} and nobody else: no person ever joined"
        + (", and none is expected." if view.server_log_seen else ", or the last one left just now."),
        evidence=(
            *(
                f"{agent.identity} joined {view.facts.now - agent.joined_at:.0f} s ago and is ready"
                for agent in agents
            ),
            "server log: no person has left the room"
            if view.server_log_seen
            else "the server's log is not at hand",
        ),
        fixes=(view.delete(),),
        rank=60,
    )


def _inert_agent(view: RoomEvidence) -> Finding | None:
    for agent in view.room.agents:
        evidence = inert(agent, view)
        if evidence:
            return Finding(
                rule="inert-agent",
                sentence="The agent's session ended when its caller left; the caller is back, but the agent no longer listens.",
                evidence=(
                    evidence,
                    f"{agent.identity} still says {agent.attributes.get('lk.agent.state', 'nothing')}",
                ),
                fixes=(view.remove(agent), view.dispatch()),
            )
    return None


def _provider_failed(view: RoomEvidence) -> Finding | None:
    """An agent that is there and mute: its STT, LLM or TTS gives nothing (a wrong key, no network)."""
    failed = [
        event
        for event in view.events(*_PROVIDERS)
        if view.people and view.facts.now - event.at < PROVIDER_RECENT_S
    ]
    if len(failed) < 2:  # a single retry is what the retries are for
        return None
    event = failed[-1]
    text, part = next((text, part) for text, part in _PROVIDERS.items() if text in event.message)
    reason = event.message.partition(text)[2].rpartition(", retrying")[0].strip(": ") or "no reason given"
    label = str(event.fields.get(part, "")).removeprefix("livekit.plugins.")
    return Finding(
        rule="provider-failed",
        sentence=f"The agent is there, but its {part.upper()}{f' ({label})' if label else ''} gives nothing.",
        evidence=(
            logged(
                "worker",
                event,
                f"{text}: {reason}, {counted(len(failed), 'time')} in {PROVIDER_RECENT_S:g} s",
            ),
        ),
        fixes=(
            Fix(
                command="check the provider's key in .env and the network, then `inv start`; without keys it "
                "speaks offline",
                action="",
            ),
        ),
    )


def _wrong_name(view: RoomEvidence) -> Finding | None:
    declared = sorted({worker.agent_name for worker in view.facts.workers})
    dispatches = view.room.dispatches or ()
    if view.room.agents or not declared or view.assigned:
        return None
    if any(dispatch.agent_name in declared for dispatch in dispatches):
        return None
    asked = sorted({dispatch.agent_name for dispatch in dispatches if dispatch.agent_name})
    if asked:
        return Finding(
            rule="wrong-agent-name",
            sentence=f"The room asks for agent {asked[0]!r}, and no worker has that name.",
            evidence=(
                f"dispatch for {', '.join(map(repr, asked))}",
                f"declared: {', '.join(map(repr, declared))}",
            ),
            fixes=(view.dispatch(),),
        )
    if "" in declared or (view.room.dispatches is None):
        return None
    return Finding(
        rule="no-dispatch",
        sentence=f"The agent is named {declared[0]!r}, so it comes only by explicit dispatch, and nobody dispatched it.",
        evidence=(
            "the room has only the unnamed dispatch of a plain join"
            if dispatches
            else "the room has no dispatch",
            f"declared: {', '.join(map(repr, declared))}",
        ),
        fixes=(view.dispatch(),),
    )


def _worker_at_fault(view: RoomEvidence) -> Finding | None:
    """Silence that a stack rule explains; said here only where that rule did not fire."""
    worker = view.worker
    if worker is None or view.room.agents:
        return None
    unwell = worker.state in (
        ServiceState.MISSING,
        ServiceState.STALE,
        ServiceState.FAILED,
        ServiceState.UNRESPONSIVE,
    )
    if not (unwell or worker.stopped or worker.registered is False):
        return None
    return Finding(
        rule="no-worker",
        sentence=f"No working worker for {worker.service}.",
        evidence=(f"service {worker.service} is {worker.state}",),
        fixes=(
            Fix(command=f"inv start --only {worker.service}", action="start", service=worker.service),
            view.dispatch(),
        ),
        from_below=True,
    )


def _lost(view: RoomEvidence) -> Finding | None:
    """No worker took the job when it was offered; LiveKit does not offer it again."""
    if view.room.agents or view.assigned or any(d.jobs for d in view.room.dispatches or ()):
        return None
    asked_at = max(
        (d.created_at for d in view.room.dispatches or () if d.created_at), default=view.room.created_at
    )
    if view.facts.now - asked_at < (ASSIGNMENT_S if view.server_log_seen else JOB_STATE_LAG_S):
        return None
    said = view.events(
        "no servers available",
        "failed to assign job",
        "not dispatching agent job",
        "no response from servers",
    )
    said = [event for event in said if event.fields.get("jobType", "JT_ROOM") == "JT_ROOM"]
    reason = " ".join(f"{event.message} {event.fields.get('error', '')}" for event in said)
    if "no servers available" in reason:
        return Finding(
            rule="worker-over-load",
            sentence="Every worker was full when this call came, so it was offered to nobody, and never will be again.",
            evidence=(logged("server", said[-1], reason.strip()),),
            fixes=(view.dispatch(),),
        )
    if "deadline" in reason:
        return Finding(
            rule="worker-frozen",
            sentence="The worker that was offered this call did not answer within 3 s, and the job was lost.",
            evidence=(logged("server", said[-1], reason.strip()),),
            fixes=(view.dispatch(),),
        )
    worker = view.worker
    if worker is not None and worker.full:
        return Finding(
            rule="worker-over-load",
            sentence="The worker was full when this call came, so it was offered to nobody, and never will be again.",
            evidence=(f"the worker of {worker.service} is full",),
            fixes=(view.dispatch(),),
            from_below=True,
        )
    registered_at = worker.registered_at if worker else None
    late = registered_at is not None and registered_at > asked_at
    return Finding(
        rule="dispatch-lost",
        sentence="The call came while no worker was registered; one is now, but LiveKit never offers a job twice.",
        evidence=(
            f"caller came {view.facts.now - asked_at:.0f} s ago, no job was ever assigned",
            f"the worker registered {view.facts.now - registered_at:.0f} s ago"
            if late and registered_at
            else "a worker is registered now",
        ),
        fixes=(view.dispatch(),),
    )


def _hung(view: RoomEvidence) -> Finding | None:
    """A job was assigned and nothing has come of it."""
    killed = view.events("killing process")
    assigned_at = max((event.at for event in view.assigned), default=None)
    since = view.facts.now - assigned_at if assigned_at is not None else view.waited_s
    busy = view.facts.host.cpu_share > 0.85
    if not killed and since < (PATIENCE_S if busy or view.room.agents else HUNG_S):
        return _slow_join(view, since) if since >= HUNG_S and not view.room.agents else None
    in_room = any(agent.state is ParticipantState.ACTIVE for agent in view.room.agents)
    unlike_others = _ready_elsewhere(view) if in_room else ""
    if in_room and not killed and not unlike_others:
        return _silent_agent(view, since)
    return Finding(
        rule="entrypoint-hung",
        sentence="The agent joined but never became ready: its code hangs before the session starts."
        if in_room
        else "A worker took the call, but its code hangs before it joins the room.",
        evidence=(
            f"job assigned {since:.0f} s ago"
            if assigned_at is not None
            else f"caller waits for {since:.0f} s",
            logged("worker", killed[-1]) if killed else unlike_others or "no error in the worker's log",
        ),
        fixes=(*(view.remove(agent) for agent in view.room.agents), view.dispatch()),
    )


def _slow_join(view: RoomEvidence, since: float) -> Finding:
    """On a busy machine it is too early to call it a fault, and a second dispatch could bring two agents."""
    return Finding(
        rule="slow-join",
        severity="warning",
        sentence="A worker took the call, but no agent has joined yet; the machine is busy, so that a join "
        f"may take {PATIENCE_S:.0f} s: ask again then.",
        evidence=(f"job assigned {since:.0f} s ago", f"CPU in use: {view.facts.host.cpu_share:.0%}"),
        fixes=(Fix(command=f"inv why --room {quoted(view.room.name)}", action=""),),
        rank=60,
    )


def _ready_elsewhere(view: RoomEvidence) -> str:
    """Evidence that this agent says when it is ready, here or in other calls; empty: it may never say so."""
    if view.events("call connected") and not view.events("call ready"):
        return "worker log: agentkit connected the call, and it never became ready"
    names = {agent.agent_name for agent in view.room.agents}
    for room in view.facts.rooms:
        for agent in room.agents:
            if room is not view.room and agent.agent_name in names and serving(agent) is AgentPresence.READY:
                return "the same agent is ready in another room"
    return ""


def _silent_agent(view: RoomEvidence, since: float) -> Finding:
    """An agent that only listens looks like one that hangs: a question, and nothing that a fix would do."""
    agent = view.room.agents[0]
    return Finding(
        rule="silent-agent",
        severity="info",
        sentence="The agent is in the room, but neither speaks nor says that it is ready: it only listens, or its "
        "code hangs.",
        evidence=(f"{agent.identity} has been there for {since:.0f} s without a track or a state",),
        fixes=(
            Fix(
                command="run the agent under agentkit's guard, or set the attribute voiceops.ready=1 once it "
                f"listens; where it hangs: {view.remove(agent).command} && {view.dispatch().command}",
                action="",
            ),
        ),
        rank=65,
    )


_Rule = Callable[[RoomEvidence], Finding | None]
_ANY_ROOM: tuple[_Rule, ...] = (_orphan, _duplicate, _provider_failed, _never_joined)
_WAITING_ROOM: tuple[_Rule, ...] = (
    _inert_agent,
    code_rules.raised,
    code_rules.guard_gave_up,
    code_rules.killed_in_call,
    code_rules.exited,
    code_rules.waits_for_other_name,
    _wrong_name,
    _worker_at_fault,
    _lost,
    _hung,
)
