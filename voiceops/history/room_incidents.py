"""Periods in which a caller had no agent, one for each room: made of what the monitor did about it.

The monitor itself remembers incidents of services. A room's begins with the first dispatch for somebody who waits in
it, and ends with the first check at which nobody waits any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from voiceops.model.history import IncidentRecord, record_id
from voiceops.model.monitor_events import CheckSummary, Repair

CAUSE = "caller-without-agent"


class RoomIncidents:
    """Turns dispatches and checks into records of incidents. Rooms stand in its memory only."""

    def __init__(self) -> None:
        self._open: dict[str, IncidentRecord] = {}
        """Room, or the id of an incident whose room is not known, to the incident."""

    def adopt(self, incidents: Iterable[IncidentRecord]) -> None:
        """Go on with the open ones that an earlier monitor has recorded; others are left alone."""
        self._open |= {one.id: one for one in incidents if one.cause == CAUSE and one.ended_at is None}

    def on_repair(self, event: Repair, sentence: str) -> tuple[IncidentRecord | None, str]:
        """The incident that begins with it, if one does, and the id of the one that it belongs to.

        ``sentence`` is the reason without the room's name.
        """
        if event.incident or not event.room or event.action != "dispatch":
            return None, event.incident
        known = self._open.get(event.room)
        if known is not None:
            return None, known.id
        begun = IncidentRecord(
            id=record_id("room", event.host, event.room, event.at),
            host=event.host,
            cause=CAUSE,
            sentence=sentence,
            fix="inv why",
            began_at=event.at,
        )
        self._open[event.room] = begun
        return begun, begun.id

    def on_check(self, event: CheckSummary) -> list[IncidentRecord]:
        """Those that end with it: none while anybody waits, or while nothing is known of rooms."""
        if event.rooms is None or event.rooms.waiting or not self._open:
            return []
        ended = [msgspec.structs.replace(one, ended_at=event.at) for one in self._open.values()]
        self._open.clear()
        return ended
