"""Follow calls: when each began, when its agent was heard, how it ended.

LiveKit's webhooks tell it or, where they don't, the logs of agents that use agentkit.

A call is a person in a room, so two people in one room are two calls. Webhooks can be lost while a server or the monitor
is down: what is still open then is ended by the next check that sees no call at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from voiceops.model.history import CallRecord
from voiceops.model.monitor_events import WebhookEvent
from voiceops.model.protocol import (
    CALL_READY,
    CALL_ROOM_PREFIX,
    CALLER_JOINED,
    CALLER_LEFT,
    ROOM_CLOSED,
    SYNTHETIC_CALLER_PREFIX,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCallStep:
    """What an agent's log says of a call. Like a webhook's, its room can identify a caller."""

    at: float
    host: str
    kind: str
    """``caller joined``, ``call ready``, ``caller left`` or ``call ended`` (``model.protocol``)."""
    call_id: str
    """LiveKit's name of the agent's job."""
    room: str = ""
    caller_sid: str = ""
    present_s: float = 0.0
    """Of who joined: for how long they had been there when their agent saw them."""
    reason: str = ""
    """Of a ``call ended``."""


@dataclass(slots=True)
class _JobCalls:
    """The calls of one agent's job, as its log tells them."""

    callers: set[str] = field(default_factory=set)
    ready: bool = False


@dataclass(slots=True)
class _RoomCalls:
    calls: dict[str, CallRecord] = field(default_factory=dict)
    """Participant id to the call."""
    agents: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    """Participants, agents or not, that have published a track."""
    agent_lost_at: float | None = None


class CallTracker:
    """Turns webhooks and steps from the logs of agents into records of calls; the same record is given again with each step."""

    def __init__(self) -> None:
        self._rooms: dict[str, _RoomCalls] = {}
        self._adopted: dict[str, CallRecord] = {}
        """Open calls of an earlier monitor, and those that only a log tells of: their rooms are not known."""
        self._told: dict[str, None] = {}
        """Callers of whom webhooks tell."""
        self._jobs: dict[str, _JobCalls] = {}
        self._left_early: dict[str, float] = {}
        """When participants left whose join is not known yet: webhooks may come out of order."""

    def adopt(self, calls: Iterable[CallRecord]) -> None:
        """Go on with the open calls that an earlier monitor has recorded."""
        self._adopted |= {call.id: call for call in calls}

    def on_webhook(self, event: WebhookEvent, caller: str | None = None) -> list[CallRecord]:
        """The calls that changed by it. `inv call` has none: it records what its callers have seen."""
        synthetic = event.identity.startswith(SYNTHETIC_CALLER_PREFIX)
        if synthetic or event.room.startswith(CALL_ROOM_PREFIX):
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

    def on_step(self, step: LoggedCallStep) -> list[CallRecord]:
        """The calls that changed by what an agent's log says; those that webhooks tell of are left to them.

        Both name a call by the participant id of its caller, so it is one record whoever told of it first.
        """
        if step.room.startswith(CALL_ROOM_PREFIX):
            return []
        job = self._jobs.setdefault(step.call_id, _JobCalls())
        if len(self._jobs) > _MOST_ROOMS:
            self._jobs.pop(next(iter(self._jobs)))
        if step.kind == CALLER_JOINED:
            return self._joined_by_log(job, step)
        if step.kind == CALL_READY:
            job.ready = True
            return self._ready_by_log(job, step)
        if step.kind == CALLER_LEFT:
            job.callers.discard(step.caller_sid)
            return self._left_by_log([step.caller_sid], step)
        # An agent that ends its job otherwise leaves a caller who may get another one.
        callers = sorted(job.callers) if step.reason == ROOM_CLOSED else []
        self._jobs.pop(step.call_id, None)
        return self._left_by_log(callers, step)

    def _joined_by_log(self, job: _JobCalls, step: LoggedCallStep) -> list[CallRecord]:
        job.callers.add(step.caller_sid)
        if step.caller_sid in self._told or not step.caller_sid:
            return []
        known = self._adopted.get(step.caller_sid)
        if known is not None:
            return []  # another job's, which is over
        call = CallRecord(
            id=step.caller_sid,
            host=step.host,
            kind="caller",
            started_at=step.at - step.present_s,
            answer_s=0.0 if job.ready else None,
        )
        self._adopted[call.id] = call
        return [call]

    def _ready_by_log(self, job: _JobCalls, step: LoggedCallStep) -> list[CallRecord]:
        changed = [
            msgspec.structs.replace(call, answer_s=round(max(0.0, step.at - call.started_at), 3))
            for caller in sorted(job.callers)
            if (call := self._adopted.get(caller)) is not None and call.answer_s is None
        ]
        self._adopted |= {call.id: call for call in changed}
        return changed

    def _left_by_log(self, callers: Iterable[str], step: LoggedCallStep) -> list[CallRecord]:
        calls = [self._adopted.pop(caller) for caller in callers if caller in self._adopted]
        return [
            msgspec.structs.replace(
                call, ended_at=max(step.at, call.started_at), outcome=_outcome(call, step.at)
            )
            for call in calls
        ]

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
        if not event.is_agent:
            self._tell(event.participant_sid)
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

    def _tell(self, sid: str) -> None:
        """Leave the call of this caller to the webhooks."""
        if len(self._told) >= _MOST_ROOMS:
            self._told.pop(next(iter(self._told)))
        self._told[sid] = None
        self._adopted.pop(sid, None)

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
