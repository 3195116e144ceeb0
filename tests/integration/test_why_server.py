"""A server whose LiveKit is declared on its loopback: why, recover, calls, rooms, strays and timers from here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from livekit import api

from tests.support import hosts
from tests.support.callers import caller
from tests.support.live import API_KEY, API_SECRET
from tests.support.servers import PROJECT, Servers, agent_servers

pytestmark = pytest.mark.timeout(480)
ENTRY = Path(__file__).parent / "agents" / "faulty.py"


@pytest.fixture(scope="module")
def host(prepared_host: hosts.Machine) -> hosts.Machine:
    """With an agent's environment on it."""
    return prepared_host


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    """Deployed. It listens on all addresses, for the callers of these tests; voiceops is told of loopback only."""
    made = agent_servers(tmp_path_factory.mktemp("why-server") / "project", [host], ENTRY)
    made.variables["livekit"]["url"] = "ws://127.0.0.1:7880"
    # What ends a job's process or hangs in it must not do so in the worker.
    made.variables["services"]["agent"]["env"] = {"TONE_JOBS": "process"}
    made.write()
    made.deploy("--no-call")
    return made


def on(server: Servers, *arguments: str, code: int | None = 0) -> Any:
    """The JSON document of a command on the host."""
    answer = server.inv(*arguments, "--host", server.machines[0].name, "--json", code=code)
    return answer.json


def callers_url(host: hosts.Machine) -> str:
    return f"ws://{host.address}:7880"


async def agents_in(host: hosts.Machine, room: str) -> int:
    async with api.LiveKitAPI(callers_url(host), API_KEY, API_SECRET) as lk:
        answer = await lk.room.list_participants(api.ListParticipantsRequest(room=room))
    return sum(one.kind == api.ParticipantInfo.Kind.AGENT for one in answer.participants)


async def why(server: Servers, *wanted: str) -> dict[str, dict[str, Any]]:
    """rule -> finding, once all of ``wanted`` are there: some causes can only be known after a while."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(30):
        document = await asyncio.to_thread(on, server, "why", code=None)
        found = {finding["rule"]: finding for finding in document["findings"]}
        if set(wanted) <= set(found):
            return found
        await asyncio.sleep(0.5)
    raise AssertionError(f"expected {wanted}, why says {found}")


def test_calls_and_rooms_are_those_of_the_server_and_not_of_this_machine(server: Servers) -> None:
    heard = on(server, "call", "--count", "2")
    assert (heard["answered_count"], heard["failed_count"]) == (2, 0)
    assert on(server, "status")["hosts"][server.machines[0].name]["room_count"] is not None
    on(server, "cleanup-rooms")
    on(server, "rooms.ensure-clean", "fresh")
    assert server.inv("call", "--host", server.machines[0].name, "--plot", "calls.png", code=3)


async def test_why_names_causes_by_the_journal_and_fixes_them(server: Servers, host: hosts.Machine) -> None:
    name = host.name
    async with AsyncExitStack() as calls:
        for room in ("raise-1", "exit-1"):
            await calls.enter_async_context(caller(callers_url(host), room))
        found = await why(server, "entrypoint-raised", "entrypoint-exited")
        (raised,) = found["entrypoint-raised"]["evidence"]
        assert "ValueError: no such customer (agent" in raised
        assert found["entrypoint-raised"]["fix"] == f"./inv rooms.dispatch raise-1 --host {name}"
        assert "exit code 3" in found["entrypoint-exited"]["evidence"][0]
        assert "worker output: can't open the table of customers" in found["entrypoint-exited"]["evidence"]
        fixed = await asyncio.to_thread(on, server, "why", "--fix")
        assert {one["done"] for one in fixed["hosts"][name]["fixes"]} == {True}
        for room in ("raise-1", "exit-1"):
            assert await agents_in(host, room) == 1


async def test_a_worker_that_is_gone_is_started_and_its_caller_gets_an_agent(
    server: Servers, host: hosts.Machine
) -> None:
    on(server, "stop", "--only", "agent", "--now", "--yes")
    async with caller(callers_url(host), "good-waiting"):
        found = await why(server, "no-worker")
        assert found["no-worker"]["fix"].startswith(f"./inv start --only agent --host {host.name}")
        assert (await asyncio.to_thread(on, server, "why", "--fix"))["ok"]
        assert await agents_in(host, "good-waiting") == 1


async def test_a_server_that_is_down_is_recovered_and_proved_by_a_call(
    server: Servers, host: hosts.Machine
) -> None:
    host.shell(f"systemctl kill --signal=KILL {PROJECT}-livekit; systemctl stop {PROJECT}-livekit")
    assert set(await why(server, "server-down")) == {"server-down"}
    recovered = (await asyncio.to_thread(on, server, "recover"))["hosts"][host.name]
    assert (recovered["helped"], recovered["steps"][-1]["answered"]) == ("fix", True)


def test_an_agent_that_was_started_by_hand_is_a_stray_and_replaced(
    server: Servers, host: hosts.Machine
) -> None:
    on(server, "start")
    script = (
        f"cd /opt/{PROJECT}/current/agent; set -a; . /etc/{PROJECT}/agent/$(basename $(pwd -P)).env; "
        "setsid venv/bin/python agent.py start >/dev/null 2>&1 </dev/null & echo $!"
    )
    pid = int(host.shell(script).stdout)
    seen = on(server, "check-running", code=2)["hosts"][host.name]["services"]["agent"]
    assert seen["state"] == "stray"
    assert pid in seen["pids"]
    assert on(server, "why", code=1)["findings"][0]["rule"] == "stray-worker"
    refused = server.inv("deploy", "--host", host.name, code=1)
    assert f"inv start --replace --host {host.name}" in refused.err
    assert on(server, "start", "--replace")["hosts"][host.name]["services"]["agent"]["state"] == "ready"
    assert on(server, "check-running")["ok"]


def test_the_schedule_of_a_server_is_the_one_that_deploy_brings(server: Servers, host: hosts.Machine) -> None:
    timer = f"{PROJECT}-cleanup-rooms.timer"
    assert on(server, "schedule")["hosts"][host.name]["changed_count"] == 0
    assert on(server, "schedule", "--remove", "--check", code=2)["hosts"][host.name]["changed_count"] == 3
    assert on(server, "schedule", "--remove")["hosts"][host.name]["changed_count"] == 3
    assert host.shell(f"systemctl is-active {timer}", check=False).stdout.strip() == "inactive"
    assert on(server, "schedule", "--remove")["hosts"][host.name]["changed_count"] == 0
    assert on(server, "schedule")["hosts"][host.name]["changed_count"] == 3
    assert server.deploy()["changed_count"] == 0
    server.inv("drift", "--group", "servers")
    host.shell(f"systemctl start {timer.replace('.timer', '.service')}")
    assert on(server, "schedule", "--every", "7", code=3)


def test_a_schedule_that_is_no_longer_declared_goes_with_the_next_deploy(
    server: Servers, host: hosts.Machine
) -> None:
    server.variables["deploy"]["schedule"] = False
    server.write()
    assert on(server, "schedule", code=3)
    assert server.deploy()["changed_count"] == 3
    assert not host.shell("systemctl list-timers --all --no-legend '*cleanup*'").stdout
    assert on(server, "call")["answered_count"] == 1  # which needs what the timer needed
    del server.variables["deploy"]["schedule"]
    server.variables["deploy"]["cleanup_every_min"] = 7
    server.write()
    on(server, "schedule")
    assert "*:0/7" in host.read(f"/etc/systemd/system/{timer_of(host)}")


def timer_of(host: hosts.Machine) -> str:
    return host.shell("cd /etc/systemd/system && ls -d *cleanup*.timer").stdout.strip()
