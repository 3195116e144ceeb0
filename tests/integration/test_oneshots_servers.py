"""One-shots and conditions on a server: units that systemd starts in their order, also without us."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Fleet
from tests.support.hosts import Machine
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper

ALL_WELL = {"db": "ready", "migrate": "completed", "api": "ready", "other": "ready"}
FOLDER = f"/var/lib/{PROJECT}/data"


def task(text: str) -> list[str]:
    return ["/bin/sh", "-c", f"echo {text} >> runs; test ! -e /srv/fails"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Servers:
    (machine,) = fleet(1)
    migrate = {"kind": "command", "command": task("one"), "oneshot": True, "needs": ["db"]}
    return cheap_servers(
        tmp_path_factory.mktemp("oneshots") / "project",
        [machine],
        db=sleeper(),
        migrate=migrate,
        api=sleeper(needs={"migrate": "completed", "db": "started"}),
        other=sleeper(
            user="daemon",
            open_files_max=777,
            cpus_max=0.5,
            after_ready=[["/bin/sh", "-c", "id -un > ready; ulimit -n >> ready"]],
        ),
    )


def runs(machine: Machine) -> list[str]:
    return machine.shell(f"cat {FOLDER}/runs").stdout.split()


def states(servers: Servers, code: int = 0) -> dict[str, str]:
    document: Any = servers.inv("check-running", "--group", "servers", "--json", code=code).json
    (host,) = document["hosts"].values()
    return {name: one["state"] for name, one in host["services"].items()}


def test_it_runs_once_again_when_it_has_changed_and_at_a_boot_it_comes_first(servers: Servers) -> None:
    (machine,) = servers.machines
    said = servers.inv("deploy", "--group", "servers").err
    assert "migrate: completed" in said
    assert states(servers) == ALL_WELL
    assert servers.deploy()["changed_count"] == 0
    assert runs(machine) == ["one"]

    servers.variables["services"]["migrate"]["command"] = task("two")
    servers.write()
    servers.deploy()
    assert servers.deploy()["changed_count"] == 0
    assert runs(machine) == ["one", "two"]

    # As at a boot: systemd alone starts all of them, the task before what needs it.
    machine.shell(
        f"systemctl stop '{PROJECT}-*'; touch /srv/fails; systemctl start multi-user.target --no-block"
    )
    machine.shell(f"systemctl start --no-block {PROJECT}-db {PROJECT}-migrate {PROJECT}-api {PROJECT}-other")
    machine.shell(f"until systemctl is-failed {PROJECT}-migrate; do sleep 0.1; done")
    machine.shell(f"for i in 1 2 3; do systemctl is-active {PROJECT}-api && exit 1; sleep 0.3; done; true")
    seen = states(servers, code=2)
    assert (seen["migrate"], seen["db"]) == ("failed", "ready")
    assert seen["api"] != "ready"
    failed = servers.inv("start", "--group", "servers", "--only", "api", code=1)
    assert "migrate failed on " in failed.err
    machine.shell("rm /srv/fails")
    servers.inv("start", "--group", "servers")
    assert states(servers) == ALL_WELL
    servers.inv("stop", "--group", "servers")
    assert states(servers, code=2)["migrate"] == "missing"


def test_another_user_has_a_folder_of_its_own(servers: Servers) -> None:
    (machine,) = servers.machines
    servers.deploy()
    assert machine.shell(f"cat /var/lib/{PROJECT}/other/ready").stdout.split() == ["daemon", "777"]
    assert machine.shell(f"stat -c %U {FOLDER}").stdout.strip() == f"vo-{PROJECT}"
    pid = machine.shell(f"systemctl show -P MainPID {PROJECT}-other").stdout.strip()
    assert machine.shell(f"stat -c %U /proc/{pid}").stdout.strip() == "daemon"
    assert servers.deploy()["changed_count"] == 0
