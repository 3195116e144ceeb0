"""One-shots and conditions on a server: units that systemd starts in their order, also without us."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Fleet
from tests.support.hosts import Machine
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper

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
    )


def runs(machine: Machine) -> list[str]:
    return machine.shell(f"cat {FOLDER}/runs").stdout.split()


def states(servers: Servers, code: int = 0) -> dict[str, str]:
    document: Any = servers.inv("check-running", "--group", "servers", "--json", code=code).json
    (host,) = document["hosts"].values()
    return {name: one["state"] for name, one in host["services"].items()}


def test_it_runs_once_again_when_it_has_changed_and_at_a_boot_it_comes_first(servers: Servers) -> None:
    (machine,) = servers.machines
    servers.deploy()
    assert states(servers) == {"db": "ready", "migrate": "completed", "api": "ready"}
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
    machine.shell(f"systemctl start --no-block {PROJECT}-db {PROJECT}-migrate {PROJECT}-api")
    machine.shell(f"until systemctl is-failed {PROJECT}-migrate; do sleep 0.1; done")
    machine.shell(f"for i in 1 2 3; do systemctl is-active {PROJECT}-api && exit 1; sleep 0.3; done; true")
    seen = states(servers, code=2)
    assert (seen["migrate"], seen["db"]) == ("failed", "ready")
    assert seen["api"] != "ready"
    failed = servers.inv("start", "--group", "servers", "--only", "api", code=1)
    assert "migrate" in failed.err
    machine.shell("rm /srv/fails")
    servers.inv("start", "--group", "servers")
    assert states(servers) == {"db": "ready", "migrate": "completed", "api": "ready"}
    servers.inv("stop", "--group", "servers")
    assert states(servers, code=2)["migrate"] == "missing"
