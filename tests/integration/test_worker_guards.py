"""A worker that does not answer keeps its live call: ``why --fix`` and ``start`` overlap, ``stop`` asks."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.callers import PAUSE_LIMIT_S, Hearing, agent_in, caller
from tests.support.documents import error_of
from tests.support.projects import Project, project
from voiceops.adapters.process import processes

pytestmark = pytest.mark.timeout(240)
TONE = Path(__file__).parent / "agents" / "tone.py"
BLOCKS = """
import signal
import threading
from pathlib import Path

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(float(Path(__file__).with_name(".block").read_text())))
"""
"""The worker's own event loop stands still for as long as the file says; its jobs are other processes."""


async def refusal(made: Project, *arguments: str) -> dict[str, Any]:
    answer = await asyncio.to_thread(made.inv, *arguments, "--json", code=1)
    return error_of(answer.json)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with project(tmp_path_factory.mktemp("stack"), TONE) as made:
        entry = made.folder / "agent" / "agent.py"
        entry.write_text(entry.read_text() + BLOCKS)
        yield made


@asynccontextmanager
async def a_call(made: Project, room: str) -> AsyncIterator[Hearing]:
    """A caller who hears the agent: the same one to the end, without a pause."""
    await asyncio.to_thread(made.inv, "start", "--yes")
    async with caller(made.url, room) as person, Hearing(person) as heard:
        lost: list[object] = []
        person.on("disconnected", lost.append)
        agent = await agent_in(person)
        await heard.something()
        yield heard
        await asyncio.sleep(0.5)
        assert not lost
        assert list(person.remote_participants) == [agent]
        assert heard.longest_pause_s < PAUSE_LIMIT_S


def freeze(made: Project, how: str) -> psutil.Process:
    """Keep the worker from answering, in one of several ways."""
    worker = psutil.Process(made.pid("agent"))
    if how == "stopped":
        worker.suspend()
    else:
        (made.folder / "agent" / ".block").write_text(how)
        worker.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
    return worker


async def lose_a_call(made: Project, room: str) -> None:
    """A call that LiveKit offers to the worker in vain: silence alone proves nothing on a full machine."""
    log = made.folder / ".voiceops" / "logs" / "livekit.log"
    already = log.read_text().count("failed to assign job")
    async with caller(made.url, room):
        for _ in range(400):
            if log.read_text().count("failed to assign job") > already:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("the worker was not offered the call, or has answered")


async def diagnosis(made: Project) -> str:
    return (await asyncio.to_thread(made.inv, "why", code=None)).out


async def fix(made: Project) -> None:
    """`why --fix`, again where it could not inspect everything within its deadlines (a full machine)."""
    for _ in range(3):
        answer = await asyncio.to_thread(made.inv, "why", "--fix", "--json", code=None)
        if answer.json["hosts"]["localhost"]["fixes"] or not answer.json["hosts"]["localhost"]["problems"]:
            break
    assert [one["done"] for one in answer.json["hosts"]["localhost"]["fixes"]] == [True], answer.out


@pytest.mark.parametrize("how", ["600", "stopped"])
async def test_why_replaces_a_worker_that_does_not_answer_and_its_call_is_heard_all_the_while(
    stack: Project, how: str
) -> None:
    # Not for long: a job that gets no ping from its worker for 70 s ends itself (livekit/agents/ipc/proc_client.py).
    async with a_call(stack, f"held-{how}"):
        old = await asyncio.to_thread(freeze, stack, how)
        await lose_a_call(stack, f"lost-{how}")
        await fix(stack)
        assert await asyncio.to_thread(stack.pid, "agent") != old.pid
        assert old.is_running()
        said = await diagnosis(stack) if how == "600" else ""
    if how == "stopped":
        await asyncio.to_thread(old.wait, 60)
        return
    assert "[worker-drain-stuck]" in said
    assert f"pid {old.pid}" in said
    assert "1 call may be its own" in said
    assert processes.find(old.pid)  # only a worker that runs notices that its last call is over
    for _ in range(20):
        if "event loop blocked at" in said and "agent.py" in said:
            break
        said = await diagnosis(stack)
    else:
        raise AssertionError(f"the line that blocks is not named:\n{said}")
    for number in range(5):  # it has left LiveKit by then, which else would offer it every second call
        async with caller(stack.url, f"beside-{number}", identity="next") as person:
            await agent_in(person)
    await fix(stack)
    assert processes.find(old.pid) is None
    assert "worker-drain-stuck" not in await diagnosis(stack)


@pytest.mark.parametrize("command", [["why", "--fix"], ["start"], ["stop", "--only", "agent"]], ids=" ".join)
async def test_a_worker_that_is_blocked_for_seconds_keeps_its_call_whatever_is_typed_meanwhile(
    stack: Project, command: list[str]
) -> None:
    async with a_call(stack, "held-briefly"):
        await asyncio.to_thread(freeze, stack, "2.5")
        code = {"why": None, "start": 0, "stop": 1}[command[0]]
        await asyncio.to_thread(stack.inv, *command, code=code)


async def test_stop_asks_before_it_ends_a_blocked_worker_with_a_call(stack: Project) -> None:
    async with a_call(stack, "held-up"):
        old = await asyncio.to_thread(freeze, stack, "600")
        for command in (["stop", "--only", "agent"], ["stop", "--only", "agent", "--drain", "1"]):
            error = await refusal(stack, *command)
            assert error["rooms"] == ["held-up"]
        assert old.is_running()
    await asyncio.to_thread(stack.inv, "stop", "--only", "agent", "--yes")
    assert processes.find(old.pid) is None


def test_a_blocked_worker_without_a_call_ends_without_a_question(stack: Project) -> None:
    stack.inv("start")
    old = freeze(stack, "600")
    stack.inv("stop", "--only", "agent")
    assert processes.find(old.pid) is None


def test_a_blocked_worker_without_a_call_does_not_stay_beside_its_successor(stack: Project) -> None:
    stack.inv("start")
    old = freeze(stack, "600")
    stack.inv("start")
    assert stack.pid("agent") != old.pid
    assert processes.find(old.pid) is None
