"""The monitor beside real calls: whoever waited while no worker was there is answered without a redial."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support import parts
from tests.support.callers import Hearing, agent_in, caller
from tests.support.projects import REPOSITORY, Project, project
from tests.support.servers import IN_THREADS

pytestmark = pytest.mark.timeout(240)
TONE = REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
CALLERS = 3


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Project]:
    with project(tmp_path / "project", TONE, agent={"env": dict(IN_THREADS)}) as one:
        one.variables["services"]["monitor"] = {"kind": "monitor", "webhook_port": parts.free_port()}
        one.write()
        one.inv("start", "--timeout", "160")
        yield one


async def wait_through_the_death_of_all_workers(made: Project) -> float:
    """Callers who are in a call, and callers who come while nobody is there; seconds until each hears an agent."""
    async with AsyncExitStack() as calls:
        people = [await calls.enter_async_context(caller(made.url, "before"))]
        await agent_in(people[0])
        # The monitor has seen the worker: from it the monitor has the name by which its jobs are known.
        await asyncio.sleep(4)
        os.kill(made.pid("agent"), signal.SIGKILL)
        began = time.monotonic()
        for number in range(CALLERS - 1):
            people.append(await calls.enter_async_context(caller(made.url, f"waits-{number}")))
        for person in people:
            hearing = await calls.enter_async_context(Hearing(person))
            await asyncio.wait_for(hearing.something(), 60)
        took_s = time.monotonic() - began
        await asyncio.sleep(8)
        assert [len(person.remote_participants) for person in people] == [1] * CALLERS
        return took_s


def test_callers_are_answered_without_redialling_and_the_history_knows_of_it(made: Project) -> None:
    took_s = asyncio.run(wait_through_the_death_of_all_workers(made))
    print(f"answered after {took_s:.1f} s")
    made.inv("monitor", "--once")
    found = made.inv("history", "--json").json
    text = str(found)
    causes = [one["cause"] for one in found["hosts"]["localhost"]["incidents"]]
    assert causes.count("caller-without-agent") >= CALLERS - 1
    assert "service-dead" in text
    assert "dispatch" in text
    log = (made.folder / ".voiceops" / "logs" / "monitor.log").read_text()
    assert '"level":"error"' not in log, log
