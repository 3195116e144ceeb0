"""A server is not restarted or stopped under a live call, whatever its LiveKit does not say."""

from __future__ import annotations

import asyncio
import inspect
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from livekit import rtc

from tests.integration.agents import late_proxy
from tests.support import hosts, parts
from tests.support.callers import PAUSE_LIMIT_S, Hearing, agent_in, caller
from tests.support.servers import PROJECT, Servers, agent_servers, cheap_servers

pytestmark = [
    pytest.mark.timeout(240),
    # livekit.rtc drops a handle twice when its server goes away under it; nothing of ours.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
UNIT = f"{PROJECT}-livekit.service"
ROTATED = {"LIVEKIT_API_SECRET": "another-secret-for-tests-of-32-characters"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    """LiveKit alone: no agent names its calls."""
    livekit = {
        "kind": "livekit",
        "public": True,
        "node_ip": host.address,
        "binary": str(parts.livekit_server_binary()),
    }
    made = cheap_servers(tmp_path_factory.mktemp("guards") / "project", [host], livekit=livekit)
    made.variables["livekit"]["url"] = f"ws://{host.address}:7880"
    made.write()
    made.deploy("--no-call")
    return made


@contextmanager
def rotated_secret(servers: Servers) -> Iterator[None]:
    servers.env.update(ROTATED)
    try:
        yield
    finally:
        servers.env.clear()


@asynccontextmanager
async def a_caller(servers: Servers, room: str) -> AsyncIterator[rtc.Room]:
    """Somebody in a room, who must still be connected to the same server at the end."""
    before = main_pid(servers)
    async with caller(servers.variables["livekit"]["url"], room) as person:
        lost: list[object] = []
        person.on("disconnected", lost.append)
        yield person
        assert not lost
        assert person.isconnected()
    assert main_pid(servers) == before


def main_pid(servers: Servers) -> str:
    return servers.machines[0].shell(f"systemctl show -p MainPID --value {UNIT}").stdout.strip()


async def refusal(servers: Servers, verb: str, *flags: str) -> dict[str, Any]:
    answer = await asyncio.to_thread(servers.inv, verb, "--group", "servers", *flags, "--json", code=1)
    document: dict[str, Any] = answer.json
    found = document.get("error") or document["hosts"][servers.machines[0].name]["error"]
    error: dict[str, Any] = found
    return error


async def test_after_a_rotation_nothing_ends_the_call_unasked(servers: Servers) -> None:
    async with a_caller(servers, "on-the-line"):
        with rotated_secret(servers):
            for verb in ("deploy", "stop", "restart"):
                error = await refusal(servers, verb)
                assert (error["type"], error["rooms"]) == ("CallsInProgressError", ["on-the-line"])
    servers.inv("drift", "--group", "servers")


async def test_a_server_that_refuses_all_our_keys_needs_a_yes(servers: Servers, host: hosts.Machine) -> None:
    file = f"/run/credentials/{UNIT}/livekit.yaml"
    host.shell(f"mount --bind /dev/null {file}")
    try:
        async with a_caller(servers, "on-the-line"):
            with rotated_secret(servers):
                for verb in ("deploy", "stop"):
                    error = await refusal(servers, verb)
                    assert (error["type"], error["rooms"]) == ("CallsUnknownError", [])
    finally:
        host.shell(f"umount {file}")


def test_a_server_that_refuses_this_projects_key_is_not_as_declared(servers: Servers) -> None:
    said = "refuses this project's API key or secret"
    with rotated_secret(servers):
        checked = servers.inv("check-running", "--group", "servers", "--json", code=2).json
        (host,) = checked["hosts"].values()
        assert (host["services"]["livekit"]["state"], said in host["services"]["livekit"]["detail"]) == (
            "failed",
            True,
        )
        shown = servers.inv("status", "--group", "servers").out
        assert "rooms unknown" in shown
        assert said in shown
        assert "wrong-key" in servers.inv("why", "--group", "servers", code=1).out
    servers.inv("check-running", "--group", "servers")


async def test_a_server_that_stands_still_for_seconds_keeps_its_calls(
    servers: Servers, host: hosts.Machine
) -> None:
    async with a_caller(servers, "on-the-line"):
        host.shell(f"systemctl kill --signal=STOP {UNIT}")
        try:
            error = await refusal(servers, "stop")
        finally:
            host.shell(f"systemctl kill --signal=CONT {UNIT}")
        assert error["type"] == "CallsUnknownError"


def test_an_empty_server_takes_its_new_secret_without_a_question(servers: Servers) -> None:
    with rotated_secret(servers):
        servers.deploy("--no-call")
        assert servers.deploy("--no-call")["changed_count"] == 0
    servers.deploy("--no-call")


async def test_with_a_drain_the_deploy_waits_for_the_first_moment_without_a_call(servers: Servers) -> None:
    before = main_pid(servers)
    deploy = ("deploy", "--group", "servers", "--no-call")
    with rotated_secret(servers):
        async with a_caller(servers, "on-the-line"):
            refused = await asyncio.to_thread(servers.inv, *deploy, "--drain", "1", code=1)
            assert "no moment without one within 1 s" in refused.err
            waiting = servers.spawn(*deploy, "--drain", "60")
            assert waiting.stderr is not None
            said = iter(waiting.stderr.readline, "")
            assert await asyncio.to_thread(lambda: any("up to 60 s" in line for line in said))
        assert await asyncio.to_thread(waiting.wait, 60) == 0
        waiting.communicate()
        assert main_pid(servers) != before
    servers.deploy("--no-call")


def test_a_server_that_is_gone_is_deployed_without_a_question(servers: Servers, host: hosts.Machine) -> None:
    with rotated_secret(servers):
        host.shell(f"systemctl stop {UNIT}")
        servers.deploy("--no-call")
    servers.deploy("--no-call")


# -- a host with everything on it --------------------------------------------

PROXY_PORT = 7999
TONE = Path(__file__).parent / "agents" / "tone.py"


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    made = agent_servers(tmp_path_factory.mktemp("complete") / "project", [prepared_host], TONE)
    made.deploy(timeout_s=300)
    return made


@asynccontextmanager
async def a_heard_call(servers: Servers, room: str) -> AsyncIterator[None]:
    """A caller who hears the same agent to the end, without a pause."""
    async with a_caller(servers, room) as person, Hearing(person) as heard:
        agent = await agent_in(person)
        await heard.something()
        yield
        assert list(person.remote_participants) == [agent]
        assert heard.longest_pause_s < PAUSE_LIMIT_S


@contextmanager
def answers(host: hosts.Machine, status: int, late_s: float) -> Iterator[None]:
    """Lead what asks the running LiveKit through a proxy that is late, or answers in its place."""
    file = f"/run/credentials/{UNIT}/livekit.yaml"
    arguments = f"{PROXY_PORT} 7880 {status} {late_s:g}"
    program = shlex.quote(inspect.getsource(late_proxy))
    with ExitStack() as undo:
        host.shell(f"systemd-run --quiet --unit=late-proxy python3 -c {program} {arguments}")
        undo.callback(host.shell, "systemctl stop late-proxy")
        host.shell(f"until ss -ltn | grep -q :{PROXY_PORT}; do sleep 0.1; done", timeout_s=30)
        host.shell(
            f"sed 's/port: 7880/port: {PROXY_PORT}/' {file} > /run/led && mount --bind /run/led {file}"
        )
        undo.callback(host.shell, f"umount {file}; rm /run/led")
        yield


@pytest.mark.parametrize(("status", "late_s"), [(200, 0.0), (503, 0.0), (200, 4.0)])
async def test_on_a_host_with_an_agent_the_call_is_heard_on_whatever_livekit_answers(
    complete: Servers, prepared_host: hosts.Machine, status: int, late_s: float
) -> None:
    room = f"held-{status}-{late_s:g}"
    async with a_heard_call(complete, room):
        with rotated_secret(complete), answers(prepared_host, status, late_s):
            for verb in ("deploy", "stop", "restart"):
                error = await refusal(complete, verb)
                assert error["type"] == "CallsInProgressError"
                assert room in error["rooms"]  # with those that agents still list after their callers
    complete.inv("drift", "--group", "servers")


async def test_rollback_overlaps_under_a_call_and_goes_to_a_bad_release_only_when_told_to(
    complete: Servers, prepared_host: hosts.Machine
) -> None:
    def release(document: Any) -> str:
        return str(document["hosts"][prepared_host.name]["release"])

    good = release(complete.deploy("--no-call"))
    entry = complete.folder / "agent" / "agent.py"
    entry.write_text(entry.read_text() + "\nNEWER = 1\n")
    newer = release(complete.deploy("--no-call"))
    everywhere = ("rollback", "--group", "servers")

    def moved(*flags: str) -> tuple[str, str]:
        document = complete.inv(*everywhere, *flags, "--json").json
        agent = document["hosts"][prepared_host.name]["services"]["agent"]
        return agent["before"], agent["release"]

    async with a_heard_call(complete, "rolled-back"):
        assert await asyncio.to_thread(moved) == (newer, good)
    complete.inv(*everywhere, "--to", newer, code=3)
    assert moved("--to", newer, "--yes") == (good, newer)


async def test_recover_restarts_a_host_under_a_call_only_when_told_to_and_tells_the_caller(
    complete: Servers,
) -> None:
    async with caller(complete.variables["livekit"]["url"], "dropped") as person:
        lost = asyncio.Event()
        person.on("disconnected", lambda *_: lost.set())
        await agent_in(person)
        error = await refusal(complete, "recover", "--hard")
        assert error["rooms"] == ["dropped"]
        assert not lost.is_set()
        done = await asyncio.to_thread(complete.inv, "recover", "--group", "servers", "--hard", "--yes")
        assert "what helped: stack" in done.out
        await asyncio.wait_for(lost.wait(), 5)
