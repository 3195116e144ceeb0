"""Documents of cleanup-rooms and rooms.*."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import NotRequired

from voiceops.errors import ErrorEntry


class RoomVerdict(TypedDict):
    """What becomes of one room, and why."""

    room: str
    reason: str
    rule: str
    url: str
    """The LiveKit server that has the room."""


class RemovedParticipant(RoomVerdict):
    """A participant that was disconnected from a room that stays."""

    identity: str


class RoomFailure(TypedDict):
    """A room that could not be cleaned; the next run tries again."""

    room: str
    url: str
    error: ErrorEntry


class ServerFailure(TypedDict):
    """A LiveKit server that could not be asked."""

    url: str
    error: ErrorEntry


class ServersFailed(TypedDict):
    """Of a document about several servers."""

    servers_failed: NotRequired[list[ServerFailure]]
    """Where not all of several could be asked; that the only one could not is the document's ``error``."""


class CleanupDocument(ServersFailed):
    """``inv cleanup-rooms``."""

    check: bool
    """With --check nothing is changed: the document says what would be."""
    changed_count: int
    """Rooms deleted and participants removed."""
    deleted: list[RoomVerdict]
    kept: list[RoomVerdict]
    removed_participants: list[RemovedParticipant]
    failed: list[RoomFailure]


class RoomAgent(TypedDict):
    """An agent in a room."""

    identity: str
    name: str
    state: str
    """ready, joining, silent (says nothing yet), inert (serves nobody any more) or gone."""


class RoomEntry(TypedDict):
    """One room with who is in it."""

    room: str
    sid: str
    age_s: float
    created_at: str | None
    persons: list[str]
    agents: list[RoomAgent]
    others: list[str]
    url: str


class RoomsDocument(ServersFailed):
    """``inv rooms.list``."""

    rooms: list[RoomEntry]


class TrackEntry(TypedDict):
    """One published track."""

    sid: str
    kind: str
    name: str
    source: str
    muted: bool


class ParticipantEntry(TypedDict):
    """One participant, as LiveKit lists it."""

    identity: str
    sid: str
    name: str
    kind: str
    state: str
    """joining, joined, active or disconnected."""
    joined_at: str | None
    attributes: dict[str, str]
    tracks: list[TrackEntry]
    hidden: bool
    agent: RoomAgent | None


class JobEntry(TypedDict):
    """One job of a dispatch."""

    id: str
    status: str
    participant_identity: str
    worker_id: str
    detail: str
    started_at: str | None


class DispatchEntry(TypedDict):
    """An agent that the room has been promised."""

    id: str
    agent_name: str
    metadata: str
    created_at: str | None
    deleted_at: str | None
    jobs: list[JobEntry]


class RoomDocument(TypedDict):
    """``inv rooms.show``."""

    room: str
    sid: str
    age_s: float
    created_at: str | None
    empty_timeout_s: float
    departure_timeout_s: float
    metadata: str
    recording: bool
    url: str
    participants: list[ParticipantEntry]
    dispatches: list[DispatchEntry]


class RoomChangeDocument(TypedDict):
    """``inv rooms.delete``, ``inv rooms.ensure-clean``."""

    room: str
    changed: bool


class KickDocument(RoomChangeDocument):
    """``inv rooms.kick``."""

    identity: str


class DispatchDocument(RoomChangeDocument):
    """``inv rooms.dispatch``."""

    agent_name: str
    made_room: bool
    reason: str
    dispatch_id: str
    agent: str | None
    """Identity of the agent that serves the room; null while it is on its way."""
    ready_s: float | None
    """With --wait: seconds until it was ready."""


class WaitAgentDocument(TypedDict):
    """``inv rooms.wait-agent``."""

    room: str
    agent: str
    ready_s: float


class SelftestStep(TypedDict):
    """One promise of the room library, and whether the server lets it be kept."""

    name: str
    ok: bool
    took_s: float
    detail: str
    url: str


class SelftestDocument(ServersFailed):
    """``inv rooms.selftest``."""

    steps: list[SelftestStep]
