"""Delete rooms that nobody uses any more.

``rules.plan_cleanup`` decides and is pure; ``cleanup_stale_rooms`` reads, acts, and reads back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence

import msgspec

from voiceops.errors import UnreachableError, VoiceopsError
from voiceops.model.rooms import Dispatch, Room
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.dispatch import dispatch_agent
from voiceops.rooms.each import each
from voiceops.rooms.observations import ObservationFile
from voiceops.rooms.presence import persons
from voiceops.rooms.reading import remove_participant
from voiceops.rooms.removal import RoomsRemainError, delete_room
from voiceops.rooms.rules import (
    CleanupPlan,
    Observation,
    Removal,
    RoomDecision,
    RoomSnapshot,
    Rule,
    judge,
    observe,
    plan_cleanup,
    protected_by,
)

log = logging.getLogger(__name__)

CONFIRM_WITHIN_S = 25.0
"""What can be proved within this time is waited for; the rest is left to the next run."""
SETTLE_S = 3.0
"""So long a dispatch in flight takes at most to make a deleted room anew."""
_IN_FLIGHT_S = 15.0
_REVIVAL_ROUNDS = 3
_LATE_JOIN_S = 0.1


class CleanupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, or with ``check`` what would be done, and why."""

    deleted: tuple[RoomDecision, ...]
    kept: tuple[RoomDecision, ...]
    removed: tuple[Removal, ...]
    failed: tuple[tuple[str, VoiceopsError], ...] = ()
    """Room name and error of what could not be done; the next run tries again."""
    check: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.deleted or self.removed)


async def cleanup_stale_rooms(
    api: AgentRoomApi,
    settings: RoomsSettings | None = None,
    *,
    names: Sequence[str] = (),
    force: bool = False,
    check: bool = False,
    memory: ObservationFile | None = None,
    confirm_within_s: float = CONFIRM_WITHIN_S,
) -> CleanupReport:
    """Delete every room that nobody uses, and disconnect what is stuck in the others.

    Never by age alone, never a room with a person (unless ``force``, which deletes all rooms but
    those of the ``keep`` patterns). ``names`` limits it to these rooms. Each room is looked at
    again right before it is deleted, and the server is listed afterwards. Safe to run at any
    time, by several at once. ``memory`` lets a later run know what this one saw; without it only
    what can be proved within ``confirm_within_s`` goes. One room's failure stands in the report and stops no other;
    ``UnreachableError`` if the server does not answer at all.
    """
    settings = settings or RoomsSettings()
    before = memory.load(api.url) if memory is not None else {}
    run = _CleanupRun(api, settings, before, force=force, check=check)
    done = await run.once(await api.list_rooms(names), trust_list=not check)
    if run.surprises:
        # The list's counters lag and leave out agents: these rooms are looked at in full.
        done = run.joined(done, await run.once(run.surprises))
    unripe = [one for one in done.kept if one.ripe_in_s is not None and one.ripe_in_s <= confirm_within_s]
    if unripe:
        await asyncio.sleep(max(one.ripe_in_s or 0.0 for one in unripe) + 0.1)
        again = await api.list_rooms([one.snapshot.room.name for one in unripe])
        gone = {one.snapshot.room.sid for one in unripe} - {room.sid for room in again}
        done = run.joined(done, await run.once(again), gone)
    if not check:
        done = await run.read_back(done)
        if memory is not None:
            kept = {one.snapshot.room.sid for one in done.kept}
            others = before if names else {}
            memory.save(
                api.url,
                {sid: one for sid, one in {**others, **run.observed}.items() if sid in kept or sid in others},
            )
    log.info(
        "rooms cleaned up",
        extra={"deleted": len(done.deleted), "kept": len(done.kept), "failed": len(done.failed)},
    )
    return done


class _CleanupRun:
    """One cleanup: what all of its steps share."""

    def __init__(
        self,
        api: AgentRoomApi,
        settings: RoomsSettings,
        before: Mapping[str, Observation],
        *,
        force: bool,
        check: bool,
    ) -> None:
        self._api = api
        self._settings = settings
        self._force = force
        self._check = check
        self.observed: dict[str, Observation] = dict(before)
        self.surprises: list[Room] = []
        """Rooms that the list showed as empty, and the reading right before the delete did not."""

    async def once(self, rooms: Sequence[Room], *, trust_list: bool = False) -> CleanupReport:
        """Look, decide, act."""
        plan, failed = await self._plan(rooms, trust_list=trust_list)
        done = await self._carry_out(plan)
        return msgspec.structs.replace(done, failed=(*failed, *done.failed))

    @staticmethod
    def joined(first: CleanupReport, later: CleanupReport, gone: Collection[str] = ()) -> CleanupReport:
        """Both in one; of a room that was looked at again, the later verdict counts."""
        again = {one.snapshot.room.sid for one in (*later.kept, *later.deleted)} | set(gone)
        return msgspec.structs.replace(
            first,
            deleted=first.deleted + later.deleted,
            kept=tuple(one for one in first.kept if one.snapshot.room.sid not in again) + later.kept,
            removed=first.removed + later.removed,
            failed=first.failed + later.failed,
        )

    def _now(self) -> float:
        return time.time() + self._api.clock_skew_s

    async def _plan(
        self, rooms: Sequence[Room], *, trust_list: bool
    ) -> tuple[CleanupPlan, list[tuple[str, VoiceopsError]]]:
        """Look at the rooms and decide.

        With ``trust_list``, what the list itself shows as empty and old is not looked at here: it
        is, right before it is deleted, which saves a call for each of thousands.
        """
        plain = {room.sid for room in rooms if trust_list and self._plainly_empty(room)}
        blind = {room.sid for room in rooms if self._force or protected_by(room.name, self._settings)}
        need = [room for room in rooms if room.sid not in plain and room.sid not in blind]
        snapshots, failed = await each(need, self._take_snapshot, concurrency=self._settings.concurrency)
        now = self._now()
        seen = observe(snapshots, self.observed, self._settings, now)
        for snapshot in snapshots:
            self.observed.pop(snapshot.room.sid, None)
        self.observed |= seen
        snapshots += [RoomSnapshot(room=room) for room in rooms if room.sid in plain or room.sid in blind]
        plan = plan_cleanup(snapshots, self.observed, self._settings, now, force=self._force)
        return plan, [(room.name, error) for room, error in failed]

    def _plainly_empty(self, room: Room) -> bool:
        counted = room.num_participants or room.num_publishers
        return not counted and self._now() - room.created_at >= self._settings.stale_after_s

    async def _take_snapshot(self, room: Room) -> RoomSnapshot:
        participants = await self._api.list_participants(room.name)
        dispatches: tuple[Dispatch, ...] = ()
        served = True
        if participants:
            try:
                dispatches = await self._api.list_dispatches(room.name)
            except UnreachableError as error:
                if error.data.get("status") != 503:
                    raise
                # No node answers for it, or its node ended it just now.
                served = not await self._api.list_rooms([room.name])
        return RoomSnapshot(room=room, participants=participants, dispatches=dispatches, served=served)

    async def _carry_out(self, plan: CleanupPlan) -> CleanupReport:
        """Delete and remove what the plan says, each read again right before."""
        if self._check:
            return CleanupReport(deleted=plan.delete, kept=plan.keep, removed=plan.removals, check=True)
        width = self._settings.concurrency
        judged: list[RoomDecision] = []
        stay: list[tuple[RoomDecision, VoiceopsError]] = []
        for start in range(0, len(plan.delete), width):
            done, failed_here = await self._delete_some(plan.delete[start : start + width])
            judged += done
            stay += failed_here
        removed, remain = await each(plan.removals, self._remove, concurrency=width)
        failed = [(verdict.snapshot.room.name, error) for verdict, error in stay]
        failed += [(removal.room, error) for removal, error in remain]
        return CleanupReport(
            deleted=tuple(one for one in judged if one.delete),
            kept=plan.keep + tuple(one for one in judged if not one.delete),
            removed=tuple(one for one in removed if one is not None),
            failed=tuple(failed),
        )

    async def _delete_some(
        self, verdicts: Sequence[RoomDecision]
    ) -> tuple[list[RoomDecision], list[tuple[RoomDecision, VoiceopsError]]]:
        """Delete as many rooms as go at once, each if it still is the room that was judged.

        DeleteRoom knows names only: a caller may have a new room under the name of the old one.
        """
        try:
            listed = await self._api.list_rooms([verdict.snapshot.room.name for verdict in verdicts])
        except VoiceopsError as error:
            return [], [(verdict, error) for verdict in verdicts]
        fresh = {room.name: room for room in listed}
        there = [
            msgspec.structs.replace(
                verdict,
                snapshot=msgspec.structs.replace(verdict.snapshot, room=fresh[verdict.snapshot.room.name]),
            )
            for verdict in verdicts
            if verdict.snapshot.room.name in fresh
        ]
        return await each(there, self._delete, concurrency=self._settings.concurrency)

    async def _delete(self, verdict: RoomDecision) -> RoomDecision:
        """Read one room again and delete it; ``verdict`` carries the room as it is listed now."""
        snapshot = verdict.snapshot
        if not self._force:
            snapshot = await self._read_again(verdict)
            seen = self.observed.get(snapshot.room.sid, Observation())
            second = judge(snapshot, seen, self._settings, self._now())
            if not second.delete:
                if not verdict.snapshot.participants:
                    self.surprises.append(snapshot.room)
                return second
            verdict = second
        await delete_room(self._api, snapshot.room.name)
        return verdict

    async def _read_again(self, verdict: RoomDecision) -> RoomSnapshot:
        if verdict.rule is not Rule.ORPHAN:
            return await self._take_snapshot(verdict.snapshot.room)
        # That no node answers for it would take 3 s to hear again.
        participants = await self._api.list_participants(verdict.snapshot.room.name)
        return msgspec.structs.replace(verdict.snapshot, participants=participants)

    async def _remove(self, removal: Removal) -> Removal | None:
        """Disconnect one participant; a caller with an inert agent gets a new one first."""
        if removal.rule is Rule.INERT_AGENT:
            await dispatch_agent(self._api, removal.room, removal.participant.agent_name)
        there = {one.sid for one in await self._api.list_participants(removal.room)}
        if removal.participant.sid not in there:
            return None
        await remove_participant(self._api, removal.room, removal.participant.identity)
        return removal

    async def read_back(self, done: CleanupReport) -> CleanupReport:
        """List the server: what is still there is a failure, what a dispatch in flight has
        made anew is deleted again."""
        if not done.deleted:
            return done
        gone = {one.snapshot.room.name: one.snapshot.room.sid for one in done.deleted}
        if any(self._may_revive(one) for one in done.deleted):
            for _ in range(_REVIVAL_ROUNDS):
                await asyncio.sleep(SETTLE_S)
                late_rooms = [room for room in await self._back(gone) if await self._is_left_over(room, gone)]
                if not late_rooms:
                    break
                await each(
                    late_rooms,
                    lambda room: delete_room(self._api, room.name),
                    concurrency=self._settings.concurrency,
                )
        left = [room.name for room in await self._api.list_rooms() if gone.get(room.name) == room.sid]
        return msgspec.structs.replace(
            done,
            deleted=tuple(one for one in done.deleted if one.snapshot.room.name not in left),
            failed=done.failed + tuple((name, RoomsRemainError((name,))) for name in left),
        )

    def _may_revive(self, verdict: RoomDecision) -> bool:
        """Whether an agent may have been on its way when the room went.

        The implicit dispatch of a room goes out when it is made, and is answered or lost within
        the server's and the worker's timeouts, together 11 s.
        """
        young = self._now() - verdict.snapshot.room.created_at < _IN_FLIGHT_S + SETTLE_S
        return young or any(one.is_agent for one in verdict.snapshot.participants)

    async def _back(self, gone: dict[str, str]) -> list[Room]:
        return [room for room in await self._api.list_rooms() if room.name in gone]

    async def _is_left_over(self, room: Room, gone: dict[str, str]) -> bool:
        """Whether a room that is back was made by an agent that came for the deleted one, with nobody in it.

        An agent that joins while its room closes has the server list the closed room again. Who makes a room for a
        caller dispatches to it afterwards, which takes 0.2 s at least: an agent that was there at once has made the
        room by joining it.
        """
        participants = await self._api.list_participants(room.name)
        if persons(participants, self._settings):
            return False
        if room.sid == gone[room.name]:
            return True
        agents = [one.joined_at for one in participants if one.is_agent]
        return bool(agents) and min(agents) - room.created_at < _LATE_JOIN_S
