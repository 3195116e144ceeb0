"""A worker's connection to LiveKit while its own event loop is blocked."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voiceops.agentkit import connection, worker
from voiceops.agentkit.worker import BLOCKED_S, Worker


async def test_a_worker_that_blocks_its_loop_leaves_livekit_while_it_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert BLOCKED_S == 10.0
    monkeypatch.setattr(worker, "BLOCKED_S", 0.2)
    ours, theirs = socket.socketpair()
    left = threading.Event()
    listening = threading.Thread(target=lambda: left.set() if theirs.recv(1) == b"" else None)

    async def block(ws: Any) -> None:
        assert left.wait(20), "LiveKit still has the connection"

    server = SimpleNamespace(_run_ws=block)
    Worker(cast("Any", server))._watch_connection()
    listening.start()
    with ours, theirs:
        await server._run_ws(SimpleNamespace(get_extra_info=lambda name: ours))
        listening.join()


class Session:
    """Refuses connections until it is up."""

    def __init__(self) -> None:
        self.up = False
        self.tries = 0
        self.tried = asyncio.Event()
        self.closed = False

    async def ws_connect(self, url: str, **options: Any) -> str:
        self.tries += 1
        self.tried.set()
        if not self.up:
            raise ConnectionRefusedError(url)
        return "connected"


async def registered(session: Session) -> tuple[Worker, Any]:
    """A worker whose connection ends at once, and its library's server."""

    async def ends(ws: Any) -> None:
        """The connection is cut."""

    server = SimpleNamespace(_run_ws=ends, _http_session=session)
    made = Worker(cast("Any", server))
    made._watch_connection()
    await server._run_ws(SimpleNamespace(get_extra_info=lambda name: None))
    return made, server


async def test_a_worker_that_is_told_that_its_server_is_back_connects_at_once() -> None:
    session = Session()
    made, server = await registered(session)
    connecting = asyncio.create_task(server._http_session.ws_connect("ws://there", heartbeat=30))
    await session.tried.wait()
    session.up = True
    made.server_is_back()
    assert await asyncio.wait_for(connecting, 1.0) == "connected"
    assert not server._http_session.closed


async def test_a_worker_that_nobody_tells_tries_again_at_the_pace_of_its_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "SECOND_TRY_S", 0.05)
    session = Session()
    _, server = await registered(session)
    with pytest.raises(ConnectionRefusedError):
        await server._http_session.ws_connect("ws://there")
    assert session.tries == 1
