"""A whole stack of real parts: livekit-server and an agent worker, with calls, kills and the server's traps."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import callers, live, parts, stacks
from tests.support.documents import error_of
from tests.support.servers import IN_THREADS
from voiceops.adapters.process import ports_in_use, processes
from voiceops.stack.local.folder import ProjectFolder

ROUNDS = int(os.environ.get("VOICEOPS_AGENT_ROUNDS", "2"))
pytestmark = pytest.mark.timeout(480)


def services(**server: Any) -> dict[str, dict[str, Any]]:
    ports = {"rtc_tcp_port": parts.free_port(), "rtc_udp_port": parts.free_port(socket.SOCK_DGRAM)}
    binary = str(parts.livekit_server_binary())
    return {
        "livekit": {"kind": "livekit", "binary": binary} | ports | server,
        "agent": {"kind": "agent", "entry": "agent/agent.py", "needs": ["livekit"], "env": dict(IN_THREADS)},
    }


@contextmanager
def stack_project(folder: Path, **server: Any) -> Iterator[stacks.Project]:
    livekit = {
        "url": f"ws://127.0.0.1:{parts.free_port()}",
        "api_key": live.API_KEY,
        "api_secret": live.API_SECRET,
    }
    entry = folder / "agent" / "agent.py"
    entry.parent.mkdir(parents=True)
    shutil.copy(stacks.REPOSITORY / "tests" / "integration" / "agents" / "tone.py", entry)
    with stacks.project(folder, services(**server), livekit=livekit) as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stacks.Project]:
    """One stack for the tests of this module; each makes it ready first, however it was left."""
    with stack_project(tmp_path_factory.mktemp("stack") / "project") as made:
        yield made


def pids(project: stacks.Project) -> dict[str, int]:
    document = project.json("check-running")
    found = {name: service["pids"] for name, service in document["hosts"]["localhost"]["services"].items()}
    assert all(len(one) == 1 for one in found.values()), found
    return {name: one[0] for name, one in found.items()}


@contextmanager
def a_call(project: stacks.Project) -> Iterator[subprocess.Popen[str]]:
    """A real caller that hears the agent and stays."""
    caller = project.spawn("call", "--hold", "100", "--json")
    try:
        ends_at = time.monotonic() + 60
        while not project.json("status")["hosts"]["localhost"]["call_count"]:
            assert caller.poll() is None, caller.communicate()
            assert time.monotonic() < ends_at, "the call did not come up"
        yield caller
    finally:
        caller.send_signal(signal.SIGINT)
        caller.communicate(timeout=30)


def test_start_brings_up_a_stack_that_is_registered_and_leaves_loopback_alone(
    project: stacks.Project,
) -> None:
    first = project.json("start")
    assert {service["state"] for service in first["hosts"]["localhost"]["services"].values()} == {"ready"}
    assert project.json("start")["changed_count"] == 0
    running = pids(project)
    assert 8081 not in ports_in_use.listening_ports(running["agent"])
    with open("/proc/net/tcp") as table, open("/proc/net/udp") as udp:
        own = {s for pid in running.values() for s in ports_in_use.sockets_of(pid)}
        lines = [line.split() for line in [*table, *udp]]
    bound = {line[1].partition(":")[0] for line in lines if line[9] in own and line[3] in ("0A", "07")}
    assert bound <= {"0100007F"}


def test_a_killed_server_is_started_again_and_the_same_agent_registers_anew(project: stacks.Project) -> None:
    project.json("start")
    before = pids(project)
    os.kill(before["livekit"], signal.SIGKILL)
    result = project.json("start")
    assert result["hosts"]["localhost"]["services"]["livekit"]["action"] == "start"
    assert result["hosts"]["localhost"]["services"]["agent"]["action"] == "wait"
    assert pids(project)["agent"] == before["agent"]


def test_with_a_call_stop_names_it_and_restart_overlaps(project: stacks.Project) -> None:
    project.json("start")
    before = pids(project)
    with a_call(project) as caller:
        refused = project.run("stop")
        assert refused.returncode == 1
        assert "voiceops-call-" in refused.stderr
        assert "--yes" in refused.stderr
        result = project.json("restart", "--only", "agent")["hosts"]["localhost"]["services"]["agent"]
        assert result["action"] == "overlap"
        assert result["draining"] == [before["agent"]]
        (draining,) = project.json("status")["hosts"]["localhost"]["services"]["agent"]["draining_runs"]
        assert (draining["pid"], draining["call_count"]) == (before["agent"], 1)
        assert draining["release"] != ""
        assert caller.poll() is None
        assert pids(project)["agent"] != before["agent"]
        old = processes.find(before["agent"])
        assert old is not None
    assert processes.wait_gone([old.key], 60) == []
    assert project.json("check-running")["ok"]


def test_nothing_is_lost_or_doubled_when_processes_are_killed_at_random(project: stacks.Project) -> None:
    dice = random.Random(ROUNDS)
    for _ in range(ROUNDS):
        starting = project.spawn("start")
        moment = time.monotonic() + dice.uniform(0.2, 3.0)
        while time.monotonic() < moment and starting.poll() is None:
            time.sleep(0.01)
        starting.kill()
        starting.communicate()
        alive = stacks.marked(project.folder)
        for process in dice.sample(alive, dice.randint(1, max(1, len(alive)))) if alive else []:
            processes.send_signal(process.key, signal.SIGKILL)
        project.json("start")
        running = set(pids(project).values())
        leaders = {process.pid for process in stacks.marked(project.folder) if process.leads}
        assert leaders == running


def test_stop_ends_all_of_it_agents_first(project: stacks.Project) -> None:
    project.json("start")
    assert list(project.json("stop")["hosts"]["localhost"]["services"]) == ["agent", "livekit"]
    assert stacks.marked(project.folder) == []
    assert list(ProjectFolder(project.folder).sockets.glob("*")) == []


def test_a_server_that_was_just_ready_does_not_swallow_its_stop_signal(project: stacks.Project) -> None:
    project.json("stop")
    for _ in range(3):
        project.json("start", "--only", "livekit")
        stopped = project.run("stop")
        assert stopped.returncode == 0
        assert "ignores its stop signal" not in stopped.stderr


async def test_a_server_with_an_agent_alone_in_a_room_ends_without_being_killed(
    project: stacks.Project,
) -> None:
    await asyncio.to_thread(project.json, "start")
    (url,) = re.findall(r"ws://127.0.0.1:\d+", (project.folder / "inventory.yaml").read_text())
    async with callers.caller(url, "left-alone") as person:
        await callers.agent_in(person)
    stopped = await asyncio.to_thread(project.run, "stop")
    assert stopped.returncode == 0
    assert "ignores its stop signal" not in stopped.stderr


@pytest.mark.parametrize("mistake", ["unknown setting", "taken port"])
def test_a_start_up_error_of_the_server_is_a_failure_although_it_exits_0(
    tmp_path: Path, mistake: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        server = {"config": {"no_such_setting": 1}} if "setting" in mistake else {"rtc_udp_port": port}
        with stack_project(tmp_path / "project", **server) as project:
            failed = project.run("start", "--timeout", "30")
            assert failed.returncode == 1, failed.stdout + failed.stderr
            assert "livekit ended before it was ready (exit 0)" in failed.stderr
            assert ("no_such_setting" if "setting" in mistake else "address already in use") in failed.stderr
            assert (
                project.json("check-running", code=2)["hosts"]["localhost"]["services"]["agent"]["state"]
                == "missing"
            )


@pytest.mark.parametrize("place", ["other", "project/by hand"])
def test_a_server_on_our_port_is_ended_only_if_it_runs_from_this_project(tmp_path: Path, place: str) -> None:
    port = parts.free_port()
    (tmp_path / place).mkdir(parents=True)
    with (
        live.livekit_server(tmp_path / place, port=port) as other,
        stack_project(tmp_path / "project") as project,
    ):
        stacks.write_inventory(
            project.folder,
            services(),
            livekit={"url": other.url, "api_key": live.API_KEY, "api_secret": live.API_SECRET},
        )
        found = project.json("check-running", code=2)["hosts"]["localhost"]["services"]["livekit"]
        assert (found["state"], found["pids"]) == ("stray", [other.pid])
        refused = error_of(project.json("start", code=1))
        assert (refused["type"], refused["pid"]) == ("StrayError", other.pid)
        if place == "other":
            refused = error_of(project.json("start", "--replace", "--only", "livekit", code=1))
            assert refused["foreign_owner"] == "another program"
            assert project.json("why", "--fix", code=1)["findings"][0]["rule"] == "stray-server"
            assert processes.find(other.pid)
            return
        replaced = project.json("start", "--replace", "--only", "livekit")
        assert replaced["hosts"]["localhost"]["services"]["livekit"]["state"] == "ready"
        project.json("stop")
