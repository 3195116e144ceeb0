"""Document of history."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import NotRequired

from voiceops.model.documents.common import HostFailure


class HistoryCall(TypedDict):
    """One call."""

    id: str
    started_at: str
    ended_at: str | None
    kind: str
    """caller, test (`inv call`) or probe (the monitor's)."""
    outcome: str | None
    """answered, unanswered, abandoned (left within 3 s), dropped or failed; null: it goes on."""
    answer_s: float | None
    """From the beginning until the agent could be heard."""
    detail: str
    caller: str | None
    """Keyed hash of the identity, with ``history.callers: hash``."""


class HistoryIncident(TypedDict):
    """A period in which the stack was not as it should be."""

    id: str
    began_at: str
    ended_at: str | None
    """Null: it goes on."""
    cause: str
    subject: str
    """The service; empty: the whole stack."""
    sentence: str
    fix: str


class HistoryRepair(TypedDict):
    """What the monitor did by itself."""

    id: str
    at: str
    action: str
    subject: str
    reason: str
    incident: str
    """Identifier of the incident that it belongs to."""
    ok: bool
    detail: str
    """Why it failed."""
    took_s: float
    attempt_count: int
    """Which one it was since the incident began."""


class HistoryDeploy(TypedDict):
    """What a deploy, setup or rollback did to the host."""

    id: str
    at: str
    action: str
    ok: bool
    release: str
    changed_count: int
    by: str
    detail: str
    took_s: float


class HistoryHost(TypedDict):
    """The history of one host, each list with the oldest first; lists that were not asked for are missing."""

    ok: bool
    call_count: int
    answered_count: int
    success: float | None
    """Share of ended calls that were answered, 0 to 1, abandoned ones left out; null: none has ended."""
    answer_p50_s: float | None
    answer_p95_s: float | None
    open_incident_count: int
    most_room_count: int | None
    """The most rooms that a check of the monitor counted; null: it counted none."""
    most_waiting_count: int | None
    """Rooms with a person and no live agent."""
    most_stuck_count: int | None
    """Rooms in which a person waited for longer than a join takes."""
    calls: NotRequired[list[HistoryCall]]
    incidents: NotRequired[list[HistoryIncident]]
    repairs: NotRequired[list[HistoryRepair]]
    deploys: NotRequired[list[HistoryDeploy]]


class HistoryDocument(TypedDict):
    """``inv history``."""

    since: str
    hosts: dict[str, HistoryHost | HostFailure]
