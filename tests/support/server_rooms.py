"""The rooms of a livekit-server under test, as its API shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support import live
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.model.secret import Secret


@asynccontextmanager
async def rooms_of(server: live.LiveServer) -> AsyncIterator[LivekitApi]:
    """The rooms of a server, until the block ends."""
    async with LivekitApi(server.url, Secret(server.api_key), Secret(server.api_secret)) as session:
        yield session


async def agents_in(session: LivekitApi, room: str, *, timeout_s: float = 30) -> list[str]:
    """The agents of a room, once there is one."""
    for _ in range(int(timeout_s / 0.1)):
        agents = [one.identity for one in await session.list_participants(room) if one.is_agent]
        if agents:
            return agents
        await asyncio.sleep(0.1)
    raise AssertionError("no agent came")


async def gone(session: LivekitApi, room: str, *, timeout_s: float) -> bool:
    """Whether a room ends in time."""
    for _ in range(int(timeout_s / 0.1)):
        if not await session.list_rooms([room]):
            return True
        await asyncio.sleep(0.1)
    return False
