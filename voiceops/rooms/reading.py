"""Look at rooms: never changes anything."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.errors import CredentialsError, NotFoundError, UnreachableError
from voiceops.model.rooms import Participant, Room, RoomInfo
from voiceops.ports import AgentRoomApi, RoomApi


async def list_rooms(api: RoomApi, names: Sequence[str] = ()) -> tuple[Room, ...]:
    """All rooms of the server, or those of ``names`` that exist; oldest first."""
    return tuple(sorted(await api.list_rooms(names), key=lambda room: (room.created_at, room.name)))


async def list_participants(api: RoomApi, room: str) -> tuple[Participant, ...]:
    """Everybody in the room, agents too; empty if the room does not exist (the API's own answer)."""
    return tuple(sorted(await api.list_participants(room), key=lambda one: (one.joined_at, one.identity)))


async def get_room_info(api: AgentRoomApi, name: str) -> RoomInfo:
    """The room with its participants and dispatches; ``NotFoundError`` if there is none.

    A room that no node serves has no dispatches to show, and asking for them takes 3 s.
    """
    rooms = await api.list_rooms([name])
    if not rooms:
        raise NotFoundError("there is no such room", hint="`inv rooms.list` shows them", data={"room": name})
    participants = await list_participants(api, name)
    try:
        dispatches = await api.list_dispatches(name)
    except CredentialsError:
        raise
    except (NotFoundError, UnreachableError):
        dispatches = ()
    return RoomInfo(room=rooms[0], participants=participants, dispatches=dispatches)


async def remove_participant(api: RoomApi, room: str, identity: str) -> bool:
    """Disconnect one participant; False if it was not there. Safe to call twice."""
    try:
        await api.remove_participant(room, identity)
    except NotFoundError:
        return False
    return True
