"""The stand-in for an agent and a real one, seen by the supervisor: the same health, signals and end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live, stacks
from voiceops.adapters.process import processes
from voiceops.health.agent import read_health
from voiceops.kinds.model import Declared
from voiceops.model.states import ServiceState
from voiceops.stack.backend import StopForce
from voiceops.stack.local.folder import ProjectFolder

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(params=["fake", "real"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Declared]:
    if request.param == "fake":
        yield stacks.fake_agent(tmp_path)
    else:
        server: live.LiveServer = request.getfixturevalue("livekit")
        entry = stacks.REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
        yield stacks.fake_agent(
            tmp_path,
            argv=(sys.executable, "-m", "voiceops.agentkit", "start", str(entry)),
            # A name of its own: calls of other tests are not for it.
            env=server.environment()
            | {"PYTHONPATH": str(stacks.REPOSITORY), "TONE_AGENT_NAME": f"contract-{os.getpid()}"},
            ready_timeout_s=60.0,
        )
    stacks.end_all(tmp_path)


def test_an_agent_gets_ready_says_so_drains_on_one_signal_and_leaves_no_process(agent: Declared) -> None:
    folder = agent.cwd
    backend = stacks.stack_of(folder, agent).backend
    run = backend.wait_ready(agent, backend.start(agent), stacks.soon(60))
    assert run.state is ServiceState.READY
    health = read_health(ProjectFolder(folder).health_socket(run.launch))
    assert health is not None
    assert (health.registered, health.draining, health.calls, health.pid) == (True, False, 0, run.pid)
    assert health.worker_id
    main = processes.find(run.pid)
    assert main is not None
    assert len(stacks.marked(folder)) > 1
    assert backend.end(run, stacks.soon(30), StopForce.STOP)
    assert not processes.alive(main.key)
    assert stacks.marked(folder) == []
