"""Sum up what a part of the history says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from voiceops.history.store import NO_ROOMS, MostRooms
from voiceops.model.history import CallRecord, DeployRecord, IncidentRecord, RepairRecord, StoredRecord

T = TypeVar("T", bound=StoredRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPart:
    """Records of one host, the oldest first."""

    calls: Sequence[CallRecord] = ()
    incidents: Sequence[IncidentRecord] = ()
    repairs: Sequence[RepairRecord] = ()
    deploys: Sequence[DeployRecord] = ()
    most: MostRooms = NO_ROOMS

    @property
    def answered_count(self) -> int:
        """Good calls."""
        return sum(call.answered for call in self.calls)

    @property
    def ended_count(self) -> int:
        """Calls that were answered or should have been."""
        return sum(call.outcome not in (None, "abandoned") for call in self.calls)

    @property
    def success(self) -> float | None:
        """Share of the ended calls that were answered, 0 to 1; None: none has ended."""
        return self.answered_count / self.ended_count if self.ended_count else None

    @property
    def answer_times_s(self) -> list[float]:
        """Seconds until the agent was heard, shortest first."""
        return sorted(call.answer_s for call in self.calls if call.answer_s is not None)

    @property
    def open_incidents(self) -> list[IncidentRecord]:
        """Incidents that go on."""
        return [one for one in self.incidents if one.ended_at is None]


def merged(parts: Sequence[HistoryPart]) -> HistoryPart:
    """Join what several places know of one host; a record that two of them have is in it once."""
    return HistoryPart(
        calls=joined_records([part.calls for part in parts]),
        incidents=joined_records([part.incidents for part in parts]),
        repairs=joined_records([part.repairs for part in parts]),
        deploys=joined_records([part.deploys for part in parts]),
        most=MostRooms(
            *(
                max((one for one in counts if one is not None), default=None)
                for counts in zip(*(part.most for part in parts), strict=True)
            )
        )
        if parts
        else NO_ROOMS,
    )


def joined_records(lists: Sequence[Sequence[T]]) -> list[T]:
    """Each record once, the oldest first."""
    by_id = {one.id: one for records in lists for one in records}
    return sorted(by_id.values(), key=lambda one: (float(getattr(one, one.time_column)), one.id))
