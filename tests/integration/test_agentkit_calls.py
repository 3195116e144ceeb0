"""Real calls to a guarded agent under ``python -m voiceops.agentkit``: one worker for all faults."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from livekit import api, rtc

from tests.support import live
from tests.support.callers import caller
from tests.support.server_rooms import agents_in, gone, rooms_of
from voiceops.model.calls import CallPlan, CallTarget
from voiceops.model.secret import Secret
from voiceops.wiring.calls import run_calls

ENTRY = Path(__file__).parent / "agents" / "guarded.py"
AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


@dataclass(frozen=True)
class Line:
    """The worker under test."""

    server: live.LiveServer
    process: subprocess.Popen[bytes]
    health: Path
    log: Path

    async def get(self, path: str = "/health") -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.health))) as http,
            http.get(f"http://agent{path}") as answer,
        ):
            return answer.status, await answer.text()

    def lines(self, message: str) -> list[dict[str, Any]]:
        """Log lines with this message, oldest first."""
        found = []
        for text in self.log.read_text(errors="replace").splitlines():
            if text.startswith("{") and json.loads(text).get("message") == message:
                found.append(json.loads(text))
        return found

    async def logged(self, message: str, room: str) -> dict[str, Any]:
        """The first line of this message about ``room``; waits for it."""
        for _ in range(400):
            for line in self.lines(message):
                if line.get("pii", {}).get("room") == room:
                    return line
            await asyncio.sleep(0.05)
        raise AssertionError(f"no {message!r} in:\n{self.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A server of this module, so that its implicit dispatches reach no other worker."""
    folder = tmp_path_factory.mktemp("agentkit")
    health = folder / "health"
    with live.livekit_server(folder) as server:
        env = {"VOICEOPS_HEALTH_SOCKET": str(health)}
        with live.worker(server, ENTRY, agentkit=True, env=env) as process:
            (log,) = folder.glob("worker-*.log")
            yield Line(server, process, health, log)


def room_name(fault: str) -> str:
    return f"{secrets.token_hex(4)}-{fault}"


@asynccontextmanager
async def call(line: Line, room: str, identity: str = "caller") -> AsyncIterator[rtc.Room]:
    async with caller(line.server.url, room, identity=identity) as person:
        yield person


async def agent_with(person: rtc.Room, attribute: str, *, timeout_s: float = 30) -> rtc.RemoteParticipant:
    """The agent in the room, once it has this attribute."""
    changed = asyncio.Event()
    person.on("participant_attributes_changed", lambda *_: changed.set())
    person.on("participant_connected", lambda *_: changed.set())

    async def found() -> rtc.RemoteParticipant:
        while True:
            for participant in person.remote_participants.values():
                if participant.kind == AGENT and attribute in participant.attributes:
                    return participant
            changed.clear()
            await changed.wait()

    return await asyncio.wait_for(found(), timeout_s)


async def is_answered(line: Line) -> bool:
    """Whether a new call gets a listening agent."""
    async with call(line, room_name("ok")) as person:
        return (await agent_with(person, "voiceops.ready")).attributes["voiceops.ready"] == "1"


@pytest.mark.parametrize(
    ("fault", "phase", "error", "exit_code"),
    [
        ("raise", "session", "RuntimeError: no such customer", None),
        ("exit", "session", "EntrypointExitedError: sys.exit(3)", None),
        ("crash", "process", None, 7),
        ("abort", "process", None, -signal.SIGABRT),
    ],
)
async def test_after_an_entrypoint_that_fails_the_next_call_is_answered_and_the_log_names_the_phase(
    line: Line, fault: str, phase: str, error: str | None, exit_code: int | None
) -> None:
    room = room_name(fault)
    async with call(line, room):
        failed = await line.logged("call failed", room)

    assert failed["phase"] == phase
    assert failed.get("error") == error
    assert failed.get("exit_code") == exit_code
    assert await is_answered(line)
    document = json.loads((await line.get())[1])
    assert (document["pid"], document["registered"]) == (line.process.pid, True)


async def test_a_block_of_the_loop_is_named_while_the_worker_answers_others(line: Line) -> None:
    room = room_name("block")
    async with call(line, room) as person:
        assert await is_answered(line)
        await agent_with(person, "voiceops.ready")

    (blocked,) = [event for event in line.lines("event loop blocked") if "guarded.py:" in event["where"]]
    assert blocked["phase"] == "session"
    assert " in entrypoint" in blocked["where"]


async def test_an_entrypoint_that_ignores_its_cancellation_does_not_keep_its_process(line: Line) -> None:
    room = room_name("stubborn")
    async with call(line, room) as person:
        await agent_with(person, "voiceops.ready")
    failed = await line.logged("call failed", room)
    over = await line.logged("worker ready for next", room)

    assert failed["error"] == "the entrypoint ignores its cancellation"
    assert over["exit_code"] == 1
    assert await is_answered(line)


async def test_readiness_is_an_attribute_and_a_message_and_the_data_are_shared_between_calls(
    line: Line,
) -> None:
    data = []
    for _ in range(2):
        messages: list[rtc.DataPacket] = []
        async with call(line, room_name("ok")) as person:
            person.on("data_received", messages.append)
            data.append((await agent_with(person, "data")).attributes["data"])
            for _ in range(100):
                if any(message.topic == "voiceops.ready" for message in messages):
                    break
                await asyncio.sleep(0.05)
            ready = [json.loads(message.data) for message in messages if message.topic == "voiceops.ready"]
        assert [message["ready"] for message in ready] == [True]

    assert data[0] == data[1], "the second job got what the first one fetched"


async def test_data_that_hang_are_replaced_by_the_fallback(line: Line) -> None:
    room = room_name("hang")
    async with call(line, room) as person:
        assert (await agent_with(person, "data")).attributes["data"] == "-1"
    assert (await line.logged("call failed", room))["phase"] == "load"


async def rooms(line: Line) -> list[str]:
    server = line.server
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        return [room.name for room in (await client.room.list_rooms(api.ListRoomsRequest())).rooms]


async def test_room_cleanup_ends_the_agent_and_the_room_at_once(line: Line) -> None:
    room = room_name("ok")
    gone = asyncio.Event()
    async with call(line, room) as person:
        await agent_with(person, "voiceops.ready")
        person.on("disconnected", lambda *_: gone.set())
        await person.local_participant.publish_data("", topic="room_cleanup")
        await asyncio.wait_for(gone.wait(), 15)

    assert (await line.logged("call ended", room))["reason"] == "room_cleanup"
    assert room not in await rooms(line)


async def test_room_cleanup_is_ignored_while_another_person_is_there(line: Line) -> None:
    room = room_name("ok")
    async with call(line, room, "first") as first, call(line, room, "second") as second:
        await agent_with(second, "voiceops.ready")
        await first.local_participant.publish_data("", topic="room_cleanup")
        await line_has(line, "room_cleanup ignored, others are still there")

        assert room in await rooms(line)


async def line_has(line: Line, message: str) -> None:
    for _ in range(200):
        if line.lines(message):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no {message!r}")


async def test_when_the_last_person_left_the_job_and_the_room_end(line: Line) -> None:
    room = room_name("ok")
    async with call(line, room) as person:
        await agent_with(person, "voiceops.ready")
    ended = await line.logged("call ended", room)

    assert (ended["reason"], ended["failed"]) == ("caller left", False)
    assert room not in await rooms(line)


@pytest.mark.parametrize("identity", ["caller", "somebody-else"])
async def test_a_caller_who_comes_back_within_the_grace_is_heard_by_the_same_agent(
    line: Line, identity: str
) -> None:
    room = room_name("ok")
    async with call(line, room) as person:
        first = (await agent_with(person, "voiceops.ready")).identity
    async with call(line, room, identity) as person:
        agent = await agent_with(person, "greeted_again")

        assert agent.identity == first
        await line.logged("call returned", room)


async def test_a_dead_agent_of_the_worker_is_removed_as_the_next_one_joins(line: Line) -> None:
    """Mostly before: its removal goes beside the start of the next one, which does not wait for it."""
    room = room_name("ok")
    server = line.server
    async with call(line, room) as person:
        dead = (await agent_with(person, "voiceops.ready")).identity
        job = (await line.logged("call connected", room))["pid"]
        psutil.Process(job).kill()
        await line.logged("worker ready for next", room)
        await asyncio.sleep(2.1)  # younger rooms are taken to be made for the call itself
        seen: list[tuple[str, str]] = []
        person.on("participant_connected", lambda one: seen.append(("joined", one.identity)))
        person.on("participant_disconnected", lambda one: seen.append(("left", one.identity)))
        async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
            await client.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(room=room))
        for _ in range(400):
            if {"joined", "left"} <= {step for step, _ in seen}:
                break
            await asyncio.sleep(0.05)
        await line_has(line, "removed dead agents from a room")

    (joined,) = [identity for step, identity in seen if step == "joined"]
    assert sorted(seen) == [("joined", joined), ("left", dead)]


async def test_bursts_are_taken_beyond_the_idle_processes(line: Line) -> None:
    async with (
        call(line, room_name("ok")) as one,
        call(line, room_name("ok")) as two,
        call(line, room_name("ok")) as three,
    ):
        agents = await asyncio.gather(*(agent_with(person, "voiceops.ready") for person in (one, two, three)))

    assert len({agent.identity for agent in agents}) == 3


async def test_metrics_come_from_the_jobs_and_names_of_rooms_only_under_pii(line: Line) -> None:
    assert await is_answered(line)
    _, text = await line.get("/metrics")

    values = {
        name: float(value)
        for name, _, value in (
            entry.rpartition(" ") for entry in text.splitlines() if not entry.startswith("#")
        )
    }
    assert values["voiceops_agent_registered"] == 1
    assert values["voiceops_agent_pickups_total"] >= 1
    assert values["voiceops_agent_pickup_seconds_count"] >= 1
    assert values["voiceops_agent_answer_seconds_count"] >= 1
    for event in line.lines("call connected"):
        assert event["pii"]["room"] not in json.dumps(
            {key: value for key, value in event.items() if key != "pii"}
        )


async def test_no_job_process_outlives_its_call(line: Line) -> None:
    for _ in range(400):
        if json.loads((await line.get())[1])["calls"] == 0:
            break
        await asyncio.sleep(0.05)
    jobs = {event["pid"] for event in line.lines("call incoming")}
    children = {child.pid for child in psutil.Process(line.process.pid).children(recursive=True)}

    assert not jobs & children


async def test_an_agent_that_nobody_joins_leaves_and_takes_the_room_along(line: Line) -> None:
    room = room_name("ok")
    async with rooms_of(line.server) as session:
        await session.create_room(room)
        await agents_in(session, room)
        assert await gone(session, room, timeout_s=20), "LiveKit itself would wait 300 s"
    ended = await line.logged("call ended", room)
    assert (ended["reason"], ended["failed"]) == ("nobody came", False)


async def test_an_agent_with_a_hidden_listener_stays(line: Line) -> None:
    room = room_name("ok")
    grants = api.VideoGrants(room_join=True, room=room, hidden=True)
    token = api.AccessToken(line.server.api_key, line.server.api_secret).with_identity("listener")
    listener = rtc.Room()
    await listener.connect(line.server.url, token.with_grants(grants).to_jwt())
    try:
        async with rooms_of(line.server) as session:
            before = await agents_in(session, room)
            await line.logged("call ready", room)
            await asyncio.sleep(6)  # longer than the agent waits where it is alone
            assert await agents_in(session, room) == before
    finally:
        await listener.disconnect()


async def test_room_cleanup_of_a_caller_who_has_left_does_not_end_the_call_of_another(line: Line) -> None:
    room = room_name("ok")
    async with call(line, room, "stays") as stays:
        ended = asyncio.Event()
        stays.on("disconnected", lambda *_: ended.set())
        await agent_with(stays, "voiceops.ready")
        async with call(line, room, "leaves") as leaves:
            await leaves.local_participant.publish_data(b"", reliable=True, topic="room_cleanup")
        await asyncio.sleep(3)
        assert not ended.is_set()
        assert line.lines("room_cleanup ignored, others are still there")


async def test_only_the_caller_deletes_the_room_of_a_synthetic_call(line: Line) -> None:
    target = CallTarget(
        url=line.server.url, api_key=Secret(line.server.api_key), api_secret=Secret(line.server.api_secret)
    )
    report = await run_calls(target, CallPlan(count=3, timeout_s=40.0))
    rooms = {result.room for result in report.results}
    await asyncio.sleep(3)  # longer than the agent's grace
    deletes = [
        event["room"]
        for event in map(json.loads, line.server.log_file.read_text().splitlines())
        if "DeleteRoom" in event.get("msg", "") and event.get("room") in rooms
    ]
    assert sorted(deletes) == sorted(rooms)
    async with rooms_of(line.server) as session:
        assert await session.list_rooms(sorted(rooms)) == ()


async def test_a_drain_waits_neither_for_an_agent_whom_nobody_joined_nor_for_a_job_that_never_joins(
    tmp_path: Path,
) -> None:
    """Of an agent that knows nothing of voiceops; LiveKit itself keeps the one for 300 s, the other for ever."""
    entry = Path(__file__).parent / "agents" / "tone.py"
    with (
        live.livekit_server(tmp_path) as server,
        live.worker(server, entry, agentkit=True, env={"TONE_JOBS": "thread"}) as process,
    ):
        async with rooms_of(server) as session:
            await session.create_room("ghost")
            async with caller(server.url, "call-hang"):
                await agents_in(session, "ghost")
            (log,) = server.folder.glob("worker-*.log")
            await asyncio.to_thread(live.wait_for_line, process, log, "call-hang")
            process.send_signal(signal.SIGTERM)
            await session.delete_room("call-hang")
            assert await asyncio.to_thread(process.wait, 80) == 0
            assert await session.list_rooms(["ghost"]) == ()
