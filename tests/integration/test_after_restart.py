"""Who calls in the seconds between a server's restart and the agent's registration gets an agent, and only one."""

from __future__ import annotations

import asyncio
import os
import signal
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


async def meets(made: Project) -> set[str]:
    """The agents that a caller meets who came before the agent was back, up to a while after the start."""
    port = urlsplit(made.url).port or 0
    agent = made.pid("agent")
    starting = asyncio.create_task(asyncio.to_thread(made.inv, "start"))
    await until(port, answers=False)
    os.kill(agent, signal.SIGSTOP)
    try:
        await until(port, answers=True)
        async with caller(made.url, "early") as person:
            met: set[str] = set()
            person.on("participant_connected", lambda one: met.add(one.identity))
            await asyncio.sleep(2)
            assert not met
            os.kill(agent, signal.SIGCONT)
            await agent_in(person)
            assert "an agent was sent to 1 caller" in (await starting).err
            await asyncio.sleep(2)
            return met
    finally:
        os.kill(agent, signal.SIGCONT)
        await starting


def test_a_caller_who_came_before_the_agent_was_back_gets_one(tmp_path: Path) -> None:
    with project(tmp_path / "project", AGENTS / "tone.py", agent={"env": dict(IN_THREADS)}) as made:
        made.inv("start")
        made.variables["services"]["livekit"]["env"] = {"COLOUR": "blue"}
        made.write()
        assert len(asyncio.run(meets(made))) == 1
        made.variables["services"]["livekit"]["env"] = {"COLOUR": "red"}
        made.write()
        assert "an agent was sent" not in made.inv("start", "--yes").err
