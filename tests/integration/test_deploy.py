"""From a bare host to a call and to the next release: on one real host, with a real agent and real calls.

Root's umask there is 077: what is built on it would be root's alone.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest

from tests.support import callers, hosts
from tests.support.servers import BARE_HOST_S, PROJECT, Servers, agent_servers

ENTRY = Path(__file__).parent / "agents" / "tone.py"
OPERATORS_TOKEN = "the-token-of-the-operators"
AGENTS = f"'{PROJECT}-agent@*.service'"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    """A bare host and a project; the first test deploys it, the others find it deployed."""
    host.shell("sed -i '1i umask 077' /root/.bashrc")
    assert host.ssh("umask").stdout == "0077\n"
    page = {
        "kind": "web",
        "needs": ["livekit"],
        "public": True,
        "operators_token": {"env": "OPERATORS_TOKEN"},
    }
    made = agent_servers(tmp_path_factory.mktemp("deploy") / "project", [host], ENTRY, page=page)
    made.env["OPERATORS_TOKEN"] = OPERATORS_TOKEN
    # Its jobs have processes of their own, as those of most agents.
    del made.variables["services"]["agent"]["env"]
    made.write()
    return made


@pytest.fixture
def deployed(servers: Servers) -> Servers:
    (servers.folder / "agent" / "agent.py").write_text(ENTRY.read_text())
    servers.deploy("--no-call", timeout_s=BARE_HOST_S)
    return servers


def main_pids(host: hosts.Machine) -> dict[str, str]:
    """Unit to main pid, of all agents that run or drain."""
    shown = host.shell(f"systemctl show -p Id,MainPID {AGENTS}").stdout
    found = {}
    for block in shown.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        if unit.get("MainPID", "0") != "0":
            found[unit["Id"]] = unit["MainPID"]
    return found


@pytest.mark.timeout(BARE_HOST_S + 60)
def test_from_a_bare_host_to_a_call_with_audio_by_one_command(servers: Servers, host: hosts.Machine) -> None:
    document = servers.deploy(timeout_s=BARE_HOST_S)
    assert document["call"]["ok"] is True
    assert document["call"]["audio_s"] > 0
    assert len(document["hosts"][host.name]["resources"]) >= 28


def test_its_page_serves_callers_without_root_and_keeps_its_keys(
    deployed: Servers, host: hosts.Machine
) -> None:
    with urllib.request.urlopen(f"http://{host.address}:8888/health", timeout=5) as answer:
        assert json.load(answer) == {"ok": True, "livekit": "ok"}
    asked = urllib.request.Request(f"http://{host.address}:8888/api/session", method="POST")
    with urllib.request.urlopen(asked, timeout=5) as answer:
        assert json.load(answer)["url"] == f"ws://{host.address}:7880"
    unit = f"{PROJECT}-page"
    shown = host.shell(f"systemctl show -P User -P Type {unit}").stdout.split()
    assert sorted(shown) == ["notify", f"vo-{PROJECT}"]
    secret = f"/etc/{PROJECT}/page.env"
    assert host.shell(f"stat -c '%a %U' {secret}").stdout.split() == ["600", "root"]
    assert OPERATORS_TOKEN in host.shell(f"cat {secret}").stdout
    assert OPERATORS_TOKEN not in host.shell(f"systemctl cat {unit}; ps -eo args").stdout


def test_a_second_run_changes_nothing_and_restarts_nothing(deployed: Servers, host: hosts.Machine) -> None:
    before = host.shell(f"systemctl show -P MainPID {PROJECT}-livekit {AGENTS}").stdout
    document = deployed.deploy()
    assert document["changed_count"] == 0
    assert "call" not in document
    deployed.inv("drift", "--group", "servers")
    assert host.shell(f"systemctl show -P MainPID {PROJECT}-livekit {AGENTS}").stdout == before


async def test_a_changed_agent_takes_over_while_the_old_one_finishes_its_call(
    deployed: Servers, host: hosts.Machine
) -> None:
    (old,) = main_pids(host).items()
    url = f"ws://{host.address}:7880"
    async with callers.caller(url, "overlap-call") as person:
        agent = await callers.agent_in(person)
        (deployed.folder / "agent" / "agent.py").write_text(f"{ENTRY.read_text()}\nRELEASE = 2\n")
        document = await asyncio.to_thread(deployed.deploy)
        assert document["call"]["ok"] is True
        result = document["hosts"][host.name]
        changed = {one["id"].partition(":")[0] for one in result["resources"] if one["result"] == "changed"}
        assert changed == {"tree", "symlink", "file"}
        assert result["services"]["agent"]["action"] == "overlap"
        running = main_pids(host)
        assert running.get(old[0]) == old[1], "the old one finishes its call"
        assert len(running) == 2
        assert agent in person.remote_participants
        # Deployed once more, the one that drains is left alone: a second signal would end its call.
        assert (await asyncio.to_thread(deployed.deploy))["changed_count"] == 0
        assert agent in person.remote_participants
    log = host.journal("-u", old[0], "-o", "cat")
    assert log.count("Stopping ") <= 1
    await asyncio.to_thread(deployed.inv, "rooms.delete", "overlap-call", "--host", host.name)
    await asyncio.to_thread(_wait_gone, host, old[0])


def _wait_gone(host: hosts.Machine, unit: str) -> None:
    host.shell(f"timeout 40 sh -c 'while systemctl is-active -q {unit}; do sleep 0.2; done'")
    host.shell(
        f"timeout 40 sh -c 'while [ $(systemctl show -P ActiveState {unit}) = deactivating ]; do sleep 0.2; done'"
    )


def modes(host: hosts.Machine, *folders: str) -> list[str]:
    """What others may read, or what the services' group may not."""
    found = host.shell(
        f"find {' '.join(folders)} ! -type l \\( -perm /o=rwx -o ! -group vo-{PROJECT} -o ! -perm -g=r -o ! -user root \\)"
    )
    return found.stdout.split("\n")[:-1]


@pytest.mark.timeout(420)
def test_under_any_umask_releases_are_for_root_and_the_services_alone_and_nothing_foreign_goes(
    deployed: Servers, host: hosts.Machine
) -> None:
    secret = deployed.folder / "agent/service-account.json"
    secret.write_text("{}")
    secret.chmod(0o600)
    old = deployed.deploy("--no-call")["hosts"][host.name]["release"]
    folders = (f"/opt/{PROJECT}/releases", f"/opt/{PROJECT}/venvs")
    assert modes(host, *folders) == []
    shown = host.shell(f"stat -c '%a %U %G' /opt/{PROJECT}/current/agent/service-account.json").stdout
    assert shown == f"640 root vo-{PROJECT}\n"
    denied = host.shell(f"ls {folders[0]}", user="deploy", check=False)
    assert "Permission denied" in denied.stderr
    assert deployed.deploy("--no-call")["changed_count"] == 0

    # A host as an older voiceops left it: readable for everybody, an older release beside the current one.
    host.shell(
        f"chgrp -hR root {' '.join(folders)}; chmod -R u=rwX,go=rX {' '.join(folders)}; rm /opt/{PROJECT}/.voiceops"
    )
    (deployed.folder / "agent/agent.py").write_text(f"{ENTRY.read_text()}\n# another release\n")
    theirs = {
        f"{folders[0]}/20260101/settings.json": "of another tool",
        f"{folders[1]}/mine/pyvenv.cfg": "made by hand",
        f"/etc/{PROJECT}/agent/notes.env": "A=1",
        f"/var/lib/{PROJECT}/wheels/../notes": "by hand",
    }
    for path, text in theirs.items():
        host.write(path, text)
    deployed.deploy("--no-call")
    for path, text in theirs.items():
        assert host.read(path) == text
    host.shell(f"rm -r {folders[0]}/20260101 {folders[1]}/mine")
    assert host.shell(f"test -d {folders[0]}/{old}").returncode == 0, "kept for a rollback"
    assert modes(host, *folders) == []

    # A host that root's umask broke under an older voiceops.
    agent = host.shell(f"systemctl list-units --plain --no-legend '{PROJECT}-agent@*' | cut -d' ' -f1")
    host.shell(f"chmod -R go= {folders[0]}/* {folders[1]}/*; chmod 700 /var/lib/{PROJECT}")
    # One that drains may have ended in the meantime.
    host.shell(f"systemctl kill --signal=KILL {' '.join(agent.stdout.split())}", check=False)
    host.shell("sleep 3")
    deployed.deploy("--no-call")
    assert modes(host, *folders) == []
    deployed.inv("check-running", "--group", "servers")
    assert deployed.deploy("--no-call")["changed_count"] == 0
