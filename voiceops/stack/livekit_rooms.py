"""Ask one LiveKit about its rooms, with one pair of keys and a deadline for each question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.deadline import deadline
from voiceops.model.rooms import Room
from voiceops.model.settings import LivekitSettings, RoomsSettings
from voiceops.rooms.live_calls import LiveRooms, live_rooms
from voiceops.rooms.presence import live_agents, persons
from voiceops.rooms.removal import delete_room
from voiceops.stack.occupancy import OccupiedRooms
from voiceops.util import aio

T = TypeVar("T")
ASK_TIMEOUT_S = 5.0
STATUS_TIMEOUT_S = 3.0


def occupied_rooms(livekit: LivekitSettings, rooms: RoomsSettings) -> OccupiedRooms:
    """The rooms with a person in them, and those of them that an agent serves."""

    async def read(api: LivekitApi) -> OccupiedRooms:
        listed = await api.list_rooms()
        everybody = await asyncio.gather(*(api.list_participants(room.name) for room in listed))
        held = {
            room.name: live_agents(all_in)
            for room, all_in in zip(listed, everybody, strict=True)
            if persons(all_in, rooms)
        }
        return OccupiedRooms(
            rooms=frozenset(held), served=frozenset(room for room, agents in held.items() if agents)
        )

    return ask(livekit, read, "looking who is in a call", timeout_s=ASK_TIMEOUT_S)


def delete_rooms(livekit: LivekitSettings, rooms: Sequence[str]) -> None:
    """Delete the rooms one after the other."""

    async def delete(api: LivekitApi) -> None:
        for room in rooms:
            await delete_room(api, room)

    ask(livekit, delete, "hanging up", timeout_s=ASK_TIMEOUT_S)


def rooms_and_calls(livekit: LivekitSettings, rooms: RoomsSettings) -> LiveRooms:
    """The rooms that the server lists and who is in a call."""

    async def read(api: LivekitApi) -> LiveRooms:
        return await live_rooms(api, rooms)

    return ask(livekit, read, "listing rooms", timeout_s=STATUS_TIMEOUT_S)


def listed_rooms(livekit: LivekitSettings) -> tuple[Room, ...]:
    """What one list of the server says of its rooms; ``VoiceopsError`` when it does not answer."""

    async def read(api: LivekitApi) -> tuple[Room, ...]:
        return await api.list_rooms()

    return ask(livekit, read, "listing rooms", timeout_s=STATUS_TIMEOUT_S)


def ask(
    livekit: LivekitSettings, act: Callable[[LivekitApi], Awaitable[T]], what: str, *, timeout_s: float
) -> T:
    """One conversation with a LiveKit."""

    async def main() -> T:
        async with (
            deadline(timeout_s, what),
            LivekitApi(livekit.url, livekit.api_key, livekit.api_secret) as api,
        ):
            return await act(api)

    return aio.run(main())
