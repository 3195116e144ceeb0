"""Rooms, participants and dispatches as LiveKit's API shows them, typed.

Times are seconds since the epoch as the server's clock has them, 0.0 where the API gives none.
Names, identities and attributes can identify a caller: log them under a ``pii`` key only.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class _ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    pass


class ParticipantKind(str, Enum):
    STANDARD = "standard"
    INGRESS = "ingress"
    EGRESS = "egress"
    SIP = "sip"
    AGENT = "agent"
    CONNECTOR = "connector"
    BRIDGE = "bridge"
    UNKNOWN = "unknown"
    """A kind that this version of voiceops does not know: treated like a person."""

    def __str__(self) -> str:
        return self.value


class ParticipantState(str, Enum):
    JOINING = "joining"
    """The websocket is up, the offer is not answered yet."""
    JOINED = "joined"
    """Signalling works, the media connection does not yet."""
    ACTIVE = "active"
    DISCONNECTED = "disconnected"

    def __str__(self) -> str:
        return self.value


class TrackKind(str, Enum):
    AUDIO = "audio"
    VIDEO = "video"
    DATA = "data"

    def __str__(self) -> str:
        return self.value


class JobStatus(str, Enum):
    """Written once, when a worker takes the job: RUNNING survives crash, kill and hang."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


class Track(_ServerRecord, frozen=True, kw_only=True):
    sid: str
    kind: TrackKind
    name: str = ""
    source: str = ""
    muted: bool = False


class Participant(_ServerRecord, frozen=True, kw_only=True):
    identity: str
    sid: str = ""
    name: str = ""
    kind: ParticipantKind = ParticipantKind.STANDARD
    state: ParticipantState = ParticipantState.ACTIVE
    joined_at: float = 0.0
    attributes: dict[str, str] = {}
    tracks: tuple[Track, ...] = ()
    hidden: bool = False

    @property
    def is_agent(self) -> bool:
        return self.kind is ParticipantKind.AGENT

    @property
    def agent_name(self) -> str:
        """The name under which the agent's worker registered; empty for the implicit dispatch."""
        return self.attributes.get("lk.agent.name") or self.attributes.get("lk.agent_name") or ""


class Room(_ServerRecord, frozen=True, kw_only=True):
    name: str
    sid: str = ""
    created_at: float = 0.0
    empty_timeout_s: int = 0
    departure_timeout_s: int = 0
    num_participants: int = 0
    """Up to 5 s old and without agents: never a proof that nobody is there."""
    num_publishers: int = 0
    metadata: str = ""
    recording: bool = False


class Job(_ServerRecord, frozen=True, kw_only=True):
    id: str
    status: JobStatus = JobStatus.PENDING
    participant_identity: str = ""
    worker_id: str = ""
    error: str = ""
    started_at: float = 0.0


class Dispatch(_ServerRecord, frozen=True, kw_only=True):
    id: str
    room: str
    agent_name: str = ""
    metadata: str = ""
    created_at: float = 0.0
    deleted_at: float = 0.0
    jobs: tuple[Job, ...] = ()
    """Lags up to 5 s behind the agent that is already in the room."""


class RoomInfo(_ServerRecord, frozen=True, kw_only=True):
    """One room with everybody in it."""

    room: Room
    participants: tuple[Participant, ...]
    dispatches: tuple[Dispatch, ...] = ()

    @property
    def agents(self) -> tuple[Participant, ...]:
        return tuple(one for one in self.participants if one.is_agent)
