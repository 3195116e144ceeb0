"""Which rooms go, and why. Pure: decides on what was seen, and when it was first seen so.

Age alone never decides. The API tells when a room was made and when each participant joined, but
not since when nobody has been there, so being alone is measured by our own observations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase

import msgspec

from voiceops.model.protocol import NOBODY_TIMEOUT_S
from voiceops.model.rooms import Dispatch, Participant, ParticipantState, Room
from voiceops.model.settings import RoomsSettings
from voiceops.rooms.presence import AgentPresence, is_idle, is_stuck_join, persons, serving

ORPHAN_AFTER_S = 20.0
"""A caller whose node died rejoins within 10 s, which gives the room a living node by itself."""
REFRESH_S = 22.0
"""Twenty seconds, the server's departure timeout, in which a caller who reloads comes back."""
EMPTY_TIMEOUT_S = 300
"""The server's default; a room that was made with a longer one is meant to wait."""
ON_THE_WAY_S = 20.0
"""Whoever asked for an agent so lately is about to join, or to bring a caller."""
COUNT_LAG_S = 6.0
"""ListRooms' counters are refreshed every 5 s."""


class Rule(str, Enum):
    """Deletes: the first six. The others keep a room or remove a participant."""

    EMPTY = "empty"
    AGENTS_ALONE = "agents-alone"
    NEVER_JOINED = "never-joined"
    IDLE_ONLY = "idle-only"
    ORPHAN = "orphan"
    FORCED = "forced"
    STUCK_JOIN = "stuck-join"
    INERT_AGENT = "inert-agent"
    PROTECTED = "protected"
    PERSON = "person"
    YOUNG = "young"
    UNCONFIRMED = "unconfirmed"

    def __str__(self) -> str:
        return self.value


class RoomSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One room at one moment."""

    room: Room
    participants: tuple[Participant, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    served: bool = True
    """False: no node of LiveKit answers for it."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Since when a room has been seen like this, by the server's clock."""

    alone_since: float | None = None
    unserved_since: float | None = None


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """One participant to disconnect."""

    room: str
    participant: Participant
    rule: Rule
    reason: str


class RoomDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one room, and why."""

    snapshot: RoomSnapshot
    delete: bool
    rule: Rule
    reason: str
    ripe_in_s: float | None = None
    """Kept only until it has been seen like this for so much longer."""
    removals: tuple[Removal, ...] = ()


class CleanupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Every room with its verdict, so that a dry run explains itself."""

    delete: tuple[RoomDecision, ...]
    keep: tuple[RoomDecision, ...]

    @property
    def removals(self) -> tuple[Removal, ...]:
        return tuple(removal for verdict in self.keep for removal in verdict.removals)


def plan_cleanup(
    snapshots: Sequence[RoomSnapshot],
    observed: Mapping[str, Observation],
    settings: RoomsSettings,
    now: float,
    *,
    force: bool = False,
) -> CleanupPlan:
    """Decide on all rooms. ``observed`` is by room sid, ``now`` the server's clock."""
    verdicts = [
        judge(snapshot, observed.get(snapshot.room.sid, Observation()), settings, now, force=force)
        for snapshot in snapshots
    ]
    return CleanupPlan(
        delete=tuple(one for one in verdicts if one.delete),
        keep=tuple(one for one in verdicts if not one.delete),
    )


def judge(
    snapshot: RoomSnapshot, seen: Observation, settings: RoomsSettings, now: float, *, force: bool = False
) -> RoomDecision:
    """Decide on one room."""
    pattern = protected_by(snapshot.room.name, settings)
    if pattern is not None:
        return _keep(snapshot, Rule.PROTECTED, f"its name matches the keep pattern {pattern!r}")
    if force:
        return _delete(snapshot, Rule.FORCED, "forced")
    present = tuple(one for one in snapshot.participants if one.state is not ParticipantState.DISCONNECTED)
    stuck = tuple(one for one in present if is_stuck_join(one, now))
    here = tuple(one for one in present if one not in stuck)
    people = persons(here, settings)
    if here and not snapshot.served:
        return _judge_orphan(snapshot, seen, now)
    if people:
        return _judge_attended(snapshot, people, stuck, now)
    if here:
        return _judge_alone(snapshot, here, seen, settings, now)
    return _judge_empty(snapshot, stuck, seen, settings, now)


def protected_by(name: str, settings: RoomsSettings) -> str | None:
    """The keep pattern that the room's name matches."""
    return next((pattern for pattern in settings.keep if fnmatchcase(name, pattern)), None)


def observe(
    snapshots: Sequence[RoomSnapshot],
    before: Mapping[str, Observation],
    settings: RoomsSettings,
    now: float,
) -> dict[str, Observation]:
    """The observations after these snapshots; whoever is seen with a person starts anew."""
    after: dict[str, Observation] = {}
    for snapshot in snapshots:
        old = before.get(snapshot.room.sid, Observation())
        here = [one for one in snapshot.participants if not is_stuck_join(one, now)]
        attended = bool(persons(here, settings))
        counted = snapshot.room.num_participants > 0 or snapshot.room.num_publishers > 0
        seen = Observation(
            alone_since=None if attended or not (here or counted) else _first(old.alone_since, now),
            unserved_since=None if snapshot.served else _first(old.unserved_since, now),
        )
        if seen != Observation():
            after[snapshot.room.sid] = seen
    return after


def _first(since: float | None, now: float) -> float:
    # A clock that was set back must not make an observation endless.
    return now if since is None or since > now else since


def _judge_orphan(snapshot: RoomSnapshot, seen: Observation, now: float) -> RoomDecision:
    unserved_s = now - _first(seen.unserved_since, now)
    if unserved_s < ORPHAN_AFTER_S:
        return _keep(
            snapshot,
            Rule.UNCONFIRMED,
            "no node of LiveKit answers for it; its callers may be on the way back",
            ripe_in_s=ORPHAN_AFTER_S - unserved_s,
        )
    return _delete(snapshot, Rule.ORPHAN, f"no node of LiveKit has answered for it for {unserved_s:.0f} s")


def _judge_attended(
    snapshot: RoomSnapshot, people: tuple[Participant, ...], stuck: tuple[Participant, ...], now: float
) -> RoomDecision:
    removals = [
        Removal(
            room=snapshot.room.name,
            participant=one,
            rule=Rule.STUCK_JOIN,
            reason=f"began to join {now - one.joined_at:.0f} s ago and never became active",
        )
        for one in stuck
    ]
    removals += [
        Removal(
            room=snapshot.room.name,
            participant=one,
            rule=Rule.INERT_AGENT,
            reason="its session has ended, but it stays beside the caller",
        )
        for one in snapshot.participants
        if one.is_agent and serving(one) is AgentPresence.INERT
    ]
    count = f"{len(people)} persons are" if len(people) > 1 else "a person is"
    return _keep(snapshot, Rule.PERSON, f"{count} in it", removals=tuple(removals))


def _judge_alone(
    snapshot: RoomSnapshot,
    here: tuple[Participant, ...],
    seen: Observation,
    settings: RoomsSettings,
    now: float,
) -> RoomDecision:
    """Only agents, monitors and bots: nobody is served."""
    if _waits_for_nobody(snapshot, here, now):
        return _judge_never_joined(snapshot, here, seen, settings, now)
    agents = any(not is_idle(one, settings) for one in here)
    what = "only agents are" if agents else "only monitors or bots are"
    after_s = settings.stuck_agent_after_s if agents else settings.stale_after_s
    joined_s = now - max(one.joined_at for one in here)
    alone_s = now - _first(seen.alone_since, now)
    if joined_s < after_s and alone_s < after_s:
        return _keep(snapshot, Rule.YOUNG, f"{what} in it, for {joined_s:.0f} s (goes after {after_s:g} s)")
    # Somebody may have left a moment ago and be about to return: that long the server itself would
    # wait. Where a room was made to wait longer, only the whole time alone is proof enough.
    returns_s = REFRESH_S if snapshot.room.departure_timeout_s <= REFRESH_S else after_s
    missing_s = min(returns_s, after_s) - alone_s
    if missing_s > 0:
        return _keep(
            snapshot,
            Rule.UNCONFIRMED,
            f"{what} in it, but a caller may have left just now",
            ripe_in_s=missing_s,
        )
    rule = Rule.AGENTS_ALONE if agents else Rule.IDLE_ONLY
    return _delete(snapshot, rule, f"{what} in it, for {max(joined_s, alone_s):.0f} s")


def _waits_for_nobody(snapshot: RoomSnapshot, here: tuple[Participant, ...], now: float) -> bool:
    """Only ready agents of one name in a room as the server makes it by itself, with none on the way."""
    return (
        all(one.is_agent and serving(one) is AgentPresence.READY for one in here)
        and len({one.agent_name for one in here}) == 1
        and snapshot.room.empty_timeout_s <= EMPTY_TIMEOUT_S
        and snapshot.room.departure_timeout_s <= REFRESH_S
        and all(now - one.created_at >= ON_THE_WAY_S for one in snapshot.dispatches)
    )


def _judge_never_joined(
    snapshot: RoomSnapshot,
    here: tuple[Participant, ...],
    seen: Observation,
    settings: RoomsSettings,
    now: float,
) -> RoomDecision:
    """Agents that wait for a person who never comes, as a room has that was made anew while it was deleted.

    Seen without a person for longer than the departure timeout proves that none has ever joined: the
    server would have ended the room.
    """
    joined_s = now - max(one.joined_at for one in here)
    wait_s = min(NOBODY_TIMEOUT_S, settings.stuck_agent_after_s)
    if joined_s < wait_s:
        return _keep(
            snapshot, Rule.YOUNG, f"only agents are in it, for {joined_s:.0f} s (goes after {wait_s:g} s)"
        )
    missing_s = min(REFRESH_S, settings.stuck_agent_after_s) - (now - _first(seen.alone_since, now))
    if missing_s > 0:
        return _keep(
            snapshot,
            Rule.UNCONFIRMED,
            "only agents are in it, but a caller may have left just now",
            ripe_in_s=missing_s,
        )
    return _delete(
        snapshot, Rule.NEVER_JOINED, f"its agents have waited {joined_s:.0f} s and nobody ever came"
    )


def _judge_empty(
    snapshot: RoomSnapshot,
    stuck: tuple[Participant, ...],
    seen: Observation,
    settings: RoomsSettings,
    now: float,
) -> RoomDecision:
    age_s = now - snapshot.room.created_at
    after_s = settings.stale_after_s
    if age_s < after_s:
        return _keep(snapshot, Rule.YOUNG, f"empty, but made {age_s:.0f} s ago (goes after {after_s:g} s)")
    if not snapshot.participants and (snapshot.room.num_participants or snapshot.room.num_publishers):
        # Several nodes can under-report who is in a room (livekit issue 4316).
        counted_s = now - _first(seen.alone_since, now)
        if counted_s < after_s:
            return _keep(
                snapshot,
                Rule.UNCONFIRMED,
                "the server counts somebody in it, but lists nobody",
                ripe_in_s=after_s - counted_s if counted_s >= COUNT_LAG_S else COUNT_LAG_S - counted_s,
            )
    if stuck:
        return _delete(snapshot, Rule.STUCK_JOIN, "only joins that never became active are in it")
    return _delete(snapshot, Rule.EMPTY, f"empty, made {age_s:.0f} s ago")


def _delete(snapshot: RoomSnapshot, rule: Rule, reason: str) -> RoomDecision:
    return RoomDecision(snapshot=snapshot, delete=True, rule=rule, reason=reason)


def _keep(
    snapshot: RoomSnapshot,
    rule: Rule,
    reason: str,
    *,
    ripe_in_s: float | None = None,
    removals: tuple[Removal, ...] = (),
) -> RoomDecision:
    return RoomDecision(
        snapshot=snapshot, delete=False, rule=rule, reason=reason, ripe_in_s=ripe_in_s, removals=removals
    )
