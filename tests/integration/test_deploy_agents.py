"""A deployed agent and what happens to it: changed by hand, changed here, broken, its deployer killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support import callers, hosts
from tests.support.projects import REPOSITORY
from tests.support.servers import BARE_HOST_S, IN_THREADS, PROJECT, Servers, agent_servers

TONE = Path(__file__).parent / "agents" / "tone.py"
AGENTS = f"'{PROJECT}-agent@*.service'"
ENTRY = "my agents/tönes $HOME %n \"x\" 'y'.py"
"""Awkward on purpose: it stands in the unit's command line."""
DYING = """
import threading


def _die() -> None:
    print("no such table: customers", flush=True)
    os._exit(1)


server.on("worker_registered", lambda *_: threading.Timer(0.5, _die).start())
"""


@pytest.fixture(scope="module")
def host(prepared_host: hosts.Machine) -> hosts.Machine:
    """With an agent's environment on it."""
    return prepared_host


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    made = agent_servers(tmp_path_factory.mktemp("agents") / "project", [host], TONE)
    made.write()
    return made


@pytest.fixture
def deployed(servers: Servers) -> Servers:
    """The declared state, whatever the test before left."""
    entry = servers.folder / ENTRY
    entry.parent.mkdir(exist_ok=True)
    (entry.parent / "data" / "deep").mkdir(parents=True, exist_ok=True)
    (entry.parent / "data" / "deep" / "table.csv").write_text("a,b\n")
    entry.write_text(TONE.read_text())
    agent = {
        "kind": "agent",
        "entry": ENTRY,
        "needs": ["livekit"],
        "drain_timeout_s": 5,
        "env": dict(IN_THREADS),
    }
    servers.variables["services"]["agent"] = agent
    servers.variables["rooms"] = {}
    servers.write()
    servers.deploy("--no-call")
    return servers


def changes(document: Any, host: hosts.Machine) -> set[str]:
    listed = document["hosts"][host.name]["resources"]
    return {one["id"] for one in listed if one["result"] != "ok"}


def running(host: hosts.Machine) -> dict[str, str]:
    """Unit to main pid and restarts, of the server and of all agents that run or drain."""
    shown = host.shell(f"systemctl show -p Id,MainPID,NRestarts {PROJECT}-livekit {AGENTS}").stdout
    units = [dict(line.partition("=")[::2] for line in text.splitlines()) for text in shown.split("\n\n")]
    return {
        one["Id"]: f"{one['MainPID']} {one['NRestarts']}" for one in units if one.get("MainPID", "0") != "0"
    }


def release_of(servers: Servers, host: hosts.Machine) -> str:
    return str(
        servers.inv("releases", "--group", "servers", "--json").json["hosts"][host.name]["current"]["agent"][
            "release"
        ]
    )


@pytest.mark.timeout(480)
def test_everything_changed_by_hand_is_drift_and_fixed_alone(deployed: Servers, host: hosts.Machine) -> None:
    release = release_of(deployed, host)
    opt, etc, units = f"/opt/{PROJECT}", f"/etc/{PROJECT}", "/etc/systemd/system"
    entry = f'"{opt}/releases/{release}/$(ls {opt}/releases/{release} | grep py$)"'
    venv = host.shell(f"readlink {opt}/releases/{release}/venv").stdout.strip().rpartition("/")[2]
    agent_unit = f"{PROJECT}-agent@{release}.service"
    tree, stamped = f"tree:{opt}/releases/{release}", f"venv:{opt}/venvs/{venv.rpartition('-')[0]}"
    timer = f"{PROJECT}-cleanup-rooms.timer"
    rounds: list[dict[str, str]] = [
        {  # other content
            f"file:{units}/{PROJECT}-agent@.service": f"echo '#' >> {units}/{PROJECT}-agent@.service",
            f"file:{units}/{PROJECT}-livekit.service": f"echo '#' >> {units}/{PROJECT}-livekit.service",
            f"file:{etc}/livekit.yaml": f"echo '#' >> {etc}/livekit.yaml",
            f"file:{etc}/agent/{release}.env": f"echo 'A=b' >> {etc}/agent/{release}.env",
            tree: f"echo '#' >> {entry}",
            f"symlink:{opt}/releases/{release}/venv": f"ln -sfn /tmp {opt}/releases/{release}/venv",
            f"symlink:{opt}/current/agent": f"ln -sfn /tmp {opt}/current/agent",
            f"file:/etc/sysctl.d/60-{PROJECT}.conf": f"echo '#' >> /etc/sysctl.d/60-{PROJECT}.conf",
            f"file:{opt}/bin/voiceops-ready": f"echo '#' >> {opt}/bin/voiceops-ready",
            f"user:vo-{PROJECT}": f"usermod -s /bin/sh vo-{PROJECT}",
        },
        {  # gone
            stamped: f"rm {opt}/venvs/{venv}/.voiceops-complete {opt}/venvs/{venv}/bin/python",
            f"file:{etc}/livekit.env": f"rm {etc}/livekit.env",
            tree: f"rm -r {opt}/releases/{release}/data",
            f"symlink:{opt}/current/agent": f"rm {opt}/current/agent",
            f"file:{etc}/schedule/inventory.yaml": f"rm {etc}/schedule/inventory.yaml",
            f"unit:{timer}": f"systemctl disable -q --now {timer}",
            f"unit:{PROJECT}-livekit.service": f"systemctl disable -q {PROJECT}-livekit",
            f"unit:{agent_unit}": f"systemctl disable -q {agent_unit}",
        },
        {  # other owners and modes
            f"file:{etc}/livekit.yaml": f"chmod 644 {etc}/livekit.yaml",
            f"file:{etc}/agent/{release}.env": f"chown nobody {etc}/agent/{release}.env",
            tree: f"chown nobody {entry}; chmod 777 {opt}/releases/{release}/data/deep",
            f"directory:{etc}": f"chmod 777 {etc}",
            f"directory:{opt}/releases": f"chown nobody {opt}/releases",
            f"file:{units}/{PROJECT}-livekit.service": f"chmod 600 {units}/{PROJECT}-livekit.service",
        },
    ]
    before = running(host)
    for touched in rounds:
        host.shell("; ".join(touched.values()))
        found = deployed.inv("drift", "--group", "servers", "--json", code=2).json
        assert changes(found, host) == set(touched)
        # One round damages the environment, which is built anew.
        assert changes(deployed.deploy("--no-call", timeout_s=BARE_HOST_S), host) == set(touched)
        deployed.inv("drift", "--group", "servers")
    assert running(host) == before, "nothing was restarted that need not be"
    deployed.inv("call", "--group", "servers")


@pytest.mark.timeout(480)
def test_what_changes_here_changes_what_it_must_there_and_nothing_else(
    deployed: Servers, host: hosts.Machine
) -> None:
    livekit, env = deployed.variables["services"]["livekit"], f"file:/etc/{PROJECT}/livekit.env"

    def deploy() -> tuple[set[str], dict[str, str]]:
        deployed.write()
        document = deployed.deploy("--no-call")
        services = document["hosts"][host.name].get("services", {})
        acted = {name: one.get("action") for name, one in services.items() if one["changed"]}
        return changes(document, host), acted

    deployed.variables["rooms"] = {"keep": ["vip-*", "q\"'$(id)%\U0001f600"]}
    assert deploy() == ({f"file:/etc/{PROJECT}/schedule/inventory.yaml"}, {})
    # What the host's own cleanup makes of that file: it must be able to read it.
    host.shell(f"systemctl start {PROJECT}-cleanup-rooms.service")
    livekit["env"] = {"COLOUR": "red"}
    assert deploy() == ({env}, {"livekit": "restart"})
    folder = deployed.folder / "templates"
    (folder / "systemd").mkdir(parents=True)
    shipped = packaged("templates/systemd/job.timer")
    (folder / "systemd" / "job.timer").write_text(shipped + "# ours\n")
    timer = f"{PROJECT}-cleanup-rooms.timer"
    assert deploy() == ({f"file:/etc/systemd/system/{timer}", f"unit:{timer}"}, {})
    (folder / "livekit.yaml").write_text(packaged("templates/livekit.yaml") + "# ours\n")
    assert deploy() == ({env, f"file:/etc/{PROJECT}/livekit.yaml"}, {"livekit": "restart"})
    (folder / "systemd" / "agent@.service").write_text(
        packaged("templates/systemd/agent@.service") + "# ours\n"
    )
    changed, acted = deploy()
    assert acted == {"agent": "overlap"}
    assert {one.partition(":")[0] for one in changed} == {"tree", "symlink", "file"}
    assert f"file:/etc/systemd/system/{PROJECT}-agent@.service" in changed
    assert deploy() == (set(), {})


def packaged(name: str) -> str:
    return (REPOSITORY / name).read_text()


@pytest.mark.timeout(480)
def test_an_agent_that_dies_again_and_again_after_it_was_ready_fails_and_the_old_one_serves(
    deployed: Servers, host: hosts.Machine
) -> None:
    before = running(host)
    entry = deployed.folder / ENTRY
    entry.write_text(TONE.read_text().replace("if __name__ ==", f"{DYING}\n\nif __name__ =="))
    failed = deployed.inv("deploy", "--group", "servers", code=1)
    assert "agent did not stay up" in failed.err
    assert "exit 1" in failed.err
    assert "keeps serving" in failed.err
    assert "no such table: customers" in failed.err
    assert running(host).items() <= before.items()
    deployed.inv("check-running", "--group", "servers")
    deployed.inv("call", "--group", "servers")


async def test_a_server_with_an_agent_alone_in_a_room_restarts_without_being_killed(
    deployed: Servers, host: hosts.Machine
) -> None:
    async with callers.caller(f"ws://{host.address}:7880", "left-alone") as person:
        await callers.agent_in(person)
    deployed.variables["services"]["livekit"]["env"] = {"COLOUR": "blue"}
    deployed.write()
    since = host.shell("date +%s").stdout.strip()
    await asyncio.to_thread(deployed.deploy, "--no-call")
    log = host.journal("-u", f"{PROJECT}-livekit", "--since", f"@{since}", "-o", "cat")
    assert "Deactivated successfully" in log
    assert "timed out" not in log
