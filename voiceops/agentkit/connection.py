"""A worker's connection to LiveKit: closed from outside of its loop, and made again as soon as the server is back."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

SECOND_TRY_S = 2.0
"""The library's own pause before its second try to connect."""


class _Session(Protocol):
    async def ws_connect(self, *arguments: object, **options: object) -> object:
        """As of aiohttp's ``ClientSession``."""


class _Server(Protocol):
    _http_session: object


def shut_down(ws: ClientWebSocketResponse) -> None:
    """Close a connection from outside of its loop, which may be blocked; the loop finds it closed."""
    transport = ws.get_extra_info("socket")
    if transport is None:
        return  # closed meanwhile
    with suppress(OSError), socket.socket(fileno=os.dup(transport.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def reconnect_when_told(server: _Server, server_back: asyncio.Event) -> None:
    """Have a server of livekit-agents connect at once when it is told that its livekit-server is back. Safe to call again."""
    session = getattr(server, "_http_session", None)
    if session is not None and not isinstance(session, _PatientSession):
        server._http_session = _PatientSession(cast("_Session", session), server_back)


class _PatientSession:
    """The session of a worker's connections: where nobody listens it waits to be told that the server is back.

    For as long as the library would wait for its second try, which it then makes at once: else a worker registers up to
    four seconds after the server has restarted, and a caller who comes before that has no agent.
    """

    def __init__(self, session: _Session, server_back: asyncio.Event) -> None:
        self._session = session
        self._server_back = server_back

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    async def ws_connect(self, *arguments: object, **options: object) -> object:
        """Connect, twice if the server is back meanwhile; raises as the session does."""
        try:
            return await self._session.ws_connect(*arguments, **options)
        except OSError:  # aiohttp's errors of connections are such
            try:
                await asyncio.wait_for(self._server_back.wait(), SECOND_TRY_S)
            except asyncio.TimeoutError:
                pass
            else:
                return await self._session.ws_connect(*arguments, **options)
            raise
