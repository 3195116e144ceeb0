"""Releases of an agent on a host that has its environment: bad ones, rollback, and the commands of the stack."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.integration import onhost
from tests.support import callers, hosts
from tests.support.bad_releases import deploys, serving
from tests.support.live import API_KEY, API_SECRET
from tests.support.servers import IN_THREADS, PROJECT, Servers, agent_servers
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.model.secret import Secret

ENTRY = Path(__file__).parent / "agents" / "tone.py"
AGENTS = f"'{PROJECT}-agent@*.service'"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prepared_host: hosts.Machine) -> Servers:
    return agent_servers(tmp_path_factory.mktemp("releases") / "project", [prepared_host], ENTRY)


@pytest.fixture
def deployed(servers: Servers) -> Servers:
    """The declared state, whatever the test before left."""
    (servers.folder / "agent" / "agent.py").write_text(ENTRY.read_text())
    servers.variables["services"]["agent"]["env"] = dict(IN_THREADS)
    servers.write()
    servers.deploy("--no-call")
    return servers


def change_agent(servers: Servers, text: str) -> None:
    """Another release: the same agent, and ``text`` before it."""
    (servers.folder / "agent" / "agent.py").write_text(
        f"{text}\n{ENTRY.read_text()}".replace("from __future__", "#", 1)
    )


def main_pids(host: hosts.Machine) -> dict[str, str]:
    """Unit to main pid, of all agents that run or drain."""
    shown = host.shell(f"systemctl show -p Id,MainPID {AGENTS}").stdout
    found = {}
    for block in shown.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        if unit.get("MainPID", "0") != "0":
            found[unit["Id"]] = unit["MainPID"]
    return found


def test_an_agent_that_does_not_become_ready_is_stopped_and_the_old_one_serves(
    deployed: Servers, prepared_host: hosts.Machine
) -> None:
    before = main_pids(prepared_host)
    change_agent(deployed, "raise RuntimeError('no such customer table')")
    failed = deployed.inv("deploy", "--group", "servers", code=1)
    assert "no such customer table" in failed.err
    after = main_pids(prepared_host)
    # One of an earlier test may have ended its draining meanwhile; nothing was restarted or is new.
    assert after
    assert after.items() <= before.items()
    deployed.inv("call", "--group", "servers")
    bad = [one for one in _releases(deployed, prepared_host) if one["result"] == "bad"]
    assert bad
    # Nothing of it starts with the host either.
    wants = prepared_host.shell(
        f"ls /etc/systemd/system/multi-user.target.wants | grep {PROJECT}-agent"
    ).stdout.split()
    assert len(wants) == 1
    assert set(wants) <= set(before)


def _releases(servers: Servers, prepared_host: hosts.Machine) -> list[dict[str, str]]:
    document = servers.inv("releases", "--group", "servers", "--json").json
    return list(document["hosts"][prepared_host.name]["releases"])


def test_another_secret_is_another_release_and_nothing_else(
    deployed: Servers, prepared_host: hosts.Machine
) -> None:
    deployed.variables["services"]["agent"]["env"] = IN_THREADS | {"CRM_TOKEN": {"env": "CRM_TOKEN"}}
    deployed.env["CRM_TOKEN"] = "hunter2-for-the-crm-of-the-tests"
    deployed.write()
    result = deployed.deploy("--no-call")["hosts"][prepared_host.name]
    changed = [one["id"] for one in result["resources"] if one["result"] == "changed"]
    assert all(result["release"] in one for one in changed), changed
    assert result["services"]["livekit"]["changed"] is False


def test_rollback_goes_to_the_last_good_release_and_skips_bad_ones(
    deployed: Servers, prepared_host: hosts.Machine
) -> None:
    good = deployed.deploy("--no-call")["hosts"][prepared_host.name]["release"]
    change_agent(deployed, "raise RuntimeError('broken')")
    deployed.inv("deploy", "--group", "servers", code=1)
    change_agent(deployed, "RELEASE = 4")
    newest = deployed.deploy("--no-call")["hosts"][prepared_host.name]["release"]
    back = deployed.inv("rollback", "--group", "servers", "--json")
    assert "calling agent" in back.err, "no caller reaches it before it has answered"
    moved = back.json["hosts"][prepared_host.name]["services"]["agent"]
    assert (moved["before"], moved["release"]) == (newest, good)
    assert serving(prepared_host) == {good}, "the one before drains, or has ended"
    assert deployed.inv("drift", "--group", "servers", code=2)
    kept = deploys(deployed, prepared_host)
    assert [(one["action"], one["ok"], one["release"]) for one in kept[-2:]] == [
        ("deploy", True, newest),
        ("rollback", True, good),
    ]
    assert all(one["by"] and one["took_s"] > 0 for one in kept)
    assert any("broken" in one["detail"] for one in kept if not one["ok"])


@pytest.fixture
def other_binary(deployed: Servers) -> str:
    """A livekit-server with other content; an ELF file may have a tail."""
    made = deployed.folder / "livekit-server"
    binary = Path(deployed.variables["services"]["livekit"]["binary"])
    made.write_bytes(binary.read_bytes() + b"\0")
    made.chmod(0o755)
    return str(made)


async def test_a_deploy_that_would_cut_a_call_off_is_refused_before_anything_changed(
    deployed: Servers, prepared_host: hosts.Machine, other_binary: str
) -> None:
    look = f"stat -c '%n %Z %s' /etc/{PROJECT}/livekit.yaml /opt/{PROJECT}/bin/*"
    before, livekit = prepared_host.shell(look).stdout, deployed.variables["services"]["livekit"]
    try:
        async with callers.caller(f"ws://{prepared_host.address}:7880", "kept-call") as person:
            await callers.agent_in(person)
            for change in ({"log_level": "debug"}, {"binary": other_binary}):
                deployed.variables["services"]["livekit"] = livekit | change
                deployed.write()
                refused = await asyncio.to_thread(deployed.inv, "deploy", "--group", "servers", code=1)
                assert "--yes" in refused.err
    finally:
        deployed.variables["services"]["livekit"] = livekit
        deployed.write()
    assert prepared_host.shell(look).stdout == before


def test_the_commands_of_the_stack_work_on_servers(deployed: Servers, prepared_host: hosts.Machine) -> None:
    to = ("--host", prepared_host.name)
    assert deployed.inv("check-running", *to, "--json").json["ok"] is True
    deployed.inv("stop", *to, "--yes")
    assert deployed.inv("check-running", *to, code=2)
    assert deployed.inv("start", *to, "--json").json["changed_count"] == 2
    assert deployed.inv("start", *to, "--json").json["changed_count"] == 0
    restarted = deployed.inv("restart", *to, "--only", "agent", "--json")
    assert restarted.json["changed_count"] == 1
    assert "calling agent" in restarted.err
    deployed.inv("call", *to)
    status = deployed.inv("status", *to, "--json").json["hosts"][prepared_host.name]
    assert {name: one["state"] for name, one in status["services"].items()} == {
        "livekit": "ready",
        "agent": "ready",
    }
    assert "registered worker" in deployed.inv("logs", *to, "--only", "agent", "--raw").out
    deployed.inv("cleanup-rooms", *to)
    deployed.inv("why", *to)


def test_a_worker_whose_jobs_run_in_threads_tells_when_it_is_ready_for_the_next_call(
    deployed: Servers, prepared_host: hosts.Machine
) -> None:
    deployed.inv("call", "--group", "servers")
    (release,) = serving(prepared_host)
    told = f"journalctl -u '{PROJECT}-agent@{release}*' -o cat | grep -q 'worker ready for next'"
    prepared_host.shell(f'timeout 30 sh -c "until {told}; do sleep 0.2; done"')


def test_the_timer_cleans_rooms_on_the_host(deployed: Servers, prepared_host: hosts.Machine) -> None:
    timer = f"{PROJECT}-cleanup-rooms.timer"
    assert prepared_host.shell(f"systemctl is-active {timer}").stdout == "active\n"
    deployed.variables["rooms"] = {"stale_after_s": 0.1}
    deployed.write()
    try:
        deployed.deploy("--no-call")
        asyncio.run(_rooms_named(prepared_host, "nobody-came", make=True))
        with onhost.elapsing(prepared_host, timer):
            ends_at = time.monotonic() + 40
            while asyncio.run(_rooms_named(prepared_host, "nobody-came")):
                assert time.monotonic() < ends_at, prepared_host.journal("-u", "*cleanup-rooms*", "-n", "30")
                time.sleep(0.2)
    finally:
        del deployed.variables["rooms"]


async def _rooms_named(prepared_host: hosts.Machine, name: str, *, make: bool = False) -> int:
    async with LivekitApi(f"ws://{prepared_host.address}:7880", Secret(API_KEY), Secret(API_SECRET)) as api:
        if make:
            await api.create_room(name, agents=["__nobody__"])
        return len(await api.list_rooms([name]))
