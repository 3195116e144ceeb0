"""Lets synthetic callers in, and deletes the rooms they made, on evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voiceops.model.calls import ROOM_PREFIX
from voiceops.ports import AgentRoomApi
from voiceops.rooms.removal import delete_room

RESURRECTION_S = 3.0
"""A dispatch that was in flight while its room was deleted brings the room back within that time."""

Mint = Callable[[str, str, float], str]
"""(room, identity, seconds of life) -> token."""


class LivekitCallRooms:
    """Implements ``RoomDesk`` on the room API."""

    def __init__(self, api: AgentRoomApi, mint: Mint, *, agent_name: str = "") -> None:
        self._api = api
        self._mint = mint
        self._agent_name = agent_name

    def token(self, *, room: str, identity: str, ttl_s: float) -> str:
        return self._mint(room, identity, ttl_s)

    async def invite(self, room: str) -> None:
        """Ask for the named agent unless it is there or promised: a dispatch is not idempotent."""
        if not self._agent_name or not await self._api.list_rooms([room]):
            return  # a room that the caller is about to make gets its agent by the token
        present = any(
            one.is_agent and one.agent_name == self._agent_name
            for one in await self._api.list_participants(room)
        )
        dispatches = await self._api.list_dispatches(room)
        if not present and not any(one.agent_name == self._agent_name for one in dispatches):
            await self._api.create_dispatch(room, self._agent_name)

    async def discard(self, room: str, identity: str) -> bool:
        """Delete a room that a call made; kept if anybody else is in it by now."""
        if not room.startswith(ROOM_PREFIX):
            return False
        present = await self._api.list_participants(room)
        if any(not one.is_agent and one.identity != identity for one in present):
            return False
        await delete_room(self._api, room)
        return True

    async def discard_again(self, rooms: tuple[str, ...], *, settle: bool) -> None:
        """Delete those that are there again, with nobody in them but an agent.

        A late dispatch makes a deleted room anew, which ``settle`` waits for; so does a delete that
        meets the room while the server closes it.
        """
        if settle:
            await asyncio.sleep(RESURRECTION_S)
        for room in await self._api.list_rooms(rooms):
            await self.discard(room.name, "")
