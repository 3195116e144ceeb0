"""Who in a room is a person, and which agent serves. Pure: decides on what the API shows."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase

from voiceops.model.protocol import AGENT_STATE_ATTRIBUTE, LISTENING_STATES, READY_ATTRIBUTE
from voiceops.model.rooms import Participant, ParticipantKind, ParticipantState, TrackKind
from voiceops.model.settings import RoomsSettings

JOIN_TIMEOUT_S = 90.0
"""The server drops a join that is not active after 60 s; what is older, it has forgotten."""

_NO_CALLER = frozenset({ParticipantKind.AGENT, ParticipantKind.EGRESS})
_ON_THE_WAY = frozenset({ParticipantState.JOINING, ParticipantState.JOINED})


class AgentPresence(str, Enum):
    """What can be known of an agent from outside."""

    READY = "ready"
    JOINING = "joining"
    SILENT = "silent"
    """Active, but it neither says that it listens nor publishes anything (yet)."""
    INERT = "inert"
    """It said itself that it serves nobody any more."""
    GONE = "gone"

    def __str__(self) -> str:
        return self.value


def serving(agent: Participant) -> AgentPresence:
    """Whether an agent answers the caller, as far as its participant shows.

    ``voiceops.ready`` is exact: ``1`` once the session listens, anything else once it has ended
    (agents under agentkit leave then instead). Without it ``lk.agent.state`` counts, which livekit-agents sets for an
    AgentSession and **keeps** when the caller it was linked to has left: such an agent can't be
    told from a good one in the API, so it is not called inert here.
    """
    if agent.state is ParticipantState.DISCONNECTED:
        return AgentPresence.GONE
    said = agent.attributes.get(READY_ATTRIBUTE)
    if said is not None and said != "1":
        return AgentPresence.INERT
    if agent.state in _ON_THE_WAY:
        return AgentPresence.JOINING
    if said == "1":
        return AgentPresence.READY
    state = agent.attributes.get(AGENT_STATE_ATTRIBUTE)
    if state is not None:
        return AgentPresence.READY if state in LISTENING_STATES else AgentPresence.SILENT
    published = any(track.kind is TrackKind.AUDIO for track in agent.tracks)
    return AgentPresence.READY if published else AgentPresence.SILENT


def is_idle(participant: Participant, settings: RoomsSettings) -> bool:
    """A monitor or bot by its identity: it holds a room open without being a caller."""
    return any(fnmatchcase(participant.identity, pattern) for pattern in settings.idle_identities)


def is_stuck_join(participant: Participant, now: float, *, after_s: float = JOIN_TIMEOUT_S) -> bool:
    """It began to join long ago and never became active."""
    return (
        participant.state in _ON_THE_WAY
        and participant.joined_at > 0
        and now - participant.joined_at > after_s
    )


def persons(participants: Iterable[Participant], settings: RoomsSettings) -> tuple[Participant, ...]:
    """Everybody who may be a caller, those who are still joining too. Unknown kinds count."""
    return tuple(
        one
        for one in participants
        if one.kind not in _NO_CALLER
        and one.state is not ParticipantState.DISCONNECTED
        and not is_idle(one, settings)
    )


def live_agents(participants: Iterable[Participant]) -> tuple[Participant, ...]:
    """Agents that serve or may still come to serve, the one that serves first, then the oldest."""
    alive = [
        one
        for one in participants
        if one.is_agent and serving(one) not in (AgentPresence.INERT, AgentPresence.GONE)
    ]
    return tuple(
        sorted(alive, key=lambda one: (serving(one) is not AgentPresence.READY, one.joined_at, one.identity))
    )
