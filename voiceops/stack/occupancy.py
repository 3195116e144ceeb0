"""Which calls would be cut off: the one decision that everything which ends a server or an agent asks for.

A call is a room with a person in it. An agent lists a room as long as its job lives, up to 20 s after the
caller has left; a caller who waits for an agent is in no agent's list; an agent that does not answer lists
nothing. Only the server knows who is there, and a server that does not say is not one without calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from voiceops.errors import CallsUnknownError, UnreachableError, VoiceopsError
from voiceops.model.calls import ROOM_PREFIX
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed
from voiceops.stack.reconcile import Action, UnnamedCall, calls_at_risk, ends_a_server, silent_agents
from voiceops.stack.results import Progress, calls_error

_POLL_S = 1.0


class CallKnowledge(str, Enum):
    """What a server says of its calls."""

    KNOWN = "known"
    NO_SERVER = "no-server"
    """Nobody listens on its port: it adds no call to what the agents list."""
    UNKNOWN = "unknown"
    """It refuses our key, answers with an error, too late or not at all: there may be calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupiedRooms:
    """The people of a server, as far as it says."""

    knowledge: CallKnowledge = CallKnowledge.KNOWN
    rooms: frozenset[str] = frozenset()
    """With a person in them."""
    served: frozenset[str] = frozenset()
    """Those of them that an agent is in."""
    cause: VoiceopsError | None = None
    """Why they are unknown."""


NO_SERVER = OccupiedRooms(knowledge=CallKnowledge.NO_SERVER)


class Occupancy(Protocol):
    """The LiveKit of a stack, asked about people."""

    def occupied(self, servers: Sequence[Instance]) -> OccupiedRooms:
        """Who is in a room. ``servers``: the livekit-servers that run on the stack's own host.

        Raises nothing for a server that fails: that is ``UNKNOWN``.
        """

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        """End these calls: callers are told at once instead of hearing silence for 20 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRisk:
    """The calls that a list of actions would cut off."""

    rooms: tuple[str, ...] = ()
    unknown: VoiceopsError | None = None
    """Set when there may be more, with the reason why nobody can say."""
    on_server: tuple[str, ...] = ()
    """Those of ``rooms`` in which the server sees a person."""
    abandoned: frozenset[str] = frozenset()
    """Launches with jobs and without people: they may be killed instead of waited for."""
    of_strays: bool = False

    @property
    def exists(self) -> bool:
        """Whether somebody has to say yes first."""
        return bool(self.rooms) or self.unknown is not None

    def refuse(self, what: str, hint: str = "") -> None:
        """``CallsInProgressError``, or ``CallsUnknownError`` when none is known but there may be some."""
        if self.rooms:
            raise calls_error(self.rooms, what, of_strays=self.of_strays, hint=hint)
        if self.unknown is not None:
            raise CallsUnknownError(
                f"calls unknown, LiveKit can't be asked ({self.unknown.message}): {what}",
                hint="make LiveKit answer first, or give --yes to go ahead whoever is in a call",
                data={"rooms": [], "caused_by": self.unknown.as_json()},
            )


def weigh(
    actions: Sequence[Action], observed: Mapping[str, Observed], occupancy: Occupancy | None
) -> CallRisk:
    """What these actions would cut off. The server is asked only when there may be something."""
    listed = calls_at_risk(actions, observed)
    silent = silent_agents(actions)
    ends_server = ends_a_server(actions)
    if not (listed or silent or ends_server):
        return CallRisk()
    servers = running_servers(observed)
    answer = occupancy.occupied(servers) if occupancy else NO_SERVER
    if ends_server and occupancy:
        answer = _unless_it_runs(answer, servers)
    rooms = calls_of(
        listed, answer, whole_server=ends_server, silent=silent, claimed=_claimed(observed.values())
    )
    unknown = answer.knowledge is CallKnowledge.UNKNOWN and (silent or ends_server)
    return CallRisk(
        rooms=rooms,
        unknown=answer.cause if unknown else None,
        on_server=tuple(room for room in rooms if room in answer.rooms),
        abandoned=abandoned((one for action in actions for one in action.ended), answer),
        of_strays=any(stray.calls != 0 for action in actions for stray in action.strays),
    )


def running_servers(observed: Mapping[str, Observed]) -> tuple[Instance, ...]:
    """The livekit-servers of this host that have a process."""
    return tuple(
        one for seen in observed.values() for one in seen.instances if one.role is Role.SERVER and one.pid
    )


def _unless_it_runs(answer: OccupiedRooms, servers: Sequence[Instance]) -> OccupiedRooms:
    """A server whose process lives may listen elsewhere: a refused connection says nothing about it.

    One that never became ready has taken no call.
    """
    alive = [one for one in servers if one.state is not ServiceState.STARTING]
    if answer.knowledge is not CallKnowledge.NO_SERVER or not alive:
        return answer
    cause = UnreachableError(f"livekit-server runs (pid {alive[0].pid}) and refuses connections")
    return OccupiedRooms(knowledge=CallKnowledge.UNKNOWN, cause=cause)


def rooms_of_agents(observed: Iterable[Observed]) -> frozenset[str] | None:
    """The rooms that agents have now; None while one of them does not say."""
    agents = [one for seen in observed for one in seen.instances if one.role is Role.AGENT]
    if any(one.calls is None for one in agents):
        return None
    return frozenset(room for one in agents for room in one.rooms)


def _claimed(observed: Iterable[Observed]) -> frozenset[str]:
    """Rooms of the agents that answer: no agent that does not can have them."""
    return frozenset(
        room for seen in observed for one in seen.instances if one.calls is not None for room in one.rooms
    )


def calls_of(
    listed: Sequence[str],
    answer: OccupiedRooms,
    *,
    whole_server: bool,
    silent: bool = False,
    claimed: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """The calls among the rooms that agents list, and those that only the server knows of.

    With ``whole_server`` that is each room with a person; with ``silent`` each one that has an agent and
    is ``claimed`` by no agent that answers. What an agent could not name (``UnnamedCall``)
    counts: better one question too many.
    """
    if answer.knowledge is CallKnowledge.UNKNOWN:
        return tuple(dict.fromkeys(listed))
    if answer.knowledge is CallKnowledge.NO_SERVER:
        # The jobs of our own synthetic calls outlive them by seconds, and nobody would be cut off.
        return tuple(dict.fromkeys(room for room in listed if not room.startswith(ROOM_PREFIX)))
    own = [room for room in listed if room in answer.rooms or isinstance(room, UnnamedCall)]
    others = answer.rooms if whole_server else answer.served - claimed if silent else frozenset()
    return tuple(dict.fromkeys([*own, *sorted(others)]))


def abandoned(instances: Iterable[Instance], answer: OccupiedRooms) -> frozenset[str]:
    """Launches of agents whose jobs all lie in rooms that people have left: nothing to wait for."""
    if answer.knowledge is not CallKnowledge.KNOWN:
        return frozenset()
    return frozenset(
        one.launch
        for one in instances
        if one.calls and len(one.rooms) >= one.calls and not answer.rooms.intersection(one.rooms)
    )


def wait_for_people(
    occupancy: Occupancy, servers: Sequence[Instance], drain_s: float, progress: Progress
) -> None:
    """A server whose agents run on other hosts drains like this: it waits until its callers have left.

    ``CallsInProgressError`` when they stay longer than ``drain_s``, ``CallsUnknownError`` when it does
    not say until then.
    """
    ends_at = time.monotonic() + drain_s
    while True:
        answer = _unless_it_runs(occupancy.occupied(servers), servers)
        risk = CallRisk(rooms=tuple(sorted(answer.rooms)), unknown=answer.cause)
        if not risk.exists:
            return
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            risk.refuse(f"they did not end within {drain_s:g} s; nothing was stopped here")
        count = str(len(risk.rooms)) if risk.unknown is None else "an unknown number"
        progress("calls", "draining", f"{count} in progress, up to {drain_s:g} s")
        time.sleep(min(_POLL_S, left_s))
