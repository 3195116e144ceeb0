"""A worker that is registered under another name until its release is proved."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voiceops.agentkit.proof_gate import gate_file, open_when_proved, proof_name
from voiceops.agentkit.worker import Worker


class Server:
    """What the worker needs of livekit-agents' server to be attached."""

    def __init__(self, agent_name: str) -> None:
        self._agent_name = agent_name
        self._closed = False
        self._request_fnc = None
        self.draining = False

    def on(self, event: str, handler: object) -> None:
        return

    async def _run_ws(self, ws: object) -> None:
        await asyncio.Event().wait()

    def _is_available(self) -> bool:
        return True


def test_the_gate_stands_beside_the_folder_of_the_socket_where_only_root_writes() -> None:
    assert gate_file("/run/frontdesk/agent-r1/health") == Path("/run/frontdesk/agent-r1.gate")
    assert gate_file(None) is None
    assert proof_name(None) == ""


@pytest.mark.parametrize("own_name", ["", "front"])
async def test_a_worker_registers_the_name_of_its_proof_until_the_file_is_gone(
    tmp_path: Path, own_name: str
) -> None:
    gate = tmp_path / "agent-r1.gate"
    gate.write_text("proof-1\n")
    server = Server(own_name)
    worker = Worker(cast(Any, server), proof_name=proof_name(gate))
    worker.attach()
    assert (server._agent_name, worker.agent_name) == ("proof-1", own_name)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connected = SimpleNamespace(get_extra_info=lambda name: ours)
        connection = asyncio.create_task(cast(Any, server)._run_ws(connected))
        opening = asyncio.create_task(open_when_proved(gate, worker))
        await asyncio.sleep(0)
        assert worker.refusal == "waits for its proof call"
        gate.unlink()
        await opening
        assert (server._agent_name, worker.proof_name) == (own_name, "")
        assert theirs.recv(1) == b"", "it must connect anew: the name is part of the registration"
        connection.cancel()
        await asyncio.gather(connection, return_exceptions=True)
