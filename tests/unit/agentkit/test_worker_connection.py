"""A worker's connection to LiveKit while its own event loop is blocked."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voiceops.agentkit import worker
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
