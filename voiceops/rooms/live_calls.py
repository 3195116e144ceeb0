"""Who is in a call, and since when: for people who look at a stack."""

from __future__ import annotations

from dataclasses import dataclass

from voiceops.model.rooms import Participant, Room
from voiceops.model.settings import RoomsSettings
from voiceops.ports import RoomApi
from voiceops.rooms.each import each
from voiceops.rooms.presence import AgentPresence, live_agents, persons, serving
from voiceops.rooms.reading import list_participants, list_rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCall:
    """A room with a person in it. Names and identities can identify a caller."""

    room: str
    started_at: float
    """When the first of those who are there came, by the server's clock; 0: it does not say."""
    persons: tuple[str, ...]
    agents: tuple[str, ...]
    answered: bool = False
    """One of its agents is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRooms:
    """The rooms of a LiveKit and the calls in them, the oldest first."""

    room_count: int = 0
    calls: tuple[LiveCall, ...] = ()


async def live_rooms(api: RoomApi, settings: RoomsSettings) -> LiveRooms:
    """Ask a server for all rooms and everybody in them. Changes nothing."""

    async def read(room: Room) -> LiveCall | None:
        return call_in(room, await list_participants(api, room.name), settings)

    listed = await list_rooms(api)
    found, failed = await each(listed, read, concurrency=settings.concurrency)
    if failed:
        raise failed[0][1]
    calls = [call for call in found if call is not None]
    return LiveRooms(
        room_count=len(listed), calls=tuple(sorted(calls, key=lambda call: (call.started_at, call.room)))
    )


def call_in(room: Room, everybody: tuple[Participant, ...], settings: RoomsSettings) -> LiveCall | None:
    """The call in a room; None where no person is."""
    people = persons(everybody, settings)
    if not people:
        return None
    agents = live_agents(everybody)
    joined = [one.joined_at for one in people if one.joined_at > 0]
    return LiveCall(
        room=room.name,
        started_at=min(joined, default=0.0),
        persons=tuple(one.identity for one in people),
        agents=tuple(one.identity for one in agents),
        answered=any(serving(one) is AgentPresence.READY for one in agents),
    )
