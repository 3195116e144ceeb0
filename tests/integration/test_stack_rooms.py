"""Rooms are cleaned when an agent starts, and when a server starts on a Redis that kept them."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import live, parts, stacks
from tests.support.servers import IN_THREADS
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.adapters.process import processes
from voiceops.model.secret import Secret
from voiceops.stack import operations

pytestmark = pytest.mark.timeout(420)
AGENT = stacks.REPOSITORY / "tests" / "integration" / "agents" / "tone.py"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stacks.end_all(tmp_path)


@pytest.fixture
def url() -> str:
    return f"ws://127.0.0.1:{parts.free_port()}"


@pytest.fixture
def project(tmp_path: Path, url: str) -> Iterator[stacks.Project]:
    """Redis, livekit-server and an agent; empty rooms are stale after a second."""
    redis, redis_port = shutil.which("redis-server"), parts.free_port()
    if redis is None:
        parts.missing("redis-server", "install Debian's redis-server")
    (tmp_path / "agent").mkdir()
    shutil.copy(AGENT, tmp_path / "agent" / "agent.py")
    services: dict[str, dict[str, Any]] = {
        "redis": {
            "kind": "command",
            "command": [redis, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""],
            "probe": {"tcp": f"127.0.0.1:{redis_port}"},
        },
        "livekit": {
            "kind": "livekit",
            "binary": str(parts.livekit_server_binary()),
            "rtc_tcp_port": parts.free_port(),
            "rtc_udp_port": parts.free_port(socket.SOCK_DGRAM),
            "redis": f"127.0.0.1:{redis_port}",
            "needs": ["redis"],
        },
        "agent": {
            "kind": "agent",
            "entry": "agent/agent.py",
            "needs": ["livekit"],
            "env": dict(IN_THREADS),
            "ready_timeout_s": 150,
        },
    }
    livekit = {"url": url, "api_key": live.API_KEY, "api_secret": live.API_SECRET}
    with stacks.project(tmp_path, services, livekit=livekit) as made:
        inventory = (tmp_path / "inventory.yaml").read_text()
        stale = '"vars": {"rooms": {"stale_after_s": 1}, '
        (tmp_path / "inventory.yaml").write_text(inventory.replace('"vars": {', stale, 1))
        yield made


def start(project: stacks.Project) -> subprocess.CompletedProcess[str]:
    """Start everything; a worker's imports take a minute on a full machine."""
    started = project.run("start", "--timeout", "160", timeout_s=170)
    assert started.returncode == 0, started.stderr
    return started


def rooms(url: str, *made: str) -> list[str]:
    """Make these rooms, which the server itself would keep for an hour; the names of all."""

    async def ask() -> list[str]:
        async with LivekitApi(url, Secret(live.API_KEY), Secret(live.API_SECRET)) as api:
            for name in made:
                await api.create_room(name, empty_timeout_s=3600, agents=["__nobody__"])
            return [room.name for room in await api.list_rooms()]

    return asyncio.run(ask())


def test_rooms_are_cleaned_before_an_agent_that_starts_takes_calls(project: stacks.Project, url: str) -> None:
    project.json("start", "--only", "livekit")
    assert rooms(url, "stale") == ["stale"]
    time.sleep(1.2)
    started = start(project)
    assert rooms(url) == []
    told = started.stderr + started.stdout
    assert 0 <= told.index("rooms cleaned: 1 deleted") < told.index("agent: ready"), told


def test_rooms_that_a_redis_kept_are_cleaned_when_the_server_starts_anew(
    project: stacks.Project, url: str
) -> None:
    start(project)
    assert rooms(url, "kept") == ["kept"]
    (server,) = project.json("check-running")["hosts"]["localhost"]["services"]["livekit"]["pids"]
    found = processes.find(server)
    assert found is not None
    processes.send_signal(found.key, signal.SIGKILL)
    assert processes.wait_gone([found.key], 5) == []
    time.sleep(1.2)
    started = start(project)
    assert "rooms cleaned: 1 deleted" in started.stderr + started.stdout
    assert rooms(url) == []


def test_what_needs_a_server_that_keeps_rooms_starts_after_they_are_cleaned(folder: Path) -> None:
    seen: list[list[str]] = []

    def clean() -> None:
        seen.append([name for name in ("server", "dependent") if folder.joinpath(f"{name}.up").exists()])

    def service(name: str, **changes: Any) -> Any:
        argv = ("sh", "-c", f"touch {name}.up; echo ready; exec sleep 1000")
        return stacks.sleeper(name, folder, argv=argv, **changes)

    server = service("server", keeps_rooms=True)
    stack = stacks.stack_of(folder, server, service("dependent", needs=("server",)))
    stack = dataclasses.replace(stack, before_agents=clean)
    operations.start(stack)
    assert seen == [["server"]]
    operations.start(stack)
    assert len(seen) == 1, "a start that changes nothing cleans nothing"
