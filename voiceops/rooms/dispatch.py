"""Bring exactly one agent into a room.

``plan_dispatch`` decides and is pure; ``dispatch_agent`` acts. LiveKit's CreateDispatch adds an
agent on every call (agents issue 944) and never repeats a job that nobody took or whose worker
died (agents issue 1472), so both are done here: look first, and ask again where it is lost.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

import msgspec

from voiceops.adapters.runtime_folder import make_private, runtime_folder
from voiceops.deadline import Deadline
from voiceops.errors import NotFoundError, RateLimitedError, StorageError, VoiceopsError
from voiceops.model.rooms import Dispatch, JobStatus, Participant
from voiceops.ports import AgentRoomApi
from voiceops.rooms.presence import AgentPresence, live_agents, serving
from voiceops.rooms.reading import remove_participant

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (0.2, 0.4, 0.8)
LOST_AFTER_S = 20.0
"""Joins took up to 17 s under load: until then a dispatch without an agent is still on its way."""
EXTRA_AFTER_S = 6.0
"""ListDispatch tells up to 5 s late which dispatch an agent came by."""


class Decision(str, Enum):
    HAS_AGENT = "has-agent"
    ON_THE_WAY = "on-the-way"
    DISPATCH = "dispatch"

    def __str__(self) -> str:
        return self.value


class DispatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``dispatch_agent`` will do, and why."""

    decision: Decision
    reason: str
    agent: Participant | None = None
    pending: Dispatch | None = None
    lost: tuple[Dispatch, ...] = ()
    """Dispatches that brought nobody: withdrawn first, or a late agent would be a second one."""
    extras: tuple[Participant, ...] = ()
    """Agents beside the one that serves, as a restart of the server leaves them."""
    surplus: tuple[str, ...] = ()
    """The dispatches by which the extras came."""


class DispatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: exactly one agent is in the room or on its way there."""

    room: str
    agent_name: str
    created: bool
    """Whether this call asked for the agent; False: it was there already, or asked for."""
    made_room: bool
    reason: str
    dispatch_id: str = ""
    agent: Participant | None = None


def plan_dispatch(
    agent_name: str,
    participants: Sequence[Participant],
    dispatches: Sequence[Dispatch],
    now: float,
    *,
    lost_after_s: float = LOST_AFTER_S,
) -> DispatchPlan:
    """Whether the room needs one more dispatch of ``agent_name``. ``now`` is the server's clock."""
    of_name = sorted(
        (one for one in dispatches if one.agent_name == agent_name and not one.deleted_at),
        key=lambda one: (one.created_at, one.id),
    )
    identities = {job.participant_identity for one in of_name for job in one.jobs if job.participant_identity}
    alive = [
        one for one in live_agents(participants) if one.identity in identities or one.agent_name == agent_name
    ]
    if alive:
        extras, surplus_ids = extra_agents(alive, dispatches)
        if any(now - one.joined_at < EXTRA_AFTER_S for one in alive):
            extras, surplus_ids = (), ()  # not known yet who came by which dispatch
        return DispatchPlan(
            decision=Decision.HAS_AGENT,
            reason="the agent is in the room",
            agent=alive[0],
            extras=extras,
            surplus=surplus_ids,
        )
    pending = [one for one in of_name if _on_the_way(one, participants, now, lost_after_s)]
    if pending:
        return DispatchPlan(
            decision=Decision.ON_THE_WAY,
            reason=f"a dispatch {now - pending[0].created_at:.1f} s old is still on its way",
            pending=pending[0],
        )
    reason = "no dispatch of this agent in the room"
    if of_name:
        reason = f"a dispatch {now - of_name[-1].created_at:.0f} s old brought no agent that stayed"
    return DispatchPlan(decision=Decision.DISPATCH, reason=reason, lost=tuple(of_name))


def extra_agents(
    alive: Sequence[Participant], dispatches: Sequence[Dispatch]
) -> tuple[tuple[Participant, ...], tuple[str, ...]]:
    """The agents that are too many, and the dispatches that brought them. ``alive`` has the one
    that serves first; nobody is extra while none of them is ready.

    One dispatch may bring several on purpose (workers per participant). An agent of no known
    dispatch has lived through a restart of the server, and counts alone.
    """
    if not alive or serving(alive[0]) is not AgentPresence.READY:
        return (), ()
    came_by = {job.participant_identity: one.id for one in dispatches for job in one.jobs}
    serves = came_by.get(alive[0].identity)
    extras = tuple(
        one for one in alive[1:] if came_by.get(one.identity) is None or came_by.get(one.identity) != serves
    )
    brought = dict.fromkeys(came_by[one.identity] for one in extras if one.identity in came_by)
    return extras, tuple(brought)


def _on_the_way(one: Dispatch, participants: Sequence[Participant], now: float, lost_after_s: float) -> bool:
    if any(job.status in (JobStatus.FAILED, JobStatus.CANCELLED) for job in one.jobs):
        return False
    seen = {participant.identity for participant in participants}
    if any(job.participant_identity in seen for job in one.jobs):
        return False  # its agent is there, and plan_dispatch found it inert or gone
    began = max([one.created_at, *(job.started_at for job in one.jobs)])
    return now - began < lost_after_s


def surplus(own: Dispatch, dispatches: Sequence[Dispatch], now: float, lost_after_s: float) -> bool:
    """Whether another host asked for the same agent a moment earlier: the oldest one stays.

    Every host decides by the same order, so exactly one dispatch is left.
    """
    rivals = [
        one
        for one in dispatches
        if one.agent_name == own.agent_name and not one.deleted_at and now - one.created_at < lost_after_s
    ]
    return any((one.created_at, one.id) < (own.created_at, own.id) for one in rivals)


async def dispatch_agent(
    api: AgentRoomApi,
    room: str,
    agent_name: str = "",
    *,
    metadata: str = "",
    lost_after_s: float = LOST_AFTER_S,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    lock_timeout_s: float = 30.0,
) -> DispatchResult:
    """See that one agent of ``agent_name`` is in the room or on its way. Safe to call any number
    of times, by any number of processes at once: never two agents. Where a restart of the server
    left two, the one that serves stays.

    On one machine a lock orders the callers; of two hosts that asked within the same
    milliseconds, the later one withdraws. Makes a missing room. An agent counts as lost after
    ``lost_after_s`` without joining; lower it only if the dispatch is known to be lost.

    Retries what may succeed on another try (network, 5xx) after ``retry_delays_s``, and looks
    again each time, since the failed try may have had its effect. Does not wait for the agent:
    ``wait_for_agent`` does.
    """
    limit = Deadline(lock_timeout_s, "waiting for the room's dispatch lock")
    async with room_lock(api.url, room, limit=limit):
        made_room = False
        for delay_s in (*retry_delays_s, None):
            try:
                made_room = await _make_room(api, room, agent_name, metadata) or made_room
                outcome = await _check_and_dispatch(api, room, agent_name, metadata, lost_after_s)
                if made_room:
                    reason = "the room was made with this agent"
                    return msgspec.structs.replace(outcome, made_room=True, created=True, reason=reason)
                return outcome
            except VoiceopsError as error:
                # What was refused for its rate has been tried again already, as late as the server asked.
                if not error.retryable or delay_s is None or isinstance(error, RateLimitedError):
                    raise
                log.info("dispatch is tried again", extra={"error": type(error).__name__, "delay_s": delay_s})
                await asyncio.sleep(delay_s)
    raise AssertionError("the last try returns or raises")


async def _make_room(api: AgentRoomApi, room: str, agent_name: str, metadata: str) -> bool:
    """Make a missing room so that it promises this agent only.

    CreateDispatch makes one too, but gives it the implicit unnamed dispatch as well: two agents
    where an unnamed worker is registered. A room that exists keeps its dispatches.
    """
    if await api.list_rooms([room]):
        return False
    await api.create_room(room, agents=[agent_name], agent_metadata=metadata)
    return True


async def _check_and_dispatch(
    api: AgentRoomApi, room: str, agent_name: str, metadata: str, lost_after_s: float
) -> DispatchResult:
    participants = await api.list_participants(room)
    dispatches = await api.list_dispatches(room)
    now = time.time() + api.clock_skew_s
    plan = plan_dispatch(agent_name, participants, dispatches, now, lost_after_s=lost_after_s)
    outcome = DispatchResult(
        room=room, agent_name=agent_name, created=False, made_room=False, reason=plan.reason, agent=plan.agent
    )
    if plan.decision is Decision.HAS_AGENT:
        for extra in plan.extras:
            await remove_participant(api, room, extra.identity)
        for dispatch_id in plan.surplus:
            await _withdraw(api, room, dispatch_id)
        return outcome
    if plan.pending is not None:
        return msgspec.structs.replace(outcome, dispatch_id=plan.pending.id)
    for lost in plan.lost:
        await _withdraw(api, room, lost.id)
    own = await api.create_dispatch(room, agent_name, metadata)
    if surplus(own, await api.list_dispatches(room), now, lost_after_s):
        await _withdraw(api, room, own.id)
        return msgspec.structs.replace(outcome, reason="another host asked a moment earlier")
    log.info("agent dispatched", extra={"agent_name": agent_name, "pii": {"room": room}})
    return msgspec.structs.replace(outcome, created=True, dispatch_id=own.id)


async def _withdraw(api: AgentRoomApi, room: str, dispatch_id: str) -> None:
    try:
        await api.delete_dispatch(room, dispatch_id)
    except NotFoundError:
        log.debug("dispatch was withdrawn already")


_STRIPES = 256
"""Lock files are never deleted (that would split the lock), so their number is bounded instead."""
_POLL_S = 0.01


def lock_folder() -> Path:
    """The user's folder for locks, made on first use; the same from a shell and from cron."""
    folder = runtime_folder(outlives_session=False)
    make_private(folder)
    return folder


@asynccontextmanager
async def room_lock(server: str, room: str, *, limit: Deadline) -> AsyncIterator[None]:
    """Hold the room against every other process of this user on this machine.

    A crashed holder frees it. Where no folder can be written, work goes on without: what comes
    from other hosts has to be sorted out afterwards in any case.
    """
    stripe = int.from_bytes(hashlib.sha256(f"{server}\0{room}".encode()).digest()[:2], "big") % _STRIPES
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(lock_folder() / f"room-{stripe}.lock", flags, 0o600)
    except (OSError, StorageError) as error:
        log.warning("no lock folder", extra={"error": str(error)})
        yield
        return
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                limit.check("another process dispatches to the same room")
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)
