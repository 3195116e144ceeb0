"""Follow calls through LiveKit's webhooks: when each began, when its agent was heard, how it ended.

A call is a person in a room, so two people in one room are two calls. Webhooks can be lost while a server or the monitor
is down: what is still open then is ended by the next check that sees no call at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from voiceops.model.history import CallRecord
from voiceops.model.monitor_events import WebhookEvent
from voiceops.model.protocol import CALL_ROOM_PREFIX

ABANDONED_S = 3.0
"""Whoever leaves sooner has not waited for an agent: a page that was reloaded says nothing about the stack."""
DROPPED_S = 5.0
"""An agent that was gone for so long when its caller left has left first."""
COUNTED_AFTER_S = 30.0
"""A call that has lasted for so long is in LiveKit's count of participants."""
_LEAVING = ("participant_left", "participant_connection_aborted")
_TELLING = ("participant_joined", "track_published", *_LEAVING)
_LEFT_BY_ITSELF = ("", "CLIENT_INITIATED", "ROOM_DELETED", "ROOM_CLOSED", "PARTICIPANT_REMOVED")
_MOST_ROOMS = 10_000
_MOST_LEFT = 1000


@dataclass(slots=True)
class _RoomCalls:
    calls: dict[str, CallRecord] = field(default_factory=dict)
    """Participant id to the call."""
    agents: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    """Participants, agents or not, that have published a track."""
    agent_lost_at: float | None = None


class CallTracker:
    """Turns webhooks into records of calls; the same record is given again with each step."""

    def __init__(self) -> None:
        self._rooms: dict[str, _RoomCalls] = {}
        self._adopted: dict[str, CallRecord] = {}
        """Open calls of an earlier monitor, whose rooms are not known."""
        self._left_early: dict[str, float] = {}
        """When participants left whose join is not known yet: webhooks may come out of order."""

    def adopt(self, calls: Iterable[CallRecord]) -> None:
        """Go on with the open calls that an earlier monitor has recorded."""
        self._adopted |= {call.id: call for call in calls}

    def on_webhook(self, event: WebhookEvent, caller: str | None = None) -> list[CallRecord]:
        """The calls that changed by it. A room of `inv call` has none: its caller records what it has seen."""
        if event.room.startswith(CALL_ROOM_PREFIX):
            return []
        key = event.room_sid or event.room
        if event.kind == "room_finished":
            room = self._rooms.pop(key, None)
            return [] if room is None else [_ended(room, call, event) for call in room.calls.values()]
        if event.kind not in _TELLING:
            return []
        if key not in self._rooms and len(self._rooms) >= _MOST_ROOMS:
            self._rooms.pop(next(iter(self._rooms)))
        room = self._rooms.setdefault(key, _RoomCalls())
        changed = self._in_room(room, event, caller)
        if event.kind in _LEAVING and not (room.calls or room.agents):
            del self._rooms[key]  # the webhook of its end may be lost
        return changed

    def _in_room(self, room: _RoomCalls, event: WebhookEvent, caller: str | None) -> list[CallRecord]:
        if event.kind == "participant_joined":
            return self._joined(room, event, caller)
        # Webhooks of tracks don't say what kind of participant it is.
        agent = event.is_agent or event.participant_sid in room.agents
        if event.kind == "track_published":
            room.published.add(event.participant_sid)
            return _heard(room, event.at) if agent else []
        return self._left(room, event, agent=agent)

    def on_nobody(self, at: float) -> list[CallRecord]:
        """End the calls of which no webhook came: LiveKit counts nobody in a call.

        Not those that have just begun: LiveKit counts a room's participants every 5 s.
        """
        ended = []
        for calls in (*(room.calls for room in self._rooms.values()), self._adopted):
            for call in [one for one in calls.values() if at - one.started_at > COUNTED_AFTER_S]:
                del calls[call.id]
                outcome = _outcome(call, at)
                ended.append(
                    msgspec.structs.replace(call, ended_at=at, outcome=outcome, detail="end not seen")
                )
        return ended

    def _joined(self, room: _RoomCalls, event: WebhookEvent, caller: str | None) -> list[CallRecord]:
        left_at = self._left_early.pop(event.participant_sid, None)
        if event.is_agent:
            if left_at is not None:
                return []
            room.agents.add(event.participant_sid)
            room.agent_lost_at = None
            return _heard(room, event.at) if event.participant_sid in room.published else []
        call = CallRecord(
            id=event.participant_sid,
            host=event.host,
            kind="caller",
            started_at=event.at,
            answer_s=0.0 if room.agents & room.published else None,
            caller=caller,
        )
        if left_at is not None:
            ended_at = max(left_at, event.at)
            return [msgspec.structs.replace(call, ended_at=ended_at, outcome=_outcome(call, ended_at))]
        room.calls[call.id] = call
        return [call]

    def _left(self, room: _RoomCalls, event: WebhookEvent, *, agent: bool) -> list[CallRecord]:
        if agent:
            if event.participant_sid not in room.agents:
                self._remember_left(event)
            room.agents.discard(event.participant_sid)
            if not room.agents and event.reason not in _LEFT_BY_ITSELF:
                room.agent_lost_at = event.at
            return []
        adopted = self._adopted.pop(event.participant_sid, None)
        call = room.calls.pop(event.participant_sid, adopted)
        if call is None:
            self._remember_left(event)
            return []
        return [_ended(room, call, event)]

    def _remember_left(self, event: WebhookEvent) -> None:
        if len(self._left_early) >= _MOST_LEFT:
            self._left_early.pop(next(iter(self._left_early)))
        self._left_early[event.participant_sid] = event.at


def _heard(room: _RoomCalls, at: float) -> list[CallRecord]:
    changed = [
        msgspec.structs.replace(call, answer_s=round(max(0.0, at - call.started_at), 3))
        for call in room.calls.values()
        if call.answer_s is None
    ]
    room.calls.update((call.id, call) for call in changed)
    return changed


def _ended(room: _RoomCalls, call: CallRecord, event: WebhookEvent) -> CallRecord:
    lost = room.agent_lost_at is not None and event.at - room.agent_lost_at >= DROPPED_S
    outcome = "dropped" if lost and call.answer_s is not None else _outcome(call, event.at)
    detail = event.reason if event.reason not in _LEFT_BY_ITSELF else ""
    ended_at = max(event.at, call.started_at)
    return msgspec.structs.replace(call, ended_at=ended_at, outcome=outcome, detail=detail)


def _outcome(call: CallRecord, ended_at: float) -> str:
    if call.answer_s is not None:
        return "answered"
    return "abandoned" if ended_at - call.started_at < ABANDONED_S else "unanswered"
