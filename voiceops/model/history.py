"""What the history keeps, one record type for each of its tables.

Points in time are seconds since the epoch. Nothing here names a caller: a room or identity is stored as a keyed hash,
and only where the inventory asks for it.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, Union

import msgspec


class StoredRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of all tables have."""

    table: ClassVar[str] = ""
    time_column: ClassVar[str] = "at"
    """By this column records are selected and expire."""

    id: str
    """Writing a record again with the same one replaces it, so a write may be repeated."""
    host: str
    """The host's name in the inventory."""


class CallRecord(StoredRecord, frozen=True, kw_only=True):
    """One call. What is None is not known (yet)."""

    table: ClassVar[str] = "calls"
    time_column: ClassVar[str] = "started_at"

    kind: str
    """``caller``, ``test`` (`inv call`, the calls of a deploy) or ``probe`` (the monitor's)."""
    started_at: float
    ended_at: Union[float, None] = None
    answer_s: Union[float, None] = None
    """From the beginning until the agent could be heard."""
    outcome: Union[str, None] = None
    """``answered``, ``unanswered``, ``abandoned`` (left before an agent could come), ``dropped`` (its agent was lost)
    or ``failed``; None: it goes on."""
    detail: str = ""
    """Why it was no good call: the kind of a synthetic call's failure, or LiveKit's reason."""
    caller: Union[str, None] = None
    """Keyed hash of the identity, with ``history.callers: hash``."""

    @property
    def answered(self) -> bool:
        """Whether it was a good call: the agent was heard and stayed."""
        return self.outcome == "answered"


class IncidentRecord(StoredRecord, frozen=True, kw_only=True):
    """A period in which the stack was not as it should be."""

    table: ClassVar[str] = "incidents"
    time_column: ClassVar[str] = "began_at"

    cause: str
    subject: str = ""
    sentence: str = ""
    fix: str = ""
    began_at: float
    ended_at: Union[float, None] = None


class RepairRecord(StoredRecord, frozen=True, kw_only=True):
    """What the monitor did by itself."""

    table: ClassVar[str] = "repairs"

    at: float
    action: str
    subject: str = ""
    reason: str = ""
    incident: str = ""
    ok: bool = True
    error: str = ""
    took_s: float = 0.0
    attempt: int = 1


class DeployRecord(StoredRecord, frozen=True, kw_only=True):
    """What a deploy, setup or rollback did to one host."""

    table: ClassVar[str] = "deploys"

    at: float
    action: str
    """``deploy``, ``setup`` or ``rollback``."""
    ok: bool
    release: str = ""
    changed_count: int = 0
    by: str = ""
    detail: str = ""
    """What failed; of a rollback that a deploy began by itself, why."""
    took_s: float = 0.0


class CheckRecord(StoredRecord, frozen=True, kw_only=True):
    """Rooms, calls and workers at one check of the monitor."""

    table: ClassVar[str] = "checks"

    at: float
    ok: bool
    took_s: float = 0.0
    worker_count: Union[int, None] = None
    call_count: Union[int, None] = None
    room_count: Union[int, None] = None
    waiting_count: Union[int, None] = None
    stuck_count: Union[int, None] = None


HistoryRecord = Union[CallRecord, IncidentRecord, RepairRecord, DeployRecord, CheckRecord]
RECORD_TYPES: tuple[type[HistoryRecord], ...] = (
    CallRecord,
    IncidentRecord,
    RepairRecord,
    DeployRecord,
    CheckRecord,
)


def record_id(*parts: object) -> str:
    """Return an identifier that is the same whenever the same thing is recorded."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]
