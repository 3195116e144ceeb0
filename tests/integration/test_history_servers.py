"""The history of a server: its monitor keeps the calls there, `inv history --host` shows them here."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support import hosts
from tests.support.bad_releases import TONE
from tests.support.callers import Hearing, caller
from tests.support.servers import PROJECT, Servers, agent_servers

pytestmark = pytest.mark.timeout(240)
SOON_S = 30.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    """LiveKit, a monitor without webhooks, and the tone agent with agentkit's guard around it."""
    made = agent_servers(
        tmp_path_factory.mktemp("history") / "project", [prepared_host], TONE, monitor={"kind": "monitor"}
    )
    agent = made.folder / "agent" / "agent.py"
    plain = "async def entrypoint(ctx: JobContext) -> None:"
    guarded = "@guarded_entrypoint(hangup_grace_s=0.5)\nasync def entrypoint(ctx: JobContext, call: Call[None]) -> None:"
    text = agent.read_text().replace(plain, guarded)
    text = text.replace(
        "from livekit import rtc",
        "from voiceops.agentkit import Call, guarded_entrypoint\nfrom livekit import rtc",
    )
    agent.write_text(text.replace("    await ctx.connect()\n", "    call.ready()\n"))
    made.variables["monitor"] = {"interval_s": 1}
    made.write()
    made.deploy()
    return made


async def one_call(servers: Servers) -> None:
    """A caller who hears the agent for 2 s, and leaves."""
    url = str(servers.variables["livekit"]["url"])
    async with caller(url, "alice-1", identity="alice") as person, Hearing(person) as hearing:
        await asyncio.wait_for(hearing.something(), 60)
        await asyncio.sleep(2)


def calls(servers: Servers, host: str) -> list[dict[str, Any]]:
    document = servers.inv("history", "--host", host, "--calls", "--json").json
    return [one for one in document["hosts"][host]["calls"] if one["kind"] == "caller"]


def test_a_call_on_a_server_without_webhooks_is_in_its_history(
    servers: Servers, prepared_host: hosts.Machine
) -> None:
    asyncio.run(one_call(servers))
    ends_at = time.monotonic() + SOON_S
    while not (found := calls(servers, prepared_host.name)) or not found[0]["ended_at"]:
        assert time.monotonic() < ends_at, (
            found,
            prepared_host.journal("-o", "cat", "-u", f"{PROJECT}-*", "-n", "60"),
        )
        time.sleep(0.5)
    (call,) = found
    assert call["outcome"] == "answered"
    assert 0 < call["answer_s"] < 30
    assert call["started_at"] < call["ended_at"]
    groups = prepared_host.shell(f"id -Gn vo-{PROJECT}").stdout.split()
    assert groups == [f"vo-{PROJECT}"], "the monitor may read no journal"
    kept = prepared_host.shell(f"cat /var/lib/{PROJECT}/data/calls/agent.jsonl").stdout
    assert "alice" not in kept
    shown = servers.inv("history", "--host", prepared_host.name, "--calls").out
    assert "answered" in shown


def test_the_deploy_is_in_the_history_of_whoever_ran_it_also_while_the_host_is_away(
    servers: Servers, prepared_host: hosts.Machine
) -> None:
    address = servers.host_variables
    address[prepared_host.name] = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    servers.write()
    try:
        document = servers.inv("history", "--host", prepared_host.name, "--deploys", "--json").json
        away = servers.inv("history", "--host", prepared_host.name, "--json", code=5).json
    finally:
        del address[prepared_host.name]
        servers.write()
    (deploy,) = document["hosts"][prepared_host.name]["deploys"]
    assert (deploy["action"], deploy["ok"]) == ("deploy", True)
    assert deploy["release"]
    assert deploy["by"]
    assert deploy["took_s"] > 0
    assert away["hosts"][prepared_host.name]["ok"] is False
