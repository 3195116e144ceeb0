"""The agent-watcher: a caller whose agent never came, or died, gets another one.

LiveKit never repeats a job (agents issue 1472: "build an external agent-watcher"). ``plan_watch``
decides on one room and is pure; ``AgentWatcher.check`` makes one pass over the server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from functools import partial

import msgspec

from voiceops.errors import NotFoundError, VoiceopsError
from voiceops.model.rooms import Dispatch, Participant, ParticipantState, Room
from voiceops.model.settings import RoomsSettings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.dispatch import EXTRA_AFTER_S, LOST_AFTER_S, dispatch_agent, extra_agents
from voiceops.rooms.each import each
from voiceops.rooms.presence import AgentPresence, live_agents, persons, serving
from voiceops.rooms.reading import remove_participant
from voiceops.rooms.rules import protected_by

log = logging.getLogger(__name__)

DISPATCHES_AT_ONCE = 5
"""Agents on their way at one time. A worker of two cores that got 20 jobs at once answered 10 of them: a job that it
does not answer within 3 s is lost."""
ON_THE_WAY_S = 8.0
"""An agent that has not joined so long after its dispatch holds up no other."""
MOST_DOUBLINGS = 4


class RoomHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What earlier passes saw of a room, by the server's clock."""

    agent_seen_at: float | None = None
    ready_since: float | None = None
    doubled_since: float | None = None
    tries: int = 0
    """Dispatches since an agent has stayed. After each the next one waits twice as long: an agent that dies at once
    would otherwise be sent again and again."""


class WatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one room needs."""

    seen: RoomHistory
    dispatch: str = ""
    """Why an agent is dispatched; empty: none is."""
    extras: tuple[Participant, ...] = ()
    """Agents to disconnect; the one that serves is never among them."""
    inert: tuple[Participant, ...] = ()
    """Agents that have ended their session: they go once a new one is on its way."""
    withdraw: tuple[str, ...] = ()
    """Dispatches by which the extras came."""


class WatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """One pass: rooms that got an agent, agents that were too many, and what failed."""

    dispatched: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, VoiceopsError], ...] = ()
    deferred: int = 0
    """Rooms that need an agent, and get it once others have theirs."""


def plan_watch(
    participants: Sequence[Participant],
    dispatches: Sequence[Dispatch],
    seen: RoomHistory,
    agent_name: str,
    settings: RoomsSettings,
    now: float,
    *,
    sure_after_s: float = LOST_AFTER_S,
) -> WatchPlan:
    """Decide on one room. Sure means: nothing that could still bring the agent is younger than
    ``sure_after_s`` (joins of 8 to 17 s under load are not lost jobs)."""
    people = [one for one in persons(participants, settings) if one.state is ParticipantState.ACTIVE]
    if not people:
        return WatchPlan(seen=RoomHistory())
    alive = [one for one in live_agents(participants) if _is_ours(one, dispatches, agent_name)]
    if not alive:
        return _plan_missing(participants, people, dispatches, seen, agent_name, now, sure_after_s)
    ready = any(serving(one) is AgentPresence.READY for one in alive)
    ready_since = None if not ready else now if seen.ready_since is None else seen.ready_since
    stays = ready_since is not None and now - ready_since >= sure_after_s
    extras, surplus = extra_agents(alive, dispatches)
    doubled_since = None if not extras else now if seen.doubled_since is None else seen.doubled_since
    plan = WatchPlan(
        seen=RoomHistory(
            agent_seen_at=now,
            ready_since=ready_since,
            doubled_since=doubled_since,
            tries=0 if stays else seen.tries,
        )
    )
    if doubled_since is None or now - doubled_since < EXTRA_AFTER_S:
        return plan
    return msgspec.structs.replace(plan, extras=extras, withdraw=surplus)


def _plan_missing(
    participants: Sequence[Participant],
    people: Sequence[Participant],
    dispatches: Sequence[Dispatch],
    seen: RoomHistory,
    agent_name: str,
    now: float,
    sure_after_s: float,
) -> WatchPlan:
    gone = msgspec.structs.replace(seen, ready_since=None, doubled_since=None)
    inert = tuple(one for one in participants if one.is_agent and serving(one) is AgentPresence.INERT)
    if inert and not seen.tries:
        return WatchPlan(
            seen=msgspec.structs.replace(gone, tries=1),
            dispatch="its agent has ended the session",
            inert=inert,
        )
    hopeful = [min(one.joined_at for one in people), seen.agent_seen_at or 0.0]
    for one in dispatches:
        if one.agent_name == agent_name:
            hopeful += [one.created_at, *(job.started_at for job in one.jobs)]
    waited_s = now - max(hopeful)
    if waited_s < sure_after_s * 2 ** min(seen.tries, MOST_DOUBLINGS):
        return WatchPlan(seen=gone)
    return WatchPlan(
        seen=msgspec.structs.replace(gone, tries=seen.tries + 1),
        dispatch=f"a person has been without an agent for {waited_s:.0f} s",
        inert=inert,
    )


def _is_ours(agent: Participant, dispatches: Sequence[Dispatch], agent_name: str) -> bool:
    if agent.agent_name == agent_name:
        return True
    return any(
        job.participant_identity == agent.identity
        for one in dispatches
        if one.agent_name == agent_name
        for job in one.jobs
    )


class LostWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """No worker was there for a while, which is over: jobs from before are lost, and nobody has to wait to be sure."""

    until: float
    """By the server's clock: a dispatch from before brings nobody."""
    workers: frozenset[str] = frozenset()
    """LiveKit's names for those that are known to be dead: agents of their jobs are dead, too."""
    claimed: frozenset[str] = frozenset()
    """Rooms whose agent lives, as its worker says."""
    unassigned_until: float = 0.0
    """The same for a dispatch that still has no job, once LiveKit would have listed one."""


class RoomOccupants(msgspec.Struct, frozen=True, kw_only=True):
    """Who was in a room when it was looked at last."""

    persons: int
    agents: int
    ready: bool = True
    """One of the agents serves; it may since."""


class AgentWatcher:
    """Looks after all rooms of one server; the owner calls ``check`` every few seconds.

    Safe beside others of its kind and beside people who fix by hand: a dispatch is idempotent.
    Rooms of the ``keep`` patterns are left alone. With ``dispatched_only`` it looks after rooms alone that
    somebody has dispatched this agent to, for servers with agents of several names.
    """

    def __init__(
        self,
        api: AgentRoomApi,
        *,
        agent_name: str = "",
        settings: RoomsSettings | None = None,
        sure_after_s: float = LOST_AFTER_S,
        dispatched_only: bool = False,
    ) -> None:
        self._api = api
        self._agent_name = agent_name
        self._settings = settings or RoomsSettings()
        self._sure_after_s = sure_after_s
        self._dispatched_only = dispatched_only
        self._seen: dict[str, RoomHistory] = {}
        self._on_the_way: dict[str, float] = {}
        """By sid: when an agent was sent that has not come yet, by the server's clock."""
        self.occupants: dict[str, RoomOccupants] = {}
        """By the sid of each room that was looked at and still stands."""

    async def check(
        self,
        listed: Sequence[Room] | None = None,
        *,
        only: Collection[str] | None = None,
        lost: LostWorkers | None = None,
    ) -> WatchReport:
        """One pass; an error in one room stands in the report and stops no other.

        ``listed``: all rooms, where the caller has them already; ``only``: the sids of those to look at.
        """
        everything = await self._api.list_rooms() if listed is None else listed
        rooms = [room for room in everything if protected_by(room.name, self._settings) is None]
        self._seen = {room.sid: self._seen[room.sid] for room in rooms if room.sid in self._seen}
        self.occupants = {room.sid: self.occupants[room.sid] for room in rooms if room.sid in self.occupants}
        self._on_the_way = {sid: at for sid, at in self._on_the_way.items() if sid in self.occupants}
        chosen = [room for room in rooms if only is None or room.sid in only]
        chosen.sort(key=lambda room: room.created_at)  # who has waited longest goes first
        reports, failed = await each(
            chosen, partial(self._watch_room, lost=lost), concurrency=self._settings.concurrency
        )
        return WatchReport(
            dispatched=tuple(one for report in reports for one in report.dispatched),
            removed=tuple(one for report in reports for one in report.removed),
            deferred=sum(report.deferred for report in reports),
            failed=tuple((room.name, error) for room, error in failed),
        )

    async def _watch_room(self, room: Room, lost: LostWorkers | None = None) -> WatchReport:
        participants = await self._api.list_participants(room.name)
        people, agents = persons(participants, self._settings), live_agents(participants)
        ready = any(serving(one) is AgentPresence.READY for one in agents)
        self.occupants[room.sid] = RoomOccupants(persons=len(people), agents=len(agents), ready=ready)
        if not people:
            self._seen.pop(room.sid, None)
            return WatchReport()
        now = time.time() + self._api.clock_skew_s
        history, sure_after_s = self._seen.get(room.sid, RoomHistory()), self._sure_after_s
        dead: tuple[Participant, ...] = ()
        if lost is not None and room.name not in lost.claimed:
            dead = await self._dead_among(room.name, agents, lost) if agents else ()
            agents = tuple(one for one in agents if one not in dead)
            participants = tuple(one for one in participants if one not in dead)
            history, sure_after_s = RoomHistory(), max(0.0, now - lost.until)
        dispatches: tuple[Dispatch, ...] = ()
        if len(agents) != 1 or agents[0].agent_name != self._agent_name:
            dispatches = await self._api.list_dispatches(room.name)
        if lost is not None and room.name not in lost.claimed and not any(one.jobs for one in dispatches):
            sure_after_s = min(sure_after_s, max(0.0, now - lost.unassigned_until))
        if self._dispatched_only and all(one.agent_name != self._agent_name for one in dispatches):
            return WatchReport()
        plan = plan_watch(
            participants,
            dispatches,
            history,
            self._agent_name,
            self._settings,
            now,
            sure_after_s=sure_after_s,
        )
        if agents:
            self._on_the_way.pop(room.sid, None)
        if plan.dispatch and not self._send(room.sid, now):
            return WatchReport(deferred=1)
        report = await self._carry_out(room, plan, dead, sure_after_s)
        self._seen[room.sid] = plan.seen  # only now: a dispatch that failed is tried again
        return report

    def _send(self, sid: str, now: float) -> bool:
        """Return whether an agent may be sent now, and take its place among those on their way."""
        others = [at for other, at in self._on_the_way.items() if other != sid]
        if sum(now - at < ON_THE_WAY_S for at in others) >= DISPATCHES_AT_ONCE:
            return False
        self._on_the_way[sid] = now
        return True

    async def _dead_among(
        self, room: str, agents: Sequence[Participant], lost: LostWorkers
    ) -> tuple[Participant, ...]:
        """Return the agents of jobs that a dead worker had: they stay listed for 21 s."""
        jobs = [job for one in await self._api.list_dispatches(room) for job in one.jobs]
        dead = {job.participant_identity for job in jobs if job.worker_id in lost.workers}
        return tuple(one for one in agents if one.identity in dead)

    async def _carry_out(
        self, room: Room, plan: WatchPlan, dead: Sequence[Participant], sure_after_s: float
    ) -> WatchReport:
        dispatched: list[tuple[str, str]] = []
        removed: list[tuple[str, str]] = []
        for one in dead:  # first: a dispatch takes whoever is still listed for alive
            if await remove_participant(self._api, room.name, one.identity):
                removed.append((room.name, one.identity))
        if plan.dispatch:
            done = await dispatch_agent(self._api, room.name, self._agent_name, lost_after_s=sure_after_s)
            if done.created:
                dispatched.append((room.name, plan.dispatch))
                log.warning("agent dispatched again", extra={"pii": {"room": room.name}})
        for one in (*plan.inert, *plan.extras):
            if await remove_participant(self._api, room.name, one.identity):
                removed.append((room.name, one.identity))
        for dispatch_id in plan.withdraw:
            try:
                await self._api.delete_dispatch(room.name, dispatch_id)
            except NotFoundError:
                log.debug("dispatch was withdrawn already")
        return WatchReport(dispatched=tuple(dispatched), removed=tuple(removed))
