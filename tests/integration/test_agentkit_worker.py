"""``python -m voiceops.agentkit start`` around an agent that knows nothing of voiceops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from livekit import api, rtc

from tests.support import live, parts
from tests.support.callers import agent_in, caller

ENTRY = Path(__file__).parent / "agents" / "ignorant.py"


@dataclass
class Supervisor:
    """Starts workers and listens to their sd_notify, as systemd and the process backend do."""

    folder: Path
    receiver: socket.socket
    messages: list[str] = field(default_factory=list)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, environment: dict[str, str], *arguments: str, entry: Path = ENTRY
    ) -> subprocess.Popen[bytes]:
        own = {
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "VOICEOPS_HEALTH_SOCKET": str(self.folder / f"health{len(self.started)}"),
            "VOICEOPS_LOAD_LIMIT": "off",
            "WATCHDOG_USEC": "2000000",
            "PYTHONPATH": os.getcwd(),
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
        with (self.folder / f"worker{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "voiceops.agentkit", "start", str(entry), *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=clean | own | environment,
            )
        self.started.append(process)
        return process

    def log(self, index: int = -1) -> str:
        index = index % len(self.started)
        return (self.folder / f"worker{index}.log").read_text(errors="replace")

    async def hears(self, text: str, *, timeout_s: float = 60) -> str:
        """The first message from now on that contains ``text``."""

        async def listen() -> str:
            loop = asyncio.get_running_loop()
            while True:
                message = (await loop.sock_recv(self.receiver, 4096)).decode()
                self.messages.append(message)
                if text in message:
                    return message

        try:
            return await asyncio.wait_for(listen(), timeout_s)
        except asyncio.TimeoutError:
            raise AssertionError(f"no {text!r} among {self.messages}\n{self.log()[-3000:]}") from None

    async def health(self, index: int = -1) -> tuple[int, dict[str, Any]]:
        path = self.folder / f"health{index % len(self.started)}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
            http.get("http://agent/health") as answer,
        ):
            return answer.status, await answer.json()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        supervisor = Supervisor(tmp_path, receiver)
        yield supervisor
        for process in supervisor.started:
            live.end(process)


async def ended(process: subprocess.Popen[bytes], *, timeout_s: float = 60) -> int:
    return await asyncio.to_thread(process.wait, timeout_s)


async def agent_joins(server: live.LiveServer, room: str) -> bool:
    """Call once; whether an agent comes."""
    async with caller(server.url, room) as person:
        joined = asyncio.Event()
        person.on("participant_connected", lambda *_: joined.set())
        if not person.remote_participants:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(joined.wait(), 4)
        return bool(person.remote_participants)


@pytest.fixture
def livekit_alone(tmp_path: Path) -> Iterator[live.LiveServer]:
    """A server that only this test's workers know: dispatches are implicit."""
    with live.livekit_server(tmp_path / "livekit") as server:
        yield server


async def test_registered_is_the_truth_when_the_server_dies_and_comes_back(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    port = parts.free_port()
    with live.livekit_server(tmp_path / "one", port=port) as server:
        process = supervisor.start(server.environment())
        assert "READY=1" in await supervisor.hears("READY=1")
        await supervisor.hears("registered, 0 calls")
        await supervisor.hears("WATCHDOG=1")
        status, document = await supervisor.health()
        assert (status, document["registered"], document["pid"]) == (200, True, process.pid)
        first_id = document["worker_id"]

    await supervisor.hears("connecting to LiveKit, 0 calls")
    status, document = await supervisor.health()
    assert (status, document["registered"]) == (503, False)
    assert document["reason"] == "not registered with LiveKit"

    with live.livekit_server(tmp_path / "two", port=port):
        await supervisor.hears("registered, 0 calls")
        status, document = await supervisor.health()
        assert (status, document["registered"]) == (200, True)
        assert document["worker_id"] != first_id

        process.send_signal(signal.SIGTERM)
        await supervisor.hears("STOPPING=1")
        assert await ended(process) == 0


async def test_an_agent_that_stays_after_its_session_has_ended_says_that_it_serves_nobody(
    supervisor: Supervisor, livekit_alone: live.LiveServer
) -> None:
    supervisor.start(livekit_alone.environment(), entry=ENTRY.with_name("plain_session.py"))
    await supervisor.hears("registered, 0 calls")
    async with caller(livekit_alone.url, "reload") as person:
        identity = await agent_in(person)
        await said(person, identity, "lk.agent.state", "listening")
    async with caller(livekit_alone.url, "reload") as person:
        await said(person, identity, "voiceops.ready", "0")


async def said(person: rtc.Room, identity: str, name: str, value: str) -> None:
    """Wait until an agent has an attribute."""
    for _ in range(400):
        agent = person.remote_participants.get(identity)
        if agent is not None and agent.attributes.get(name) == value:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{identity} does not say {name}={value}")


async def test_a_full_worker_leaves_the_offer_to_another_and_a_repeated_sigterm_ends_no_call(
    supervisor: Supervisor, livekit_alone: live.LiveServer
) -> None:
    environment = livekit_alone.environment() | {"MAX_CONCURRENT_JOBS": "1"}
    first = supervisor.start(environment)
    await supervisor.hears("READY=1")

    async with caller(livekit_alone.url, "one") as person:
        joined = asyncio.Event()
        person.on("participant_connected", lambda *_: joined.set())
        await asyncio.wait_for(joined.wait(), 20)
        status, document = await supervisor.health(0)
        assert (status, document["calls"], document["rooms"]) == (503, 1, ["one"])
        assert document["reason"] == "at its limit of 1 calls"
        assert not await agent_joins(livekit_alone, "two"), "nobody is left to take it"

        supervisor.start(environment)
        await supervisor.hears("READY=1")
        assert await agent_joins(livekit_alone, "three"), "the other worker takes it"

        first.send_signal(signal.SIGTERM)
        await supervisor.hears("draining, 1 call")
        assert (await supervisor.health(0))[1]["reason"] == "draining"
        for _ in range(3):
            first.send_signal(signal.SIGTERM)
        await asyncio.sleep(1)
        assert first.poll() is None
        assert person.remote_participants, "the call goes on"

        async with api.LiveKitAPI(livekit_alone.url, live.API_KEY, live.API_SECRET) as client:
            await client.room.delete_room(api.DeleteRoomRequest(room="one"))
    assert await ended(first) == 0


async def test_the_load_limit_decides_who_takes_a_call_and_health_says_so(
    supervisor: Supervisor, livekit_alone: live.LiveServer
) -> None:
    """LiveKit's own gate is at 0.7 whatever a worker thinks; both of these measure 0.8."""
    entry = ENTRY.parent / "loaded.py"
    supervisor.start(livekit_alone.environment() | {"VOICEOPS_LOAD_LIMIT": "0.6"}, entry=entry)
    await supervisor.hears("READY=1")
    assert not await agent_joins(livekit_alone, "one")
    status, document = await supervisor.health(0)
    assert (status, document["load"], document["load_limit"]) == (503, 0.8, 0.6)
    assert document["reason"] == "load 0.80 has reached the limit of 0.6"

    for index, limit in enumerate(("0.9", "off"), start=1):
        supervisor.start(livekit_alone.environment() | {"VOICEOPS_LOAD_LIMIT": limit}, entry=entry)
        await supervisor.hears("READY=1")
        assert await agent_joins(livekit_alone, f"for-{limit}")
        status, document = await supervisor.health(index)
        assert (status, document["load"]) == (200, 0.8)
        live.end(supervisor.started[index])


@pytest.mark.parametrize("after_s", [0.2, 1.0, 2.0])
async def test_sigterm_while_it_starts_is_neither_lost_nor_a_kill(
    supervisor: Supervisor, livekit: live.LiveServer, after_s: float
) -> None:
    process = supervisor.start(livekit.environment() | {"LIVEKIT_AGENT_NAME": "never-called"})
    await asyncio.sleep(after_s)  # the moment is what is tested

    process.send_signal(signal.SIGTERM)

    # Before Python runs its first line nobody can catch it.
    assert await ended(process) in ((0, -signal.SIGTERM) if after_s < 0.5 else (0,)), supervisor.log()
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("something of its session is left")


async def test_a_worker_that_fails_exits_non_zero_and_says_why(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    no_address = supervisor.start({})
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('broken agent')\n")
    not_loading = supervisor.start({}, entry=broken)
    missing = supervisor.start({}, entry=tmp_path / "missing.py")
    bad_limit = supervisor.start({"MAX_CONCURRENT_JOBS": "many"})
    bad_load = supervisor.start({"VOICEOPS_LOAD_LIMIT": "70"})

    bad_flag = supervisor.start({}, "--max-jobs", "many")

    processes = (no_address, not_loading, missing, bad_limit, bad_load, bad_flag)
    assert [await ended(process) for process in processes] == [1, 1, 3, 3, 3, 3]
    assert "ws_url is required" in supervisor.log(0)
    assert "broken agent" in supervisor.log(1)
    assert "missing.py is no file" in supervisor.log(2)
    assert "MAX_CONCURRENT_JOBS must be a whole number, not 'many'" in supervisor.log(3)
    assert "VOICEOPS_LOAD_LIMIT must be a share of CPU above 0 up to 1, or off, not '70'" in supervisor.log(4)
    assert "argument --max-jobs: invalid int value: 'many'" in supervisor.log(5)


async def test_calls_that_outlast_the_drain_are_ended_and_the_starter_may_be_gone(
    supervisor: Supervisor, livekit_alone: live.LiveServer
) -> None:
    port = parts.free_port()
    process = supervisor.start(
        livekit_alone.environment(),
        "--drain-timeout",
        "1",
        "--health-port",
        str(port),
        "--agent-name",
        "front",
    )
    await supervisor.hears("READY=1")
    supervisor.receiver.close()
    (supervisor.folder / "notify").unlink()
    async with caller(livekit_alone.url, "long") as person:
        joined = asyncio.Event()
        person.on("participant_connected", lambda *_: joined.set())
        async with api.LiveKitAPI(livekit_alone.url, live.API_KEY, live.API_SECRET) as client:
            await client.agent_dispatch.create_dispatch(
                api.CreateAgentDispatchRequest(room="long", agent_name="front")
            )
        if not person.remote_participants:
            await asyncio.wait_for(joined.wait(), 20)  # --agent-name names the agent
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/health") as answer:
            assert json.loads(await answer.text())["rooms"] == ["long"]

        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    assert "calls outlasted the drain" in supervisor.log()
