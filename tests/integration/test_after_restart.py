"""Who calls in the seconds between a server's restart and the agent's registration gets an agent, and only one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.callers import agent_in, caller
from tests.support.projects import Project, project
from tests.support.servers import IN_THREADS

pytestmark = pytest.mark.timeout(240)
AGENTS = Path(__file__).parent / "agents"


async def until(port: int, *, answers: bool) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            there = True
        except OSError:
            there = False
        if there is answers:
            return
        await asyncio.sleep(0.01)


async def meets(made: Project, *command: str) -> set[str]:
    """The agents that a caller meets who came before the agent was back, up to a while after the command."""
    port = urlsplit(made.url).port or 0
    agent = made.pid("agent")
    running = asyncio.create_task(asyncio.to_thread(made.inv, *command))
    await until(port, answers=False)
    os.kill(agent, signal.SIGSTOP)
    try:
        await until(port, answers=True)
        async with caller(made.url, f"early-{command[0]}") as person:
            met: set[str] = set()
            person.on("participant_connected", lambda one: met.add(one.identity))
            await asyncio.sleep(2)
            assert not met
            os.kill(agent, signal.SIGCONT)
            await agent_in(person)
            assert "an agent was sent to 1 caller" in (await running).err
            await asyncio.sleep(2)
            return met
    finally:
        os.kill(agent, signal.SIGCONT)
        await running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("restarted") / "project"
    with project(folder, AGENTS / "tone.py", agent={"env": dict(IN_THREADS)}) as made:
        made.inv("start")
        yield made


def test_a_caller_who_came_before_the_agent_was_back_gets_one(stack: Project) -> None:
    stack.variables["services"]["livekit"]["env"] = {"COLOUR": "blue"}
    stack.write()
    assert len(asyncio.run(meets(stack, "start"))) == 1


def test_so_does_one_who_came_during_a_restart(stack: Project) -> None:
    assert len(asyncio.run(meets(stack, "restart", "--only", "livekit"))) == 1


def test_where_nobody_called_nobody_is_sent(stack: Project) -> None:
    restarted = stack.inv("restart", "--only", "livekit", "--drain", "30")
    assert "an agent was sent" not in restarted.err
