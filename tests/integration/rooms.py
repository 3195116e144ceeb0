"""People, monitors and half-open joins for tests of rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from livekit import api as lkapi
from livekit import rtc

from tests.support.live import LiveServer


def token(
    server: LiveServer,
    room: str,
    identity: str,
    *,
    agent: bool = False,
    attributes: dict[str, str] | None = None,
) -> str:
    """A caller's token, or one by which the server takes its owner for an agent."""
    grants = lkapi.VideoGrants(room_join=True, room=room, agent=agent)
    made = lkapi.AccessToken(server.api_key, server.api_secret).with_identity(identity).with_grants(grants)
    made = made.with_attributes(attributes or {})
    return (made.with_kind("agent") if agent else made).to_jwt()


@asynccontextmanager
async def person(
    server: LiveServer,
    room: str,
    identity: str = "caller",
    *,
    agent: bool = False,
    attributes: dict[str, str] | None = None,
) -> AsyncIterator[rtc.Room]:
    """Somebody who is really connected until the block ends."""
    connection = rtc.Room()
    await connection.connect(server.url, token(server, room, identity, agent=agent, attributes=attributes))
    try:
        yield connection
    finally:
        await connection.disconnect()


@asynccontextmanager
async def half_open_join(server: LiveServer, room: str, identity: str) -> AsyncIterator[None]:
    """A websocket that never brings up its media connection: it does not become active."""
    address = f"{server.url}/rtc?access_token={token(server, room, identity)}&auto_subscribe=1&protocol=15"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        await socket.receive(timeout=5)
        yield
