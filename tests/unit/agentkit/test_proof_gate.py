"""A worker that is registered under another name until its release is proved."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import JobExecutorType

from voiceops.agentkit.call_share import steered_load
from voiceops.agentkit.proof_gate import call_share, gate_file, open_when_proved, proof_name
from voiceops.agentkit.worker import Worker
from voiceops.deadline import deadline


class Server:
    """What the worker needs of livekit-agents' server to be attached."""

    def __init__(self, agent_name: str) -> None:
        self._agent_name = agent_name
        self._closed = False
        self._request_fnc = None
        self._job_executor_type = JobExecutorType.PROCESS
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


@pytest.mark.parametrize(
    ("share", "other_load"), [(0.1, 0.0), (0.1, 0.6), (0.25, 0.3), (0.5, 0.9), (0.01, 0.0)]
)
def test_the_reported_load_gives_a_share_by_the_weights_that_the_server_draws_with(
    share: float, other_load: float
) -> None:
    weight, others = 1 - steered_load(other_load, share), 1 - other_load
    assert weight / (weight + others) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "share"), [("share 0.1000", 0.1), ("proof-1", 1.0), ("share 2", 1.0), ("", 1.0)]
)
def test_a_share_in_the_file_is_no_name(tmp_path: Path, text: str, share: float) -> None:
    gate = tmp_path / "agent-r1.gate"
    gate.write_text(text)
    assert call_share(gate) == share
    assert proof_name(gate) == ("" if share < 1 else text)


class SharingServer(Server):
    """The server with its load."""

    def __init__(self) -> None:
        super().__init__("")
        self.load_fnc = lambda: 0.2
        self._load_threshold = 0.7
        self._worker_load = 0.2
        self.told: list[float] = []

    async def _update_worker_status(self) -> None:
        self.told.append(self._worker_load)


async def test_a_worker_reports_the_load_of_its_share_until_the_file_is_gone(tmp_path: Path) -> None:
    gate = tmp_path / "agent-r1.gate"
    gate.write_text("proof-1\n")
    server = SharingServer()
    worker = Worker(cast(Any, server), proof_name=proof_name(gate))
    worker.attach()
    opening = asyncio.create_task(open_when_proved(gate, worker))
    gate.write_text("share 0.1\n")
    async with deadline(30, "the share"):
        while worker.share == 1:  # noqa: ASYNC110 - it reads a file
            await asyncio.sleep(0.01)
    assert server._worker_load == pytest.approx(1 - 0.8 / 9)
    assert (worker.proof_name, worker.load_limit) == ("", 0.7)
    assert cast(Any, server.load_fnc)(None) == pytest.approx(1 - 0.8 / 9)
    assert server._load_threshold > server._worker_load, "it stays available"
    gate.unlink()
    await opening
    assert (server.told, server._load_threshold, worker.share) == ([0.2], 0.7, 1.0)
    assert cast(Any, server.load_fnc)(None) == 0.2


async def test_a_worker_that_is_full_by_its_load_takes_no_share(tmp_path: Path) -> None:
    server = SharingServer()
    server.load_fnc = lambda: 0.8
    worker = Worker(cast(Any, server), share=0.3)
    worker.attach()
    assert cast(Any, server.load_fnc)(None) >= server._load_threshold
