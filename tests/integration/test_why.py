"""Every cause of silence is produced for real; ``why`` names it and ``why --fix`` brings the agent back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import psutil
import pytest
from livekit import api

from tests.support.callers import caller, token
from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import Project, project

pytestmark = pytest.mark.timeout(480)
AGENTS = Path(__file__).parent / "agents"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A running stack whose agent fails as the room's name says."""
    with project(tmp_path_factory.mktemp("why"), AGENTS / "faulty.py") as made:
        made.inv("start")
        yield made


def rules(made: Project, *flags: str) -> dict[str, str]:
    """room -> rule of its first finding; the empty room stands for the stack."""
    findings = made.inv("why", "--json", *flags, code=None).json["findings"]
    return {finding.get("room", ""): finding["rule"] for finding in reversed(findings)}


async def diagnose(made: Project, *flags: str) -> dict[str, str]:
    return await asyncio.to_thread(rules, made, *flags)


async def until(made: Project, expected: dict[str, str], *, timeout_s: float = 40) -> None:
    """Ask ``why`` until it says all of it: some causes can only be known after a while."""
    found: dict[str, str] = {}
    ends_at = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < ends_at:
        found = await diagnose(made)
        if expected.items() <= found.items():
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"expected {expected}, why says {found}")


async def fix(made: Project) -> None:
    """Carry the fixes out; nothing may be left to find."""
    answer = await asyncio.to_thread(made.inv, "why", "--fix", "--json", code=None)
    assert answer.json["ok"], answer.out


async def _fixed(made: Project, rooms: Iterable[str], *, timeout_s: float = 60) -> None:
    """Fix until there is one agent in each room and nothing is left to find.

    On a busy machine a join takes longer than a fix waits, and `why` gives it 20 s in place of 10.
    """
    ends_at = asyncio.get_running_loop().time() + timeout_s
    while True:
        answer = await asyncio.to_thread(made.inv, "why", "--fix", "--json", code=None)
        counts = {room: len(await agents_in(made, room)) for room in rooms}
        if set(counts.values()) == {1} and answer.json["ok"]:
            return
        assert max(counts.values()) <= 1, (counts, answer.out)
        assert asyncio.get_running_loop().time() < ends_at, (counts, answer.out)
        await asyncio.sleep(1)


async def agents_in(made: Project, room: str) -> list[str]:
    async with api.LiveKitAPI(made.url, API_KEY, API_SECRET) as lk:
        answer = await lk.room.list_participants(api.ListParticipantsRequest(room=room))
    return [one.identity for one in answer.participants if one.kind == api.ParticipantInfo.Kind.AGENT]


@pytest.mark.parametrize(("jobs", "rounds"), [("process", 1), ("thread", 2)])
async def test_healthy_calls_raise_no_false_alarm(tmp_path: Path, jobs: str, rounds: int) -> None:
    with project(tmp_path, AGENTS / "faulty.py", agent={"env": {"TONE_JOBS": jobs}}) as made:
        made.inv("start")
        for round_number in range(rounds):
            async with AsyncExitStack() as calls:
                for number in range(4):
                    await calls.enter_async_context(caller(made.url, f"good-{round_number}-{number}"))
                assert await diagnose(made) == {}  # while they join
                for number in range(4):
                    await _agent_of(made, f"good-{round_number}-{number}")
                assert await diagnose(made) == {}


async def test_an_entrypoint_that_raises_exits_dies_late_or_hangs_is_told_apart_and_fixed(
    stack: Project,
) -> None:
    expected = {
        "raise-1": "entrypoint-raised",
        "exit-1": "entrypoint-exited",
        "late-1": "entrypoint-raised",
        "hang-1": "entrypoint-hung",
    }
    async with AsyncExitStack() as calls:
        for room in expected:
            await calls.enter_async_context(caller(stack.url, room))
        await until(stack, expected)
        (finding,) = stack.inv("why", "--room", "raise-1", "--json", code=1).json["findings"]
        (ended,) = stack.inv("why", "--room", "exit-1", "--json", code=1).json["findings"]
        await _fixed(stack, expected)
    (raised,) = finding["evidence"]
    assert re.fullmatch(
        r"worker log at [-0-9]+T[:0-9]+Z: ValueError: no such customer \(agent/agent\.py:\d+\)", raised
    )
    assert finding["fix"] == "inv rooms.dispatch raise-1"
    assert "worker output: can't open the table of customers" in ended["evidence"]


async def test_a_job_process_killed_in_the_call_is_named_and_the_agent_comes_back(stack: Project) -> None:
    async with caller(stack.url, "good-killed") as person:
        agent = await _agent_of(stack, "good-killed")
        while not any(one.attributes.get("voiceops.ready") for one in person.remote_participants.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        worker = psutil.Process(stack.pid("agent"))
        for child in worker.children(recursive=True):
            # The job's own process cannot be told from idle ones, so all of them go.
            if "forkserver" in " ".join(child.cmdline()):
                child.kill()
        await until(stack, {"good-killed": "killed-in-call"})
        await fix(stack)
        assert await agents_in(stack, "good-killed") != [agent]


async def test_a_killed_worker_is_started_and_its_caller_gets_a_new_agent(stack: Project) -> None:
    async with caller(stack.url, "good-worker"):
        await _agent_of(stack, "good-worker")
        os.kill(stack.pid("agent"), signal.SIGKILL)
        assert await diagnose(stack) == {"": "no-worker"}
        await fix(stack)
        assert len(await agents_in(stack, "good-worker")) == 1


async def test_a_call_that_came_while_no_worker_was_there_is_dispatched_again(stack: Project) -> None:
    stack.inv("stop", "--only", "agent", "--yes")
    async with caller(stack.url, "good-lost"):
        stack.inv("start")
        await until(stack, {"good-lost": "dispatch-lost"})
        await fix(stack)
        assert len(await agents_in(stack, "good-lost")) == 1


async def test_a_frozen_worker_is_killed_and_its_caller_gets_a_new_agent(stack: Project) -> None:
    frozen = stack.pid("agent")
    os.kill(frozen, signal.SIGSTOP)
    async with caller(stack.url, "good-frozen"):
        assert (await diagnose(stack))[""] == "worker-frozen"
        await fix(stack)
        assert stack.pid("agent") != frozen
        assert len(await agents_in(stack, "good-frozen")) == 1


async def test_two_agents_in_a_call_become_one(stack: Project) -> None:
    async with caller(stack.url, "good-two"):
        first = await _agent_of(stack, "good-two")
        async with api.LiveKitAPI(stack.url, API_KEY, API_SECRET) as lk:
            await lk.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(room="good-two"))
        await until(stack, {"good-two": "duplicate-agents"})
        await fix(stack)
        assert await agents_in(stack, "good-two") == [first]


async def test_a_server_that_is_gone_explains_everything_and_comes_back(stack: Project) -> None:
    os.kill(stack.pid("livekit"), signal.SIGKILL)
    assert (await diagnose(stack))[""] == "server-down"
    await fix(stack)


async def _agent_of(made: Project, room: str) -> str:
    for _ in range(200):
        found = await agents_in(made, room)
        if found:
            return found[0]
        await asyncio.sleep(0.1)
    raise AssertionError(f"no agent came into {room}")


def test_named_agents_need_a_dispatch_with_the_right_name(stack: Project) -> None:
    stack.variables["services"]["agent"]["agent_name"] = "front"
    stack.write()
    stack.inv("start", "--yes")

    async def scene() -> None:
        async with caller(stack.url, "good-unnamed"), caller(stack.url, "good-typo"):
            async with api.LiveKitAPI(stack.url, API_KEY, API_SECRET) as lk:
                await lk.agent_dispatch.create_dispatch(
                    api.CreateAgentDispatchRequest(room="good-typo", agent_name="frnt")
                )
            found = await diagnose(stack)
            expected = {"good-unnamed": "no-dispatch", "good-typo": "wrong-agent-name"}
            assert expected.items() <= found.items(), found
            await fix(stack)
            assert len(await agents_in(stack, "good-unnamed")) == 1
            assert len(await agents_in(stack, "good-typo")) == 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"LIVEKIT_API_SECRET": "another-secret-that-is-long-enough-for-it"}, "worker-wrong-key"),
        ({"LIVEKIT_URL": "ws://127.0.0.1:9"}, "worker-wrong-url"),
    ],
)
async def test_a_worker_with_the_wrong_key_or_address_is_told_apart(
    stack: Project, wrong: dict[str, str], rule: str
) -> None:
    await asyncio.to_thread(stack.inv, "stop", "--only", "agent", "--yes")
    agent = stack.variables["services"]["agent"]
    agent |= {"env": wrong, "ready_timeout_s": 9}
    stack.write()
    await asyncio.to_thread(stack.inv, "start", code=1)
    await until(stack, {"": rule})  # on a machine under load it has not tried to register after 9 s
    del agent["env"]
    stack.write()


async def test_a_worker_that_is_full_is_named(tmp_path: Path) -> None:
    with project(tmp_path, AGENTS / "faulty.py", agent={"max_concurrent_jobs": 1}) as made:
        made.inv("start")
        async with caller(made.url, "good-first"):
            await _agent_of(made, "good-first")
            async with caller(made.url, "good-second"):
                await asyncio.sleep(1)
                assert (await diagnose(made))[""] == "worker-over-load"


async def test_an_agent_that_stays_inert_after_a_refresh_is_replaced(tmp_path: Path) -> None:
    with project(tmp_path, AGENTS / "plain_session.py", departure_timeout_s=20) as made:
        made.inv("start")
        async with caller(made.url, "refreshed"):
            inert = await _agent_of(made, "refreshed")
            await asyncio.sleep(1)
        async with caller(made.url, "refreshed"):
            await until(made, {"refreshed": "inert-agent"})
            await fix(made)
            assert await agents_in(made, "refreshed") not in ([], [inert])


async def test_an_expired_token_is_named_without_showing_it(stack: Project) -> None:
    expired = token("good-expired", life_s=-600)
    async with aiohttp.ClientSession() as session:
        answer = await session.get(stack.url.replace("ws", "http") + "/rtc", params={"access_token": expired})
        assert answer.status == 401
    shown = stack.inv("why", code=1).out
    assert "[expired-token]" in shown
    assert expired not in shown
    assert expired.split(".")[1] not in shown


def test_a_short_secret_is_a_warning(tmp_path: Path) -> None:
    with project(tmp_path, secret="short") as made:
        for _ in range(2):  # the second time nothing is to be done, and it is still so
            told = made.inv("start").err
            assert "warning: LIVEKIT_API_SECRET has 5 characters: LiveKit wants 32 or more" in told
            assert re.search(r"`openssl rand -hex 32`\), then `\S+ start`", told)
        document = made.inv("why", "--json").json
        assert [finding["rule"] for finding in document["findings"]] == ["secret-too-short"]
        assert document["ok"]
