"""The rooms of one LiveKit as the monitor looks after them: the watcher and the cleanup, with a bounded effort.

A server may have a thousand rooms, and each look at one is a request. So rooms are looked at when something in the
list of rooms has changed, while somebody waits in them, and otherwise in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from voiceops.errors import NotFoundError, VoiceopsError
from voiceops.model.monitor_events import Repair, RoomCounts
from voiceops.model.rooms import Room
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.cleanup import cleanup_stale_rooms
from voiceops.rooms.dispatch import LOST_AFTER_S
from voiceops.rooms.observations import ObservationFile
from voiceops.rooms.watcher import AgentWatcher, LostWorkers, RoomOccupants, WatchReport

TURN_CHECKS = 10
"""A room in which nothing changes is looked at once in so many checks."""
CLEAN_EVERY_S = 60.0
FULL_CLEAN_EVERY = 10
"""One cleanup in so many looks into every room, and forgets what it knew of rooms that are gone."""
DEFERRED_LOOK_S = 0.5
"""Until the next look where callers wait for the agents of others to come first."""
WAITING_LOOK_S = 5.0
WAITING_LOOKS_FOR_S = 60.0
"""So long the next look at a room without its one agent comes after ``WAITING_LOOK_S``: a code that fails always is not
looked at so often for ever."""

DOUBTFUL_WAITING, DOUBTFUL_CALLS = 20, 5
"""A diagnosis costs two requests for each room."""


class RoomActionLog(Protocol):
    """Who hears of what was done in rooms."""

    def __call__(self, action: str, room: str, reason: str, error: str = "") -> None: ...


@dataclass(slots=True)
class _Looked:
    """The list's numbers when a room was looked at last, and how many checks ago that was."""

    numbers: tuple[int, int]
    checks_ago: int = 0


class RoomKeeper:
    """Looks after the rooms of one server."""

    def __init__(
        self,
        api: AgentRoomApi,
        *,
        settings: RoomsSettings,
        agent_names: Sequence[str],
        memory: Path,
        say: RoomActionLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._settings = settings
        self._memory = ObservationFile(memory)
        self._say = say
        self._clock = clock
        several = len(agent_names) > 1
        self._watchers = [
            AgentWatcher(api, agent_name=name, settings=settings, dispatched_only=several)
            for name in agent_names
        ]
        self._looked: dict[str, _Looked] = {}
        self._waits_since: dict[str, float] = {}
        """By sid, by the clock: rooms in which somebody is without exactly one agent."""
        self._cleaned_at = clock()
        self._clean_count = 0
        self._passing = asyncio.Lock()
        self._deferred = 0
        self.rooms: tuple[Room, ...] = ()

    @property
    def api(self) -> AgentRoomApi:
        """What asks for rooms and changes them."""
        return self._api

    def touch(self, sid: str) -> None:
        """Have this room looked at with the next pass, whatever the list says of it."""
        self._looked.pop(sid, None)

    async def list(self) -> tuple[Room, ...]:
        """All rooms; ``VoiceopsError`` when LiveKit does not say."""
        self.rooms = await self._api.list_rooms()
        return self.rooms

    async def look_after(self, *, everywhere: bool = False, lost: LostWorkers | None = None) -> int:
        """One pass over the rooms listed last: dispatch what is lost, remove what is too much.

        Returns how many rooms get their agent later, once others have theirs.
        """
        async with self._passing:
            await self._look_after(everywhere=everywhere, lost=lost)
            return self._deferred

    async def _look_after(self, *, everywhere: bool, lost: LostWorkers | None) -> None:
        due = {room.sid for room in self.rooms} if everywhere else self._due()
        self._deferred = 0
        for watcher in self._watchers:
            report = await watcher.check(self.rooms, only=due, lost=lost)
            self._report(report)
            self._deferred += report.deferred
        for room in self.rooms:
            if room.sid in due:
                self._looked[room.sid] = _Looked((room.num_participants, room.num_publishers))
        now = self._clock()
        waiting = [room.sid for room in self.rooms if self._waits(room.sid)]
        self._waits_since = {sid: self._waits_since.get(sid, now) for sid in waiting}

    def look_again_s(self) -> float | None:
        """Return in how many seconds a room should be looked at again; None: after the usual time."""
        if self._deferred:
            return DEFERRED_LOOK_S
        now = self._clock()
        soon = any(now - since < WAITING_LOOKS_FOR_S for since in self._waits_since.values())
        return WAITING_LOOK_S if soon else None

    def _due(self) -> set[str]:
        present = {room.sid for room in self.rooms}
        self._looked = {sid: one for sid, one in self._looked.items() if sid in present}
        in_turn = -(-len(self.rooms) // TURN_CHECKS)
        due: set[str] = set()
        quiet: list[tuple[int, str]] = []
        for room in self.rooms:
            looked = self._looked.get(room.sid)
            if (
                looked is None
                or looked.numbers != (room.num_participants, room.num_publishers)
                or self._waits(room.sid)
            ):
                due.add(room.sid)
            else:
                looked.checks_ago += 1
                quiet.append((-looked.checks_ago, room.sid))
        return due | {sid for _, sid in sorted(quiet)[:in_turn]}

    def _occupants(self, sid: str) -> RoomOccupants | None:
        return next((one.occupants[sid] for one in self._watchers if sid in one.occupants), None)

    def _waits(self, sid: str) -> bool:
        """Somebody is there and not exactly one agent."""
        found = self._occupants(sid)
        return found is not None and found.persons > 0 and found.agents != 1

    def _is_unready(self, sid: str) -> bool:
        found = self._occupants(sid)
        return found is not None and found.persons > 0 and not found.ready

    async def clean(self) -> None:
        """Delete what nobody uses, by the rules of ``cleanup-rooms``; at most once in ``CLEAN_EVERY_S``."""
        if self._clock() - self._cleaned_at < CLEAN_EVERY_S:
            return
        self._cleaned_at = self._clock()
        self._clean_count += 1
        # A room with a person and an agent in it needs a look only now and then, for joins that are stuck in it.
        everything = self._clean_count % FULL_CLEAN_EVERY == 0
        names = [
            room.name
            for room in self.rooms
            if everything or not (self._in_call(room.sid) or self._plainly_young(room))
        ]
        if not names:
            return
        report = await cleanup_stale_rooms(
            self._api,
            self._settings,
            names=() if everything else names,
            memory=self._memory,
            confirm_within_s=0.0,
        )
        for verdict in report.deleted:
            self._say("delete-room", verdict.snapshot.room.name, verdict.reason)
        for removal in report.removed:
            self._say("remove", removal.room, str(removal.rule))
        for room, error in report.failed:
            self._fail("delete-room", room, error)

    def _in_call(self, sid: str) -> bool:
        found = self._occupants(sid)
        return found is not None and found.persons > 0 and found.agents > 0

    def _plainly_young(self, room: Room) -> bool:
        """Nobody is in it, as the list and the last look say, and for that it is not old enough to go."""
        found = self._occupants(room.sid)
        if found is None or found.persons or found.agents or room.num_participants or room.num_publishers:
            return False
        return time.time() + self._api.clock_skew_s - room.created_at < self._settings.stale_after_s

    def _report(self, report: WatchReport) -> None:
        for room, reason in report.dispatched:
            self._say("dispatch", room, reason)
        for room, _identity in report.removed:
            self._say("remove", room, "an agent that is dead or one too many")
        for room, error in report.failed:
            self._fail("look", room, error)

    def _fail(self, action: str, room: str, error: VoiceopsError) -> None:
        if not isinstance(error, NotFoundError):  # it went meanwhile
            self._say(action, room, "", error=error.message)

    def _is_stuck(self, sid: str) -> bool:
        found = self._occupants(sid)
        waited_s = self._clock() - self._waits_since.get(sid, self._clock())
        return found is not None and found.persons > 0 and found.agents == 0 and waited_s >= LOST_AFTER_S

    def doubtful(self) -> tuple[Room, ...]:
        """Return the rooms of which a diagnosis may tell more: where somebody waits as of the last look, longest first,
        or has an agent that was not ready, those that were never looked at, and the newest calls, whose agents may be mute."""
        waiting = [room for room in self.rooms if self._waits(room.sid) or self._is_unready(room.sid)]
        waiting.sort(key=lambda room: self._waits_since.get(room.sid, self._clock()))
        waiting += [
            room for room in self.rooms if self._occupants(room.sid) is None and room.num_participants
        ]
        chosen = {room.sid for room in waiting}
        calls = [room for room in self.rooms if self._in_call(room.sid) and room.sid not in chosen]
        calls.sort(key=lambda room: room.created_at, reverse=True)
        return (*waiting[:DOUBTFUL_WAITING], *calls[:DOUBTFUL_CALLS])

    def counts(self) -> RoomCounts:
        """Return the rooms by what the last look at each found."""
        found = [self._occupants(room.sid) for room in self.rooms]
        known = [one for one in found if one is not None]
        return RoomCounts(
            total=len(found),
            in_call=sum(one.persons > 0 and one.agents > 0 for one in known),
            waiting=sum(one.persons > 0 and one.agents == 0 for one in known),
            agent_only=sum(one.persons == 0 and one.agents > 0 for one in known),
            empty=sum(one.persons == 0 and one.agents == 0 for one in known),
            stuck=sum(self._is_stuck(room.sid) for room in self.rooms),
            unknown=len(found) - len(known),
        )


def room_repair(host: str, action: str, room: str, reason: str, error: str = "") -> Repair:
    """Return the record of something that was done to a room."""
    return Repair(
        at=time.time(), host=host, action=action, room=room, reason=reason, ok=not error, error=error
    )
